"""Versions beside the one that is shown, gaps that are tried again, indexes for the desk and the collector."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """To this revision.

    No row is rewritten. The indexes come first: while they are made, others may read; what follows takes a moment.
    """
    op.create_index(op.f("ix_submissions_source"), "submissions", ["source"])
    op.create_index(
        "ix_submissions_accepted",
        "submissions",
        ["lane", "tenant", "deadline_at", sa.text("priority DESC"), "id"],
        postgresql_where=sa.text("state = 'accepted'"),
        sqlite_where=sa.text("state = 'accepted'"),
    )
    op.add_column(
        "submissions",
        sa.Column(
            "settled",
            sa.String(length=24),
            nullable=True,
            comment="its state before its gaps were tried again; it is that again where nothing comes of it",
        ),
    )
    op.add_column(
        "transcripts",
        sa.Column(
            "withheld",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="it has more gaps than the version that was shown when it was completed",
        ),
    )


def downgrade() -> None:
    """Back from it."""
    op.drop_index("ix_submissions_accepted", "submissions")
    op.drop_index(op.f("ix_submissions_source"), "submissions")
    with op.batch_alter_table("transcripts", schema=None) as batch_op:
        batch_op.drop_column("withheld")
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.drop_column("settled")
