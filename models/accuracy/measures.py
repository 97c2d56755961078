"""Errors counted: which words and letters of the reference were heard, which not, which were heard and never said.

The distance is Levenshtein's, computed by jiwer: the fewest substitutions, deletions and insertions that make the
reference out of the hypothesis, all costing the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import jiwer

from models.accuracy.normalising import NormalForm

REPEATED = 5  # words in the n-grams whose repetition is counted


class EditKind(StrEnum):
    """What became of a stretch of words."""

    EQUAL = "equal"
    #: Other words were heard, as many.
    SUBSTITUTE = "substitute"
    #: Words of the reference were not heard.
    DELETE = "delete"
    #: Words were heard that the reference does not have.
    INSERT = "insert"


@dataclass(frozen=True, slots=True)
class Edit:
    """One stretch of an alignment: words of the reference, and of the hypothesis, that stand for each other."""

    kind: EditKind
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Errors:
    """Counts, of words or of characters; those of several recordings add up."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def reference(self) -> int:
        """How many the reference has."""
        return self.hits + self.substitutions + self.deletions

    @property
    def hypothesis(self) -> int:
        """How many the hypothesis has."""
        return self.hits + self.substitutions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors per word or character of the reference, which may be more than 1; None where it has none."""
        if not self.reference:
            return None
        return (self.substitutions + self.deletions + self.insertions) / self.reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A hypothesis against its reference."""

    words: Errors
    characters: Errors
    #: The words' alignment, in order: all words of both are in it.
    edits: tuple[Edit, ...]
    #: Stretches of five words in the hypothesis that occurred in it before: many in a model that loops.
    repeated: int


def compare(reference: str, hypothesis: str, form: NormalForm) -> Comparison:
    """Count the errors of a hypothesis, both texts in the same normal form.

    Spaces between words are characters, as for jiwer and `evaluate`; where words are letters, there are none.
    """
    said, heard = form.words(reference), form.words(hypothesis)
    edits = tuple(align(said, heard))
    space = "" if form.letters else " "
    return Comparison(
        words=_counted(edits),
        characters=_counted(align(list(space.join(said)), list(space.join(heard)))),
        edits=edits,
        repeated=repeated_ngrams(heard),
    )


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Iterator[Edit]:
    """The way from one sequence of words (or characters) to another with the fewest errors."""
    # The sequences as they are, in jiwer's form, one sentence each: they are words already.
    said, heard = [list(reference)], [list(hypothesis)]
    found = jiwer.process_words("", "", lambda _: said, lambda _: heard)
    for piece in found.alignments[0]:
        yield Edit(
            EditKind(piece.type),
            tuple(reference[piece.ref_start_idx : piece.ref_end_idx]),
            tuple(hypothesis[piece.hyp_start_idx : piece.hyp_end_idx]),
        )


def repeated_ngrams(words: Sequence[str], n: int = REPEATED) -> int:
    """How many stretches of `n` words are there again, overlapping ones included: all of them less the distinct ones.

    Gandhi, von Platen and Rush, "Distil-Whisper", count them to see a model that loops (their "5-Dup.").
    """
    stretches = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(stretches) - len(set(stretches))


def _counted(edits: Sequence[Edit] | Iterator[Edit]) -> Errors:
    counts = dict.fromkeys(EditKind, 0)
    for edit in edits:
        counts[edit.kind] += max(len(edit.reference), len(edit.hypothesis))
    return Errors(counts[EditKind.EQUAL], counts[EditKind.SUBSTITUTE], counts[EditKind.DELETE], counts[EditKind.INSERT])
