"""The elections of all open transcripts whose language is to be detected: who is asked, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scheduler.language import Election
from stenopool.domain import Span


@dataclass(frozen=True, slots=True)
class Question:
    """A chunk that is only asked for its language."""

    transcript: int
    index: int


class Elections:
    """Elections under way.

    Args:
        allowed: languages that may be elected; empty for all.
        window: samples that the model hears at once; of a longer chunk, its beginning is asked.
    """

    def __init__(self, allowed: Sequence[str], window: int) -> None:
        self._allowed = allowed
        self._window = window
        self._n_chunks: dict[int, int] = {}
        self._open: dict[int, Election] = {}

    def begin(self, transcript: int, n_chunks: int) -> None:
        """The language of a transcript is to be found."""
        self._n_chunks[transcript] = n_chunks
        self._open[transcript] = Election(n_chunks)

    def end(self, transcript: int) -> None:
        """It is found, or needed no more."""
        self._n_chunks.pop(transcript, None)
        self._open.pop(transcript, None)

    def begin_anew(self) -> None:
        """Questions that were asked are lost."""
        for transcript, n_chunks in self._n_chunks.items():
            self._open[transcript] = Election(n_chunks)

    def ask(self, limit: int, spans: Callable[[int], Sequence[Span]]) -> list[tuple[Question, Span]]:
        """Up to `limit` questions and what to ask of, given the chunks' spans of a transcript."""
        asked: list[tuple[Question, Span]] = []
        for transcript, election in self._open.items():
            if indices := election.ask(limit - len(asked)):
                chunks = spans(transcript)
                asked += [(Question(transcript, index), self._beginning(chunks[index])) for index in indices]
        return asked

    def count(self, question: Question, heard: Mapping[str, float]) -> tuple[str, float] | None:
        """Count an answer, the probability of each language; the language and its own once all are in, else None."""
        election = self._open.get(question.transcript)
        if election is None:  # another process has held it meanwhile
            return None
        return election.count({code: heard[code] for code in self._allowed or heard})

    def _beginning(self, span: Span) -> Span:
        return Span(span.start, min(span.end, span.start + self._window))
