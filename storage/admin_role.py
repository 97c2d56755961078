"""The role that may read the views for operators, and nothing else; and how one logs in as it.

What a role is set to (`default_transaction_read_only`, `statement_timeout`) are defaults that its user can change. What
holds is what it was granted: the schema `admin`, and to select from what is in it. It is another login, not a `SET
ROLE`, which `RESET ROLE` undoes.

Its password is made for one login, ends after a minute, and is removed as soon as that login is there: nobody keeps it,
and the server's log never has it. `statements` is the same for a database whose user may make no role, to be run by
someone who may.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg2.extensions import encrypt_password
from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from storage.views.view import SCHEMA

_log = logging.getLogger(__name__)

#: Seconds in which a password must have been used.
LOGIN_WITHIN = 60
#: "stra" in ASCII: two who would change the role wait for each other.
_LOGGING_IN = 0x73747261

#: What a role's sessions begin with, also where somebody logs in by other means; no more than that.
_DEFAULTS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "15s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "60s",
    "search_path": SCHEMA,
    "jit": "off",  # to compile a view takes longer than to read it
}

#: Functions that everybody may call, and that do more than read: locks that the farm's own processes take, large
#: objects, notices. Only a superuser can take them away from everybody, and must then give them to the farm.
_MORE_THAN_READING = (
    "proname ~ '^pg_(try_)?advisory_' OR proname IN ('pg_notify', 'pg_logical_emit_message', 'lo_creat', 'lo_create', "
    "'lo_from_bytea', 'lo_put', 'lo_open', 'lowrite', 'lo_truncate', 'lo_truncate64', 'lo_unlink')"
)


def reader_of(database: str) -> str:
    """The role's name: roles are the server's, so it has the database in it."""
    name = f"stenopool_reader_{database}"
    if len(name.encode()) <= 63:
        return name
    return f"stenopool_reader_{hashlib.sha256(database.encode()).hexdigest()[:32]}"


def grants(database: str) -> list[str]:
    """What the role may, to be said again whenever the views were made anew."""
    role = _name(reader_of(database))
    return [
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMA} TO {role}",
    ]


def statements(database: str) -> list[str]:
    """All that makes the role, in order, for someone who may make one."""
    role = _name(reader_of(database))
    return [
        f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION CONNECTION LIMIT 16",
        *(
            f"ALTER ROLE {role} IN DATABASE {_name(database)} SET {name} = '{value}'"
            for name, value in _DEFAULTS.items()
        ),
        *grants(database),
    ]


def closing(database: str) -> list[str]:
    """What everybody may by default in a database, and nobody needs there."""
    return [
        f"REVOKE TEMPORARY ON DATABASE {_name(database)} FROM PUBLIC",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    ]


def hardening(farm: str) -> list[str]:
    """What only a superuser can do besides: nobody but the farm's user takes the locks by which the farm goes on."""
    loop = (
        f"FOR f IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace "
        f"AND ({_MORE_THAN_READING}) LOOP"
    )
    body = (
        "EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f); "
        f"EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f, {_literal(farm)}); END LOOP; END"
    )
    return [f"DO $$ DECLARE f regprocedure; BEGIN {loop} {body} $$"]


def make_reader(connection: Connection) -> str | None:
    """Make the role, or see that it has its grants; its name, or None where this user may not, or there are no views.

    In the caller's transaction.
    """
    database = connection.scalar(text("SELECT current_database()"))
    role = reader_of(database)
    if not connection.scalar(text("SELECT to_regnamespace(:name)"), {"name": SCHEMA}):
        return None
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOGGING_IN})
    known = connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role})
    needed = grants(database) if known else statements(database)
    try:
        with connection.begin_nested():
            for statement in needed:
                connection.exec_driver_sql(statement)
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", "") != "42501":  # insufficient_privilege
            raise
        return None
    for statement in closing(database):
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(statement)
        except DBAPIError as error:
            _log.debug("%s: %s", statement, error.orig)
    return role


def harden(connection: Connection) -> bool:
    """As `hardening`, where this user is a superuser whose server it is; False where it is none."""
    if not connection.scalar(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")):
        return False
    for statement in hardening(connection.scalar(text("SELECT current_user"))):
        connection.exec_driver_sql(statement.replace("%", "%%"))
    return True


@contextmanager
def login(engine: Engine, role: str) -> Iterator[URL]:
    """The URL of a login as the role, as long as the context lasts: who is connected then stays so.

    Raises:
        DBAPIError: this user may not give it a password.
    """
    password = secrets.token_urlsafe(32)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        raw: Any = connection.connection.driver_connection
        # The server is told what a password is checked by, not the password.
        verifier = encrypt_password(password, role, raw, "scram-sha-256")
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOGGING_IN})
        try:
            until = connection.scalar(text("SELECT (now() + make_interval(secs => :n))::text"), {"n": LOGIN_WITHIN})
            connection.exec_driver_sql(
                f"ALTER ROLE {_name(role)} PASSWORD {_literal(verifier)} VALID UNTIL {_literal(until)}"
            )
            try:
                yield engine.url.set(username=role, password=password)
            finally:
                connection.exec_driver_sql(f"ALTER ROLE {_name(role)} PASSWORD NULL")
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOGGING_IN})


def _name(name: str) -> str:
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
