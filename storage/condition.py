"""The condition of a ledger: what it says of itself, asked without changing anything in it."""

from __future__ import annotations

import sqlite3
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DBAPIError

from storage.database import database_clock, engine_of, refusals, revision
from storage.tables import REVISION, TenantRow


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCondition:
    """What a ledger says of itself."""

    #: "Postgres 15.18"
    server: str
    #: The revision of its schema; None where it has none yet.
    schema: str | None
    #: Seconds that its clock is ahead of ours.
    ahead: float
    #: Why it takes no writes; None where it does, or where its schema is not this release's.
    refusal: str | None

    @property
    def current(self) -> bool:
        """Whether its schema is this release's."""
        return self.schema == REVISION


def ledger_condition(where: Path | str) -> LedgerCondition:
    """Ask a ledger: a file that is there, or a farm's Postgres by its URL.

    Raises:
        LedgerError: it does not answer, or is no ledger.
    """
    engine = engine_of(where)
    try:
        with refusals(engine), engine.connect() as connection:
            before = time.time()
            clock = connection.scalar(select(database_clock())) or 0.0
            ours = (before + time.time()) / 2
            schema = revision(connection)
            return LedgerCondition(
                server=_server(connection),
                schema=schema,
                ahead=float(clock) - ours,
                refusal=_refusal(connection) if schema == REVISION else None,
            )
    finally:
        engine.dispose()


def _server(connection: Connection) -> str:
    if connection.dialect.name == "sqlite":
        return f"SQLite {sqlite3.sqlite_version}"
    return f"Postgres {'.'.join(map(str, connection.dialect.server_version_info or ()))}"


def _refusal(connection: Connection) -> str | None:
    """Why a row is not taken; one that is taken is given up."""
    try:
        connection.execute(insert(TenantRow).values(name=f"doctor-{uuid.uuid4().hex}", created_at=database_clock()))
    except DBAPIError as error:
        return str(error.orig).strip().partition("\n")[0]
    finally:
        connection.rollback()
    return None
