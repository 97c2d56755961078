"""Servers for tests: folders that they can be in, fresh databases, and what is left of processes."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from redis import Redis as Client
from sqlalchemy import NullPool, create_engine, make_url, text

from stenopool.servers import Postgres, Redis

_numbers = itertools.count()


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
def fresh_database(server: Postgres) -> Iterator[str]:
    """The URL of a new, empty database, which is gone afterwards with all who are connected to it."""
    name = f"test_{next(_numbers)}"
    ask(server.url, f"CREATE DATABASE {name} TEMPLATE template0")
    yield make_url(server.url).set(database=name).render_as_string(hide_password=False)
    ask(server.url, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def empty_redis(server: Redis) -> Iterator[str]:
    """The URL of a Redis that holds nothing."""
    with Client.from_url(server.url) as client:
        client.flushall()
    yield server.url


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
