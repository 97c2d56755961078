"""A podcast from its feed to its manifest, on a farm that is killed on the way: is all of it there, once; and when?

    python bench/campaign.py [--episodes 500] [--seconds 6]

The feed, its sound and the farm are on this machine. A rehearsal of a tenth as many episodes measures the engine first,
so that the forecast is one of what was measured. Then the command that lists the feed is killed (kill -9) at its second
page, and the farm twice, at a third and at two thirds of the way; each is begun again as anybody would. In the end
every episode has one submission and one transcript, the digests of the manifest are those of the objects, and listing
the feed once more fetches nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from circumstances import circumstances

from storage.stores import open_store
from tests import sounds
from tests.feeds import Publisher
from workers.farm import Places

RESULTS = Path(__file__).with_suffix(".json")
RATE = 16_000
HOW = ("--language", "en")


@dataclass(frozen=True)
class Stage:
    """A farm in a folder, and its commands."""

    folder: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command."""
        env = {**os.environ, "STENOPOOL_HOME": str(self.folder), "STENOPOOL_LEASE": "20"}
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
        where: dict[str, Any] = json.loads(self.run("up", "--detach", "--json"))
        return where

    def kill(self, where: dict[str, Any]) -> None:
        """All of the farm at once."""
        main = psutil.Process(where["pid"])
        processes = [main, *main.children(recursive=True)]
        main.kill()
        psutil.wait_procs(processes, 60)

    def status(self, name: str) -> dict[str, Any]:
        """Of a campaign."""
        found: dict[str, Any] = json.loads(self.run("campaign", "status", name, "--json"))
        return found

    def until(self, name: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Waits until a campaign is that far."""
        while not reached(found := self.status(name)):
            time.sleep(1)
        return found


def publish(publisher: Publisher, episodes: int, seconds: float, name: str) -> str:
    """So many pieces of the bundled recording, none like another; the URL of their feed."""
    sample = sounds.read(sounds.SAMPLE)
    length = round(seconds * RATE)
    step = max(1, (len(sample) - length) // episodes)
    paths = []
    with tempfile.TemporaryDirectory() as folder:
        for at in range(episodes):
            piece = np.roll(sample, -(at * step + len(name)))[:length]
            file = sounds.write(Path(folder) / "episode.wav", piece)
            paths.append(f"/{name}/{at}.wav")
            publisher.files[paths[-1]] = (file.read_bytes(), "audio/wav")
    duration = f"<itunes:duration>{round(seconds)}</itunes:duration>"
    return publisher.publish(paths, per_page=max(1, episodes // 5), more=duration, name=name)


def kill_listing(stage: Stage, publisher: Publisher, url: str) -> None:
    """Begin to list the feed, and kill that once it has asked for the second page."""
    process = stage.start("campaign", "create", "podcast", "--feed", url, *HOW)
    while process.poll() is None and not publisher.asked["/podcast2.xml"]:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def measure(episodes: int, seconds: float) -> dict[str, Any]:
    """All of it; what was seen."""
    with tempfile.TemporaryDirectory(prefix="stenopool-") as folder, Publisher() as publisher:
        stage = Stage(Path(folder) / "home")
        where = stage.up()
        try:
            rehearsal = publish(publisher, max(5, episodes // 10), seconds, "rehearsal")
            url = publish(publisher, episodes, seconds, "podcast")
            stage.run("campaign", "create", "rehearsal", "--feed", rehearsal, *HOW)
            stage.run("campaign", "start", "rehearsal", "--wait")
            time.sleep(6)  # the engine says what it did with its next heartbeat
            kill_listing(stage, publisher, url)
            stage.run("campaign", "create", "podcast", "--feed", url, *HOW)
            print(stage.run("campaign", "validate", "podcast"), end="")
            print(stage.run("campaign", "forecast", "podcast"), end="")
            stage.run("campaign", "start", "podcast")
            for share in (1 / 3, 2 / 3):
                stage.until("podcast", lambda seen, most=share * episodes: _done(seen) >= most)  # type: ignore[misc]
                stage.kill(where)
                where = stage.up()
            seen = stage.until("podcast", lambda seen: seen["state"] == "ended")
            print(stage.run("campaign", "status", "podcast"), end="")
            sent = sum(publisher.sent.values())
            stage.run("campaign", "create", "podcast", "--feed", url, *HOW)
            fetched_again = sum(publisher.sent.values()) - sent
            manifest = json.loads(stage.run("campaign", "manifest", "podcast"))
            figures = _check(manifest, Places(**{name: where[name] for name in ("database", "broker", "store")}))
        finally:
            stage.run("down")
    finish = seen["forecast"]["finish"]
    return {
        "episodes": episodes,
        "seconds_each": seconds,
        **figures,
        "fetched_by_the_second_listing": fetched_again,
        "forecast_seconds": {name: round(value, 1) for name, value in finish.items()},
        "took_seconds": round(seen["took_seconds"], 1),
        "forecast_error": round(seen["forecast_error"], 3),
    }


def _done(seen: dict[str, Any]) -> int:
    return sum(n for state, n in seen["states"].items() if state.startswith("completed"))


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
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=6.0)
    arguments = parser.parse_args()
    found = measure(arguments.episodes, arguments.seconds)
    print(json.dumps(found, indent=1))
    found |= circumstances("feedparser")
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
