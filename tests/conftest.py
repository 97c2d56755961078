"""What tests of several modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from models.engine import Engine
    from stenopool.servers import Postgres, Redis
    from tests.farms import HandFarm

# Read by JAX where it is first imported: nothing is promoted silently, neither dtypes nor ranks.
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

# A slow machine fails no test: how long an example takes says nothing of what it states.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def pool_engine() -> Engine:
    """The bundled model in float32 with three slots, compiled; give its slots back empty."""
    from models.checkpoint import find_checkpoint
    from models.device import use_compile_cache
    from models.engine import Engine
    from stenopool.config import Config

    use_compile_cache(Config.from_env().cache / "xla")
    engine = Engine(find_checkpoint("pocket"), dtype="float32", batch_size=3)
    engine.warm()
    return engine


@pytest.fixture(scope="session")
def busy_engine(pool_engine: Engine) -> Engine:
    """The same with six slots: room for two chunks of three beams, and two of three samples, at a time."""
    from models.engine import Engine

    return Engine(pool_engine.checkpoint, dtype="float32", batch_size=6)


@pytest.fixture(scope="session")
def shared_audio() -> Path:
    """A folder of real speech that does not travel with the project."""
    folder = Path(__file__).parents[2] / "shared" / "audio"
    if not folder.is_dir():
        pytest.skip(f"there is no real speech in {folder}")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A real Postgres of this test process, for tests that leave it as it is: one that kills it starts its own."""
    from stenopool.servers import Postgres
    from tests.servers import server_folder

    with server_folder() as folder, Postgres(folder / "postgres", fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A real Redis of this test process, for tests that leave it as it is."""
    from stenopool.servers import Redis
    from tests.servers import server_folder

    with server_folder() as folder, Redis(folder / "redis", appendonly=False) as server:
        yield server


@pytest.fixture
def database_url(postgres_server: Postgres) -> Iterator[str]:
    """A Postgres database with nothing in it."""
    from tests.servers import fresh_database

    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: Redis) -> Iterator[str]:
    """A Redis with nothing in it."""
    from tests.servers import empty_redis

    with empty_redis(redis_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A ledger of its own: that of one machine, and that of a farm."""
    from storage.database import make_or_migrate, open_database

    if request.param == "postgres":
        url = request.getfixturevalue("database_url")
        make_or_migrate(url)
        database = open_database(url)
    else:
        database = open_database(tmp_path / "ledger.sqlite")
    yield database
    database.dispose()


@pytest.fixture
def hand_farm(any_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HandFarm]:
    """A farm without processes, whose objects are in a folder."""
    from storage.folder import FolderStore
    from tests.farms import HandFarm

    farm = HandFarm(any_database, FolderStore(tmp_path / "objects"), tmp_path, monkeypatch)
    yield farm
    farm.stages.close()
