"""What operators look at: the views of the schema `admin` (storage/views), row by row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from stenopool.errors import LedgerError, UsageError
from storage.database import name_of
from storage.transactions import Transactions
from storage.views import SCHEMA, VIEWS, View, view_named

#: Rows of a view where nothing else is said.
ROWS = 1000
#: Seconds that a view may take.
SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What was asked for."""

    columns: tuple[str, ...]
    #: Times as ISO 8601 in UTC; the rest as JSON has it.
    rows: list[tuple[Any, ...]]
    #: There would have been more.
    cut: bool = False

    @property
    def records(self) -> list[dict[str, Any]]:
        """Row by row, by the names of the columns."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Administration(Transactions):
    """Reads the views."""

    def view(self, name: str, *, tenant: str | None = None, limit: int = ROWS) -> Rows:
        """The first rows of a view, in its order.

        Raises:
            UsageError: there is no such view; or none of its rows belongs to a tenant, and one was named.
            LedgerError: the ledger has no views.
        """
        view = _view(name)
        if tenant is not None and not view.of_tenants:
            raise UsageError(f"{name}: its rows are no tenant's; leave --tenant out")
        if self._engine.dialect.name != "postgresql":
            raise no_views(self._engine)
        whose = "" if tenant is None else "WHERE tenant = :tenant"
        query = f"SELECT * FROM {SCHEMA}.{view.name} {whose} ORDER BY {view.order} LIMIT :limit"
        with self._transaction() as session:
            session.execute(text("SET TRANSACTION READ ONLY"))
            session.execute(text(f"SET LOCAL statement_timeout = '{SECONDS}s'"))
            session.execute(text("SET LOCAL timezone = 'UTC'"))
            session.execute(text("SET LOCAL jit = off"))  # to compile them takes longer than to read them
            try:
                found = session.execute(text(query), {"tenant": tenant, "limit": limit + 1}).all()
            except ProgrammingError as error:
                if getattr(error.orig, "pgcode", "") not in ("3F000", "42P01", "42703"):
                    raise
                raise no_views(self._engine) from None
        rows = [tuple(map(_plain, row)) for row in found[:limit]]
        return Rows(columns=view.names, rows=rows, cut=len(found) > limit)


def _view(name: str) -> View:
    view = view_named(name)
    if view is None:
        raise UsageError(f"there is no view {name}; there are {', '.join(sorted(one.name for one in VIEWS))}")
    return view


def no_views(engine: Engine) -> LedgerError:
    """Why there is nothing to be looked at."""
    if engine.dialect.name != "postgresql":
        return LedgerError(f"{name_of(engine)}: one machine's ledger has no views; they are those of a farm's Postgres")
    return LedgerError(
        f"{name_of(engine)}: it has no views of this release: let its user make a schema (GRANT CREATE ON DATABASE "
        "... TO ...), then: stenopool migrate"
    )


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value  # a datetime is a date
