"""A statement of somebody who may look, and nothing else.

What holds it, each by itself:
- a login of its own, whose role may select from the views for operators (storage/admin_role.py). Before anything is
  asked of it, it is looked at: one that may do more is refused;
- a transaction that only reads, and that is never committed: what is given back at its end was never there;
- one cursor: the server refuses several statements, and all that is no query (storage/views/statements.py);
- limits of time, rows and bytes that the statement cannot change: this process ends it from outside, and the server
  set its own clock before the statement began;
- whoever takes an advisory lock is ended at once: the farm's dispatcher leads by one.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg2
from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import DBAPIError

from stenopool.errors import LedgerError, LedgerUnreachable, UsageError
from storage.admin import Rows, no_views
from storage.admin_role import login, make_reader
from storage.database import name_of
from storage.views.statements import DESCRIBE, OPEN, TAKE

#: Rows, seconds and bytes that a statement may take where nothing else is said, and at most.
ROWS, MOST_ROWS = 1000, 100_000
SECONDS, MOST_SECONDS = 15.0, 300.0
BYTES = 64_000_000

#: Seconds between two looks at what a statement does.
LOOK_EVERY = 0.1
#: Seconds after which one that was cancelled is ended.
PATIENCE = 2.0

CURE = "see docs/admin.md for a login, and set STENOPOOL_ADMIN_DATABASE to it"

#: What a reader may besides reading views: nothing, so rows here are reasons not to be one.
_MORE = """
SELECT 'is a superuser, or may make roles or databases' FROM pg_catalog.pg_roles
WHERE rolname = current_user AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
UNION ALL
(SELECT 'is a member of ' || r.rolname FROM pg_catalog.pg_roles r
WHERE r.rolname ~ '^pg_' AND r.rolname <> 'pg_database_owner' AND pg_catalog.pg_has_role(r.oid, 'MEMBER') LIMIT 1)
UNION ALL
(SELECT 'may read or change ' || c.oid::pg_catalog.regclass
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('admin', 'pg_catalog', 'information_schema')
AND (pg_catalog.has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
    OR pg_catalog.has_table_privilege(c.oid, 'DELETE, TRUNCATE, TRIGGER'))
AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') LIMIT 1)
UNION ALL
(SELECT 'may call ' || p.oid::pg_catalog.regprocedure || ', which has the rights of ' || p.proowner::pg_catalog.regrole
FROM pg_catalog.pg_proc p WHERE p.prosecdef AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE') LIMIT 1)
"""
_LOCKS = "SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a statement may take."""

    rows: int = ROWS
    seconds: float = SECONDS
    bytes: int = BYTES


def run_statement(
    statement: str, bounds: Bounds = Bounds(), *, ledger: Engine | None = None, reader: str | None = None
) -> Rows:
    """What a statement says, read with the rights of the reader's role alone.

    Args:
        ledger: the farm's own, by which a login is made for this once; not used where there is a reader.
        reader: URL of a login that is there.

    Raises:
        UsageError: the statement is refused, fails, or takes too long; or the login may do more than read the views.
        LedgerError: there are no views; nobody can log in.
    """
    with _reading(ledger, reader, bounds) as (asking, watching):
        asking_pid = asking.get_backend_pid()
        watch = _Watch(asking, watching, asking_pid, bounds.seconds)
        try:
            with watch, asking.cursor() as cursor:
                return _asked(cursor, statement, bounds)
        except psycopg2.Error as error:
            raise UsageError(watch.verdict or _refusal(error)) from None
        finally:
            with suppress(psycopg2.Error):
                asking.rollback()


def _asked(cursor: Any, statement: str, bounds: Bounds) -> Rows:
    cursor.execute(OPEN, [statement])
    cursor.execute(DESCRIBE)
    columns = tuple(column.name for column in cursor.description)
    if twice := [name for name, n in Counter(columns).items() if n > 1]:
        raise UsageError(f"two columns are called {twice[0]}: name them with AS")
    cursor.execute(TAKE, [bounds.rows + 1, bounds.bytes])
    lines = [line for (line,) in cursor]
    cut = len(lines) > bounds.rows or (bool(lines) and lines[-1] is None)
    records = [json.loads(line) for line in lines[: bounds.rows] if line is not None]
    return Rows(columns=columns, rows=[tuple(record[name] for name in columns) for record in records], cut=cut)


class _Watch:
    """Ends a statement from outside: when its time is over, or when it does what it must not."""

    def __init__(self, asking: Any, watching: Any, pid: int, seconds: float) -> None:
        self._asking = asking
        self._watching = watching
        self._pid = pid
        self._seconds = seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        #: Why it was ended; None where it was not.
        self.verdict: str | None = None

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        deadline = time.monotonic() + self._seconds
        while not self._done.wait(LOOK_EVERY):
            if time.monotonic() > deadline:
                self.verdict = f"it was ended after {self._seconds:g} s; ask for less, or give it longer with --timeout"
                self._asking.cancel()
                if not self._done.wait(PATIENCE):
                    self._end()
                return
            try:
                locks = self._ask(_LOCKS)
            except psycopg2.Error:  # whoever ends the watch is not left unwatched
                self.verdict = "it was ended: nobody could watch it any more"
                self._asking.cancel()
                self._end()
                return
            if locks:
                self.verdict = "advisory locks are the farm's own; the statement was ended"
                self._end()
                return

    def _end(self) -> None:
        with suppress(psycopg2.Error):
            self._ask("SELECT pg_catalog.pg_terminate_backend(%s)::int")

    def _ask(self, question: str) -> int:
        with self._watching.cursor() as cursor:
            cursor.execute(question, [self._pid])
            return int(cursor.fetchone()[0])


@contextmanager
def _reading(ledger: Engine | None, reader: str | None, bounds: Bounds) -> Iterator[tuple[Any, Any]]:
    """Two connections as a reader: one that asks, and one that watches it."""
    opened: list[Any] = []
    try:
        if reader is not None:
            url = make_url(reader).set(drivername="postgresql+psycopg2")
            opened += [_connect(url, bounds), _connect(url, bounds)]
        else:
            assert ledger is not None
            with _login(ledger) as url:
                opened += [_connect(url, bounds), _connect(url, bounds)]
        asking, watching = opened
        watching.autocommit = True
        _check(watching, "STENOPOOL_ADMIN_DATABASE" if reader else "the ledger's PUBLIC")
        yield asking, watching
    finally:
        for connection in opened:
            with suppress(psycopg2.Error):
                connection.close()


@contextmanager
def _login(ledger: Engine) -> Iterator[URL]:
    name = name_of(ledger)
    if ledger.dialect.name != "postgresql":
        raise no_views(ledger)
    try:
        with ledger.begin() as connection:
            role = make_reader(connection)
        if role is None:
            raise LedgerError(f"{name}: its user may make no role that only reads the views; {CURE}")
        with login(ledger, role) as url:
            yield url
    except DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        if error.connection_invalidated:
            raise LedgerUnreachable(f"{name}: no ledger answers ({reason}); see that Postgres runs") from None
        raise LedgerError(f"{name}: its user may give no login to the role that reads ({reason}); {CURE}") from None


def _connect(url: URL, bounds: Bounds) -> Any:
    settings = {
        "default_transaction_read_only": "on",
        "statement_timeout": f"{int((bounds.seconds + PATIENCE) * 1000)}",
        "lock_timeout": "2000",
        "idle_in_transaction_session_timeout": f"{int((bounds.seconds + 60) * 1000)}",
        "search_path": "admin",
        "timezone": "UTC",
        "jit": "off",
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    arguments: Any = url.get_dialect()().create_connect_args(url)[1]
    arguments |= {"options": options, "application_name": "stenopool admin sql", "connect_timeout": 10}
    try:
        connection = psycopg2.connect(**arguments)
    except psycopg2.Error as error:
        reason = str(error).strip().partition("\n")[0]
        where = url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)
        raise LedgerError(f"{where}: the role that reads cannot log in ({reason}); {CURE}") from None
    connection.set_session(readonly=True)
    return connection


def _check(connection: Any, whose: str) -> None:
    """Raises UsageError where who is logged in may do more than read the views."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regnamespace('admin') IS NOT NULL AND has_schema_privilege('admin', 'USAGE')")
        if not cursor.fetchone()[0]:
            raise LedgerError("there are no views for this login; make them with: stenopool migrate")
        cursor.execute(_MORE)
        if more := [reason for (reason,) in cursor]:
            cursor.execute("SELECT current_user")
            [user] = cursor.fetchone()
            raise UsageError(f"{whose}: {user} {'; it '.join(more)}; only who may no more than read the views is asked")


def _refusal(error: Any) -> str:
    """What the server says against a statement, in one line."""
    said = error.diag.message_primary if error.diag is not None else None
    message = str(said or error).strip().partition("\n")[0]
    hint = error.diag.message_hint if error.diag is not None else None
    return f"{message} ({hint})" if hint else message
