"""Run by Alembic for every command; the connection is the caller's, and so is the transaction."""

from __future__ import annotations

from alembic import context

from storage.admin_role import make_reader
from storage.database import revision
from storage.tables import REVISION, Base
from storage.views import drop_views, make_views

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",  # which cannot alter a table in place
    transaction_per_migration=False,
)
drop_views(connection)  # no column can change that a view reads
context.run_migrations()
if revision(connection) == REVISION and make_views(connection):
    make_reader(connection)
