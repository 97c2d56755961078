"""What drills share: a farm of stand-ins on real servers, and how long the drill is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stenopool.servers import Postgres, Redis
from storage.database import make_or_migrate
from tests.faults.storm import Storm
from tests.servers import server_folder
from workers.farm import Places


def pytest_addoption(parser: pytest.Parser) -> None:
    """How `make drill` says that it is one."""
    group = parser.getgroup("drill")
    group.addoption("--drill", action="store_true", help="the long form of the drills")
    group.addoption("--seed", type=int, default=7, help="of all that is random in them")


def pytest_report_header(config: pytest.Config) -> str:
    """What is needed to see the same again."""
    return f"drill: seed {config.getoption('--seed', 7)}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is in no short form is left to `make drill`."""
    if config.getoption("--drill", False):
        return
    long = [item for item in items if item.get_closest_marker("drill")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether this is a drill, and not the short form of one."""
    return bool(request.config.getoption("--drill", False))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Of all that is random."""
    return int(request.config.getoption("--seed", 7))


@pytest.fixture
def places(ledger_url: str, redis_url: str, tmp_path: Path) -> Places:
    """Of a farm on the servers that all tests share."""
    return Places(database=ledger_url, broker=redis_url, store=str(tmp_path / "objects"))


@pytest.fixture
def storm(places: Places, tmp_path: Path, seed: int) -> Iterator[Storm]:
    """A farm without an engine yet."""
    with Storm(places, tmp_path, seed=seed) as storm:
        yield storm


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """A Redis that may be killed; it writes down nothing."""
    with server_folder() as folder, Redis(folder / "redis", appendonly=False) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A Postgres that may be killed, with an empty ledger."""
    with server_folder() as folder, Postgres(folder / "postgres") as server:
        make_or_migrate(server.url)
        yield server
