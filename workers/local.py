"""The one-machine driver: the stages of a recording's life, called in order in one process.

One thread prepares the next files while the caller's thread keeps the engine's slots full with chunks of all recordings
that are planned. All state is in the ledger and the object store: whatever kills this process, the next one with the
same files and options goes on from there; and several processes may share one home.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from models.checkpoint import Checkpoint
from models.device import DType, use_compile_cache
from models.engine import Engine, Heard, Request
from models.tokens import Vocabulary
from scheduler.language import Election
from stenopool.config import Config
from stenopool.domain import SAMPLE_RATE, Options, Span, Transcript
from stenopool.errors import LedgerError, MediaError
from storage.database import open_database
from storage.ledger import Claim, Ledger, Work
from storage.objects import FolderStore
from storage.records import record_of_result
from workers.aggregate import aggregate, transcript_of
from workers.assignment import assign
from workers.ingest import BYTES_PER_SAMPLE, pcm_key
from workers.prepare import Prepared, SourceFile, prepare
from workers.presence import Presence
from workers.transcribe import chunk_result

#: Samples planned but not transcribed at which preparing pauses: enough to keep any device busy, bounded on disk.
LOOKAHEAD = 2 * 3600 * SAMPLE_RATE

RENEW_EVERY = 10.0  # seconds; a sixth of a lease
DECODING_FOR_SURE = 0.5  # seconds; a file that the ledger knows is prepared sooner
SWEEP_EVERY = 2.0  # seconds, while others hold chunks that we wait for


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one source: its transcripts (one, or one per channel), or the error that stopped it."""

    source: SourceFile
    transcripts: tuple[Transcript, ...] = ()
    error: MediaError | None = None
    #: Nothing had to be done: the ledger had the transcripts.
    known: bool = False


class Observer(Protocol):
    """Told how the work goes, for progress bars. Samples are at 16 kHz; called from two threads."""

    def decoded(self, source: SourceFile, samples: int, /) -> None:
        """So many samples of the source have been decoded so far."""

    def planned(self, source: SourceFile, samples: int, done: int, /) -> None:
        """The source has so many samples, all its channels together, of which so many need no more work."""

    def advanced(self, source: SourceFile, samples: int, /) -> None:
        """So many more samples of the source are done."""


@dataclass(slots=True)
class Timings:
    """Where the time went, in seconds; preparing runs beside the model."""

    prepare: float = 0.0
    compile: float = 0.0
    model: float = 0.0


@dataclass(slots=True)
class _Active:
    """A transcript in the making."""

    source: SourceFile
    work: Work
    #: Where the language is to be detected.
    election: Election | None


