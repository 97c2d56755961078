"""Opening the ledger: SQLite on one machine, Postgres on a farm. Its clock, its transactions, its revision."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import POLLIN, poll
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from stenopool.errors import LedgerError, LedgerUnreachable
from storage import (  # noqa: F401 - their tables are made, too
    access_tables,
    admin_tables,
    campaign_tables,
    keeping_tables,
    publisher_tables,
    session_tables,
    webhook_tables,
)
from storage.search_query import relevance
from storage.tables import REVISION, Base

#: Seconds that a writer waits for another to finish.
BUSY_TIMEOUT = 60.0

#: That a process has to a farm's Postgres at most: as many as it came to need at once, which are kept.
CONNECTIONS = 15


class database_clock(FunctionElement[float]):  # noqa: N801 - used as SQL's functions are
    """Seconds since 1970 by the database's clock: the only one that leases are measured with."""

    type = Float()
    inherit_cache = True


@compiles(database_clock, "sqlite")
def _sqlite_clock(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_clock, "postgresql")
def _postgres_clock(*_: Any, **__: Any) -> str:
    return "extract(epoch from clock_timestamp())"


def open_database(where: Path | str) -> Engine:
    """Open a ledger: in a file of this machine, made if there is none, or in the Postgres of a farm, by its URL.

    An older ledger of this machine is brought up to this release's schema; a farm's is by `migrate`.

    Raises:
        LedgerError: it cannot be opened, or its schema is another release's.
    """
    engine = engine_of(where)
    try:
        with refusals(engine):
            _check_revision(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def engine_of(where: Path | str) -> Engine:
    """The way to a ledger, which is not asked for anything yet. Raises LedgerError where there can be none."""
    return _postgres(where) if isinstance(where, str) else _sqlite(where)


def make_or_migrate(url: str) -> list[str]:
    """Make a farm's ledger, or bring it up to this release's schema; returns the revisions it went through.

    Raises:
        LedgerError: a later release has made it; or it is in use in a way that does not let it be changed now.
    """
    from storage.migrations import migrate

    engine = _postgres(url)
    try:
        with refusals(engine), engine.begin() as connection:
            return migrate(connection)
    finally:
        engine.dispose()


def name_of(engine: Engine) -> str:
    """A ledger as people know it: its file, or its URL without the password."""
    if engine.dialect.name == "sqlite":
        return str(engine.url.database)
    return engine.url.set(query={}).render_as_string(hide_password=True)  # a password may stand in the query, too


def _postgres(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        # Not repeated: there may be a password in it.
        raise LedgerError("STENOPOOL_DATABASE is no URL of a database: postgresql://user:password@host/name") from None
    if parsed.get_backend_name() != "postgresql":
        raise LedgerError(f"{parsed.get_backend_name()}: a farm's ledger is kept by Postgres; name one")
    engine = create_engine(
        parsed.set(drivername="postgresql+psycopg2"),
        pool_size=CONNECTIONS,
        max_overflow=0,  # those beyond are closed after each use: Postgres takes longer to open one than to answer
        pool_recycle=1800,
        executemany_mode="values_plus_batch",  # many updates go there and back once, not each for itself
        connect_args={
            "connect_timeout": 10,
            "application_name": "stenopool",
            "options": "-c lock_timeout=60s",
            # A network that swallows everything is noticed within a minute: libpq itself would wait for ever.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
        },
    )

    @event.listens_for(engine, "checkout")
    def _ask(connection: Any, *_: Any) -> None:
        # A connection that the server closed is replaced, not failed with. There is something to be read from it then:
        # to ask each time, as `pool_pre_ping` does, is a way there and back more for each transaction.
        heard = poll()
        heard.register(connection.fileno(), POLLIN)
        if heard.poll(0):
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error:
                raise InvalidatePoolError from None

    return engine


def _sqlite(path: Path) -> Engine:
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
        connection.create_function("relevance", 2, relevance, deterministic=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

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
def refusals(engine: Engine) -> Iterator[None]:
    """What the ledger or its disk refuses, as a LedgerError that names it and the cure."""
    try:
        yield
    except DBAPIError as error:
        # A broken constraint or a wrong statement is our own fault and keeps its traceback. A connection that broke has
        # many names.
        named = isinstance(error, OperationalError) or type(error) is DatabaseError
        if not named and not error.connection_invalidated:
            raise
        database = name_of(engine)
        reason = str(error.orig).strip().partition("\n")[0]
        if not isinstance(error.orig, sqlite3.Error):
            raise LedgerUnreachable(f"{database}: no ledger answers ({reason}); {_way(reason)}") from error
        raise LedgerError(f"{database}: cannot be used as a ledger ({reason}); {_cure(error.orig)}") from error


def _way(reason: str) -> str:
    """What to do about a Postgres that is not reached."""
    if "password authentication failed" in reason or "does not exist" in reason:  # a role, a database
        return "correct STENOPOOL_DATABASE"
    return "see that Postgres runs"


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


def _check_revision(engine: Engine) -> None:
    """An empty ledger gets this release's schema, an older one of this machine is migrated; any other is refused."""
    ours = engine.dialect.name == "sqlite"
    with engine.begin() as connection:
        known = revision(connection)
        if known is None:
            if not ours:
                raise LedgerError(f"{name_of(engine)}: there is no ledger yet; make it with: stenopool migrate")
            Base.metadata.create_all(connection)
            stamp(connection)
            return
    if known == REVISION:
        return
    if not ours:
        raise LedgerError(
            f"{name_of(engine)}: its schema is {known}, this release's is {REVISION}; bring it up to date with: "
            "stenopool migrate"
        )
    from storage.migrations import migrate  # Alembic takes longer to import than all of this

    with engine.connect() as connection:
        # SQLite alters a table by making it anew, and rows that point to it would forbid that. Not in a transaction:
        # there it would not be heard.
        raw: Any = connection.connection.driver_connection
        raw.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                migrate(connection)
        finally:
            raw.execute("PRAGMA foreign_keys=ON")


#: Where Alembic keeps the revision.
_REVISIONS = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
#: Where ledgers did that were made before there were migrations, and the revision that was.
_BEFORE = Table("meta", MetaData(), Column("schema_version", Integer, primary_key=True))
FIRST = {3: "0001"}


def revision(connection: Connection) -> str | None:
    """Which schema a ledger has; None where it is empty.

    Raises:
        LedgerError: one from before there were migrations, which cannot be brought up to date.
    """
    tables = inspect(connection)
    if tables.has_table(_REVISIONS.name):
        return connection.scalar(select(_REVISIONS.c.version_num))
    if not tables.has_table(_BEFORE.name):
        return None
    version = connection.scalar(select(_BEFORE.c.schema_version))
    if version not in FIRST:
        raise LedgerError(
            f"{name_of(connection.engine)}: made by another release (schema {version}); use that release, or set "
            "STENOPOOL_HOME elsewhere"
        )
    return FIRST[version]


def stamp(connection: Connection) -> None:
    """Say that an empty ledger was given this release's schema."""
    _REVISIONS.create(connection)
    connection.execute(insert(_REVISIONS).values(version_num=REVISION))
