"""What tests of several modules share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from models.engine import Engine

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
