"""`stenopool campaign` as people use it: on a real Postgres, whose farm has no processes but those of the test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from scheduler.campaigns import Campaigner
from stenopool.cli import cli
from stenopool.errors import LedgerError, StenopoolError, UsageError
from storage.database import open_database
from storage.fleet import Fleet, Worker
from storage.folder import FolderStore
from tests import sounds
from tests.farms import HandFarm
from tests.feeds import Publisher

S = 16_000  # one second
HOW = ("--language", "en", "--no-vad", "--chunk-length", "2", "--overlap", "0")

#: A command, which ends with that code; what it printed.
Run = Callable[..., str]


@pytest.fixture
def farm(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HandFarm]:
    """That of the commands."""
    monkeypatch.setenv("STENOPOOL_DATABASE", ledger_url)
    monkeypatch.setenv("STENOPOOL_BROKER", "redis://127.0.0.1:1/0")  # nobody asks it
    monkeypatch.setenv("STENOPOOL_STORE", str(tmp_path / "objects"))
    monkeypatch.setenv("STENOPOOL_FETCH_ALLOW", "127.0.0.0/8")
    database = open_database(ledger_url)
    farm = HandFarm(database, FolderStore(tmp_path / "objects"), tmp_path, monkeypatch)
    yield farm
    farm.stages.close()
    database.dispose()


@pytest.fixture
def run(farm: HandFarm) -> Run:
    """Runs `stenopool campaign`."""

    def run(*arguments: str | Path, code: int = 0) -> str:
        done = invoke(*arguments)
        assert done.exit_code == code, (done.output, done.exception)
        return done.stdout

    return run


def invoke(*arguments: str | Path) -> Result:
    """A command, however it ends."""
    return CliRunner().invoke(cli, ["campaign", *map(str, arguments)])


def refused(kind: type[StenopoolError], *arguments: str) -> str:
    """The line that says why."""
    error = invoke(*arguments).exception
    assert isinstance(error, kind), error
    assert "\n" not in str(error)
    return str(error)


@pytest.fixture
def talks(tmp_path: Path) -> list[Path]:
    """Two of six seconds, a copy, and what is no sound."""
    paths = []
    for n in range(2):
        noise = np.random.default_rng(n).integers(-8000, 8000, (1, 6 * S)).astype(np.int16)
        paths.append(sounds.write(tmp_path / f"talk{n}.wav", noise))
    (tmp_path / "copy.wav").write_bytes(paths[0].read_bytes())
    (tmp_path / "diary.mp3").write_text("Dear diary")
    return [*paths, tmp_path / "copy.wav", tmp_path / "diary.mp3"]


def test_an_archive_from_its_files_to_its_manifest(run: Run, farm: HandFarm, talks: list[Path], tmp_path: Path) -> None:
    """Every command on the way, and what it says."""
    assert run("create", "talks", *talks, *HOW) == "talks: 4 new, 4 in all\n"
    assert run("create", "talks", *talks, *HOW) == "talks: 0 new, 4 in all\n"
    assert "talks  ready  4" in run("list")
    listed = CliRunner().invoke(cli, ["campaign", "create", "talks", "--stdin-list", *HOW], input=f"{talks[1]}\n\n")
    assert listed.stdout == "talks: 0 new, 4 in all\n"

    found = run("validate", "talks", code=1).splitlines()
    assert [line.split() for line in found[:2]] == [
        ["NAME", "PROBLEM"],
        ["diary.mp3", *["is", "text,", "not", "audio", "or", "video"]],
    ]
    assert found[2] == "talks: 4 recordings, 1 with problems, 1 duplicates; 12 s of audio"
    assert refused(UsageError, "forecast", "talks").startswith("no engine of pocket has worked on this farm yet")
    Fleet(farm.farm.database).join(
        Worker(id="e", role="engine", host="h", pid=1, version="1", model="pocket", slots=4, speed=3.0)
    )
    lines = run("forecast", "talks", "--workers", "+4", "--price", "3600").splitlines()
    assert lines[:3] == [
        "audio     12 s (12 s to 12 s)",
        "speed     6.0 times real time per engine, guessed from the engines' self-test: none has worked yet",
        "engines   2 s (1 s to 4 s) of engine time",
    ]
    assert lines[3].startswith("finish    0 s (0 s to 1 s) from now, with engines: 5; ")
    assert lines[4] == "cost      2.00 (1.00 to 4.00)"

    assert run("start", "talks") == "talks is started\n"
    assert run("start", "talks") == "talks goes on\n"
    Campaigner(farm.farm.database).tick()
    assert "recordings  4: 2 accepted, 1 duplicate, 1 problem" in run("status", "talks")
    farm.go(failing={1})
    seen = run("status", "talks")
    assert "campaign    talks, ended, pocket, tenant default" in seen
    assert "audio       12 s of 12 s" in seen
    assert "failed      1: is text, not audio or video" in seen
    error = json.loads(run("status", "talks", "--json"))["forecast_error"]
    assert f"pocket  {abs(error):.0%} {'longer' if error > 0 else 'shorter'}" in run("list")

    run("manifest", "talks", "-o", tmp_path / "talks.json")
    manifest = json.loads((tmp_path / "talks.json").read_text())
    files = manifest["items"][0]["transcripts"][0]["files"]
    assert [file["sha256"] for file in files] == [
        hashlib.sha256(farm.store.read(file["key"], 0, 1 << 30)).hexdigest() for file in files
    ]
    assert len(run("manifest", "talks", "--csv").splitlines()) == 5
    taken = ("fetch", "talks", "-o", tmp_path / "taken", "--format", "podcast-vtt,json")
    assert run(*taken, code=1) == "talks: 2 of 4 are done; 2 written, 0 were there\n"
    assert run(*taken, code=1) == "talks: 2 of 4 are done; 0 written, 2 were there\n"
    first = json.loads((tmp_path / "taken" / "1" / "manifest.json").read_text())
    assert [file["name"] for file in first["files"]] == ["talk0.podcast.vtt", "talk0.json"]
    assert run("retry-failed", "talks") == "talks: 0 are done again\n"
    assert run("retry-failed", "talks", "--gaps") == "talks: 2 are done again\n"


def test_a_feed_is_listed_and_what_is_new_the_next_time(run: Run) -> None:
    """With what was fetched for that."""
    with Publisher() as publisher:
        url = publisher.publish([f"/{at}.mp3" for at in range(30)], more="<itunes:duration>60</itunes:duration>")
        assert run("create", "show", "--feed", url) == (
            f"{url}: 2 pages, 0 of them unchanged, 30 new recordings\nshow: 30 new, 30 in all\n"
        )
        assert run("create", "show", "--feed", url) == (
            f"{url}: 2 pages, 2 of them unchanged, 0 new recordings\nshow: 0 new, 30 in all\n"
        )
        assert sum(publisher.sent.values()) == 2
    assert "audio       0 s of 30.0 min" in run("status", "show")


def test_a_campaign_is_paused_resumed_and_cancelled(run: Run, farm: HandFarm, talks: list[Path]) -> None:
    """With its submissions; what cannot be is said in a line."""
    run("create", "talks", *talks[:2])
    assert refused(UsageError, "pause", "talks") == "talks does not run"
    run("start", "talks")
    Campaigner(farm.farm.database).tick()

    assert run("pause", "talks") == "talks is paused\n"
    assert [one.paused for one in farm.farm.desk.submissions()] == [True, True]
    assert refused(UsageError, "start", "talks") == "talks: is paused; go on with: stenopool campaign resume"
    assert run("resume", "talks") == "talks goes on\n"
    assert [one.paused for one in farm.farm.desk.submissions()] == [False, False]
    assert run("cancel", "talks") == "talks is cancelled\n"
    assert [one.state for one in farm.farm.desk.submissions()] == ["cancelled", "cancelled"]
    assert refused(UsageError, "start", "talks") == "talks: is cancelled; make another one"


@pytest.mark.parametrize(
    ("arguments", "kind", "line"),
    [
        (["create", "x"], UsageError, "x: nothing is named that belongs to it; name sources, a --feed or a --manifest"),
        (
            ["create", "x", "-"],
            UsageError,
            "x: a campaign has no recording on standard input; name its file, or use --stdin-list",
        ),
        (["create", "x", "nothing.mp3"], UsageError, "nothing.mp3: does not exist"),
        (["create", "x", "ftp://a/b.mp3"], UsageError, "ftp://a/b.mp3: only http, https and s3 are fetched"),
        (["status", "x"], LedgerError, "default has no campaign x; `stenopool campaign list` lists them"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    farm: HandFarm, arguments: list[str], kind: type[StenopoolError], line: str
) -> None:
    """It names the thing and the cure."""
    assert refused(kind, *arguments) == line
