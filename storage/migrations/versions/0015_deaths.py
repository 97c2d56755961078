"""Workers that died, and what they had."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """To this revision. No row is rewritten."""
    op.create_table(
        "deaths",
        sa.Column("worker", sa.String(length=80), nullable=False),
        sa.Column(
            "at",
            sa.Double(),
            nullable=False,
            comment="database clock; when the first of its leases was found to have run out",
        ),
        sa.Column("chunks", sa.JSON(), nullable=False, comment="[transcript, index] of each"),
        sa.Column(
            "cleared",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="others have heard all of that since: it died of nothing of it",
        ),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_deaths")),
    )
    op.create_index(op.f("ix_deaths_at"), "deaths", ["at"])


def downgrade() -> None:
    """To the revision before."""
    op.drop_table("deaths")
