"""The examples of docs/api.md run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.checkpoint import BUNDLED
from tests.farms import HandFarm
from tests.serving import Served

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.fixture
def at_work(named_farm: HandFarm) -> Iterator[None]:
    """What is handed in is done meanwhile; what lies elsewhere is left alone."""
    stop = threading.Event()
    fetch = named_farm.farm.desk.ingests

    def here(*arguments: object) -> list[int]:
        ids = fetch(*arguments)  # type: ignore[arg-type]
        return [id for id in ids if "://" not in named_farm.farm.desk.submission(id).source]

    named_farm.farm.desk.ingests = here  # type: ignore[method-assign, assignment]

    def work() -> None:
        while not stop.wait(0.2):
            named_farm.go()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.skipif(not shutil.which("curl"), reason="the examples are curl's")
def test_the_examples_run(api: Served, named_farm: HandFarm, at_work: None, tmp_path: Path) -> None:
    """In their order, to the end; and leave what they say."""
    shutil.copy(BUNDLED["pocket"].parent / "clip" / "speech.ogg", tmp_path / "talk.ogg")
    script = "set -euo pipefail\n" + "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    environment = {"PATH": os.environ["PATH"], "API": api.url, "KEY": api.key()}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "first0" in (tmp_path / "talk.srt").read_text()
    assert done.stdout.count("completed\n") == 1
    names = [one["name"] for one in api.ada.get("/v1/recordings").json()["recordings"]]
    assert names == ["talk.ogg", "talk.mp3", "talk.ogg"]
    assert done.stdout.endswith("running\ncancelled\n")


def test_every_status_is_told() -> None:
    """Those of the description stand in the table."""
    from tests.api.test_walk import ROUTES

    table = PAGE[PAGE.index("## Errors") :]
    statuses = {status for *_, operation in ROUTES for status in operation["responses"] if status >= "400"}
    assert [status for status in sorted(statuses) if not re.search(rf"\b{status}\b", table)] == []
