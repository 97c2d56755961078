"""A farm without processes, and its API on a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.farms import HandFarm
from tests.serving import Served, serving


@pytest.fixture
def api(named_farm: HandFarm, tmp_path: Path) -> Iterator[Served]:
    """The API of `named_farm`."""
    with serving(named_farm.farm, tmp_path / "home") as served:
        yield served
