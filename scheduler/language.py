"""Which language a recording is in: a vote of a few of its chunks, so that one jingle or greeting does not decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

#: Chunks that are asked.
VOTERS = 4


def voters(n_chunks: int) -> list[int]:
    """Indices of the chunks to ask, spread over the recording.

    In:  10 chunks
    Out: 1, 3, 6, 8: the middles of four equal parts
    """
    n = min(VOTERS, n_chunks)
    return [(2 * i + 1) * n_chunks // (2 * n) for i in range(n)]


def vote(heard: Sequence[Mapping[str, float]]) -> tuple[str, float]:
    """The language with the highest mean probability, and that mean; the order of the answers does not matter.

    Args:
        heard: for each chunk asked, the probability of each language.
    """
    languages = sorted({language for probabilities in heard for language in probabilities})
    if not languages:
        raise ValueError("no chunk was asked, or none knows a language")
    means = {language: math.fsum(p.get(language, 0.0) for p in heard) / len(heard) for language in languages}
    best = max(languages, key=means.__getitem__)
    return best, means[best]
