"""Sessions of the web page."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """To this revision. No row is rewritten."""
    op.create_table(
        "sessions",
        sa.Column("digest", sa.String(length=64), nullable=False, comment="SHA-256 of the token: 32 random bytes"),
        sa.Column("key_id", sa.Integer(), nullable=False, comment="which it counts for, as long as that does"),
        sa.Column("once", sa.Boolean(), nullable=False, comment="a link, which becomes a session and is gone then"),
        sa.Column("created_at", sa.Double(), nullable=False, comment="database clock"),
        sa.Column("expires_at", sa.Double(), nullable=False, comment="database clock"),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_sessions_key_id_api_keys")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_expires_at"), "sessions", ["expires_at"])


def downgrade() -> None:
    """To the revision before."""
    op.drop_table("sessions")
