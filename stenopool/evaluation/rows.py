"""An alignment laid out along the hypothesis, so that each word can be shown, and heard, where it stands.

What is aligned are words in normal form: "$25" for "twenty-five dollars". To give them their times, the hypothesis is
brought into that form again piece by piece, and both are aligned: a figure made of several words has the time of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from models.accuracy import Comparison, Edit, EditKind, NormalForm, align
from stenopool.evaluation.texts import Text


@dataclass(frozen=True, slots=True)
class Token:
    """One word of an alignment: of the reference, of the hypothesis, or a pair of both."""

    kind: EditKind
    reference: str | None
    hypothesis: str | None
    #: The sample at which it is heard, where the hypothesis has times of words.
    start: int | None = None


@dataclass(slots=True)
class Row:
    """A piece of the hypothesis: a segment, a cue or a line."""

    #: The sample at which it begins, where that is known.
    start: int | None
    #: As it is written.
    text: str
    tokens: list[Token] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether it has no errors."""
        return all(token.kind is EditKind.EQUAL for token in self.tokens)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a word of the hypothesis stands."""

    row: int
    start: int | None


def lay_out(comparison: Comparison, hypothesis: Text, form: NormalForm) -> list[Row]:
    """The alignment in rows, a row for each piece of the hypothesis; at least one.

    A word that was not heard stands after the one that was heard before it.
    """
    rows = [Row(piece.start, piece.text.strip()) for piece in hypothesis.pieces] or [Row(None, "")]
    places = _places([word for edit in comparison.edits for word in edit.hypothesis], hypothesis, form)
    row = rows[0]
    for token in _tokens(comparison.edits):
        if token.hypothesis is None:
            row.tokens.append(token)
            continue
        place = next(places)
        row = rows[place.row]
        row.tokens.append(Token(token.kind, token.reference, token.hypothesis, place.start))
    return rows


def _tokens(edits: tuple[Edit, ...]) -> Iterator[Token]:
    for edit in edits:
        for i in range(max(len(edit.reference), len(edit.hypothesis))):
            yield Token(
                edit.kind,
                edit.reference[i] if edit.reference else None,
                edit.hypothesis[i] if edit.hypothesis else None,
            )


def _places(heard: list[str], hypothesis: Text, form: NormalForm) -> Iterator[_Place]:
    """The place of each word of the hypothesis in normal form."""
    normal = cache(form.words)  # people use few words, and often
    words: list[str] = []
    places: list[_Place] = []
    for row, piece in enumerate(hypothesis.pieces):
        for text, start in piece.words or ((piece.text, None),):
            found = normal(text)
            words += found
            places += [_Place(row, start)] * len(found)
    at, last = 0, _Place(0, None)
    for edit in align(words, heard):
        for i in range(len(edit.hypothesis)):
            if edit.reference:
                last = places[at + i]
            yield last
        at += len(edit.reference)
