"""Statements of somebody who may look: what they can see, and every way out that is shut."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import psycopg2
import pytest
from sqlalchemy import Engine, create_engine, insert, make_url, text

from scheduler.dispatch import DISPATCHING, Leadership
from stenopool.errors import LedgerError, UsageError
from stenopool.servers import Postgres
from storage.admin_role import closing, harden, login, make_reader, reader_of, statements
from storage.admin_sql import Bounds, run_statement
from storage.database import make_or_migrate, open_database
from storage.desk import Desk, Order
from storage.webhook_tables import EndpointRow
from tests.servers import ask, fresh_database


@pytest.fixture(scope="module")
def url(postgres_server: Postgres) -> Iterator[str]:
    """Of a ledger for all of these: most of what they ask is refused. Rights are changed in it."""
    with fresh_database(postgres_server) as url:
        make_or_migrate(url)
        yield url


@pytest.fixture(scope="module")
def ledger(url: str) -> Iterator[Engine]:
    """A farm's, with a submission in it, and a secret."""
    engine = open_database(url)
    Desk(engine).accept(
        Order(tenant="ada", name="talk.wav", source="https://host/talk.wav", model="pocket", options={})
    )
    with engine.begin() as connection:
        endpoint = {"tenant": "ada", "url": "https://user:pw@hook.example/secret", "uid": "u", "secret": "whsec_7"}
        state = {"state": "enabled", "position": 0, "failures": 0, "created_at": 0.0}
        connection.execute(insert(EndpointRow).values(**endpoint, **state))
    yield engine
    engine.dispose()


def sql(engine: Engine, statement: str, seconds: float = 20.0, rows: int = 100, bytes: int = 1_000_000) -> list[tuple]:  # type: ignore[type-arg]
    """Its rows, as the reader gets them."""
    return run_statement(statement, Bounds(rows=rows, seconds=seconds, bytes=bytes), ledger=engine).rows


