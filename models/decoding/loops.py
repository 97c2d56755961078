"""The loop guard: text that goes in circles is stopped while it is decoded, not after its 224th token.

Whisper falls into loops of a few tokens, often with timestamps that go on. Every hypothesis counts, for each period,
for how many tokens it has repeated the token one period ago; all timestamps count as the same token.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

LONGEST_PERIOD = 32  # tokens
#: A loop has repeated this many tokens, and its period this many times: four times "thank you" is speech.
REPEATED_TOKENS = 20
REPEATED_PERIODS = 4


def count_repeats(repeats: Array, tokens: Array, at: Array, first: Array, timestamp_begin: int) -> Array:
    """Counters after a token was added.

    Args:
        repeats: int32 [slot, hypothesis, period], as they were before.
        tokens: int32 [slot, hypothesis, length], the new token among them.
        at: int32 [slot]: where it stands.
        first: int32 [slot]: where the sampled text begins.
        timestamp_begin: id of <|0.00|>.
    """
    kinds = jnp.minimum(tokens, timestamp_begin)
    earlier = at[:, None] - 1 - jnp.arange(LONGEST_PERIOD)[None]
    there = jnp.broadcast_to(jnp.maximum(earlier, 0)[:, None], repeats.shape)
    new = jnp.take_along_axis(kinds, jnp.broadcast_to(at[:, None, None], (*kinds.shape[:2], 1)), axis=2)
    same = (jnp.take_along_axis(kinds, there, axis=2) == new) & (earlier >= first[:, None])[:, None]
    return jnp.where(same, repeats + 1, 0)


def looping(repeats: Array) -> Array:
    """Whether each hypothesis goes in circles, bool [slot, hypothesis]."""
    periods = jnp.arange(1, LONGEST_PERIOD + 1)
    return (repeats >= jnp.maximum(REPEATED_TOKENS, REPEATED_PERIODS * periods)[None, None]).any(-1)


def without_loop(tokens: Sequence[int], timestamp_begin: int) -> tuple[int, ...]:
    """The tokens of a text that ends in a loop, with its circle only once.

    In:  a b c d c d c d c d ...
    Out: a b c d
    """
    kinds = [min(token, timestamp_begin) for token in tokens]

    def repeated(period: int) -> int:
        at = len(kinds)
        while at > period and kinds[at - 1] == kinds[at - 1 - period]:
            at -= 1
        return len(kinds) - at

    for period in range(1, LONGEST_PERIOD + 1):  # the shortest first: a circle of two is one of four as well
        if (n := repeated(period)) >= max(REPEATED_TOKENS, REPEATED_PERIODS * period):
            return tuple(tokens[: len(tokens) - n])
    return tuple(tokens)
