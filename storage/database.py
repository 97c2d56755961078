"""Opening the ledger: SQLite on one machine. Its clock, its transactions, its version."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, Float, create_engine, event, insert, inspect, select
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.ext.compiler import compiles
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
    # Not a string to be parsed: a folder's name may hold "?" or "%".
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT})

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: Any) -> None:
        # pysqlite begins transactions on its own terms; "begin immediate" below replaces that, so that two
        # processes never both read first and then wait for each other to write.
        connection.isolation_level = None
        _write_ahead(connection)  # a reader never waits for the writer
        connection.execute("PRAGMA synchronous=NORMAL")  # survives kill -9; a power cut may undo the last moments
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with refusals(path):
            _check_version(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    # Where two processes switch a new file at once, SQLite refuses one of them without waiting.
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def refusals(database: object) -> Iterator[None]:
    """What the ledger's file or its disk refuses, as a LedgerError that names the file and the cure."""
    try:
        yield
    except DatabaseError as error:
        # A broken constraint or a wrong statement is our own fault and keeps its traceback.
        if not isinstance(error, OperationalError) and type(error) is not DatabaseError:
            raise
        raise LedgerError(f"{database}: cannot be used as a ledger ({error.orig}); {_cure(error.orig)}") from error


def _code(error: BaseException | None) -> int:
    """SQLite's primary result code; the extended codes keep it in their low byte."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _cure(error: BaseException | None) -> str:
    match _code(error):
        case sqlite3.SQLITE_BUSY:
            return f"another process has held it for {BUSY_TIMEOUT:g} s; end that one, or set STENOPOOL_HOME elsewhere"
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return "make room on its disk, or set STENOPOOL_HOME elsewhere"
        case _:
            return "move it away or set STENOPOOL_HOME elsewhere"


def _check_version(engine: Engine) -> None:
    """Write this release's schema into an empty ledger; another release's ledger is left as it is."""
    with engine.begin() as connection:
        known = inspect(connection).has_table(Meta.__tablename__)
        version = connection.scalar(select(Meta.schema_version)) if known else None
        if version is None:
            Base.metadata.create_all(connection)
            connection.execute(insert(Meta).values(schema_version=SCHEMA_VERSION))
        elif version != SCHEMA_VERSION:
            raise LedgerError(
                f"{engine.url.database}: made by another release (schema {version}, this one has {SCHEMA_VERSION}); "
                "use that release, or set STENOPOOL_HOME elsewhere"
            )
