"""Hours-long recordings through `stenopool transcribe`: memory over time, and kill -9 in the middle of one.

    make bench            # or: python bench/long_recording.py [--hours 3] [--killed-hours 1]

The recording is the bundled sample repeated. Memory is the resident set of the whole process, sampled twice a second.
Figures go to `bench/long_recording.json`; `bench/README.md` quotes them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import psutil
from circumstances import circumstances

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "samples" / "meeting.mp3"
RESULTS = Path(__file__).with_suffix(".json")


def make_recording(path: Path, hours: float) -> Path:
    """The sample's packets again and again, without encoding anything anew."""
    with av.open(str(SAMPLE)) as source:
        stream = source.streams.audio[0]
        tick = stream.time_base or Fraction(1, av.time_base)
        packets = [(packet.pts, packet.duration or 0, bytes(packet)) for packet in source.demux(stream) if packet.size]
        starts = [pts or 0 for pts, _, _ in packets]
        length = starts[-1] + packets[-1][1] - starts[0]
        with av.open(str(path), "w") as target:
            copy = target.add_stream_from_template(stream)
            for repeat in range(max(1, round(hours * 3600 / float(length * tick)))):
                for start, (_, duration, data) in zip(starts, packets, strict=True):
                    packet = av.Packet(data)
                    packet.stream, packet.time_base, packet.duration = copy, tick, duration
                    packet.pts = packet.dts = start + repeat * length
                    target.mux(packet)
    return path


class Run:
    """`stenopool transcribe` as a process, watched while it runs."""

    def __init__(self, recording: Path, home: Path, out: Path) -> None:
        self.home, self.out = home, out
        self.command = [sys.executable, "-m", "stenopool", "transcribe", str(recording), "-o", str(out)]
        self.command += ["--language", "en", "--format", "json"]
        self.memory: list[tuple[float, float]] = []  # seconds, MB

    def go(self, kill_when: Callable[[Run], bool] = lambda _: False) -> float:
        """Run to the end, or until it is to be killed; returns the seconds it took."""
        started = time.perf_counter()
        environment = {**os.environ, "STENOPOOL_HOME": str(self.home)}
        with subprocess.Popen(self.command, env=environment, stderr=subprocess.DEVNULL) as process:
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                try:
                    self.memory.append((time.perf_counter() - started, watched.memory_info().rss / 1e6))
                except psutil.NoSuchProcess:
                    break
                if kill_when(self):
                    process.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.5)
        return time.perf_counter() - started

    def ledger(self, query: str) -> list[tuple[Any, ...]]:
        """What the ledger says; nothing where there is none yet."""
        try:
            with sqlite3.connect(f"file:{self.home / 'ledger.sqlite'}?mode=ro", uri=True, timeout=30) as database:
                return database.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []

    @property
    def progress(self) -> float:
        """Chunks done of all chunks, 0 to 1."""
        rows = self.ledger("select chunks_total, chunks_open from transcripts")
        return (rows[0][0] - rows[0][1]) / rows[0][0] if rows and rows[0][0] else 0.0

    def memory_at(self, part: float) -> float:
        """Resident megabytes at that part of the run, 0 to 1."""
        return self.memory[min(int(part * len(self.memory)), len(self.memory) - 1)][1]

    def transcript(self) -> bytes:
        """What it wrote."""
        [path] = self.out.glob("*.json")
        return path.read_bytes()


def measure_memory(folder: Path, hours: float) -> dict[str, Any]:
    """One undisturbed run: memory at five moments, its peak, and the speed."""
    run = Run(make_recording(folder / f"{hours:g}h.mp3", hours), folder / f"home-{hours:g}", folder / f"out-{hours:g}")
    seconds = run.go()
    result = json.loads(run.transcript())
    return {
        "hours": round(result["seconds"] / 3600, 3),
        "wall_seconds": round(seconds, 1),
        "times_real_time": round(result["seconds"] / seconds, 1),
        "memory_mb": {f"{part:.0%}": round(run.memory_at(part)) for part in (0.1, 0.25, 0.5, 0.75, 0.95)},
        "peak_memory_mb": round(max(memory for _, memory in run.memory)),
    }


def measure_kill(folder: Path, hours: float) -> dict[str, Any]:
    """The same recording undisturbed, and killed half-way and run again."""
    recording = make_recording(folder / "killed.mp3", hours)
    undisturbed = Run(recording, folder / "home-a", folder / "out-a")
    undisturbed.go()
    killed = Run(recording, folder / "home-b", folder / "out-b")
    killed.go(kill_when=lambda run: run.progress >= 0.5)
    before = killed.progress
    resumed = Run(recording, folder / "home-b", folder / "out-b")
    resumed.go()
    [(total, tried)] = resumed.ledger("select count(*), sum(attempt) from chunks")
    return {
        "hours": hours,
        "chunks": total,
        "done_before_kill": round(before * total),
        "run_twice": tried - total,
        "same_transcript": undisturbed.transcript() == resumed.transcript(),
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=3.0, help="length of the long recording")
    parser.add_argument("--killed-hours", type=float, default=1.0, help="length of the one that is killed")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stenopool-bench-"))
    try:
        results = {
            **circumstances("jax", "av", "onnxruntime"),
            "memory": [measure_memory(folder, hours) for hours in (arguments.hours / 12, arguments.hours)],
            "kill": measure_kill(folder, arguments.killed_hours),
        }
    finally:
        shutil.rmtree(folder)
    print(json.dumps(results, indent=1))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
