"""The transcriber: keeps the engine's slots full with chunks of all open transcripts, and the ledger told.

Results that come after their lease was lost are dropped: somebody else does those chunks. Where the device fails, the
chunks it held are tried again one by one; one that fails alone three times, on a device that works otherwise, becomes a
gap; its neighbours do not.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.decoding.requests import Heard, Request
from models.engine import Engine
from models.tokens import Vocabulary
from scheduler.language import Election
from stenopool.domain import MULTIPLE, SAMPLE_RATE, Chunk, ChunkResult, Span
from stenopool.errors import EngineError, LedgerError
from storage.ledger import Claim, Ledger, Work
from storage.objects import FolderStore
from storage.records import record_of_result
from workers.assignment import Assignment
from workers.decoding import decoding_of
from workers.ingest import read_pcm
from workers.prepare import SourceFile
from workers.transcribe import chunk_result, silence

RENEW_EVERY = 10.0  # seconds; leases are good for much longer

#: Times that a chunk may fail alone before it becomes a gap.
ATTEMPTS = 3


class Observer(Protocol):
    """Told how the work goes, for progress bars. Samples are at 16 kHz; called from two threads."""

    def decoded(self, source: SourceFile, samples: int, /) -> None:
        """So many samples of the source have been decoded so far."""

    def planned(self, source: SourceFile, samples: int, done: int, /) -> None:
        """The source has so many samples, all its channels together, of which so many need no more work."""

    def advanced(self, source: SourceFile, samples: int, /) -> None:
        """So many more samples of the source are done."""


@dataclass(frozen=True, slots=True)
class Question:
    """A chunk that is only asked for its language."""

    transcript: int
    index: int


@dataclass(slots=True)
class _Open:
    """A transcript in the making."""

    source: SourceFile
    work: Work
    #: Where the language is to be detected.
    election: Election | None


class Transcriber:
    """Decodes the chunks of open transcripts.

    Args:
        make_engine: loads and compiles the engine, when it is first needed.
        engine: the engine, if it is loaded already.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: FolderStore,
        worker: str,
        assignment: Assignment,
        vocabulary: Vocabulary,
        *,
        make_engine: Callable[[], Engine],
        engine: Engine | None,
        observer: Observer | None,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._worker = worker
        self._assignment = assignment
        self._vocabulary = vocabulary
        self._make_engine = make_engine
        self._engine = engine
        self._observer = observer
        self._open: dict[int, _Open] = {}
        self._held: dict[tuple[int, int], Claim] = {}  # in the engine's slots
        #: Chunks that were in the slots when the device failed: each is tried alone.
        self._suspects: set[tuple[int, int]] = set()
        #: How often each of them failed alone.
        self._failed_alone: Counter[tuple[int, int]] = Counter()
        self._renewed = time.monotonic()

    @property
    def engine(self) -> Engine:
        """The engine, loaded if it is not yet."""
        if self._engine is None:
            self._engine = self._make_engine()
        return self._engine

    def warm(self) -> None:
        """Load the engine, and compile what its chunks will need."""
        whole = Chunk(index=0, span=Span(0, 0))
        language = self._assignment.language if self._assignment.language != MULTIPLE else None
        self.engine.warm(decoding_of(self._assignment.options, whole, self._vocabulary, language))

    @property
    def loaded(self) -> bool:
        """Whether the engine is loaded."""
        return self._engine is not None

    @property
    def open(self) -> set[int]:
        """Transcripts that are being made."""
        return set(self._open)

    @property
    def backlog(self) -> int:
        """Samples of the recordings that are being transcribed."""
        return sum(one.work.duration for one in self._open.values())

    def add(self, source: SourceFile, works: Iterable[Work]) -> None:
        """Take up what is not complete of a source's transcripts."""
        total = todo = 0
        for work in works:
            total += work.duration
            if work.complete or work.id in self._open:
                continue
            election = Election(work.chunks_total) if work.language is None else None
            self._open[work.id] = _Open(source, work, election)
            todo += sum(len(span) for span in self._ledger.open_spans(work.id))
        if self._observer:
            self._observer.planned(source, total, max(0, total - todo))

    def remove(self, transcript: int) -> None:
        """It is complete. Its chunks that are still in slots, under a lost lease, will be dropped."""
        del self._open[transcript]
        self._suspects = {chunk for chunk in self._suspects if chunk[0] != transcript}

    def turn(self) -> bool:
        """Fill free slots, decode a block of tokens, keep what has finished; False if there was nothing to do."""
        engine = self.engine
        try:
            engine.submit(self._requests(engine))
            self._renew()
            if not engine.busy:
                return False
            finished = engine.step()
        except EngineError as error:
            self._fail(error)
            return True
        for heard in finished:
            if isinstance(heard.key, Claim):
                self._finish(heard.key, heard)
            elif isinstance(heard.key, Question):
                self._count(heard.key, heard)
        return True

    def close(self) -> None:
        """Empty the slots, and give back what was in them."""
        if self._engine is not None:
            self._engine.drop()
        self._ledger.release([self._worker])

    def _renew(self) -> None:
        if time.monotonic() - self._renewed > RENEW_EVERY:
            self._ledger.renew(self._worker)
            self._renewed = time.monotonic()

    def _requests(self, engine: Engine) -> list[Request]:
        if self._suspects:  # one at a time, until they are through
            return [] if engine.busy else self._questions(1) or self._claims(1)
        questions = self._questions(engine.free)
        return questions + self._claims(engine.free - len(questions))

    def _pcm(self, one: _Open, span: Span) -> np.ndarray:
        try:
            return read_pcm(self._store, one.work.recording, one.work.duration, span)
        except KeyError:
            raise LedgerError(
                f"{one.source.name}: its samples are gone from the object store; run the same command again"
            ) from None

    def _claims(self, limit: int) -> list[Request]:
        if limit < 1:  # most turns: the slots are full, and the ledger need not be asked
            return []
        for id, one in self._open.items():
            if one.work.language is None:  # another process may have held the election
                one.work = self._ledger.work(id)
        known = [id for id, one in self._open.items() if one.work.language is not None]
        requests = []
        for claim in self._ledger.claim(self._worker, known, limit):
            one = self._open[claim.transcript]
            pcm = self._pcm(one, claim.span)
            if result := silence(claim.chunk, pcm, one.work.language or ""):
                self._keep(one, claim, result)
                continue
            self._held[claim.transcript, claim.index] = claim
            language = None if one.work.language == MULTIPLE else one.work.language
            decoding = decoding_of(self._assignment.options, claim.chunk, self._vocabulary, language)
            requests.append(Request(key=claim, pcm=pcm, decoding=decoding))
        return requests

    def _finish(self, claim: Claim, heard: Heard) -> None:
        one = self._open.get(claim.transcript)
        if one is None:  # the lease was lost, and another process has completed the transcript meanwhile
            self._held.pop((claim.transcript, claim.index), None)
            return
        result = chunk_result(
            heard,
            claim.chunk,
            language=heard.language or "",
            vocabulary=self._vocabulary,
            options=self._assignment.options,
        )
        self._keep(one, claim, result)

    def _keep(self, one: _Open, claim: Claim, result: ChunkResult) -> None:
        chunk = (claim.transcript, claim.index)
        self._held.pop(chunk, None)
        self._suspects.discard(chunk)
        self._failed_alone.pop(chunk, None)
        kept = self._ledger.finish(claim, record_of_result(result)) is not None
        if kept and self._observer:  # else the lease was lost, and somebody else does the chunk
            self._observer.advanced(one.source, len(claim.span))

    def _fail(self, error: EngineError) -> None:
        """The device failed; its slots are empty. The chunks that were in them are tried again, if that can help."""
        held, self._held = self._held, {}
        if len(held) == 1 and error.retryable:
            [(chunk, claim)] = held.items()
            self._failed_alone[chunk] += 1
            one = self._open.get(claim.transcript)
            if one is not None and self._failed_alone[chunk] == ATTEMPTS and self._device_works():
                language = one.work.language or ""
                self._keep(
                    one,
                    claim,
                    ChunkResult(index=claim.index, span=claim.span, language=language, segments=(), failed=str(error)),
                )
                return
        self._ledger.release([self._worker])
        if not held or not error.retryable or max(self._failed_alone.values(), default=0) >= ATTEMPTS:
            raise error
        self._suspects.update(held)
        # Questions that were in the slots are lost as well: the election begins anew.
        for one in self._open.values():
            if one.election is not None and one.work.language is None:
                one.election = Election(one.work.chunks_total)

    def _device_works(self) -> bool:
        """Whether the device decodes a second of silence: then what it failed on is the chunk's fault."""
        try:
            self.engine.submit([Request(key=None, pcm=np.zeros(SAMPLE_RATE, np.int16), decoding=None)])
            while self.engine.busy:
                self.engine.step()
        except EngineError:
            return False
        return True

    def _questions(self, limit: int) -> list[Request]:
        requests: list[Request] = []
        for id, one in self._open.items():
            if one.election is None or one.work.language is not None:
                continue
            if indices := one.election.ask(limit - len(requests)):
                spans = self._ledger.spans(id)
                requests += [
                    Request(key=Question(id, index), pcm=self._pcm(one, spans[index]), decoding=None)
                    for index in indices
                ]
        return requests

    def _count(self, question: Question, heard: Heard) -> None:
        one = self._open.get(question.transcript)
        if one is None or one.election is None:
            return
        allowed = self._assignment.options.languages or heard.languages
        if elected := one.election.count({code: heard.languages[code] for code in allowed}):
            self._ledger.set_language(question.transcript, *elected)
            one.work = self._ledger.work(question.transcript)
