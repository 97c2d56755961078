"""The API holds what its description says, whatever it is sent; `make fuzz` asks for longer."""

from __future__ import annotations

import re
from pathlib import Path

from tests.api.fuzz import fuzz
from tests.farms import HandFarm
from tests.serving import serving


def test_the_description_holds(named_farm: HandFarm, tmp_path: Path) -> None:
    """Statuses, media types, bodies, heads: in the cases that follow from the description of what most callers ask."""
    with serving(named_farm.farm, tmp_path / "home", api_rate=0) as api:
        tags = [f"--include-tag={tag}" for tag in ("recordings", "transcripts", "uploads")]
        done = fuzz(api, tmp_path, "--phases=coverage", "--seed=1", *tags)

    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    [cases] = re.findall(r"(\d+) generated", done.stdout)
    assert int(cases) > 100
