"""A farm of real processes in a storm: stand-in engines that are killed, and whatever else a drill does to it.

The engine's text is a function of the samples, so that what must come out is known beforehand.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from stenopool.domain import Options
from storage.desk import Order, Submission
from storage.ledger import Ledger
from storage.records import result_of_record
from storage.tables import ChunkRow
from tests import sounds
from tests.standin import POISON, StandIn, text_of
from workers.farm import Farm, Places
from workers.ingest import digest_file
from workers.stages import Stages

S = 16_000  # one second
CHUNK = 2  # seconds

#: Seconds that a stand-in takes for a batch.
BATCH_TAKES = 0.05


@dataclass
class Storm:
    """Servers that are there already, and the processes of a farm on them.

    Args:
        lease: seconds.
        seed: of all that is random here.
    """

    places: Places
    folder: Path
    lease: float = 3.0
    seed: int = 0
    kills: int = 0
    #: What each submission is made of: its samples go when it is published.
    _pcm: dict[int, np.ndarray] = field(default_factory=dict)
    _workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _others: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.farm = Farm(self.places, lease=self.lease)
        self.random = random.Random(self.seed)

    def __enter__(self) -> Storm:
        self._others = [
            self._start("stenopool", "scheduler"),
            self._start("stenopool", "worker", "--role", "merge", "--role", "publish"),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        processes = [*self._workers, *self._others]
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        self.farm.close()

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{module}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={
                    **os.environ,
                    **self.places.environment(),
                    "STENOPOOL_LEASE": str(self.lease),
                    "JAX_PLATFORMS": "cpu",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    # What is to be done

    def hand_in(self, recordings: int, *, seconds: int, poisoned: float = 0.0) -> list[Submission]:
        """Noise that differs from chunk to chunk, ingested; such a share of the chunks kills its worker."""
        noise = np.random.default_rng(self.seed)
        stages = Stages(self.farm, "ingest")
        options = Options(language="en", vad=False, chunk_length=CHUNK, overlap=0)
        found = []
        for at in range(recordings):
            pcm = noise.integers(-8000, 8000, seconds * S).astype(np.int16)
            for chunk in range(seconds // CHUNK):
                if self.random.random() < poisoned:
                    pcm[chunk * CHUNK * S :][: len(POISON)] = POISON
            path = sounds.write(self.folder / f"{at}.wav", pcm[None])
            digest = digest_file(path)
            self.farm.store.upload(path, f"sources/{digest}")
            submission = self.farm.desk.accept(
                Order(
                    tenant=f"tenant{at % 3}",
                    name=path.name,
                    source=f"sources/{digest}",
                    file_sha256=digest,
                    model="pocket",
                    options={name: getattr(options, name) for name in Options.__dataclass_fields__},
                )
            )
            self._pcm[submission.id] = pcm
            stages.ingest(submission.id)
            found.append(self.farm.desk.submission(submission.id))
            path.unlink()
        stages.close()
        return found

    # The weather

    def workers(self, n: int) -> None:
        """So many stand-ins are alive."""
        self._workers = [one for one in self._workers if one.poll() is None]
        while len(self._workers) < n:
            self._workers.append(self._start("tests.standin", str(BATCH_TAKES)))

    def kill_one(self) -> None:
        """kill -9 of one of them, whichever."""
        worker = self.random.choice(self._workers)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        self.kills += 1

    def until_ended(self, submissions: Sequence[Submission], *, workers: int, within: float) -> None:
        """Workers that end are replaced until all has come to its end."""
        deadline = time.monotonic() + within
        waiting = {one.id for one in submissions}
        while waiting:
            assert time.monotonic() < deadline, f"{len(waiting)} submissions have not ended: {self._said()}"
            self.workers(workers)
            waiting = {id for id in waiting if not self.farm.desk.submission(id).ended}
            time.sleep(0.2)

    def done(self) -> int:
        """Chunks that are done."""
        with self.farm.database.connect() as connection:
            n = connection.scalar(select(func.count()).select_from(ChunkRow).where(ChunkRow.state == "done"))
            return n or 0

    def attempts(self) -> int:
        """How often a chunk was begun."""
        with self.farm.database.connect() as connection:
            return connection.scalar(select(func.sum(ChunkRow.attempt))) or 0

    # What came of it

    def differences(self, submissions: Sequence[Submission]) -> list[str]:
        """Chunks whose text is not that of their samples; of poisoned ones, those that are no gap."""
        found = []
        ledger = Ledger(self.farm.database)
        for submission in submissions:
            for _, transcript in submission.transcripts:
                for record in ledger.results(transcript):
                    result = result_of_record(record)
                    pcm = self._pcm[submission.id][result.span.start : result.span.end]
                    poisoned = np.array_equal(pcm[: len(POISON)], POISON)
                    text = "".join(segment.text for segment in result.segments)
                    if poisoned != bool(result.failed) or (not poisoned and text != text_of(pcm)):
                        found.append(f"chunk {result.index} of {transcript}: {result.failed or text}")
        return found

    def _said(self) -> str:
        return " | ".join(path.read_text(errors="replace")[-500:] for path in self.folder.glob("*.log"))


def meanwhile(stop: threading.Event, every: float, act: Callable[[], object]) -> threading.Thread:
    """Acts every so many seconds until `stop` is set."""

    def run() -> None:
        while not stop.wait(every):
            act()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


#: Chunks that a stand-in may hold: those of the hints that are in flight.
HELD = 2 * StandIn.n_slots
