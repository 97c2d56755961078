"""What operators do: lanes and tenants that are paused, workers that are to end; an index of what has failed.

The views of the schema `admin` are made anew after every migration (storage/admin_views.py): they hold no data.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """To this revision. No row is rewritten; the index is made from those chunks that have a result."""
    op.create_table(
        "pauses",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=True),
        sa.Column("tenant", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("by", sa.String(), nullable=False, comment="who asked for it"),
        sa.Column("at", sa.Double(), nullable=False, comment="database clock"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pauses")),
        sa.UniqueConstraint("lane", name=op.f("uq_pauses_lane")),
        sa.UniqueConstraint("tenant", name=op.f("uq_pauses_tenant")),
    )
    op.add_column(
        "workers",
        sa.Column(
            "drain",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="it is to end once it has ended what it has begun",
        ),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Nobody writes while an index is made, and the next revision needs the table alone: whoever has begun with it
        # and waits to write would wait for us then, and we for him.
        op.execute("LOCK TABLE chunks IN ACCESS EXCLUSIVE MODE")
        op.create_index(
            "ix_chunks_failed",
            "chunks",
            ["transcript_id", "index"],
            postgresql_where=sa.text("(result ->> 'failed') IS NOT NULL"),
        )
        # Else Postgres takes it that every chunk has failed, and does not ask the index.
        op.execute("CREATE STATISTICS chunks_failed ON (result ->> 'failed') FROM chunks")


def downgrade() -> None:
    """Back from it."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP STATISTICS chunks_failed")
        op.drop_index("ix_chunks_failed", "chunks")
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.drop_column("drain")
    op.drop_table("pauses")
