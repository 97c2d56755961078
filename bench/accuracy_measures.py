"""Figures of `accuracy.py` that `stenopool eval` does not have: chance, and speech outside of all segments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.accuracy import EditKind, NormalForm, align

#: Utterances that are drawn together. Neighbours go wrong together, being heard in the same window.
PASSAGE = 6
DRAWS = 10_000

IntArray = npt.NDArray[np.int64]
Interval = tuple[float, float]


def passages(lines: Sequence[str], heard: str, form: NormalForm, size: int = PASSAGE) -> IntArray:
    """Errors and words of each passage of a recording.

    What was heard is aligned with all that was said; an insertion counts where the word before it stands.

    Args:
        lines: the utterances, in order.
        heard: the hypothesis, of the whole recording.
        form: in which words are compared.
        size: utterances of a passage.

    Returns:
        int64 [passages, 2]: errors and words of the reference.
    """
    said = [form.words(line) for line in lines]
    passage_of = [index // size for index, words in enumerate(said) for _ in words]
    counts = np.zeros((-(-len(lines) // size), 2), np.int64)
    np.add.at(counts[:, 1], passage_of, 1)
    at = 0
    for edit in align([word for words in said for word in words], form.words(heard)):
        if edit.kind is EditKind.INSERT:
            counts[passage_of[max(at - 1, 0)], 0] += len(edit.hypothesis)
        elif edit.kind is not EditKind.EQUAL:
            np.add.at(counts[:, 0], passage_of[at : at + len(edit.reference)], 1)
        at += len(edit.reference)
    return counts


def difference(ours: IntArray, theirs: IntArray, draws: int = DRAWS) -> Interval:
    """Between which values the difference of two word error rates lies, in 95 of 100 cases.

    The paired bootstrap of Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation"
    (ICASSP 2004): the same passages are drawn for both, with replacement, so that what is hard for both cancels out.

    Args:
        ours: int64 [passages, 2], as `passages` has them.
        theirs: of the same passages.
        draws: samples that are drawn.
    """
    assert np.array_equal(ours[:, 1], theirs[:, 1]), "these are not the same passages"
    drawn = np.random.default_rng(0).integers(0, len(ours), (draws, len(ours)))
    differences = (ours[:, 0] - theirs[:, 0])[drawn].sum(1) / ours[:, 1][drawn].sum(1)
    low, high = np.quantile(differences, (0.025, 0.975))
    return float(low), float(high)


def outside(spoken: Sequence[Interval], segments: Sequence[Interval]) -> float:
    """Seconds of speech that no segment holds; both are from and to, in seconds, in any order."""
    covered: list[list[float]] = []
    for start, end in sorted(segments):
        if covered and start <= covered[-1][1]:
            covered[-1][1] = max(covered[-1][1], end)
        else:
            covered.append([start, end])
    held = sum(max(0.0, min(end, b) - max(start, a)) for start, end in spoken for a, b in covered)
    return sum(end - start for start, end in spoken) - held
