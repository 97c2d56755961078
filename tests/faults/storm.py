"""A farm of real processes in a storm: stand-in engines that are killed, and whatever else a drill does to it.

The engine's text is a function of the samples, so that what must come out is known beforehand.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import InstrumentedAttribute

from stenopool.domain import Options
from storage.desk import Order, Submission
from storage.ledger import Ledger
from storage.objects import ObjectStore
from storage.records import result_of_record
from storage.tables import ChunkRow, ChunkState
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
        self._noise = np.random.default_rng(self.seed)

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
        """Noise that is never the same, ingested; such a share of the chunks kills its worker."""
        stages = Stages(self.farm, "ingest")
        found = []
        for at in range(recordings):
            pcm = self._noise.integers(-8000, 8000, seconds * S).astype(np.int16)
            for chunk in range(seconds // CHUNK):
                if self.random.random() < poisoned:
                    pcm[chunk * CHUNK * S :][: len(POISON)] = POISON
            path = sounds.write(self.folder / f"{at}.wav", pcm[None])
            submission = submit(self.farm, path, self.farm.store, tenant=f"tenant{at % 3}")
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

    def until_begun(self, submissions: Sequence[Submission], *, within: float) -> None:
        """Until a chunk of them is done."""
        deadline = time.monotonic() + within
        while not self.done(submissions):
            assert time.monotonic() < deadline, f"nothing is begun: {self._said()}"
            time.sleep(0.05)

    def until_ended(self, submissions: Sequence[Submission], *, workers: int, within: float) -> None:
        """Workers that end are replaced until all has come to its end."""
        deadline = time.monotonic() + within
        waiting = {one.id for one in submissions}
        while waiting:
            assert time.monotonic() < deadline, f"{len(waiting)} submissions have not ended: {self._said()}"
            self.workers(workers)
            waiting = {id for id in waiting if not self.farm.desk.submission(id).ended}
            time.sleep(0.2)

    def done(self, submissions: Sequence[Submission]) -> int:
        """Chunks of them that are done."""
        return self._sum(submissions, case((ChunkRow.state == ChunkState.DONE, 1), else_=0))

    def attempts(self, submissions: Sequence[Submission]) -> int:
        """How often a chunk of them was begun."""
        return self._sum(submissions, ChunkRow.attempt)

    def _sum(self, submissions: Sequence[Submission], what: ColumnElement[int] | InstrumentedAttribute[int]) -> int:
        transcripts = [transcript for one in submissions for _, transcript in one.transcripts]
        with self.farm.database.connect() as connection:
            found = connection.scalar(select(func.sum(what)).where(ChunkRow.transcript_id.in_(transcripts)))
            return int(found or 0)

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


def submit(farm: Farm, path: Path, store: ObjectStore, *, tenant: str = "default", language: str = "en") -> Submission:
    """Hand a file in, to be cut into chunks that lie side by side.

    Args:
        store: where it is put; the farm's own, or the same by another way.
    """
    options = Options(language=language, vad=False, chunk_length=CHUNK, overlap=0)
    digest = digest_file(path)
    store.upload(path, f"sources/{digest}")
    return farm.desk.accept(
        Order(
            tenant=tenant,
            name=path.name,
            source=f"sources/{digest}",
            file_sha256=digest,
            model="pocket",
            options=asdict(options),
        )
    )


#: Chunks that a stand-in may hold: those of the hints that are in flight.
HELD = 2 * StandIn.n_slots