def test_what_it_is_for(ledger: Engine) -> None:
    """Views by their names, joined, counted; columns are named also where there is no row."""
    assert sql(ledger, "SELECT tenant, state, count(*) FROM submissions GROUP BY 1, 2") == [("ada", "accepted", 1)]
    assert sql(ledger, "SELECT s.name FROM admin.submissions s JOIN backlog b USING (tenant)") == [("talk.wav",)]
    assert sql(ledger, "TABLE backlog -- a comment at its end")[0][:3] == ("normal", "ada", "pocket")
    assert sql(ledger, "SELECT 'a;b' AS x, 1.5 AS y, NULL AS z, true AS w;") == [("a;b", 1.5, None, True)]
    none = run_statement("SELECT id, name FROM submissions WHERE false", ledger=ledger)
    assert (none.columns, none.rows, none.cut) == (("id", "name"), [], False)
    [(endpoint,)] = sql(ledger, "SELECT host FROM outbox WHERE endpoint IS NOT NULL")
    assert endpoint == "hook.example"


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        # Writing
        ("INSERT INTO public.tenants (name, weight, created_at) VALUES ('eve', 1, 0)", "INSERT|read-only|permission"),
        ("INSERT INTO admin.pauses (lane) VALUES ('bulk') RETURNING 1", "permission denied|INSERT"),
        ("UPDATE public.submissions SET state = 'failed' RETURNING id", "permission denied|UPDATE"),
        ("WITH gone AS (DELETE FROM public.chunks RETURNING 1) SELECT * FROM gone", "not allowed|permission denied"),
        ("SELECT * FROM admin.submissions FOR UPDATE", "permission denied|read-only|not allowed"),
        ("CREATE TEMP TABLE t AS SELECT 1", "cannot open"),
        ("SELECT 1 INTO TEMP t", "cannot open|read-only|SELECT INTO"),
        ("CREATE TABLE admin.t (x int)", "cannot open"),
        ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "cannot open"),
        ("DROP VIEW admin.submissions", "cannot open"),
        ("SELECT nextval('public.submissions_id_seq')", "permission denied|read-only"),
        # Becoming somebody else, or free of limits
        ("RESET ROLE", "cannot open"),
        ("SET ROLE stenopool", "cannot open"),
        ("SET SESSION AUTHORIZATION DEFAULT", "cannot open"),
        ("SELECT set_config('role', 'stenopool', false)", "permission denied to set role"),
        ("SELECT set_config('session_authorization', 'stenopool', false)", "permission denied to set session"),
        ("SET statement_timeout = 0", "cannot open"),
        ("SET default_transaction_read_only = off", "cannot open"),
        ("SELECT set_config('transaction_read_only', 'off', false)", "read-write mode"),
        ("COMMIT", "cannot open|transaction"),
        ("DO $$ BEGIN PERFORM 1; END $$", "cannot open"),
        # Several at once
        ("SELECT 1; SELECT 2", "multi-query"),
        ("SELECT 1; COMMIT; CREATE TABLE public.t (x int)", "multi-query"),
        ("SELECT 1) q; DROP TABLE public.chunks; --", "syntax error"),
        ("", "cannot open|multi-query|no query"),
        # Files and programs
        ("COPY (SELECT 1) TO PROGRAM 'id'", "cannot open"),
        ("COPY admin.submissions TO STDOUT", "cannot open"),
        ("SELECT pg_read_file('/etc/passwd')", "permission denied"),
        ("SELECT pg_ls_dir('.')", "permission denied"),
        ("SELECT lo_import('/etc/passwd')", "permission denied"),
        ("SELECT lo_export(1, '/tmp/x')", "permission denied"),
        ("SELECT * FROM dblink('dbname=postgres', 'SELECT 1') AS t(x int)", "does not exist"),
        ("LOAD 'plpgsql'", "cannot open"),
        # What is not in the views
        ("SELECT secret FROM public.endpoints", "permission denied"),
        ("SELECT document FROM public.transcripts", "permission denied"),
        ("SELECT query_to_xml('SELECT secret FROM public.endpoints', true, false, '')", "permission denied"),
        ("SELECT * FROM pg_catalog.pg_authid", "permission denied"),
        ("SELECT * FROM pg_catalog.pg_shadow", "permission denied"),
        ("SELECT * FROM pg_catalog.pg_statistic", "permission denied"),
        ("SELECT * FROM pg_catalog.pg_largeobject", "permission denied"),
        ("SELECT * FROM pg_catalog.pg_hba_file_rules", "permission denied"),
        ("SELECT pg_reload_conf()", "permission denied"),
        ("LOCK TABLE public.chunks", "cannot open"),
        ("LISTEN x", "cannot open"),
    ],
)
def test_ways_out_that_are_shut(ledger: Engine, statement: str, why: str) -> None:
    """The server refuses each of them, in a line; and goes on."""
    with pytest.raises(UsageError, match=why) as refused:
        sql(ledger, statement)
    assert "\n" not in str(refused.value)


def test_what_is_to_be_seen_of_secrets(ledger: Engine) -> None:
    """Statistics of columns, other people's statements, passwords: nothing."""
    assert sql(ledger, "SELECT * FROM pg_stats WHERE schemaname = 'public'") == []
    assert sql(ledger, "SELECT count(*) FROM pg_roles WHERE rolpassword <> '********'") == [(0,)]
    mine = "usename <> current_user AND query NOT LIKE '<insufficient privilege>' AND query <> ''"
    assert sql(ledger, f"SELECT query FROM pg_stat_activity WHERE {mine}") == []
    seen = sql(
        ledger, "SELECT string_agg(column_name, ' ') FROM information_schema.columns WHERE table_schema = 'admin'"
    )
    assert not {"secret", "former_secret", "document", "result", "source", "idempotency_key"} & set(seen[0][0].split())


def test_no_function_lends_its_rights(ledger: Engine) -> None:
    """Nothing that the role may call runs as somebody else, and it belongs to nobody's group."""
    lent = "prosecdef AND has_function_privilege(oid, 'EXECUTE')"
    assert sql(ledger, f"SELECT oid::regprocedure FROM pg_proc WHERE {lent}") == []
    assert (
        sql(ledger, "SELECT rolname FROM pg_roles WHERE rolname <> current_user AND pg_has_role(oid, 'MEMBER')") == []
    )