class Driver:
    """Transcribes files on this machine. A context manager; leaving it gives back what is not done.

    Args:
        config: where ledger, objects and compiled programs are.
        checkpoint: the model.
        options: what changes the text.
        dtype, batch_size: the engine's.
        split: a transcript per channel; else channels are mixed.
        force: work that is done is done again.
        observer: told of progress.
        engine: one of that checkpoint, dtype and batch size to use, if it is loaded already.

    Raises:
        CheckpointError: the checkpoint is damaged or foreign.
        UsageError: the options do not fit the checkpoint or each other.
        LedgerError: the home cannot be used.
    """

    def __init__(
        self,
        config: Config,
        checkpoint: Checkpoint,
        options: Options,
        *,
        dtype: DType = "auto",
        batch_size: int | None = None,
        split: bool = False,
        force: bool = False,
        observer: Observer | None = None,
        engine: Engine | None = None,
    ) -> None:
        self._vocabulary = engine.vocabulary if engine else Vocabulary(checkpoint)
        self._assignment = assign(checkpoint, self._vocabulary, options, dtype=dtype, split=split, force=force)
        self._make_engine = partial(Engine, checkpoint, dtype=dtype, batch_size=batch_size)
        self._engine = engine
        self._observer = observer
        use_compile_cache(config.cache / "xla")
        self._store = FolderStore(config.home / "objects")
        self._presence = Presence(config.home / "workers")
        self._ledger = Ledger(open_database(config.home / "ledger.sqlite"))
        self._stop = threading.Event()
        self._active: dict[int, _Active] = {}  # transcript id -> what is known of it
        self._maybe_complete: set[int] = set()  # those of them that may have no open chunk left
        self._renewed = self._swept = time.monotonic()
        self.timings = Timings()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._engine is not None:
            self._engine.drop()
        self._ledger.release([self._presence.worker])
        self._ledger.close()
        self._presence.close()

    def run(self, sources: Sequence[SourceFile]) -> Iterator[Outcome]:
        """Transcribe, once; yields each source's outcome as soon as it is known."""
        self._clear_up()
        todo = deque(sources)
        unfinished: list[Prepared] = []
        coming: Future[Prepared | Outcome] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="prepare") as thread:
            try:
                while todo or coming or unfinished:
                    for prepared in [one for one in unfinished if self._is_complete(one)]:
                        unfinished.remove(prepared)
                        yield self._outcome(prepared)
                    if coming is None and todo and self._backlog() < LOOKAHEAD:
                        coming = thread.submit(self._prepare, todo.popleft())
                    if coming is not None and (coming.done() or not self._active):
                        self._load_meanwhile(coming)
                        result, coming = coming.result(), None
                        if isinstance(result, Outcome):
                            yield result
                        else:
                            self._begin(result)
                            unfinished.append(result)
                    elif not self._turn() and self._active:
                        self._wait_for_others(coming)
            finally:
                self._stop.set()  # the thread gives up between two blocks of samples

    def _clear_up(self) -> None:
        """What killed processes left behind: their leases, and samples that no transcript needs."""
        self._ledger.release(self._presence.dead(self._ledger.holders()))
        for key in self._store.idle("pcm"):
            self._remove_samples(key.rpartition("/")[2])

    def _remove_samples(self, recording: str) -> None:
        self._ledger.unless_needed(recording, partial(self._store.delete, pcm_key(recording)))

    # Preparing: in its own thread

    def _prepare(self, source: SourceFile) -> Prepared | Outcome:
        started = time.perf_counter()
        try:
            return prepare(
                source,
                self._assignment,
                self._ledger,
                self._store,
                stop=self._stop,
                progress=lambda samples: self._observer.decoded(source, samples) if self._observer else None,
            )
        except MediaError as error:
            return Outcome(source, error=error)
        finally:
            self.timings.prepare += time.perf_counter() - started

    def _load_meanwhile(self, coming: Future[Prepared | Outcome]) -> None:
        """While a file is being decoded and nothing else is to be done: load the model that it will need."""
        if self._engine is None:
            wait([coming], timeout=DECODING_FOR_SURE)
            if not coming.done():
                self._loaded()

    def _begin(self, prepared: Prepared) -> None:
        total = sum(work.duration for work in prepared.works)
        todo = 0
        for work in prepared.works:
            if work.complete or work.id in self._active:
                continue
            election = Election(work.chunks_total) if work.language is None else None
            self._active[work.id] = _Active(prepared.source, work, election)
            self._maybe_complete.add(work.id)
            todo += sum(len(span) for span in self._ledger.open_spans(work.id))
        if self._observer:
            self._observer.planned(prepared.source, total, max(0, total - todo))

    def _backlog(self) -> int:
        return sum(active.work.duration for active in self._active.values())

    # Transcribing: in the caller's thread

    def _turn(self) -> bool:
        """Fill free slots, decode a block of tokens, keep what has finished; False if there was nothing to do."""
        now = time.monotonic()
        if now - self._renewed > RENEW_EVERY:
            self._ledger.renew(self._presence.worker)
            self._renewed = now
        merged = self._merge()
        if not self._active:
            return merged
        engine = self._loaded()
        requests = self._questions(engine.free)
        requests += self._claim(engine.free - len(requests))
        engine.submit(requests)
        if not engine.busy:
            return merged
        for heard in engine.step():
            if isinstance(heard.key, Claim):
                self._finish(heard.key, heard)
            else:
                self._count(heard)
        self.timings.model = engine.model_seconds
        return True

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = self._make_engine()
            self._engine.warm()
        self.timings.compile = self._engine.compile_seconds
        return self._engine

    def _pcm(self, active: _Active, span: Span) -> np.ndarray:
        key = pcm_key(active.work.recording)
        try:
            raw = self._store.read(key, span.start * BYTES_PER_SAMPLE, span.end * BYTES_PER_SAMPLE)
        except KeyError:
            name = active.source.name
            raise LedgerError(
                f"{name}: its samples are gone from the object store; run the same command again"
            ) from None
        return np.frombuffer(raw, "<i2")

    def _claim(self, limit: int) -> list[Request]:
        known = [id for id, active in self._active.items() if active.work.language is not None]
        requests = []
        for claim in self._ledger.claim(self._presence.worker, known, limit):
            active = self._active[claim.transcript]
            pcm = self._pcm(active, claim.span)
            requests.append(
                Request(key=claim, pcm=pcm, language=active.work.language, task=self._assignment.options.task)
            )
        return requests

    def _finish(self, claim: Claim, heard: Heard) -> None:
        active = self._active[claim.transcript]
        result = chunk_result(
            heard,
            index=claim.index,
            span=claim.span,
            language=active.work.language or "",
            vocabulary=self._vocabulary,
            options=self._assignment.options,
        )
        # None: the lease was lost meanwhile, and somebody else does the chunk.
        if self._ledger.finish(claim, record_of_result(result)) in (0, None):
            self._maybe_complete.add(claim.transcript)
        if self._observer:
            self._observer.advanced(active.source, len(claim.span))

    def _questions(self, limit: int) -> list[Request]:
        """Chunks that are only asked for their language."""
        requests: list[Request] = []
        for id, active in self._active.items():
            if active.election is None or active.work.language is not None:
                continue
            if indices := active.election.ask(limit - len(requests)):
                spans = self._ledger.spans(id)
                requests += [Request(key=id, pcm=self._pcm(active, spans[i]), language=None) for i in indices]
        return requests

    def _count(self, heard: Heard) -> None:
        assert isinstance(heard.key, int)
        # Without it, another process has decided and finished the recording meanwhile.
        active = self._active.get(heard.key)
        if active is None or active.election is None:
            return
        if elected := active.election.count(heard.languages):
            self._ledger.set_language(heard.key, *elected)
            active.work = self._ledger.work(heard.key)

    # Ending

    def _merge(self) -> bool:
        """Merge what has no open chunk left, whoever finished the last one."""
        merged = False
        for id in self._maybe_complete & self._active.keys():
            work = self._ledger.work(id)
            if work.chunks_open == 0 and not work.complete:
                aggregate(self._ledger, id)
                work = self._ledger.work(id)
            self._active[id].work = work
            if work.complete:
                merged = True
                del self._active[id]
        self._maybe_complete.clear()
        return merged

    def _is_complete(self, prepared: Prepared) -> bool:
        return not any(work.id in self._active for work in prepared.works)

    def _outcome(self, prepared: Prepared) -> Outcome:
        for work in prepared.works:
            self._remove_samples(work.recording)
        transcripts = tuple(
            transcript_of(self._ledger.work(work.id), source, prepared.source.name)
            for work, source in zip(prepared.works, prepared.sources, strict=True)
        )
        return Outcome(prepared.source, transcripts, known=prepared.known)

    def _wait_for_others(self, coming: Future[Prepared | Outcome] | None) -> None:
        """Nothing to do here: another process has the chunks we wait for, or a file is still being decoded."""
        if coming is not None:
            wait([coming], timeout=0.2)
        else:
            time.sleep(0.2)
        self._maybe_complete.update(self._active)
        if time.monotonic() - self._swept > SWEEP_EVERY:
            self._ledger.release(self._presence.dead(self._ledger.holders()))
            self._ledger.sweep()
            self._swept = time.monotonic()
