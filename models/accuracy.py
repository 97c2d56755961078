"""How far a transcript is from what was said."""

from __future__ import annotations

import jiwer

from models.tokens import quiet_transformers


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Substitutions, deletions and insertions over the reference's words, both in Whisper's normal form for English.

    The normaliser is Radford et al.'s (case, punctuation, fillers, contractions, numbers), without their list of
    British and American spellings.
    """
    quiet_transformers()
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    normalise = EnglishTextNormalizer({})
    return float(jiwer.wer(normalise(reference), normalise(hypothesis)))
