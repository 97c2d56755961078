"""Run by Alembic for every command; the connection is the caller's, and so is the transaction."""

from __future__ import annotations

from alembic import context

from storage.tables import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",  # which cannot alter a table in place
    transaction_per_migration=False,
)
context.run_migrations()
