"""Which token each hypothesis goes on with: the likeliest, a sample, or what a beam search keeps.

Greedy and sampling are openai/whisper's `GreedyDecoder`, beam search its `BeamSearchDecoder` with the patience of
Kasai et al. 2022 (`decoding.py`), all slots at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import Array, lax

from models.decoding.slots import Ended, Slots

#: Lower temperatures count as this one, which float32 tells from 0: the token drawn is the likeliest.
COLDEST = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How every slot goes on, [slot, hypothesis].

    parent: int32, the hypothesis that each continues.
    token: int32, with which token.
    sum_logprob: float32, of the text with it.
    ends: of a beam search, with what has ended in this step.
    """

    parent: Array
    token: Array
    sum_logprob: Array
    ends: Ended


def likeliest(logp: Array, slots: Slots) -> Choice:
    """The likeliest token of each hypothesis; logp is float32 [slot, hypothesis, n_vocab]."""
    return _own(logp, jnp.argmax(logp, axis=-1).astype(jnp.int32), slots)


def sample(logp: Array, slots: Slots) -> Choice:
    """A token of each hypothesis, drawn at the slot's temperature; scores are those without a temperature.

    What is drawn depends on the slot's key, the position and the hypothesis alone.
    """

    def draw(key: Array, position: Array, logits: Array) -> Array:
        return jax.random.categorical(jax.random.fold_in(key, position), logits, axis=-1)

    heat = jnp.maximum(slots.temperature, COLDEST)[:, None, None]
    drawn = jax.vmap(draw)(slots.key, slots.position, logp / heat).astype(jnp.int32)
    return _own(logp, drawn, slots)


def _own(logp: Array, token: Array, slots: Slots) -> Choice:
    n_slots, width = token.shape
    score = jnp.take_along_axis(logp, token[..., None], axis=-1)[..., 0]
    return Choice(
        parent=jnp.broadcast_to(jnp.arange(width)[None], (n_slots, width)),
        token=token,
        sum_logprob=slots.sum_logprob + score,
        ends=slots.ends,
    )


def beams(logp: Array, slots: Slots, end_of_text: int) -> Choice:
    """The best continuations of all hypotheses of a slot; those that end are put aside with the others that have.

    Args:
        logp: float32 [slot, hypothesis, n_vocab].
        slots: with `ends`.
        end_of_text: id of the token.
    """
    n_slots, width, _ = logp.shape
    # At first all hypotheses are the same one.
    twin = ((slots.position + 1 == slots.prompt_length)[:, None]) & (jnp.arange(width) > 0)[None]
    before = jnp.where(twin, -jnp.inf, slots.sum_logprob)
    # One of the candidates of each may be the end: one more than there are hypotheses is always enough.
    scores, tokens = lax.top_k(logp, width + 1)
    scores = (before[..., None] + scores).reshape(n_slots, -1)
    order = jnp.argsort(-scores, axis=-1, stable=True)
    score = jnp.take_along_axis(scores, order, axis=-1)
    token = jnp.take_along_axis(tokens.reshape(n_slots, -1), order, axis=-1)
    parent = (order // (width + 1)).astype(jnp.int32)

    # From the best downwards until `width` of them go on; what ends before that has ended.
    is_end = token == end_of_text
    going = (~is_end).astype(jnp.int32)
    n_before = jnp.cumsum(going, axis=-1) - going
    reached = n_before < width
    rank = jnp.where(~is_end & reached, n_before, width)

    def chosen(values: Array, empty: float) -> Array:
        kept = jnp.full((n_slots, width), empty, values.dtype)
        return kept.at[jnp.arange(n_slots)[:, None], rank].set(values, mode="drop")

    ending = is_end & reached & jnp.isfinite(score)
    return Choice(
        parent=chosen(parent, 0),
        token=chosen(token, 0),
        sum_logprob=chosen(score, -jnp.inf),
        ends=_put_aside(slots, ending, parent, score),
    )


def _put_aside(slots: Slots, ending: Array, parent: Array, score: Array) -> Ended:
    """`ends` with the candidates that end, the best first, as far as there is room."""
    ends = slots.ends
    n_slots, capacity = ends.sum_logprob.shape
    row = jnp.arange(n_slots)[:, None]
    place = jnp.where(ending & slots.active[:, None], ends.count[:, None] + jnp.cumsum(ending, axis=-1) - 1, capacity)
    text = jnp.take_along_axis(slots.tokens, parent[..., None], axis=1)
    n_tokens = jnp.broadcast_to((slots.position + 1)[:, None], place.shape)
    return Ended(
        tokens=ends.tokens.at[row, place].set(text, mode="drop"),
        n_tokens=ends.n_tokens.at[row, place].set(n_tokens, mode="drop"),
        sum_logprob=ends.sum_logprob.at[row, place].set(score, mode="drop"),
        count=jnp.minimum(ends.count + (place < capacity).sum(-1), capacity),
    )


def continued(slots: Slots, parent: Array) -> Slots:
    """Every hypothesis as the one that it continues."""

    def of_parent(x: Array) -> Array:
        return jnp.take_along_axis(x, parent.reshape(*parent.shape, *(1,) * (x.ndim - 2)), axis=1)

    return replace(
        slots,
        tokens=of_parent(slots.tokens),
        ancestor=of_parent(slots.ancestor),
        last_timestamp=of_parent(slots.last_timestamp),
        ended=of_parent(slots.ended),
        n_sampled=of_parent(slots.n_sampled),
        repeats=of_parent(slots.repeats),
    )
