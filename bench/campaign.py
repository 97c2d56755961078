"""A podcast from its feed to its manifest and back into its feed: is all of it there, once; and when?

    python bench/campaign.py killed [--episodes 500] [--seconds 6] [--workers 1]
    python bench/campaign.py undisturbed [--episodes 24] [--seconds 300] [--times 1] [--workers 1]

The feed, its sound and the farm are on this machine. A rehearsal measures the engine first, so that the forecast is one
of what was measured.

`killed`: the command that lists the feed is killed (kill -9) at its second page, and the farm twice, at a third and at
two thirds of the way; each is begun again as anybody would. In the end every episode has one submission and one
transcript, the digests of the manifest are those of the objects, and listing the feed once more fetches nothing. The
pages of the feed, with the transcripts that the farm sent to a folder, keep the rules of the podcast namespace, and so
does every file that they name.

`undisturbed`: nothing is killed. How far from it was what was forecast at the start, and on the way?
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from circumstances import circumstances

from storage.stores import open_store
from tests import podcasts, sounds
from tests.feeds import Publisher
from workers.farm import Farm, Places
from workers.outlook import Outlook, outlook

RESULTS = Path(__file__).with_suffix(".json")
RATE = 16_000
HOW = ("--language", "en")
#: What is sent to a folder for the feed, and what a player is told of each episode.
FORMATS = ("podcast-vtt", "podcast-srt", "podcast-json", "podcast-html", "txt")
BASE = "https://cdn.example.org/transcripts"


@dataclass
class Stage:
    """A farm in a folder, and its commands."""

    folder: Path
    #: Processes with an engine.
    workers: int = 1
    #: Processes that want a core, from second to second.
    loads: list[float] = field(default_factory=list)

    @property
    def sent(self) -> Path:
        """Where transcripts are sent."""
        return self.folder / "sent"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command."""
        env = {**os.environ, "STENOPOOL_HOME": str(self.folder / "home"), "STENOPOOL_LEASE": "20"}
        env["STENOPOOL_EXPORTS"] = str(self.sent)
        return subprocess.Popen(
            [sys.executable, "-m", "stenopool", *arguments],
            env=env | {"STENOPOOL_FETCH_ALLOW": "127.0.0.0/8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> str:
        """What a command prints, which must go well."""
        process = self.start(*arguments)
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{' '.join(arguments)}: status {process.returncode}")
        return said

    def up(self) -> dict[str, Any]:
        """The farm, ready; where it is."""
        self.sent.mkdir(parents=True, exist_ok=True)
        where: dict[str, Any] = json.loads(self.run("up", "--detach", "--json", "--workers", str(self.workers)))
        return where

    def create(self, name: str, url: str) -> tuple[str, ...]:
        """The command that lists a feed."""
        to = ("--to", str(self.sent), "--format", ",".join(FORMATS))
        return ("campaign", "create", name, "--feed", url, *HOW, *to)

    def kill(self, where: dict[str, Any]) -> None:
        """All of the farm at once."""
        main = psutil.Process(where["pid"])
        processes = [main, *main.children(recursive=True)]
        main.kill()
        psutil.wait_procs(processes, 60)

    def until(self, where: dict[str, Any], name: str, reached: Callable[[Outlook], bool]) -> Outlook:
        """Waits until a campaign is that far. Without commands, each of which would take half a second of a core."""
        with closing(Farm(places_of(where), lease=20.0)) as farm:
            while not reached(found := outlook(farm, farm.campaigns.find("default", name))):
                self.loads.append(os.getloadavg()[0])
                time.sleep(1)
            return found


def places_of(where: dict[str, Any]) -> Places:
    """Where a farm is, as `stenopool up --json` tells it."""
    return Places(**{name: where[name] for name in ("database", "broker", "store")})


@contextmanager
def farm(stage: Stage) -> Iterator[dict[str, Any]]:
    """It runs meanwhile; where it is."""
    where = stage.up()
    try:
        yield where
    finally:
        stage.run("down")


def publish(publisher: Publisher, episodes: int, seconds: float, name: str) -> str:
    """So many pieces of the bundled recording, none like another; the URL of their feed."""
    sample = sounds.read(sounds.SAMPLE)
    length = round(seconds * RATE)
    paths = []
    with tempfile.TemporaryDirectory() as folder:
        for at in range(episodes):
            piece = np.resize(np.roll(sample, -(at * len(sample) // episodes)), length)
            # What is equal is transcribed once: no episode of one feed may be one of the other.
            piece[:4] = np.frombuffer(hashlib.sha256(f"{name} {at}".encode()).digest()[:8], np.int16) >> 8
            file = sounds.write(Path(folder) / "episode.wav", piece)
            paths.append(f"/{name}/{at}.wav")
            publisher.files[paths[-1]] = (file.read_bytes(), "audio/wav")
    duration = f"<itunes:duration>{round(seconds)}</itunes:duration>"
    return publisher.publish(paths, per_page=max(1, episodes // 5), more=duration, name=name)


def kill_listing(stage: Stage, publisher: Publisher, url: str) -> None:
    """Begin to list the feed, and kill that once it has asked for the second page."""
    process = stage.start(*stage.create("podcast", url))
    while process.poll() is None and not publisher.asked["/podcast2.xml"]:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def rehearse(stage: Stage, publisher: Publisher, episodes: int, seconds: float) -> None:
    """Have the farm transcribe so many others, so that it knows how fast it is."""
    url = publish(publisher, episodes, seconds, "rehearsal")
    stage.run("campaign", "create", "rehearsal", "--feed", url, *HOW)
    stage.run("campaign", "start", "rehearsal", "--wait")
    time.sleep(6)  # the engine says what it did with its next heartbeat


def killed(episodes: int, seconds: float, workers: int) -> dict[str, Any]:
    """A listing and twice the farm; what was seen."""
    with tempfile.TemporaryDirectory(prefix="stenopool-") as folder, Publisher() as publisher:
        stage = Stage(Path(folder), workers)
        with farm(stage) as where:
            rehearse(stage, publisher, max(5, episodes // 50), seconds)
            url = publish(publisher, episodes, seconds, "podcast")
            kill_listing(stage, publisher, url)
            stage.run(*stage.create("podcast", url))
            print(stage.run("campaign", "validate", "podcast"), end="")
            print(stage.run("campaign", "forecast", "podcast"), end="")
            stage.run("campaign", "start", "podcast")
            for share in (1 / 3, 2 / 3):
                stage.until(where, "podcast", lambda seen, most=share * episodes: _done(seen) >= most)  # type: ignore[misc]
                stage.kill(where)
                where = stage.up()
            seen = stage.until(where, "podcast", lambda seen: seen.ended)
            print(stage.run("campaign", "status", "podcast"), end="")
            sent = sum(publisher.sent.values())
            print(stage.run(*stage.create("podcast", url)), end="")
            fetched_again = sum(publisher.sent.values()) - sent
            manifest = json.loads(stage.run("campaign", "manifest", "podcast"))
            figures = _check(manifest, places_of(where))
            exported = export(stage, publisher)
    return {
        "episodes": episodes,
        "seconds_each": seconds,
        "engines": workers,
        **figures,
        "fetched_by_the_second_listing": fetched_again,
        "exported": exported,
        "took_seconds": round(seen.took or 0, 1),
        "load": _load(stage.loads),
    }


def export(stage: Stage, publisher: Publisher) -> dict[str, int]:
    """Each page of the feed with its transcripts; what feedparser finds in it, and FFmpeg in the subtitles."""
    pages = [path for path in publisher.files if path.startswith("/podcast") and path.endswith(".xml")]
    counted = {"pages": len(pages), "episodes": 0, "tags": 0, "files_that_keep_their_rules": 0, "cues_by_ffmpeg": 0}
    for path in pages:
        before, after = stage.folder / "before.xml", stage.folder / "after.xml"
        before.write_bytes(publisher.files[path][0])
        stage.run(
            *("feed", "export", str(before), "--transcripts", str(stage.sent)),
            *("--base-url", BASE, "-o", str(after), "--json"),
        )
        for tags in podcasts.check_feed(after.read_bytes()).values():
            counted["episodes"] += bool(tags)
            counted["tags"] += len(tags)
            for tag in tags:
                counted["cues_by_ffmpeg"] += _check_file(
                    stage.sent / html.unescape(tag["url"]).removeprefix(f"{BASE}/")
                )
                counted["files_that_keep_their_rules"] += 1
    return counted


def _check_file(path: Path) -> int:
    """It keeps the rules of its kind; how many cues FFmpeg reads in it, as many as there are."""
    text = path.read_text(encoding="utf-8")
    match path.suffixes[-2:]:
        case [*_, ".json"]:
            podcasts.check_json(text)
        case [*_, ".html"]:
            podcasts.check_html(text)
        case [*_, (".vtt" | ".srt") as kind]:
            cues = podcasts.check_vtt(text) if kind == ".vtt" else podcasts.check_srt(text)
            if not cues:  # nobody speaks
                return 0
            with av.open(str(path)) as container:
                found = sum(1 for packet in container.demux() if packet.size)
            assert found == len(cues), path
            return found
    return 0


def undisturbed(episodes: int, seconds: float, workers: int) -> dict[str, Any]:
    """What was forecast, and what came of it."""
    with tempfile.TemporaryDirectory(prefix="stenopool-") as folder, Publisher() as publisher:
        stage = Stage(Path(folder), workers)
        with farm(stage) as where:
            rehearse(stage, publisher, max(5, episodes // 2), seconds)
            url = publish(publisher, episodes, seconds, "podcast")
            stage.run(*stage.create("podcast", url))
            print(stage.run("campaign", "validate", "podcast"), end="")
            print(stage.run("campaign", "forecast", "podcast"), end="")
            stage.run("campaign", "start", "podcast")
            began = time.monotonic()
            on_the_way = []
            for share in (1 / 4, 1 / 2, 3 / 4):
                seen = stage.until(
                    where,
                    "podcast",
                    lambda seen, most=share * episodes * seconds: seen.progress.done >= most,  # type: ignore[misc]
                )
                if seen.eta is not None:
                    on_the_way.append((share, time.monotonic() - began + seen.eta.mid))
            seen = stage.until(where, "podcast", lambda seen: seen.ended)
            print(stage.run("campaign", "status", "podcast"), end="")
            first = json.loads(stage.run("campaign", "status", "podcast", "--json"))["forecast"]["finish"]
    took = seen.took or 0.0
    return {
        "episodes": episodes,
        "seconds_each": seconds,
        "states": seen.progress.states,
        "engines": workers,
        "forecast_seconds": {name: round(value, 1) for name, value in first.items()},
        "took_seconds": round(took, 1),
        "forecast_error": round(seen.error or 0, 3),
        "error_on_the_way": {f"{share:.0%}": round(took / end - 1, 3) for share, end in on_the_way},
        "load": _load(stage.loads),
    }


def _load(loads: list[float]) -> dict[str, float]:
    """Of the machine meanwhile, its own work included."""
    return {"mean": round(float(np.mean(loads)), 1), "least": round(min(loads), 1), "most": round(max(loads), 1)}


def _done(seen: Outlook) -> int:
    return sum(n for state, n in seen.progress.states.items() if state.startswith("completed"))


def _check(manifest: dict[str, Any], places: Places) -> dict[str, Any]:
    store = open_store(places.store)
    items = manifest["items"]
    files = [file for item in items for one in item["transcripts"] for file in one["files"]]
    wrong = [
        file["key"]
        for file in files
        if hashlib.sha256(store.read(file["key"], 0, 1 << 30)).hexdigest() != file["sha256"]
    ]
    return {
        "states": manifest["campaign"]["states"],
        "submissions": len({item["submission"] for item in items}),
        "transcripts": sum(len(item["transcripts"]) for item in items),
        "files": len(files),
        "files_with_another_digest": len(wrong),
    }


def main() -> None:
    """Measure, and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("killed", "undisturbed"))
    parser.add_argument("--episodes", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.what == "killed":
        found: Any = killed(arguments.episodes or 500, arguments.seconds or 6.0, arguments.workers)
    else:
        how = (arguments.episodes or 24, arguments.seconds or 300.0, arguments.workers)
        found = [undisturbed(*how) for _ in range(arguments.times)]
    print(json.dumps(found, indent=1))
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[arguments.what] = {**circumstances("feedparser"), "found": found}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
