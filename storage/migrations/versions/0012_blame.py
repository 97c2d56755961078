"""When a worker died with a chunk."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """To this revision. No row is rewritten."""
    op.add_column(
        "chunks",
        sa.Column(
            "blamed_at", sa.Double(), nullable=True, comment="database clock; when its lease ran out the last time"
        ),
    )
    op.create_index(
        "ix_chunks_blamed",
        "chunks",
        ["blamed_at"],
        postgresql_where=sa.text("blamed_at IS NOT NULL"),
        sqlite_where=sa.text("blamed_at IS NOT NULL"),
    )


def downgrade() -> None:
    """Back from it."""
    op.drop_index("ix_chunks_blamed", "chunks")
    with op.batch_alter_table("chunks", schema=None) as batch_op:
        batch_op.drop_column("blamed_at")
