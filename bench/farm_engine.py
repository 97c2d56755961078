"""The farm with sound and the bundled model in it."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from farm_servers import clones, held_back, servers
from long_recording import SAMPLE, make_recording

from models.checkpoint import find_checkpoint
from models.decoding.requests import Decoding, Request
from models.device import use_compile_cache
from models.engine import Engine
from stenopool.config import Config
from stenopool.domain import SAMPLE_RATE, Options
from tests import sounds
from tests.faults.storm import Storm
from workers.ingest import read_pcm


def measure_overhead(rounds: int = 5, seconds: float = 30) -> dict[str, Any]:
    """The same chunks through a worker of the farm, and through the engine alone; in turn, on the same cores."""
    # While the engine runs alone, the worker is stopped: its leases are longer than that, or it counts as dead.
    with servers() as (places, logs), Storm(places, logs, lease=20 * seconds) as storm:
        farm = storm.farm
        submission = storm.hand_in_file(SAMPLE, Options(language="en", temperature=(0.0,)))
        transcript = held_back(farm, submission)
        work = farm.ledger.work(transcript)
        clones(farm, transcript, 4000, tenants="'tenant' || g % 3")
        use_compile_cache(Config.from_env().cache / "xla")
        engine = Engine(find_checkpoint("pocket"))
        engine.warm()
        requests = [
            Request(
                key=None,
                pcm=read_pcm(farm.store, work.recording, work.duration, span),
                decoding=Decoding(language="en"),
            )
            for span in farm.ledger.spans(transcript)
        ]
        list(engine.run(requests * 4))
        worker = storm.other("worker", "--role", "engine", "--model", "pocket")
        storm.until_at_work(3)
        storm.until(lambda: storm.done() > 0, within=60)
        alone, farmed = list[_Turn](), list[_Turn]()
        for _ in range(rounds):
            worker.send_signal(signal.SIGSTOP)
            alone.append(_alone(engine, requests, seconds))
            worker.send_signal(signal.SIGCONT)
            time.sleep(5)
            started, before, used = time.monotonic(), storm.done(), _used_by_children()
            time.sleep(seconds)
            farmed.append(_Turn(storm.done() - before, time.monotonic() - started, _used_by_children() - used))
        ratios = [one.speed / other.speed for one, other in zip(farmed, alone, strict=True)]
        cpu = [turn.cpu / turn.chunks for turn in (sum(alone, _Turn()), sum(farmed, _Turn()))]
        return {
            "rounds": rounds,
            "engine_alone_chunks_per_second": round(statistics.median(one.speed for one in alone), 2),
            "farm_chunks_per_second": round(statistics.median(one.speed for one in farmed), 2),
            "farm_of_engine": round(statistics.median(ratios), 3),
            "least_and_most": [round(min(ratios), 3), round(max(ratios), 3)],
            "cpu_seconds_per_chunk": {"engine alone": round(cpu[0], 4), "whole farm": round(cpu[1], 4)},
        }


@dataclass(frozen=True)
class _Turn:
    chunks: int = 0
    seconds: float = 0.0
    #: Seconds of a core.
    cpu: float = 0.0

    def __add__(self, other: _Turn) -> _Turn:
        return _Turn(self.chunks + other.chunks, self.seconds + other.seconds, self.cpu + other.cpu)

    @property
    def speed(self) -> float:
        """Chunks a second."""
        return self.chunks / self.seconds


def _alone(engine: Engine, requests: list[Request], seconds: float) -> _Turn:
    n, started, used = 0, time.monotonic(), time.process_time()
    while time.monotonic() - started < seconds:
        n += sum(1 for _ in engine.run(requests * 8))
    return _Turn(n, time.monotonic() - started, time.process_time() - used)


def _used_by_children() -> float:
    """Seconds of a core that workers, scheduler, Postgres and Redis have had."""
    return sum(sum(one.cpu_times()[:2]) for one in psutil.Process().children(recursive=True))


def measure_same(recordings: int = 10, seconds: int = 60) -> dict[str, Any]:
    """Cuts of the sample through both ways, every format; on the farm, engines and the ingester are killed."""
    with servers() as (_, folder):
        sample = sounds.read(sounds.SAMPLE)
        length = (sample.shape[-1] - seconds * SAMPLE_RATE) // recordings
        files = [
            sounds.write(folder / f"talk{at}.mp3", sample[..., at * length :][..., : seconds * SAMPLE_RATE])
            for at in range(recordings)
        ]
        formats = ["--format", "json,txt,srt,vtt,tsv"]
        _stenopool(folder / "one", "transcribe", *files, "-o", folder / "one" / "out", "-l", "en", *formats)
        home = folder / "farm"
        _stenopool(home, "up", "--detach", "--workers", "2")
        try:
            told = _stenopool(home, "submit", *files, "-l", "en")
            ids = [line.split("\t")[0] for line in told.splitlines()]
            kills = 0
            state = home / "home" / "farm" / "state.json"
            for role in ("engine", "engine", "ingest+merge+publish", "engine"):
                time.sleep(4)
                victims = json.loads(state.read_text())["processes"][role]
                if victims:
                    os.kill(victims[0], signal.SIGKILL)
                    kills += 1
            _stenopool(home, "wait", *ids)
            for id in ids:
                _stenopool(home, "fetch", id, "-o", home / "out", *formats)
        finally:
            _stenopool(home, "down")
        ours = {path.name: path.read_bytes() for path in (folder / "one" / "out").iterdir()}
        theirs = {path.name: path.read_bytes() for path in (home / "out").iterdir()}
        return {
            "recordings": recordings,
            "kills": kills,
            "files": len(ours),
            "byte_equal": sum(theirs.get(name) == data for name, data in ours.items()),
            "others": sorted(theirs.keys() - ours.keys()),
        }


def _stenopool(folder: Path, *arguments: str | Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "stenopool", *map(str, arguments)],
        env={**os.environ, "STENOPOOL_HOME": str(folder / "home"), "STENOPOOL_LEASE": "10"},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def measure_day(hours: float = 24) -> dict[str, Any]:
    """Every process of a farm while one very long recording goes through it; the engine is a stand-in."""
    with servers() as (places, logs), Storm(places, logs, lease=30.0, stages=("ingest", "merge+publish")) as storm:
        recording = make_recording(logs / "day.mp3", hours)
        submission = storm.hand_in_file(recording, Options(language="en"), ingested=False)
        storm.workers(1)
        watched = {name: psutil.Process(one.pid) for name, one in storm.processes.items()}
        memory: dict[str, list[float]] = {name: [] for name in watched}
        heard: list[int] = []
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(1):
                heard.append(storm.done())
                for name, process in watched.items():
                    family = [process, *process.children(recursive=True)]
                    memory[name].append(sum(one.memory_info().rss for one in family) / 1e6)

        thread = threading.Thread(target=watch)
        thread.start()
        started = time.monotonic()
        storm.until_ended([submission], workers=1, within=3600)
        stop.set()
        thread.join()
        done = storm.farm.desk.submission(submission.id)
        return {
            "hours": round((done.duration or 0) / SAMPLE_RATE / 3600, 2),
            "state": str(done.state),
            "seconds": round(time.monotonic() - started),
            "chunks": done.chunks_total,
            "memory_mb": {
                name: {
                    "after a tenth": round(values[len(values) // 10]),
                    "half-way": round(values[len(values) // 2]),
                    "at the end": round(values[-1]),
                    "most": round(max(values)),
                }
                for name, values in memory.items()
            },
            # An engine begins when all is ingested: how it is at the beginning of that, and later.
            "worker_mb_by_chunks_heard": {
                share: round(memory["engine 0"][next(at for at, n in enumerate(heard) if n >= share / 100 * heard[-1])])
                for share in (5, 25, 50, 75, 100)
            },
        }