def test_nothing_of_it_stays(ledger: Engine, url: str) -> None:
    """Settings, notices, large objects and temporary schemas are given back with its transaction."""
    heard = psycopg2.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    heard.autocommit = True
    with heard.cursor() as cursor:
        cursor.execute("LISTEN farm")
    for statement in ("SELECT pg_notify('farm', 'stop')", "SELECT lo_from_bytea(0, 'abc')", "SELECT lo_create(4711)"):
        with suppress(UsageError):  # from Postgres 16 on, some are refused at once
            sql(ledger, statement)
    heard.poll()
    assert heard.notifies == []
    heard.close()
    assert ask(url, "SELECT count(*) FROM pg_largeobject_metadata") == [0]
    assert ask(url, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pg_temp%'") == [0]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_sleep(600)",
        "SELECT pg_sleep(600) FROM set_config('statement_timeout', '0', false)",
        "SELECT count(*) FROM generate_series(1, 100000000000)",
        "SELECT query_to_xml('SELECT set_config(''statement_timeout'', ''0'', false), pg_sleep(600)', true, false, '')",
    ],
)
def test_time_is_kept_from_outside(ledger: Engine, statement: str) -> None:
    """What would take for ever is ended, whatever it sets."""
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"it was ended after 0.5 s"):
        sql(ledger, statement, seconds=0.5)
    assert time.monotonic() - began < 300


def test_who_ends_its_watch_is_ended(ledger: Engine) -> None:
    """Sessions of the same role may end each other; it is worth nothing."""
    others = "pid <> pg_backend_pid() AND usename = current_user"
    with pytest.raises(UsageError, match="nobody could watch it"):
        sql(ledger, f"SELECT pg_terminate_backend(pid), pg_sleep(600) FROM pg_stat_activity WHERE {others}")


@pytest.mark.parametrize("taking", ["pg_advisory_lock", "pg_advisory_xact_lock", "pg_try_advisory_lock_shared"])
def test_the_dispatcher_leads_whatever_is_asked(ledger: Engine, taking: str) -> None:
    """Who takes its lock is ended long before its time is over, also where the server would let everybody take it."""
    with pytest.raises(UsageError, match="advisory locks are the farm's own"):
        sql(ledger, f"SELECT {taking}({DISPATCHING}), pg_sleep(600)", seconds=300)
    leadership = Leadership(ledger)
    assert leadership.held()
    with pytest.raises(UsageError, match="advisory locks are the farm's own"):  # waiting for it is as bad
        sql(ledger, f"SELECT pg_advisory_lock({DISPATCHING})", seconds=300)
    assert leadership.held()
    leadership.release()


def test_on_a_server_of_ours_the_lock_is_not_to_be_had(database_url: str) -> None:
    """`stenopool up` takes it from everybody but the farm."""
    make_or_migrate(database_url)
    ledger = open_database(database_url)
    with ledger.begin() as connection:
        assert harden(connection)

    for call in (f"pg_try_advisory_lock({DISPATCHING})", "pg_notify('x', 'y')", "lo_create(0)"):
        with pytest.raises(UsageError, match="permission denied for function"):
            sql(ledger, f"SELECT {call}")
    leadership = Leadership(ledger)
    assert leadership.held()
    leadership.release()
    ledger.dispose()


def test_results_are_bounded(ledger: Engine) -> None:
    """In rows and in bytes; it is said that there was more."""
    many = run_statement("SELECT * FROM generate_series(1, 1000000) AS n", Bounds(rows=3), ledger=ledger)
    assert (many.rows, many.cut) == ([(1,), (2,), (3,)], True)
    large = "SELECT n, repeat('x', 400000) AS x FROM generate_series(1, 1000000) AS n"
    cut = run_statement(large, Bounds(rows=1000, bytes=1_000_000), ledger=ledger)
    assert ([row[0] for row in cut.rows], cut.cut) == ([1, 2], True)
    exact = run_statement("SELECT * FROM generate_series(1, 3) AS n", Bounds(rows=3), ledger=ledger)
    assert (len(exact.rows), exact.cut) == (3, False)
    with pytest.raises(UsageError, match="two columns are called x"):
        sql(ledger, "SELECT 1 AS x, 2 AS x")


