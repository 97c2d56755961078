"""Which of several hypotheses is the answer, and whether it is good enough: openai/whisper's rules, pure.

`MaximumLikelihoodRanker` of its `decoding.py`, `decode_with_fallback` of its `transcribe.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.decoding.requests import Decoding, Stop


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text, and how likely it is."""

    tokens: tuple[int, ...]
    sum_logprob: float
    stop: Stop

    @property
    def avg_logprob(self) -> float:
        """Mean over its tokens and their end."""
        return self.sum_logprob / (len(self.tokens) + 1)


def best(hypotheses: Sequence[Hypothesis], length_penalty: float | None) -> Hypothesis:
    """The likeliest for its length; of equals the first."""

    def score(one: Hypothesis) -> float:
        if not one.tokens:  # only its end was sampled
            return one.sum_logprob
        length = len(one.tokens)
        penalty = length if length_penalty is None else ((5 + length) / 6) ** length_penalty
        return one.sum_logprob / penalty

    return max(hypotheses, key=score)


def objection(hypothesis: Hypothesis, ratio: float, no_speech_prob: float, decoding: Decoding) -> str | None:
    """Why the text should be tried at another temperature; None if it is good enough, or silence."""
    unlikely = decoding.log_prob_threshold is not None and hypothesis.avg_logprob < decoding.log_prob_threshold
    if unlikely and decoding.no_speech_threshold is not None and no_speech_prob > decoding.no_speech_threshold:
        return None
    if hypothesis.stop is Stop.LOOP:
        return "it goes in circles"
    if decoding.compression_ratio_threshold is not None and ratio > decoding.compression_ratio_threshold:
        return f"compression ratio {ratio:.2f}"
    if unlikely:
        return f"mean log-probability {hypothesis.avg_logprob:.2f}"
    return None
