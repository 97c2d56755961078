"""Which language a recording is in: an election among a few of its chunks, so that no jingle or greeting decides."""

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


class Election:
    """The election of one recording: who is still to be asked, and what the others said."""

    def __init__(self, n_chunks: int) -> None:
        self._unasked = voters(n_chunks)
        self._open = len(self._unasked)
        self._votes: list[Mapping[str, float]] = []

    def ask(self, limit: int) -> list[int]:
        """Indices of up to `limit` chunks to ask now."""
        asked, self._unasked = self._unasked[:limit], self._unasked[limit:]
        return asked

    def count(self, probabilities: Mapping[str, float]) -> tuple[str, float] | None:
        """Count an answer; the result once all are in, None before."""
        self._votes.append(probabilities)
        return vote(self._votes) if len(self._votes) == self._open else None
