"""Publishers' own transcripts are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """To this revision. No row is rewritten."""
    op.create_table(
        "publisher_transcripts",
        sa.Column("submission_id", sa.Integer(), nullable=False),
        sa.Column(
            "place",
            sa.SmallInteger(),
            autoincrement=False,
            nullable=False,
            comment="among those that its feed names, from 1",
        ),
        sa.Column("url", sa.String(), nullable=False, comment="as the feed has it"),
        sa.Column("media_type", sa.String(length=100), comment="as the feed has it, else as it was sent"),
        sa.Column("language", sa.String(length=40), comment="as the feed has it"),
        sa.Column("rel", sa.String(length=40), comment="as the feed has it"),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("sha256", sa.String(length=64), comment="of its bytes; null: it is not kept"),
        sa.Column("size", sa.Integer(), comment="bytes"),
        sa.Column("error", sa.String(), comment="why it is not kept, in one line"),
        sa.Column("at", sa.Double(), nullable=False, comment="database clock; when it was asked for"),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_publisher_transcripts_submission_id_submissions")
        ),
        sa.PrimaryKeyConstraint("submission_id", "place", name=op.f("pk_publisher_transcripts")),
    )


def downgrade() -> None:
    """To the revision before."""
    op.drop_table("publisher_transcripts")
