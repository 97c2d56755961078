"""Which tokens may come next: Whisper's timestamp rules and suppress lists, for every slot at once.

The rules are those of openai/whisper `decoding.py` (`SuppressBlank`, `SuppressTokens`, `ApplyTimestampRules`), written
without branches: each hypothesis carries the little of its history that they look at, each slot what its chunk asks.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from models.tokens import SpecialTokens

_NEVER = -jnp.inf


@functools.partial(jax.tree_util.register_dataclass)
@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a chunk asks of the rules, the leading axis is the slot.

    suppressed: bool [slot, n_vocab], tokens that are never sampled.
    suppressed_first: bool [slot, n_vocab], tokens that are not sampled first.
    timestamps: bool [slot], whether the text has timestamps; without, no rule speaks of them.
    latest_start: int32 [slot], the latest token that the first timestamp may be.
    """

    suppressed: Array
    suppressed_first: Array
    timestamps: Array
    latest_start: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the rules look at, each [slot, hypothesis].

    sampled: int32, tokens of the text so far, those that were given with the prompt among them.
    last, before_last: int32, the last two tokens; what stands before the text's first is not looked at.
    last_timestamp: int32, the latest timestamp token, -1 if there is none yet.
    """

    sampled: Array
    last: Array
    before_last: Array
    last_timestamp: Array


def log_probabilities(special: SpecialTokens, limits: Limits, logits: Array, history: History) -> Array:
    """Log-probabilities of the next token, -inf where a rule forbids it.

    Args:
        special: ids of the checkpoint. Static: new ones cost a compilation.
        limits: of each slot.
        logits: float32 [slot, hypothesis, n_vocab].
        history: of each hypothesis.

    Returns:
        float32 [slot, hypothesis, n_vocab].
    """
    begin = special.timestamp_begin
    ids = jnp.arange(logits.shape[-1])[None, None]
    first = (history.sampled == 0)[..., None]
    last_is_time = ((history.sampled >= 1) & (history.last >= begin))[..., None]
    before_is_time = ((history.sampled < 2) | (history.before_last >= begin))[..., None]
    is_time = ids >= begin

    forbidden = limits.suppressed[:, None] | (first & limits.suppressed_first[:, None])
    # Timestamps come in pairs, except directly before the end.
    untimely = last_is_time & before_is_time & is_time
    untimely |= last_is_time & ~before_is_time & (ids < special.end_of_text)
    # They never decrease; a segment is not empty, so only the second of a pair may repeat the first.
    lowest = history.last_timestamp[..., None] + jnp.where(last_is_time & ~before_is_time, 0, 1)
    untimely |= (history.last_timestamp >= 0)[..., None] & is_time & (ids < lowest)
    # The first token is a timestamp, and not a late one.
    untimely |= first & (~is_time | (ids > limits.latest_start[:, None, None]))
    untimely |= ids == special.no_timestamps
    timed = limits.timestamps[:, None, None]
    forbidden |= timed & untimely

    # Where all timestamps together are likelier than any text token, it must be a timestamp. One exponential of each
    # logit serves all three sums: this is done for every token of a vocabulary of 50,000.
    allowed = jnp.where(forbidden, _NEVER, logits)
    best_text = jnp.max(jnp.where(is_time, _NEVER, allowed), axis=-1, keepdims=True)
    best = jnp.max(allowed, axis=-1, keepdims=True)
    mass = jnp.exp(allowed - best)
    time_mass = jnp.sum(jnp.where(is_time, mass, 0.0), axis=-1, keepdims=True)
    forced = timed & (jnp.log(time_mass) + best > best_text)
    total = jnp.where(forced, time_mass, jnp.sum(mass, axis=-1, keepdims=True))
    return jnp.where(forced & ~is_time, _NEVER, allowed - (jnp.log(total) + best))
