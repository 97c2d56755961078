"""How far a transcript is from what was said: text in, figures out. Touches no device."""

from __future__ import annotations

from models.accuracy.measures import Comparison, Edit, EditKind, Errors, align, compare
from models.accuracy.normalising import NORMALISERS, NormalForm, language_code, normal_form

__all__ = [
    "NORMALISERS",
    "Comparison",
    "Edit",
    "EditKind",
    "Errors",
    "NormalForm",
    "align",
    "compare",
    "language_code",
    "normal_form",
    "word_error_rate",
]


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Substitutions, deletions and insertions over the reference's words, both in Whisper's normal form for English.

    Where the reference has no words, it is the number of those heard, as jiwer has it.
    """
    errors = compare(reference, hypothesis, normal_form("en")).words
    return float(errors.insertions) if errors.rate is None else errors.rate
