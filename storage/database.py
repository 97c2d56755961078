"""Opening the ledger: SQLite on one machine. Its clock, its transactions, its version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Float, create_engine, event, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

from stenopool.errors import LedgerError
from storage.tables import SCHEMA_VERSION, Base, Meta

#: Seconds that a writer waits for another to finish.
BUSY_TIMEOUT = 60.0


class database_clock(FunctionElement[float]):  # noqa: N801 - used as SQL's functions are
    """Seconds since 1970 by the database's clock: the only one that leases are measured with."""

    type = Float()
    inherit_cache = True


@compiles(database_clock, "sqlite")
def _sqlite_clock(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


def open_database(path: Path) -> Engine:
    """Open the ledger of this machine, made if there is none.

    Raises:
        LedgerError: it cannot be opened, or another release's schema is in it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"{path.parent}: cannot be made ({error.strerror}); set STENOPOOL_HOME elsewhere") from error
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT})

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: Any) -> None:
        # pysqlite begins transactions on its own terms; "begin immediate" below replaces that, so that two
        # processes never both read first and then wait for each other to write.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")  # a reader never waits for the writer
        connection.execute("PRAGMA synchronous=NORMAL")  # survives kill -9; a power cut may undo the last moments
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        _check_version(engine)
    except DatabaseError as error:
        engine.dispose()
        raise LedgerError(
            f"{path}: cannot be used as a ledger ({error.orig}); move it away or set STENOPOOL_HOME elsewhere"
        ) from error
    return engine


def _check_version(engine: Engine) -> None:
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        with Session(connection) as session:
            version = session.scalar(select(Meta.schema_version))
            if version is None:
                session.add(Meta(schema_version=SCHEMA_VERSION))
                session.flush()
    if version not in (None, SCHEMA_VERSION):
        engine.dispose()
        raise LedgerError(
            f"{engine.url.database}: made by another release (schema {version}, this one has {SCHEMA_VERSION}); "
            "use that release, or set STENOPOOL_HOME elsewhere"
        )
