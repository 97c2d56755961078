"""The transcriber: keeps the engine's slots full with chunks of all open transcripts, and the ledger told.

A chunk of a sequential transcript has one window in a slot at a time, and the next one as soon as that is heard.
Results that come after their lease was lost are dropped: somebody else does those chunks. Where the device fails, the
chunks it held are tried again one by one; one that fails alone three times, on a device that works otherwise, becomes a
gap; its neighbours do not.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from models.decoding.requests import Decoding, Heard, Request
from models.engine import Engine
from models.tokens import Vocabulary
from stenopool.domain import MULTIPLE, SAMPLE_RATE, ChunkResult, Options, Span
from stenopool.errors import DeviceFull, EngineError, LedgerError
from storage.chunks import Claim
from storage.ledger import Ledger, Work
from storage.objects import ObjectStore
from storage.records import record_of_result
from workers.assignment import Assignment
from workers.decoding import decoding_of
from workers.elections import Elections, Question
from workers.hearing import ATTEMPTS, usual
from workers.ingest import read_pcm
from workers.prepare import SourceFile
from workers.sequential import Passage, carried_of_record
from workers.transcribe import chunk_result, silence

RENEW_EVERY = 10.0  # seconds; leases are good for much longer


class Observer(Protocol):
    """Told how the work goes, for progress bars. Samples are at 16 kHz; called from several threads."""

    def decoded(self, source: SourceFile, samples: int, /) -> None:
        """So many samples of the source have been decoded so far."""

    def planned(self, source: SourceFile, samples: int, done: int, /) -> None:
        """The source has so many samples, all its channels together, of which so many need no more work."""

    def advanced(self, source: SourceFile, samples: int, /) -> None:
        """So many more samples of the source are done."""


@dataclass(slots=True)
class _Open:
    """A transcript in the making."""

    source: SourceFile
    work: Work
    options: Options


@dataclass(slots=True)
class _Held:
    """A chunk that is being decoded."""

    claim: Claim
    #: In sequential mode.
    passage: Passage | None = None
    #: Samples that the observer was told are done.
    shown: int = 0


class Transcriber:
    """Decodes the chunks of open transcripts.

    Args:
        make_engine: loads and compiles the engine, when it is first needed.
        engine: the engine, if it is loaded already.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: ObjectStore,
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
        window = round(assignment.options.chunk_length * SAMPLE_RATE)
        self._elections = Elections(assignment.options.languages, window)
        #: By transcript and index.
        self._held: dict[tuple[int, int], _Held] = {}
        #: Those of them whose next window waits for a slot; the others are in one.
        self._waiting: deque[_Held] = deque()
        #: Chunks that were in the slots when the device failed: each is tried alone.
        self._suspects: set[tuple[int, int]] = set()
        #: How often each of them failed alone.
        self._failed_alone: Counter[tuple[int, int]] = Counter()
        self._renewed = time.monotonic()
        #: Transcripts whose last open chunk has come to its end here.
        self.ended = 0

    @property
    def engine(self) -> Engine:
        """The engine, loaded if it is not yet."""
        if self._engine is None:
            self._engine = self._make_engine()
        return self._engine

    def warm(self) -> None:
        """Load the engine, and compile what its chunks will need."""
        self.engine.warm(self._usual)

    @cached_property
    def _usual(self) -> Decoding:
        """How a chunk is decoded where nothing is special about it."""
        return usual(self._assignment.options, self._vocabulary, self._assignment.language)

    @property
    def _sequential(self) -> bool:
        return self._assignment.options.mode == "sequential"

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
        """Samples of the recordings that are being transcribed; 0 where more of them are needed to fill the slots."""
        # In sequential mode a recording keeps one slot busy, however long it is.
        if self._sequential and self._engine is not None and len(self._open) < self._engine.n_slots:
            return 0
        return sum(one.work.duration for one in self._open.values())

    def add(self, source: SourceFile, works: Iterable[Work]) -> None:
        """Take up what is not complete of a source's transcripts."""
        total = todo = 0
        for work in works:
            total += work.duration
            if work.complete or work.id in self._open:
                continue
            if work.language is None:
                self._elections.begin(work.id, work.chunks_total)
            self._open[work.id] = _Open(source, work, self._assignment.expecting(source.hotwords).options)
            todo += sum(len(span) for span in self._ledger.open_spans(work.id))
        if self._observer:
            self._observer.planned(source, total, max(0, total - todo))

    def remove(self, transcript: int) -> None:
        """It is complete. Its chunks that are still in slots, under a lost lease, free them."""
        del self._open[transcript]
        if self._engine is not None:
            self._engine.cancel(lambda key: isinstance(key, Claim | Question) and key.transcript == transcript)
        self._held = {chunk: held for chunk, held in self._held.items() if chunk[0] != transcript}
        self._elections.end(transcript)
        self._suspects = {chunk for chunk in self._suspects if chunk[0] != transcript}

    def turn(self) -> bool:
        """Fill free slots, decode a block of tokens, keep what has finished; False if there was nothing to do."""
        engine = self.engine
        try:
            self.warm()
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
            return [] if engine.busy else self._windows(1) or self._questions(1) or self._claims(1)
        requests = self._windows(engine.room)
        requests += self._questions(engine.room - len(requests))
        return requests + self._claims(engine.room - len(requests))

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
                if one.work.language is not None:
                    self._elections.end(id)
        known = [id for id, one in self._open.items() if one.work.language is not None]
        if self._sequential:  # the next chunk is not ready before the one we hold is done
            known = [id for id in known if all(id != transcript for transcript, _ in self._held)]
        if not known:
            return []
        requests = []
        for claim in self._ledger.claim(self._worker, known, limit):
            one = self._open[claim.transcript]
            language = None if one.work.language == MULTIPLE else one.work.language
            held = self._held[claim.transcript, claim.index] = _Held(claim)
            if self._sequential:
                held.passage = self._passage(claim, one.options, language)
                self._go_on(one, held)
                continue
            pcm = self._pcm(one, claim.span)
            if result := silence(claim.chunk, pcm, one.work.language or ""):
                self._keep(one, held, result)
                continue
            decoding = decoding_of(one.options, claim.chunk, self._vocabulary, language)
            requests.append(Request(key=claim, pcm=pcm, decoding=decoding))
        return requests + self._windows(limit - len(requests))

    def _passage(self, claim: Claim, options: Options, language: str | None) -> Passage:
        return Passage(
            claim.chunk,
            None if claim.carried is None else carried_of_record(claim.carried),
            options=options,
            vocabulary=self._vocabulary,
            language=language,
            room=self.engine.dims.n_text_ctx // 2 - 1,
        )

    def _windows(self, limit: int) -> list[Request]:
        """The next windows of chunks that have been heard in part."""
        requests: list[Request] = []
        while self._waiting and len(requests) < limit:
            held = self._waiting.popleft()
            claim, passage = held.claim, held.passage
            assert passage is not None
            assert passage.window is not None
            if self._held.get((claim.transcript, claim.index)) is not held:  # the lease was lost
                continue
            one = self._open[claim.transcript]
            pcm = self._pcm(one, passage.window.span)
            if silence(passage.window, pcm, ""):
                passage.skip()
                self._go_on(one, held)
            else:
                requests.append(Request(key=claim, pcm=pcm, decoding=passage.decoding()))
        return requests

    def _go_on(self, one: _Open, held: _Held) -> None:
        """A chunk's next window waits for a slot; without one it is done."""
        passage = held.passage
        assert passage is not None
        self._show(one, held, passage.position - held.claim.span.start)
        if passage.window is None:
            self._keep(one, held, passage.result())
        else:
            self._waiting.append(held)

    def _finish(self, claim: Claim, heard: Heard) -> None:
        held = self._held.get((claim.transcript, claim.index))
        if held is None or held.claim != claim:  # the lease was lost, and the chunk claimed anew
            return
        one = self._open[claim.transcript]
        if held.passage is not None:
            held.passage.hear(heard)
            self._go_on(one, held)
        else:
            result = chunk_result(
                heard,
                claim.chunk,
                language=heard.language or "",
                vocabulary=self._vocabulary,
                options=one.options,
            )
            self._keep(one, held, result)

    def _keep(self, one: _Open, held: _Held, result: ChunkResult) -> None:
        claim = held.claim
        chunk = (claim.transcript, claim.index)
        self._held.pop(chunk, None)
        self._suspects.discard(chunk)
        self._failed_alone.pop(chunk, None)
        # A chunk that failed tells the next what it was told itself.
        carried = claim.carried if held.passage is None else asdict(held.passage.carried)
        still_open = self._ledger.finish(claim, record_of_result(result), carried)
        self.ended += still_open == 0
        self._show(one, held, 0 if still_open is None else len(claim.span))  # None: somebody else does the chunk

    def _show(self, one: _Open, held: _Held, done: int) -> None:
        """Tell the observer how many samples of a chunk are done."""
        if self._observer and done != held.shown:
            self._observer.advanced(one.source, done - held.shown)
        held.shown = done

    def _fail(self, error: EngineError) -> None:
        """The device failed; its slots are empty. The chunks that were in them are tried again, if that can help."""
        lost, self._held = self._held, {}
        self._waiting.clear()
        for held in lost.values():
            held.passage = None  # it is begun again
            self._show(self._open[held.claim.transcript], held, 0)
        if isinstance(error, DeviceFull) and error.retryable:  # no chunk is to blame, and the slots are fewer now
            self._ledger.release([self._worker])
            self._elections.begin_anew()
            return
        if len(lost) == 1 and error.retryable:
            [(chunk, held)] = lost.items()
            self._failed_alone[chunk] += 1
            one = self._open[held.claim.transcript]
            if self._failed_alone[chunk] == ATTEMPTS and self._device_works():
                language, span = one.work.language or "", held.claim.span
                result = ChunkResult(
                    index=held.claim.index, span=span, language=language, segments=(), failed=str(error)
                )
                self._keep(one, held, result)
                return
        self._ledger.release([self._worker])
        if not lost or not error.retryable or max(self._failed_alone.values(), default=0) >= ATTEMPTS:
            raise error
        self._suspects.update(lost)
        self._elections.begin_anew()

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
        return [
            Request(key=question, pcm=self._pcm(self._open[question.transcript], span), decoding=None)
            for question, span in self._elections.ask(limit, self._ledger.spans)
        ]

    def _count(self, question: Question, heard: Heard) -> None:
        if elected := self._elections.count(question, heard.languages):
            self._elections.end(question.transcript)
            self._ledger.set_language(question.transcript, *elected)
            one = self._open[question.transcript]
            one.work = self._ledger.work(question.transcript)
