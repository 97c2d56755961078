"""Where transcripts are sent, in which formats, and who is heard in each channel."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """To this revision. No row is rewritten."""
    op.add_column(
        "submissions",
        sa.Column(
            "speakers",
            sa.JSON(),
            nullable=True,
            comment="who is heard in the first channel, the second, ..., where they are split",
        ),
    )
    op.add_column(
        "submissions",
        sa.Column(
            "destination",
            sa.String(),
            nullable=True,
            comment="URL or folder to which its transcripts are sent as well",
        ),
    )
    op.add_column(
        "submissions",
        sa.Column("formats", sa.JSON(), nullable=True, comment="in which they are sent there"),
    )
    op.add_column(
        "submission_transcripts",
        sa.Column("speaker", sa.String(), nullable=True, comment="who is heard in it, as far as that was said"),
    )


def downgrade() -> None:
    """Back from it."""
    with op.batch_alter_table("submission_transcripts", schema=None) as batch_op:
        batch_op.drop_column("speaker")
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.drop_column("formats")
        batch_op.drop_column("destination")
        batch_op.drop_column("speakers")
