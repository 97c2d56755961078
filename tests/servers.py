"""Servers for tests: folders that they can be in, fresh databases, a bucket, and what is left of processes."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from redis import Redis as Client
from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from stenopool.servers import Postgres, Redis

_numbers = itertools.count()

#: The bucket of all tests; each has a prefix of its own.
BUCKET = "stenopool"

#: Names an S3 server ("host:port") that is there already, with its credentials where boto3 finds them.
S3_SERVER = "STENOPOOL_TEST_S3"

# It ends with its input, so also where this process is killed. Between its look whether there is an object and its
# writing of one there is no lock: no thread may step between them.
_MOTO = """
import sys
from moto.server import ThreadedMotoServer

sys.setswitchinterval(60)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""

#: What boto3 is told of a server of ours: nothing of this machine's own configuration counts.
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "testkey",
    "AWS_SECRET_ACCESS_KEY": "testsecret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def server_folder() -> Iterator[Path]:
    """A folder that is gone afterwards; as root, others than we can pass through it, unlike through pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="stenopool-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def fresh_database(server: Postgres, template: str = "template0") -> Iterator[str]:
    """The URL of a new database, empty or a copy of another, which is gone afterwards with all who are connected."""
    name = f"test_{next(_numbers)}"
    ask(server.url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield make_url(server.url).set(database=name).render_as_string(hide_password=False)
    ask(server.url, f"DROP DATABASE {name} WITH (FORCE)")


#: What a test might leave behind besides rows: tables and indexes, columns, triggers and whether they act, constraints,
#: functions, the revision.
_SHAPE = """
SELECT concat_ws(' ',
    (SELECT string_agg(concat(relname, relfilenode), ' ' ORDER BY relname) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind <> 'S'),
    (SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'),
    (SELECT count(*) FROM pg_attribute),
    (SELECT string_agg(concat(tgname, tgenabled), ' ' ORDER BY oid) FROM pg_trigger),
    (SELECT count(*) FROM pg_constraint), (SELECT count(*) FROM pg_proc),
    (SELECT string_agg(version_num, ' ') FROM alembic_version))
"""

#: Removes all rows, and begins to count anew. Neither triggers nor foreign keys are asked.
_EMPTY = """
DO $$ DECLARE one record; BEGIN
    SET LOCAL session_replication_role = replica;
    FOR one IN SELECT oid::regclass AS name, relkind AS kind FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S') AND relname <> 'alembic_version'
    LOOP
        IF one.kind = 'S' THEN PERFORM setval(one.name, 1, false);
        ELSE EXECUTE format('DELETE FROM %s', one.name); END IF;
    END LOOP;
END $$
"""


class Ledgers:
    """Databases with an empty ledger, each under a name of its own.

    One that a test is done with is emptied and used again, under another name: whoever is left over of that test does
    not find it. To copy the template each time takes thirty times as long.

    Args:
        server: where they are.
        template: a database there with an empty ledger, and no row that a migration put there.
    """

    def __init__(self, server: Postgres, template: str) -> None:
        self._server = server
        self._template = template
        [self._shape] = ask(self._url(template), _SHAPE)
        self._spare: list[str] = []

    def _url(self, name: str) -> str:
        return make_url(self._server.url).set(database=name).render_as_string(hide_password=False)

    @contextmanager
    def one(self) -> Iterator[str]:
        """The URL of one that nobody else has; who is connected to it afterwards is sent away."""
        name = f"test_{next(_numbers)}"
        if self._spare:
            ask(self._server.url, f"ALTER DATABASE {self._spare.pop()} RENAME TO {name}")
        else:
            ask(self._server.url, f"CREATE DATABASE {name} TEMPLATE {self._template}")
        yield self._url(name)
        self._take_back(name)

    def _take_back(self, name: str) -> None:
        spare = f"spare_{next(_numbers)}"
        try:
            ask(
                self._server.url,
                f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'",
            )
            ask(self._server.url, f"ALTER DATABASE {name} RENAME TO {spare}")
        except DBAPIError:  # somebody does not go, or comes again
            ask(self._server.url, f"DROP DATABASE {name} WITH (FORCE)")
            return
        ask(self._url(spare), _EMPTY)
        if ask(self._url(spare), _SHAPE) == [self._shape]:
            self._spare.append(spare)
        else:
            ask(self._server.url, f"DROP DATABASE {spare} WITH (FORCE)")


@contextmanager
def empty_redis(server: Redis) -> Iterator[str]:
    """The URL of a Redis that holds nothing."""
    with Client.from_url(server.url) as client:
        client.flushall()
    yield server.url


@contextmanager
def s3_with_bucket() -> Iterator[tuple[str, int]]:
    """Host and port of an S3 server with the bucket, and an environment that boto3 finds credentials in.

    That is moto, or whichever STENOPOOL_TEST_S3 names: all must hold of any.
    """
    import boto3  # half a second, which most tests do without

    with _named_server() if S3_SERVER in os.environ else _moto() as (host, port):
        boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket=BUCKET)
        yield host, port


def versioned_bucket(endpoint: str) -> str:
    """The name of a bucket that keeps every version; made if there is none."""
    import boto3

    client, name = boto3.client("s3", endpoint_url=endpoint), f"{BUCKET}-versioned"
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


@contextmanager
def _named_server() -> Iterator[tuple[str, int]]:
    there = urlsplit(f"http://{os.environ[S3_SERVER]}")
    yield there.hostname or "", there.port or 80


@contextmanager
def _moto() -> Iterator[tuple[str, int]]:
    command, pipe = [sys.executable, "-c", _MOTO], subprocess.PIPE
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process,
    ):
        for name, value in ACCOUNT.items():
            patch.setenv(name, value)
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield "127.0.0.1", int(process.stdout.readline())
        finally:
            process.stdin.close()


def ask(url: str, statement: str) -> list[Any]:
    """Run one statement on a connection of its own, in no transaction; the first column of its rows."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        result = connection.execute(text(statement))
        return list(result.scalars()) if result.returns_rows else []


def gone(processes: list[psutil.Process], seconds: float = 60.0) -> bool:
    """Whether all of them end; one that nobody has asked after yet has ended, too."""
    _, alive = psutil.wait_procs(processes, seconds)
    return not [process for process in alive if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
