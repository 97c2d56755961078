"""The one-machine driver: the stages of a recording's life, called in order in one process.

One thread prepares the next files while the main thread keeps the engine's slots full with chunks of all recordings
that are planned. All state is in the ledger and the object store: whatever kills this process, the next one with the
same files and options goes on from there.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from models.checkpoint import Checkpoint
from models.device import DType, resolve_dtype, use_compile_cache
from models.engine import Engine, Heard, Request
from models.tokens import Vocabulary
from scheduler.language import vote, voters
from stenopool.config import Config
from stenopool.domain import SAMPLE_RATE, Options, Provenance, Span, Transcript
from stenopool.errors import MediaError, UsageError
from stenopool.version import __version__
from storage.database import open_database
from storage.ledger import Claim, Ledger, Work
from storage.objects import FolderStore
from storage.records import record_of_result
from workers.aggregate import aggregate, transcript_of
from workers.ingest import BYTES_PER_SAMPLE, pcm_key
from workers.prepare import Assignment, Prepared, SourceFile, prepare
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
    #: Chunks still to be asked for the recording's language, and what the others heard.
    voters: list[int] = field(default_factory=list)
    votes: list[dict[str, float]] = field(default_factory=list)
    asked: int = 0


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
        self._checkpoint = checkpoint
        self._vocabulary = engine.vocabulary if engine else Vocabulary(checkpoint)
        options = check_options(options, checkpoint, self._vocabulary)
        provenance = Provenance(
            model=checkpoint.name,
            model_digest=checkpoint.digest,
            dtype=resolve_dtype(dtype),
            options=options,
            version=__version__,
        )
        only_language = None if self._vocabulary.special.languages else "en"
        self._assignment = Assignment(provenance, only_language, split=split, force=force)
        self._dtype: DType = dtype
        self._batch_size = batch_size
        self._observer = observer
        self._engine = engine
        use_compile_cache(config.cache / "xla")
        self._ledger = Ledger(open_database(config.home / "ledger.sqlite"))
        self._store = FolderStore(config.home / "objects")
        self._presence = Presence(config.home / "workers")
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
        """Transcribe; yields each source's outcome as soon as it is known."""
        self._ledger.release(self._presence.dead(self._ledger.holders()))
        todo = deque(sources)
        unfinished: list[Prepared] = []
        with ThreadPoolExecutor(1, thread_name_prefix="prepare") as pool:
            coming: Future[Prepared | Outcome] | None = None
            try:
                while todo or coming or unfinished:
                    if coming is None and todo and self._backlog() < LOOKAHEAD:
                        coming = pool.submit(self._prepare, todo.popleft())
                    if coming is not None and (coming.done() or not self._active):
                        self._load_meanwhile(coming)
                        result, coming = coming.result(), None
                        if isinstance(result, Outcome):
                            yield result
                        else:
                            self._begin(result)
                            unfinished.append(result)
                        continue  # the next file is prepared while this one is decoded
                    progressed = self._turn()
                    for prepared in [one for one in unfinished if self._is_complete(one)]:
                        unfinished.remove(prepared)
                        yield self._outcome(prepared)
                    if not progressed and self._active:
                        self._wait_for_others(coming)
            finally:
                self._stop.set()

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

    def _begin(self, prepared: Prepared) -> None:
        total = sum(work.duration for work in prepared.works)
        open_samples = 0
        for work in prepared.works:
            if work.complete or work.id in self._active:
                continue
            active = self._active[work.id] = _Active(prepared.source, work)
            self._maybe_complete.add(work.id)
            open_samples += sum(len(span) for span in self._ledger.open_spans(work.id))
            if work.language is None:
                active.voters = voters(work.chunks_total)
        if self._observer:
            self._observer.planned(prepared.source, total, max(0, total - open_samples))

    def _backlog(self) -> int:
        return sum(active.work.duration for active in self._active.values())

    def _load_meanwhile(self, coming: Future[Prepared | Outcome]) -> None:
        """While a file is being decoded and nothing else is to be done: load the model that it will need."""
        if self._engine is None:
            wait([coming], timeout=DECODING_FOR_SURE)
            if not coming.done():
                self._loaded()

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
                self._count_vote(heard)
        self.timings.model = engine.model_seconds
        return True

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = Engine(self._checkpoint, dtype=self._dtype, batch_size=self._batch_size)
            self._engine.warm()
        self.timings.compile = self._engine.compile_seconds
        return self._engine

    def _pcm(self, work: Work, span: Span) -> np.ndarray:
        raw = self._store.read(pcm_key(work.recording), span.start * BYTES_PER_SAMPLE, span.end * BYTES_PER_SAMPLE)
        return np.frombuffer(raw, "<i2")

    def _claim(self, limit: int) -> list[Request]:
        known = [id for id, active in self._active.items() if active.work.language is not None]
        requests = []
        for claim in self._ledger.claim(self._presence.worker, known, limit):
            work = self._active[claim.transcript].work
            assert work.language is not None
            requests.append(
                Request(
                    key=claim,
                    pcm=self._pcm(work, claim.span),
                    language=work.language,
                    task=self._assignment.provenance.options.task,
                )
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
            options=self._assignment.provenance.options,
        )
        # None: the lease was lost meanwhile, and somebody else does the chunk.
        if self._ledger.finish(claim, record_of_result(result)) in (0, None):
            self._maybe_complete.add(claim.transcript)
        if self._observer:
            self._observer.advanced(active.source, len(claim.span))

    # The recording's language, where it is to be detected

    def _questions(self, limit: int) -> list[Request]:
        requests: list[Request] = []
        for id, active in self._active.items():
            while active.voters and len(requests) < limit:
                index = active.voters.pop(0)
                span = self._ledger.spans(id)[index]
                requests.append(Request(key=id, pcm=self._pcm(active.work, span), language=None))
                active.asked += 1
        return requests

    def _count_vote(self, heard: Heard) -> None:
        id = heard.key
        assert isinstance(id, int)
        active = self._active[id]
        active.votes.append(heard.languages)
        if not active.voters and len(active.votes) == active.asked:
            self._ledger.set_language(id, *vote(active.votes))
            active.work = self._ledger.work(id)

    # Ending

    def _merge(self) -> bool:
        """Merge what has no open chunk left, whoever finished the last one."""
        merged = False
        for id in self._maybe_complete:
            work = self._ledger.work(id)
            if work.chunks_open == 0 and not work.complete:
                aggregate(self._ledger, id)
                work = self._ledger.work(id)
            self._active[id].work = work
            if work.complete:
                merged = True
                del self._active[id]
                if not self._ledger.open_transcripts(work.recording):
                    self._store.delete(pcm_key(work.recording))
        self._maybe_complete.clear()
        return merged

    def _is_complete(self, prepared: Prepared) -> bool:
        return not any(work.id in self._active for work in prepared.works)

    def _outcome(self, prepared: Prepared) -> Outcome:
        transcripts = tuple(
            transcript_of(self._ledger.work(work.id), source, prepared.source.name)
            for work, source in zip(prepared.works, prepared.sources, strict=True)
        )
        return Outcome(prepared.source, transcripts, known=prepared.known)

    def _wait_for_others(self, coming: Future[Prepared | Outcome] | None) -> None:
        """Nothing to do here: another process works on what we wait for, or a file is still being decoded."""
        if coming is not None:
            wait([coming], timeout=0.2)
        else:
            time.sleep(0.2)
        self._maybe_complete.update(self._active)
        if time.monotonic() - self._swept > SWEEP_EVERY:
            self._ledger.release(self._presence.dead(self._ledger.holders()))
            self._ledger.sweep()
            self._swept = time.monotonic()


def check_options(options: Options, checkpoint: Checkpoint, vocabulary: Vocabulary) -> Options:
    """Options that fit the checkpoint, the language as its code.

    Raises:
        UsageError: they do not fit; the message says what would.
    """
    window = checkpoint.dims.window / SAMPLE_RATE
    if not 1 <= options.chunk_length <= window:
        raise UsageError(f"--chunk-length must be between 1 and the model's window of {window:g} seconds")
    if not 0 <= options.overlap < options.chunk_length / 2:
        raise UsageError(
            f"--overlap must be at least 0 and less than half of the chunk length {options.chunk_length:g}"
        )
    if options.language != "auto":
        options = replace(options, language=vocabulary.language_code(options.language))
    any_language = next(iter(vocabulary.special.languages), "en")
    vocabulary.prompt(any_language if options.language == "auto" else options.language, options.task)
    return options