def test_a_password_is_good_for_one_login(ledger: Engine) -> None:
    """It is made for it and gone after it; nobody waits for nobody for long."""
    with ledger.begin() as connection:
        role = make_reader(connection)
    assert role is not None
    with login(ledger, role) as once:
        plain = once.set(drivername="postgresql").render_as_string(hide_password=False)
        psycopg2.connect(plain).close()
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(plain)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.extend(sql(ledger, "SELECT 7"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(7,)] * 4


def test_a_login_of_ones_own(ledger: Engine, url: str) -> None:
    """A member of the role reads without the farm's own login; the farm's own is not taken for a reader."""
    database = make_url(url).database or ""
    with ledger.begin() as connection:
        assert make_reader(connection) == reader_of(database)
        connection.execute(text(f"CREATE ROLE eve_{database} LOGIN PASSWORD 'pw' IN ROLE {reader_of(database)}"))
    eve = make_url(url).set(username=f"eve_{database}", password="pw").render_as_string(hide_password=False)

    assert run_statement("SELECT name FROM submissions", reader=eve).rows == [("talk.wav",)]
    with pytest.raises(UsageError, match="permission denied"):
        run_statement("SELECT * FROM public.submissions", reader=eve)
    with pytest.raises(UsageError, match=r"STENOPOOL_ADMIN_DATABASE: stenopool is a superuser.*only who may no more"):
        run_statement("SELECT 1", reader=url)
    ask(url, f"GRANT SELECT (secret) ON endpoints TO eve_{database}")
    with pytest.raises(UsageError, match=r"may read or change public.endpoints"):
        run_statement("SELECT 1", reader=eve)
    ask(url, f"REVOKE SELECT (secret) ON endpoints FROM eve_{database}")
    with pytest.raises(LedgerError, match=r"cannot log in .*STENOPOOL_ADMIN_DATABASE") as error:
        run_statement("SELECT 1", reader=eve.replace(":pw@", ":wrong@"))
    assert "wrong" not in str(error.value)


def test_what_everybody_may_is_noticed(ledger: Engine, url: str) -> None:
    """Where somebody let PUBLIC read a table, nothing is asked until that is mended."""
    ask(url, "GRANT SELECT ON tenants TO PUBLIC")
    with pytest.raises(UsageError, match=r"may read or change public\.tenants"):
        sql(ledger, "SELECT 1")
    ask(url, "REVOKE SELECT ON tenants FROM PUBLIC")
    assert sql(ledger, "SELECT 1 AS x") == [(1,)]


def test_a_user_who_may_make_no_role(database_url: str) -> None:
    """The farm goes on; whoever asks is told what to do, and what does it is printed for someone who may."""
    make_or_migrate(database_url)
    database = make_url(database_url).database or ""
    plain = f"plain_{database}"
    ask(database_url, f"CREATE ROLE {plain} LOGIN PASSWORD 'pw'")
    ask(database_url, f"GRANT USAGE ON SCHEMA admin TO {plain}")
    engine = create_engine(make_url(database_url).set(username=plain, password="pw"))
    with pytest.raises(LedgerError, match=r"may make no role that only reads the views; see docs/admin.md"):
        sql(engine, "SELECT 1")
    engine.dispose()
    ask(database_url, f"DROP OWNED BY {reader_of(database)}")
    ask(database_url, f"DROP ROLE {reader_of(database)}")  # which the migration's user could make
    for statement in (*statements(database), *closing(database)):  # as `stenopool admin role` prints them
        ask(database_url, statement)
    assert ask(database_url, f"SELECT count(*) FROM pg_roles WHERE rolname = '{reader_of(database)}'") == [1]
