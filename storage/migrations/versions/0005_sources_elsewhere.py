"""Sources that lie elsewhere, whose bytes are known once they are fetched; and what else was said of a submission."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_SOURCE = "key of the file in the object store, or the URL that it is fetched from"
_WAS_SOURCE = "key of the file in the object store"
_SHA256 = "of the file's bytes; null until it is fetched"
_WAS_SHA256 = "of the file's bytes"


def upgrade() -> None:
    """To this revision."""
    _without_index()
    with op.batch_alter_table("submissions", schema=None) as table:
        table.alter_column("source", existing_type=sa.String(), comment=_SOURCE, existing_comment=_WAS_SOURCE)
        table.alter_column(
            "file_sha256",
            existing_type=sa.String(length=64),
            nullable=True,
            comment=_SHA256,
            existing_comment=_WAS_SHA256,
        )
        table.add_column(
            sa.Column(
                "metadata",
                sa.JSON(),
                server_default=sa.text("'{}'"),
                nullable=False,
                comment="what else was said of it by whoever handed it in",
            )
        )
    _with_index()


def downgrade() -> None:
    """Back from it; what was never fetched has no bytes that an earlier release could name."""
    op.execute("UPDATE submissions SET file_sha256 = '' WHERE file_sha256 IS NULL")
    _without_index()
    with op.batch_alter_table("submissions", schema=None) as table:
        table.drop_column("metadata")
        table.alter_column(
            "file_sha256",
            existing_type=sa.String(length=64),
            nullable=False,
            comment=_WAS_SHA256,
            existing_comment=_SHA256,
        )
        table.alter_column("source", existing_type=sa.String(), comment=_WAS_SOURCE, existing_comment=_SOURCE)
    _with_index()


# SQLite alters a table by making it anew, and Alembic forgets then in which direction an index goes.


def _without_index() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.drop_index("ix_submissions_accepted", "submissions")


def _with_index() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.create_index(
            "ix_submissions_accepted",
            "submissions",
            ["lane", "tenant", "deadline_at", sa.text("priority DESC"), "id"],
            sqlite_where=sa.text("state = 'accepted'"),
        )
