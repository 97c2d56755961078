"""Which of several hypotheses is the answer, and whether it is good enough: openai/whisper's rules, pure.

`MaximumLikelihoodRanker` of `decoding.py`, `decode_with_fallback` of `transcribe.py`, but for what `chosen` says.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The best text of one temperature."""

    text: Hypothesis
    temperature: float
    compression_ratio: float
    no_speech_prob: float

    def is_silence(self, decoding: Decoding) -> bool:
        """Whether <|nospeech|> is likely and the text is not: no other temperature makes it speech."""
        if decoding.no_speech_threshold is None or decoding.log_prob_threshold is None:
            return False
        return self.no_speech_prob > decoding.no_speech_threshold and self.is_unlikely(decoding)

    def is_unlikely(self, decoding: Decoding) -> bool:
        """Whether its tokens are, on average, a guess."""
        return decoding.log_prob_threshold is not None and self.text.avg_logprob < decoding.log_prob_threshold

    def repeats(self, decoding: Decoding) -> bool:
        """Whether it goes in circles, or compresses as if it did."""
        threshold = decoding.compression_ratio_threshold
        return self.text.stop is Stop.LOOP or (threshold is not None and self.compression_ratio > threshold)

    def objection(self, decoding: Decoding) -> str | None:
        """Why it should be tried at another temperature, in words; None if it is good enough, or silence."""
        if self.is_silence(decoding):
            return None
        if self.text.stop is Stop.LOOP:
            return f"at temperature {self.temperature:g} it goes in circles"
        if self.repeats(decoding):
            return f"at temperature {self.temperature:g} its compression ratio is {self.compression_ratio:.2f}"
        if self.is_unlikely(decoding):
            return f"at temperature {self.temperature:g} its mean log-probability is {self.text.avg_logprob:.2f}"
        return None


def chosen(attempts: Sequence[Attempt], decoding: Decoding) -> Attempt | None:
    """The attempt that is the answer; None while another temperature may help.

    Good enough is good enough, as in openai/whisper. Where none is, two things differ from it:
    a text that is merely unlikely is tried again only while that makes it likelier, and in the end the likeliest text
    that does not repeat itself is taken, not the last one (as faster-whisper does).
    """
    last = attempts[-1]
    if last.objection(decoding) is None:
        return last
    unlikely = [one for one in attempts if not one.repeats(decoding)]
    climbs = not (len(unlikely) > 1 and unlikely[-1] is last and last.text.avg_logprob <= _likeliest(unlikely[:-1]))
    if climbs and len(attempts) < len(decoding.temperature):
        return None
    return max(unlikely or attempts, key=lambda one: one.text.avg_logprob)


def _likeliest(attempts: Sequence[Attempt]) -> float:
    return max(one.text.avg_logprob for one in attempts)
