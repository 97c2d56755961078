"""A farm of real processes in a storm: stand-in engines that are killed, and whatever else a drill does to it.

The engine's text is a function of the samples, and these are one of the seed, so that what must come out is known.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from stenopool.domain import SAMPLE_RATE, Options
from storage.desk import Order, Submission
from storage.keys import source_key
from storage.ledger import Ledger
from storage.objects import ObjectStore
from storage.records import result_of_record
from storage.tables import ChunkRow, ChunkState, SubmissionState, WorkerRow
from tests import sounds
from tests.faults.accidents import DIED
from tests.faults.history import violations
from tests.standin import POISON, StandIn, text_of
from workers.farm import Farm, Places
from workers.ingest import digest_file
from workers.patience import patiently
from workers.stages import Stages

CHUNK = 2  # seconds
#: Chunks that lie side by side.
SIDE_BY_SIDE = Options(language="en", vad=False, chunk_length=CHUNK, overlap=0)

#: Seconds of a lease where nobody dies: no machine is so busy that one runs out.
PATIENT = 30.0

#: Chunks that a stand-in may hold: those of the hints that are in flight.
HELD = 2 * StandIn.n_slots


@dataclass(frozen=True, slots=True)
class Sound:
    """Noise that differs from chunk to chunk; such a share of the chunks kills its worker."""

    seed: int
    seconds: int
    poisoned: float = 0.0

    @property
    def pcm(self) -> np.ndarray:
        """Its samples: int16, [n]."""
        noise = np.random.default_rng(self.seed)
        pcm = noise.integers(-8000, 8000, self.seconds * SAMPLE_RATE, np.int16)
        for chunk in range(self.seconds // CHUNK):
            if noise.random() < self.poisoned:
                pcm[chunk * CHUNK * SAMPLE_RATE :][: len(POISON)] = POISON
        return pcm


@dataclass
class Storm:
    """Servers that are there already, and the processes of a farm on them.

    Args:
        lease: seconds.
        batch: seconds that a stand-in takes for sixteen chunks, or for one.
        seed: of all that is random here.
        stages: the roles of the processes beside engines and a scheduler.
    """

    places: Places
    folder: Path
    lease: float = 3.0
    seed: int = 0
    batch: float = 0.05
    stages: Sequence[str] = ("merge+publish",)
    kills: int = 0
    #: Seconds from each kill until a chunk that was lost by it was begun again.
    recoveries: list[float] = field(default_factory=list)
    _sounds: dict[int, Sound] = field(default_factory=dict)
    #: Transcript and index of chunks whose worker was killed: their fence then, and when that was.
    _lost: dict[tuple[int, int], tuple[int, float]] = field(default_factory=dict)
    _workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _others: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.farm = Farm(self.places, lease=self.lease)
        self.random = random.Random(self.seed)

    def __enter__(self) -> Storm:
        self.scheduler()
        for roles in self.stages:
            self.stage(roles)
        return self

    def __exit__(self, *_: object) -> None:
        processes = [*self._workers, *self._others]
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        self.farm.close()

    @property
    def processes(self) -> dict[str, subprocess.Popen[bytes]]:
        """All of them, by what they are for."""
        names = ["scheduler", *self.stages, *(f"engine {at}" for at in range(len(self._workers)))]
        return dict(zip(names, [*self._others, *self._workers], strict=True))

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        settings = {"STENOPOOL_LEASE": str(self.lease), "JAX_PLATFORMS": "cpu"}
        role = arguments[arguments.index("--") + 1]
        with (self.folder / f"{role}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.faults.accidents", *arguments],
                env={**os.environ, **self.places.environment(), **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    # What is to be done

    def hand_in(
        self, recordings: int, *, seconds: int, poisoned: float = 0.0, ingested: bool = True
    ) -> list[Submission]:
        """Recordings of so many seconds, ingested here, or else left to whoever has that role."""
        stages = Stages(self.farm, "ingest")
        found = []
        for _ in range(recordings):
            sound = Sound(self.random.getrandbits(32), seconds, poisoned)
            submission = self.submit(sound)
            if ingested:
                stages.ingest(submission.id)
            found.append(self.farm.desk.submission(submission.id))
        stages.close()
        return found

    def submit(self, sound: Sound) -> Submission:
        """Hand in one recording, of one of three tenants."""
        path = sounds.write(self.folder / f"{len(self._sounds)}.wav", sound.pcm[None])
        submission = self._order(path, SIDE_BY_SIDE)
        path.unlink()
        self._sounds[submission.id] = sound
        return submission

    def hand_in_file(self, path: Path, options: Options, *, ingested: bool = True) -> Submission:
        """A recording as it is, with the usual chunks."""
        submission = self._order(path, options)
        if ingested:
            stages = Stages(self.farm, "ingest")
            stages.ingest(submission.id)
            stages.close()
        return self.farm.desk.submission(submission.id)

    def _order(self, path: Path, options: Options) -> Submission:
        return submit(self.farm, path, self.farm.store, options, tenant=f"tenant{len(self._sounds) % 3}")

    # The weather

    def scheduler(self) -> subprocess.Popen[bytes]:
        """A scheduler more."""
        return self.other("scheduler")

    def stage(self, roles: str, *accidents: str) -> subprocess.Popen[bytes]:
        """A process with such roles more, as in "merge+publish"."""
        return self.other("worker", *(f"--role={role}" for role in roles.split("+")), accidents=accidents)

    def other(self, *command: str, accidents: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """A process more that is a command of `stenopool`."""
        self._others.append(self._start(*accidents, "--", *command))
        return self._others[-1]

    def worker(self, *accidents: str) -> subprocess.Popen[bytes]:
        """A stand-in more."""
        command = ["standin", str(self.batch)]
        self._workers.append(self._start(*accidents, "--", *command))
        return self._workers[-1]

    def workers(self, n: int) -> list[subprocess.Popen[bytes]]:
        """So many stand-ins are alive."""
        self._workers = [one for one in self._workers if one.poll() is None]
        while len(self._workers) < n:
            self.worker()
        return self._workers

    def kill_one(self) -> None:
        """kill -9 of one of them that has chunks, whichever, at whatever it does."""

        def somebody_works() -> bool:
            self.look()
            return bool(self._holding())

        self.until(somebody_works, within=60)
        time.sleep(self.random.uniform(0, 2 * self.batch))
        holding = self._holding() or {self.random.choice(self._workers).pid: {}}
        victim = self.random.choice(sorted(holding))
        worker = next(one for one in self._workers if one.pid == victim)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        self.kills += 1
        killed = time.monotonic()
        self._lost |= {chunk: (fence, killed) for chunk, fence in self._holding().get(victim, {}).items()}

    def _holding(self) -> dict[int, dict[tuple[int, int], int]]:
        """By process: the chunks that it holds, transcript and index of each, and their fences."""
        pids = {one.pid for one in self._workers}
        found: dict[int, dict[tuple[int, int], int]] = {}
        with self.farm.database.connect() as connection:
            for pid, transcript, index, fence in connection.execute(
                select(WorkerRow.pid, ChunkRow.transcript_id, ChunkRow.index, ChunkRow.fence)
                .join(WorkerRow, WorkerRow.id == ChunkRow.worker)
                .where(ChunkRow.state == ChunkState.LEASED)
            ):
                if pid in pids:
                    found.setdefault(pid, {})[transcript, index] = fence
        return found

    def look(self) -> None:
        """See which chunks of killed workers were begun again."""
        if not self._lost:
            return
        with self.farm.database.connect() as connection:
            rows = connection.execute(
                select(ChunkRow.transcript_id, ChunkRow.index, ChunkRow.fence).where(
                    ChunkRow.transcript_id.in_({transcript for transcript, _ in self._lost}),
                    ChunkRow.state.in_([ChunkState.LEASED, ChunkState.DONE]),
                )
            ).all()
        for transcript, index, fence in rows:
            before, killed = self._lost.get((transcript, index), (fence, 0.0))
            if fence > before:
                self.recoveries.append(time.monotonic() - killed)
                del self._lost[transcript, index]

    def until_dead(self, *processes: subprocess.Popen[bytes]) -> None:
        """Wait until each has had its accident."""
        for process in processes:
            self.until(lambda process=process: process.poll() is not None, within=60)  # type: ignore[misc]
            assert process.returncode == DIED, self.said()

    def until_at_work(self, n: int) -> None:
        """Wait until so many processes are in the fleet, and have begun."""
        self.until(lambda: sum(one.state == "working" for one in self.farm.fleet.workers()) >= n, within=90)

    @staticmethod
    def end(*processes: subprocess.Popen[bytes]) -> None:
        """Tell them to end, and see that they do in order."""
        for process in processes:
            process.terminate()
        assert [process.wait(30) for process in processes] == [0] * len(processes)

    def until(self, fact: Callable[[], bool], *, within: float) -> None:
        """Wait for something."""
        deadline = time.monotonic() + within
        while not fact():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)

    def until_more_is_done(self, *, within: float) -> None:
        """Wait until work goes on."""
        before = self.done()
        self.until(lambda: self.done() > before, within=within)

    def until_ended(self, submissions: Sequence[Submission], *, workers: int, within: float) -> None:
        """Workers that end are replaced until all has come to its end."""
        waiting = {one.id for one in submissions}

        def ended() -> bool:
            self.workers(workers)
            patiently(self.look)
            for id in sorted(waiting):
                if patiently(partial(self.farm.desk.submission, id)).ended:
                    waiting.discard(id)
                elif len(waiting) > 20:  # the first one is enough to know
                    return False
            return not waiting

        self.until(ended, within=within)

    # What came of it

    def done(self) -> int:
        """Chunks that are done."""
        with self.farm.database.connect() as connection:
            n = connection.scalar(select(func.count()).select_from(ChunkRow).where(ChunkRow.state == ChunkState.DONE))
            return n or 0

    def attempts(self) -> int:
        """How often a chunk was begun."""
        with self.farm.database.connect() as connection:
            return connection.scalar(select(func.sum(ChunkRow.attempt))) or 0

    def crashes(self) -> int:
        """The most workers that died with one chunk."""
        with self.farm.database.connect() as connection:
            return connection.scalar(select(func.max(ChunkRow.crashes))) or 0

    def states(self, submissions: Sequence[Submission]) -> set[SubmissionState]:
        """What became of them."""
        return {self.farm.desk.submission(one.id).state for one in submissions}

    def differences(self, submissions: Sequence[Submission]) -> list[str]:
        """Chunks whose text is not that of their samples; of poisoned ones, those that are no gap."""
        found = []
        ledger = Ledger(self.farm.database)
        for submission in submissions:
            sound = self._sounds[submission.id].pcm
            for _, transcript in self.farm.desk.submission(submission.id).transcripts:
                for record in ledger.parts(transcript).results:
                    result = result_of_record(record)
                    pcm = sound[result.span.start : result.span.end]
                    poisoned = np.array_equal(pcm[: len(POISON)], POISON)
                    text = "".join(segment.text for segment in result.segments)
                    if poisoned != bool(result.failed) or (not poisoned and text != text_of(pcm)):
                        found.append(f"chunk {result.index} of {transcript}: {result.failed or text}")
        return found

    def said(self) -> str:
        """What its processes said last."""
        return " | ".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))


def submit(
    farm: Farm, path: Path, store: ObjectStore, options: Options = SIDE_BY_SIDE, *, tenant: str = "default"
) -> Submission:
    """Hand a file in.

    Args:
        store: where it is put; the farm's own, or the same by another way.
    """
    digest = digest_file(path)
    store.upload(path, source_key(digest))
    return farm.desk.accept(
        Order(
            tenant=tenant,
            name=path.name,
            source=source_key(digest),
            file_sha256=digest,
            model="pocket",
            options=asdict(options),
        )
    )


def as_if_nothing_had_been(storm: Storm, submissions: Sequence[Submission]) -> None:
    """All of it is complete, once, with the text that its samples give."""
    assert violations(storm.farm.database) == []
    assert storm.differences(submissions) == []
    assert storm.states(submissions) == {SubmissionState.COMPLETED}
