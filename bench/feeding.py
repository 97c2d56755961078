"""How fast files are decoded and heard for speech, by a thread and by 1, 2 ... processes.

    python bench/feeding.py [--files 16] [--minutes 15] [--decoders 1,2,4,8] [--json bench/feeding.json]

The files are MP3 at 44.1 kHz: the bundled sample repeated. What is measured is `workers.ingest`: decoding, resampling,
voice activity detection, hashing, samples to a disk; by the clock on the wall, so that a machine which does something
else blurs it. Processes are started before, as in a long run; what starting them takes is a figure of its own. "of one"
is the share of as many times one process that is reached: cores that share memory and clock do not reach all of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from circumstances import circumstances
from long_recording import make_recording

from stenopool.domain import SAMPLE_RATE
from storage.folder import FolderStore
from workers.decoders import Decoders, usable_cores
from workers.ingest import Ingest, ingest


def decode(way: Ingest, files: list[Path], at_once: int, home: Path) -> tuple[float, float]:
    """Ingest files, so many at once; returns the seconds it took, and those of sound that there were."""
    store = FolderStore(home)

    def one(path: Path) -> float:
        heard = way(path, store, split=False, vad=True, stop=threading.Event(), progress=lambda _: None)
        return heard[0].duration / SAMPLE_RATE

    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as threads:
        sound = sum(threads.map(one, files))
    taken = time.perf_counter() - started
    shutil.rmtree(home)
    return taken, sound


def measure(at_once: int, files: list[Path], short: Path, runs: int, folder: Path) -> dict[str, Any]:
    """A row of the table: 0 is the thread."""
    home = folder / "objects"
    with closing(Decoders()) as decoders:
        way: Ingest = decoders.ingest if at_once else ingest
        starting, _ = decode(way, [short] * max(1, at_once), max(1, at_once), home)
        warm, _ = decode(way, [short] * max(1, at_once), max(1, at_once), home)
        speeds = [sound / taken for taken, sound in (decode(way, files, max(1, at_once), home) for _ in range(runs))]
    return {
        "decoders": at_once or "thread",
        "times_real_time": round(statistics.median(speeds)),
        "slowest": round(min(speeds)),
        "fastest": round(max(speeds)),
        "seconds_to_start": round(starting - warm, 2),
    }


def counts(value: str) -> list[int]:
    """In: "1,2,4". Out: [1, 2, 4]"""
    return [int(one) for one in value.split(",")]


def main() -> None:
    """Measure, print, keep."""
    cores = usable_cores()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2 * cores, help="how many [default: two per core]")
    parser.add_argument("--minutes", type=float, default=15, help="of each")
    parser.add_argument("--decoders", type=counts, default=list(range(1, cores + 1)), help="such as 1,2,4,8")
    parser.add_argument("--runs", type=int, default=3, help="of which the median counts")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="stenopool-") as name:
        folder = Path(name)
        first = make_recording(folder / "0.mp3", arguments.minutes / 60)
        files = [first, *(folder / f"{number}.mp3" for number in range(1, arguments.files))]
        for copy in files[1:]:
            shutil.copyfile(first, copy)
        short = make_recording(folder / "short.mp3", 0)
        print("| decoders | × real time | slowest … fastest | of one | s to start |\n|---|--:|--:|--:|--:|", flush=True)
        for at_once in (0, *arguments.decoders):
            row = measure(at_once, files, short, arguments.runs, folder)
            rows.append(row)
            share = None if at_once == 0 else row["times_real_time"] / at_once
            row["share_of_one"] = share and round(share / (rows[1]["times_real_time"] / rows[1]["decoders"]), 2)
            of_one = "" if share is None else f"{row['share_of_one']:.0%}"
            print(
                f"| {row['decoders']} | {row['times_real_time']} | {row['slowest']} … {row['fastest']} "
                f"| {of_one} | {row['seconds_to_start']} |",
                flush=True,
            )
    if arguments.json:
        results = {
            **circumstances("av", "onnxruntime"),
            "work": f"{arguments.files} MP3 files of {arguments.minutes:g} minutes, 44.1 kHz; {arguments.runs} runs",
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
