"""The views for operators, in the schema `admin` of a farm's Postgres: each with its columns and its query.

They hold no data, so no migration changes them: all are dropped before the tables change and made anew afterwards
(`storage/migrations/env.py`). What somebody else put into that schema goes with them.

Tables are found by the search path as the views are made, and kept by their ids; names in a session of whoever reads
them make no difference. A view reads tables with the rights of who made it, so that its readers need none on tables.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from storage.views import farm, trouble, work
from storage.views.statements import FUNCTIONS
from storage.views.view import SCHEMA, View

__all__ = ["SCHEMA", "VIEWS", "View", "drop_views", "make_views", "view_named"]

_log = logging.getLogger(__name__)

VIEWS: tuple[View, ...] = (*work.VIEWS, *trouble.VIEWS, *farm.VIEWS)


def view_named(name: str) -> View | None:
    """The view of that name; None where there is none."""
    return next((view for view in VIEWS if view.name == name), None)


def drop_views(connection: Connection) -> None:
    """Remove them all: tables that they read can change then. SQLite has none."""
    if connection.dialect.name == "postgresql" and inspect(connection).has_schema(SCHEMA):
        connection.execute(text(f"DROP SCHEMA {SCHEMA} CASCADE"))


def make_views(connection: Connection) -> bool:
    """Make them all, in a ledger of this release's schema; False where the user may make no schema there."""
    if connection.dialect.name != "postgresql":
        return False
    try:
        with connection.begin_nested():
            connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", "") != "42501":  # insufficient_privilege
            raise
        _log.warning("no views for operators: %s", str(error.orig).strip().partition("\n")[0])
        return False
    for view in VIEWS:
        columns = ", ".join(f'"{name}"' for name in view.names)
        query = f"SELECT {columns} FROM ({view.sql}) AS whole"
        # By the driver itself: a colon in a cast is no parameter there.
        connection.exec_driver_sql(f"CREATE VIEW {SCHEMA}.{view.name} AS {query}".replace("%", "%%"))
        connection.exec_driver_sql(f"COMMENT ON VIEW {SCHEMA}.{view.name} IS {_quoted(view.help)}")
        for name, help in view.columns:
            connection.exec_driver_sql(f'COMMENT ON COLUMN {SCHEMA}.{view.name}."{name}" IS {_quoted(help)}')
    for function in FUNCTIONS:
        connection.exec_driver_sql(function)
    return True


def _quoted(text: str) -> str:
    """As a literal of SQL, for a driver that takes % for a parameter."""
    return "'" + text.replace("'", "''").replace("%", "%%") + "'"
