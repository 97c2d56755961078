"""Hearing: a claimed chunk from samples to its result, and a transcript's language, for whoever can wait for it.

These are the steps of `transcriber.py` for a worker of the farm, where each chunk has a thread that waits for the
engine room.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace

import numpy as np

from models.decoding.requests import Decoding, Heard, Request
from models.tokens import Vocabulary
from scheduler.language import Election
from stenopool.domain import MULTIPLE, Chunk, ChunkResult, Options, Span
from stenopool.errors import EngineError
from storage.chunks import Claim, Finished
from storage.ledger import Work
from storage.records import provenance_of_record, record_of_result
from workers.decoding import decoding_of
from workers.sequential import Passage, carried_of_record
from workers.transcribe import chunk_result, silence

#: Times that a chunk may fail alone before it becomes a gap.
ATTEMPTS = 3

#: Has a request decoded: among all others, or only those of a party.
Decode = Callable[[Request, object | None], Future[Heard]]
#: Reads samples of a recording, int16.
Read = Callable[[str, int, Span], np.ndarray]


@dataclass(frozen=True, slots=True)
class Hearing:
    """One transcript's way to be heard.

    Args:
        window: samples that the model hears at once.
        room: tokens of previous text that a prompt holds: `n_text_ctx // 2 - 1`.
    """

    work: Work
    vocabulary: Vocabulary
    decode: Decode
    read: Read
    window: int
    room: int

    @property
    def options(self) -> Options:
        """How it is transcribed."""
        return provenance_of_record(self.work.provenance).options

    def chunk(self, claim: Claim, party: object | None = None) -> Finished:
        """Hear a chunk, whose transcript's language is known.

        Args:
            party: only what is of the same may be decoded beside it.

        Raises:
            SamplesGone: its samples are not in the object store.
            StenopoolError: the object store did not answer, or the worker ends. A device that fails makes a gap.
        """
        options = self.options
        language = None if self.work.language == MULTIPLE else self.work.language
        try:
            if options.mode == "sequential":
                return self._passage(claim, options, language, party)
            pcm = self._pcm(claim.span)
            result = silence(claim.chunk, pcm, self.work.language or "")
            if result is None:
                heard = self._heard(pcm, decoding_of(options, claim.chunk, self.vocabulary, language), party)
                result = chunk_result(
                    heard,
                    claim.chunk,
                    language=heard.language or "",
                    vocabulary=self.vocabulary,
                    options=options,
                )
        except EngineError as error:
            if not error.retryable:
                raise
            return self.gap(claim, str(error))
        return Finished(claim, record_of_result(result), claim.carried)

    @staticmethod
    def gap(claim: Claim, reason: str) -> Finished:
        """A chunk that cannot be transcribed. In sequential mode the next one is told what this one was told."""
        result = ChunkResult(index=claim.index, span=claim.span, language="", segments=(), failed=reason)
        return Finished(claim, record_of_result(result), claim.carried)

    def language(self, spans: list[Span]) -> tuple[str, float]:
        """Ask a few of the transcript's chunks for their language; the one elected, and its probability.

        Raises:
            SamplesGone, StenopoolError: as `chunk`.
        """
        election = Election(len(spans))
        asked = [
            self.decode(Request(key=None, pcm=self._pcm(self._beginning(spans[index])), decoding=None), None)
            for index in election.ask(len(spans))
        ]
        allowed = self.options.languages
        elected = None
        for future in asked:
            heard = future.result().languages
            elected = election.count({code: heard[code] for code in allowed or heard})
        assert elected is not None, "the last answer decides"
        return elected

    def _passage(self, claim: Claim, options: Options, language: str | None, party: object | None) -> Finished:
        passage = Passage(
            claim.chunk,
            None if claim.carried is None else carried_of_record(claim.carried),
            options=options,
            vocabulary=self.vocabulary,
            language=language,
            room=self.room,
        )
        while (window := passage.window) is not None:
            pcm = self._pcm(window.span)
            if silence(window, pcm, ""):
                passage.skip()
            else:
                passage.hear(self._heard(pcm, passage.decoding(), party))
        return Finished(claim, record_of_result(passage.result()), asdict(passage.carried))

    def _heard(self, pcm: np.ndarray, decoding: Decoding, party: object | None) -> Heard:
        """What the engine hears; where the device fails, it is tried again alone, so that it is not another's fault."""
        request = Request(key=None, pcm=pcm, decoding=decoding)
        for attempt in range(ATTEMPTS + 1):
            try:
                return self.decode(request, object() if attempt else party).result()
            except EngineError as error:
                if not error.retryable or attempt == ATTEMPTS:
                    raise
        raise AssertionError

    def _pcm(self, span: Span) -> np.ndarray:
        return self.read(self.work.recording, self.work.duration, span)

    def _beginning(self, span: Span) -> Span:
        return Span(span.start, min(span.end, span.start + self.window))


def usual(options: Options, vocabulary: Vocabulary, language: str | None) -> Decoding:
    """How a chunk is decoded where nothing is special about it: what an engine is to be warmed for."""
    whole = Chunk(index=0, span=Span(0, 0))
    decoding = decoding_of(options, whole, vocabulary, None if language == MULTIPLE else language)
    return replace(decoding, seek=options.mode == "sequential")
