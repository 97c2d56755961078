"""The doctor with real servers: well, ill in every way that one thinks of, and silent."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import make_url

from stenopool.config import Config
from stenopool.doctor import Finding, State, checks_of, examine
from stenopool.doctor.findings import Check
from stenopool.doctor.services import look_at_broker, look_at_clock, look_at_database, look_at_store
from storage.database import make_or_migrate
from tests.servers import ask

ROOT = Path(__file__).parents[2]


def seen(look: Callable[[], Finding]) -> Finding:
    """What a check sees, errors and all; there is a line of it, and no password in it."""
    [(_, finding)] = examine([Check("it", look, "see whether it runs")], 20)
    assert "\n" not in finding.seen
    assert "secret" not in finding.seen
    return finding


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def doctor(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command."""
    return subprocess.run(
        [sys.executable, "-m", "stenopool", "doctor", *arguments],
        env={**os.environ, "STENOPOOL_HOME": str(folder / "home"), "STENOPOOL_CACHE": str(folder), **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_healthy_farm(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """Every check has its line, nothing failed, no password is told, and no probe is left."""
    make_or_migrate(database_url)
    store = tmp_path / "objects"
    places = {
        "STENOPOOL_DATABASE": database_url,
        "STENOPOOL_BROKER": redis_url,
        "STENOPOOL_STORE": str(store),
    }
    done = doctor(tmp_path, "--json", "--timeout", "100", **places)

    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert list(rows) == [
        *("settings", "database", "clock", "broker", "store", "model", "device", "media"),
        *("disk cache", "disk temporary", "disk store"),
    ]
    assert {row["state"] for row in rows.values()} <= {"ok", "warning"}
    assert all(name.startswith("disk") for name, row in rows.items() if row["state"] == "warning")
    for url in (database_url, redis_url):
        assert (make_url(url).password or "") not in done.stdout
    assert ask(database_url, "SELECT count(*) FROM tenants") == [0]
    assert Redis.from_url(redis_url).keys() == []
    assert [path for path in store.rglob("*") if path.is_file()] == []


def test_servers_that_never_answer(tmp_path: Path) -> None:
    """They take the connection and say nothing: it ends in its time all the same, and says which they are."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = {
            "STENOPOOL_DATABASE": f"postgresql://user:secret@127.0.0.1:{port}/name",
            "STENOPOOL_BROKER": f"redis://:secret@127.0.0.1:{port}/0",
            "STENOPOOL_STORE": f"s3://bucket?endpoint=http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        started = time.monotonic()
        done = doctor(tmp_path, "--timeout", "2", **settings)

    assert done.returncode == 1, done.stderr
    assert time.monotonic() - started < 60
    lines = {line[9:].split()[0]: line for line in done.stdout.splitlines()}
    for name in ("database", "broker", "store"):
        assert lines[name].startswith("failed   "), lines[name]
        assert lines[name].endswith("see that it runs, and can be reached from here")
    assert "secret" not in done.stdout + done.stderr


# The database


def test_a_database_that_is_down(closed_port: int) -> None:
    """One line has the reason, and what to do; the clock cannot be compared."""
    url = f"postgresql://user:secret@127.0.0.1:{closed_port}/name"
    finding = seen(lambda: look_at_database(url))

    assert finding.state == State.FAILED
    assert "no ledger answers" in finding.seen
    assert finding.cure == "see that Postgres runs"
    assert seen(lambda: look_at_clock(url)).state == State.WARNING


def test_a_database_by_a_wrong_name(database_url: str) -> None:
    """Or password, or role: it is the setting that is to be corrected."""
    url = make_url(database_url)
    for other in (url.set(password="secret"), url.set(username="nobody", password="secret"), url.set(database="no")):
        finding = seen(partial(look_at_database, other.render_as_string(hide_password=False)))
        assert (finding.state, finding.cure) == (State.FAILED, "correct STENOPOOL_DATABASE")


def test_what_is_no_database() -> None:
    """The setting is named, and not repeated."""
    finding = seen(lambda: look_at_database("postgres at secret"))

    assert finding.seen == "STENOPOOL_DATABASE is no URL of a database: postgresql://user:password@host/name"


def test_a_database_without_a_ledger(database_url: str) -> None:
    """Or with an earlier release's: neither is made, it says how to."""
    empty = seen(lambda: look_at_database(database_url))
    assert (empty.state, empty.cure) == (State.FAILED, "make it with: stenopool migrate")
    assert ask(database_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [0]

    make_or_migrate(database_url)
    assert seen(lambda: look_at_database(database_url)).state == State.OK
    assert seen(lambda: look_at_clock(database_url)).state == State.OK
    ask(database_url, "UPDATE alembic_version SET version_num = '0001'")
    old = seen(lambda: look_at_database(database_url))
    assert (old.state, old.cure.startswith("bring it up to date with: stenopool migrate")) == (State.FAILED, True)


def test_a_database_that_takes_no_writes(database_url: str) -> None:
    """As a replica, or one whose disk is full: read-only by its own word."""
    make_or_migrate(database_url)
    name = make_url(database_url).database
    ask(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    finding = seen(lambda: look_at_database(database_url))

    assert finding.state == State.FAILED
    assert "takes no writes (cannot execute INSERT in a read-only transaction)" in finding.seen


# The broker


@contextmanager
def configured(url: str, **values: str) -> Iterator[None]:
    """The Redis of all tests, otherwise for a while."""
    with Redis.from_url(url, decode_responses=True) as redis:
        before = {name: redis.config_get(name)[name] for name in values}
        for name, value in values.items():
            redis.config_set(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                redis.config_set(name, value)


def test_a_broker_that_is_well_or_down(redis_url: str, closed_port: int) -> None:
    """Its version, what it holds, what it does when it is full."""
    finding = seen(lambda: look_at_broker(redis_url))
    assert finding.state == State.OK
    assert finding.seen.endswith(" MB, noeviction")

    gone = seen(lambda: look_at_broker(f"redis://:secret@127.0.0.1:{closed_port}/0"))
    assert (gone.state, gone.cure) == (State.FAILED, "see that Redis runs")
    wrong = seen(lambda: look_at_broker(make_url(redis_url).set(password="secret").render_as_string(False)))
    assert (wrong.state, wrong.cure) == (State.FAILED, "correct STENOPOOL_BROKER")
    none = seen(lambda: look_at_broker("secret:6379"))
    assert none.seen == "STENOPOOL_BROKER is no URL of a Redis: redis://:password@host:6379/0"


def test_a_broker_that_is_full(redis_url: str) -> None:
    """It refuses what is written; one that would rather forget is warned of."""
    with configured(redis_url, maxmemory="1"):
        finding = seen(lambda: look_at_broker(redis_url))
    assert finding.state == State.FAILED
    assert "takes no hints (command not allowed when used memory > 'maxmemory'" in finding.seen
    assert finding.cure == "raise its maxmemory, or remove what else it holds"

    with configured(redis_url, **{"maxmemory-policy": "allkeys-lru"}):
        finding = seen(lambda: look_at_broker(redis_url))
    assert (finding.state, finding.cure) == (State.WARNING, "set its maxmemory-policy to noeviction")


def test_a_broker_that_is_a_replica(redis_url: str, closed_port: int) -> None:
    """The name of its primary is what is missing."""
    with Redis.from_url(redis_url) as redis:
        redis.replicaof("127.0.0.1", closed_port)
        try:
            finding = seen(lambda: look_at_broker(redis_url))
        finally:
            redis.replicaof("NO", "ONE")

    assert (finding.state, finding.cure) == (State.FAILED, "name its primary in STENOPOOL_BROKER")


# Objects


def test_a_store_with_a_file_where_its_folder_should_be(tmp_path: Path) -> None:
    """As a folder, and as a disk to have room on."""
    (tmp_path / "file").touch()
    store = str(tmp_path / "file" / "objects")
    finding = seen(lambda: look_at_store(store, 10))
    assert finding.state == State.FAILED
    assert "cannot be written to (Not a directory)" in finding.seen

    config = Config(
        home=tmp_path, cache=tmp_path, database="postgresql://h/n", broker="redis://h", store=f"file://{store}"
    )
    [disk] = [check for check in checks_of(config, "pocket", 1) if check.name == "disk store"]
    assert seen(disk.look).seen.endswith("(Not a directory)")


@pytest.mark.parametrize("where", ["", "s3://user:secret@bucket", "ftp://host/objects", "s3://[bucket"])
def test_what_is_no_store(where: str) -> None:
    """It is told how one is named."""
    assert seen(lambda: look_at_store(where, 10)).state == State.FAILED
