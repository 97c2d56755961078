"""What tests of several modules share."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from stenopool.config import Config

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from models.engine import Engine
    from stenopool.servers import Postgres, Redis
    from storage.s3 import S3Store
    from tests.farms import HandFarm
    from tests.proxy import Proxy
    from tests.servers import Ledgers

# Read by JAX where it is first imported: nothing is promoted silently, neither dtypes nor ranks.
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

# What one test process has compiled, the others read: all of it, as with `models.device.use_compile_cache`.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Config.from_env().cache / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

#: Files that take long, the longest first. They are begun first: one that is begun last has a core for itself alone.
LONGEST = (
    "acceptance/test_transcribe_command.py",
    "unit/test_arrivals.py",
    "parity/test_decoding.py",
    "acceptance/test_farm.py",
    "unit/test_speculation.py",
    "unit/test_decoding_options.py",
    "unit/test_sizes.py",
    "parity/test_recorded.py",
    "unit/test_mesh.py",
    "unit/test_training.py",
    "faults/test_workers.py",
    "unit/test_programs.py",
    "acceptance/test_training_command.py",
)

# A slow machine fails no test: how long an example takes says nothing of what it states.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files go first; what is in a file stays together, in its order."""
    first = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path, len(first)))


@pytest.fixture(scope="session")
def pool_engine() -> Engine:
    """The bundled model in float32 with three slots, compiled; give its slots back empty."""
    from models.checkpoint import find_checkpoint
    from models.engine import Engine

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


@pytest.fixture(scope="session")
def ledgers(postgres_server: Postgres) -> Iterator[Ledgers]:
    """Postgres databases with an empty ledger: copies of one, as that takes a fraction of migrating."""
    from sqlalchemy import make_url

    from storage.database import make_or_migrate
    from tests.servers import Ledgers, fresh_database

    with fresh_database(postgres_server) as url:
        make_or_migrate(url)
        yield Ledgers(postgres_server, make_url(url).database or "")


@pytest.fixture
def ledger_url(ledgers: Ledgers) -> Iterator[str]:
    """A Postgres database with an empty ledger."""
    with ledgers.one() as url:
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
    from storage.database import open_database

    if request.param == "postgres":
        database = open_database(request.getfixturevalue("ledger_url"))
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


@pytest.fixture
def named_farm(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HandFarm]:
    """A farm without processes that commands find (`tests.farms.command`)."""
    from storage.database import open_database
    from storage.folder import FolderStore
    from tests.farms import HandFarm

    places = {"DATABASE": ledger_url, "BROKER": "redis://127.0.0.1:1/0", "STORE": f"{tmp_path}/objects"}
    for name, value in places.items():
        monkeypatch.setenv(f"STENOPOOL_{name}", value)
    farm = HandFarm(open_database(ledger_url), FolderStore(tmp_path / "objects"), tmp_path, monkeypatch)
    yield farm
    farm.stages.close()
    farm.farm.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    """Host and port of an S3 server: of this test process, or the one that STENOPOOL_TEST_S3 names."""
    from tests.servers import s3_with_bucket

    with s3_with_bucket() as there:
        yield there


@pytest.fixture
def s3(s3_server: tuple[str, int]) -> S3Store:
    """An empty store in S3."""
    from storage.s3 import S3Store
    from tests.servers import BUCKET

    host, port = s3_server
    return S3Store(BUCKET, f"farm/{uuid.uuid4().hex}", endpoint=f"http://{host}:{port}")


@pytest.fixture
def versioned(s3_server: tuple[str, int]) -> S3Store:
    """An empty store in a bucket of S3 that keeps every version."""
    from storage.s3 import S3Store
    from tests.servers import versioned_bucket

    host, port = s3_server
    endpoint = f"http://{host}:{port}"
    return S3Store(versioned_bucket(endpoint), f"farm/{uuid.uuid4().hex}", endpoint=endpoint)


@pytest.fixture
def proxy(s3_server: tuple[str, int]) -> Iterator[Proxy]:
    """A proxy before the S3 server."""
    from tests.proxy import Proxy

    with Proxy(*s3_server) as proxy:
        yield proxy


@pytest.fixture
def far(s3: S3Store, proxy: Proxy) -> S3Store:
    """The same store as `s3` behind the proxy, with little patience."""
    from storage.s3 import S3Store
    from tests.servers import BUCKET

    return S3Store(BUCKET, s3._prefix.rstrip("/"), endpoint=f"http://127.0.0.1:{proxy.port}", attempts=4, timeout=2.0)


@pytest.fixture
def hasty(s3: S3Store, proxy: Proxy) -> S3Store:
    """The same as `far`, which tries for a moment only, as often as it can."""
    from storage.s3 import S3Store
    from tests.servers import BUCKET

    endpoint = f"http://127.0.0.1:{proxy.port}"
    return S3Store(BUCKET, s3._prefix.rstrip("/"), endpoint=endpoint, attempts=1000, timeout=0.2, patience=0.3)
