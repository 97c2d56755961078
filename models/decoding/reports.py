"""Reports: what the host is told of the slots after a block; apart from the state, which the next block takes."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import numpy as np
from jax import Array

from models.decoding.fallback import Hypothesis
from models.decoding.requests import Stop
from models.decoding.slots import Ended, Slots


@functools.partial(jax.tree_util.register_dataclass)
@dataclass(frozen=True, kw_only=True)
class Report:
    """Names and shapes are those of `Slots`; on the host, numpy arrays."""

    active: Array
    tokens: Array
    n_sampled: Array
    sum_logprob: Array
    prompt_length: Array
    position: Array
    ends: Ended
    no_speech: Array
    languages: Array
    #: int32: steps in the block, and how many slots were decoding in them, all steps together.
    steps: Array
    active_steps: Array


def report_of(slots: Slots, steps: Array, active_steps: Array) -> Report:
    """What the host may want to know; copies, so that the state can be given away."""
    return Report(
        active=slots.active,
        tokens=slots.tokens,
        n_sampled=slots.n_sampled,
        sum_logprob=slots.sum_logprob,
        prompt_length=slots.prompt_length,
        position=slots.position,
        ends=slots.ends,
        no_speech=slots.no_speech,
        languages=slots.languages,
        steps=steps,
        active_steps=active_steps,
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out of a slot."""

    texts: list[Hypothesis]
    #: Probability of <|nospeech|>.
    no_speech: float
    #: float32 [language]: probabilities, in the order of the special tokens.
    languages: np.ndarray


def outcome(report: Report, slot: int, *, beams: bool, end_of_text: int) -> Outcome:
    """Of one slot: its hypotheses, as many as it is wide.

    Args:
        report: on the host.
        slot: which.
        beams: whether the hypotheses compete: then those that never ended count by their likelihood.
        end_of_text: the token.
    """
    width = report.tokens.shape[1]
    begin = int(report.prompt_length[slot])
    ends = report.ends
    texts = [
        Hypothesis(
            tuple(ends.tokens[slot, i, begin : ends.n_tokens[slot, i]].tolist()),
            float(ends.sum_logprob[slot, i]),
            Stop.END,
        )
        for i in range(int(ends.count[slot]))
    ]
    if len(texts) < width:  # beams that never ended, the likeliest first; or there are no beams
        sums = np.asarray(report.sum_logprob[slot])
        order = np.argsort(-sums, kind="stable") if beams else np.arange(width)
        for row in order[: width - len(texts)]:
            end = begin + int(report.n_sampled[slot, row])
            has_end = end <= report.position[slot] and report.tokens[slot, row, end] == end_of_text
            text = tuple(report.tokens[slot, row, begin:end].tolist())
            texts.append(Hypothesis(text, float(sums[row]), Stop.END if has_end else Stop.LIMIT))
    return Outcome(texts, float(report.no_speech[slot]), np.asarray(report.languages[slot]))
