"""Steps: a block of tokens in every slot, in one call of the device.

A step feeds the last token of every hypothesis, applies the rules, lets the search choose, and adds what it chose.
Slots that are not active go through the motions and are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

import jax.numpy as jnp
from jax import Array, lax

from models.decoding.loops import count_repeats, looping
from models.decoding.reports import Report, report_of
from models.decoding.rules import History, log_probabilities
from models.decoding.search import Choice, beams, continued, likeliest, sample
from models.decoding.slots import Slots
from models.tokens import SpecialTokens
from models.whisper.modules import Whisper


class Search(StrEnum):
    """How tokens are chosen."""

    GREEDY = "greedy"
    SAMPLE = "sample"
    BEAM = "beam"


def advance(
    whisper: Whisper, special: SpecialTokens, search: Search, slots: Slots, n_steps: int, *, until_idle: bool
) -> tuple[Slots, Report]:
    """Decode up to `n_steps` tokens in every active slot; with `until_idle` it stops once none is active."""
    return repeated(lambda slots: _step(whisper, special, search, slots), slots, n_steps, until_idle=until_idle)


def repeated(step: Callable[[Slots], Slots], slots: Slots, n_steps: int, *, until_idle: bool) -> tuple[Slots, Report]:
    """A block of steps, and the report of it."""

    def going(carry: tuple[Array, Array, Slots]) -> Array:
        done, _, state = carry
        return (done < n_steps) & state.active.any()

    def once(carry: tuple[Array, Array, Slots]) -> tuple[Array, Array, Slots]:
        done, active, state = carry
        return done + 1, active + state.active.sum(dtype=jnp.int32), step(state)

    start = (jnp.int32(0), jnp.int32(0), slots)
    if until_idle:
        done, active, slots = lax.while_loop(going, once, start)
    else:
        done, active, slots = lax.fori_loop(0, n_steps, lambda _, carry: once(carry), start)
    return slots, report_of(slots, done, active)


def _step(whisper: Whisper, special: SpecialTokens, search: Search, slots: Slots) -> Slots:
    n_slots, width, kept = slots.ancestor.shape
    here = jnp.broadcast_to(slots.position[:, None], (n_slots, width))
    token = jnp.take_along_axis(slots.tokens, here[..., None], axis=2)[..., 0]

    # Each hypothesis keeps this position in its own row, and sees every position in the row of its ancestor there.
    row = jnp.arange(width)
    at = jnp.arange(kept)[None, None]
    ancestor = jnp.where(at == here[..., None], row[None, :, None], slots.ancestor)
    visible = (ancestor[:, :, None] == row[None, None, :, None]) & (at <= here[..., None])[:, :, None]
    places = row[None] * kept + here
    visible = visible.reshape(n_slots, width, width * kept)
    states, past = whisper.decoder.extend(token, here, places, visible, slots.past, slots.cross)

    logp = log_probabilities(special, slots.limits, whisper.decoder.logits(states), history_of(slots, token))
    slots = replace(slots, past=past, ancestor=ancestor)
    match search:
        case Search.GREEDY:
            choice = likeliest(logp, slots)
        case Search.SAMPLE:
            choice = sample(logp, slots)
        case Search.BEAM:
            choice = beams(logp, slots, special.end_of_text)
            slots = keep(slots.active, continued(slots, choice.parent), slots)
    return add(special, slots, choice, slots.active)


def history_of(slots: Slots, token: Array) -> History:
    """What the rules look at, before the token after `token` [slot, hypothesis] is chosen."""
    before = jnp.maximum(slots.position - 1, 0)[:, None, None]
    width = token.shape[1]
    in_text = slots.position + 1 - slots.prompt_length + slots.given
    sampled = jnp.broadcast_to(in_text[:, None], token.shape)
    return History(
        sampled=sampled,
        last=token,
        before_last=jnp.take_along_axis(slots.tokens, jnp.broadcast_to(before, (len(token), width, 1)), axis=2)[..., 0],
        last_timestamp=slots.last_timestamp,
    )


def keep(where: Array, new: Slots, old: Slots) -> Slots:
    """The new of what changes from step to step in the slots that are true in `where`, the old in the others."""

    def pick(new: Array, old: Array) -> Array:
        return jnp.where(where.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    return replace(
        new,
        tokens=pick(new.tokens, old.tokens),
        sum_logprob=pick(new.sum_logprob, old.sum_logprob),
        last_timestamp=pick(new.last_timestamp, old.last_timestamp),
        ended=pick(new.ended, old.ended),
        n_sampled=pick(new.n_sampled, old.n_sampled),
        repeats=pick(new.repeats, old.repeats),
        position=pick(new.position, old.position),
        active=pick(new.active, old.active),
    )


def add(special: SpecialTokens, slots: Slots, choice: Choice, where: Array) -> Slots:
    """The chosen tokens, added in the slots that are true in `where`, bool [slot]."""
    after = jnp.minimum(slots.position + 1, slots.tokens.shape[2] - 1)
    is_end = choice.token == special.end_of_text
    beam = slots.ends.tokens.shape[1] > 0
    ended = slots.ended | (is_end & (not beam))
    # What has ended goes on with more ends, which count for nothing.
    token = jnp.where(slots.ended, special.end_of_text, choice.token)
    width = token.shape[1]
    index = (jnp.arange(len(token))[:, None], jnp.arange(width)[None], after[:, None])
    tokens = slots.tokens.at[index].set(token)
    repeats = count_repeats(slots.repeats, tokens, after, slots.prompt_length, special.timestamp_begin)
    ended |= looping(repeats) & slots.loop_guard[:, None] & (not beam)
    timestamp = ~slots.ended & (token >= special.timestamp_begin)
    added = replace(
        slots,
        tokens=tokens,
        sum_logprob=jnp.where(slots.ended, slots.sum_logprob, choice.sum_logprob),
        last_timestamp=jnp.where(timestamp, token, slots.last_timestamp),
        ended=ended,
        n_sampled=jnp.where(slots.ended | is_end, slots.n_sampled, slots.n_sampled + 1),
        repeats=repeats,
        ends=choice.ends,
        position=slots.position + 1,
    )
    if beam:
        # The likeliest hypothesis stands first: where that goes in circles, the others are worse.
        done = (choice.ends.count >= choice.ends.tokens.shape[1]) | (looping(repeats)[:, 0] & slots.loop_guard)
    else:
        done = ended.all(-1)
    full = slots.position + 2 >= slots.limit
    return keep(where, replace(added, active=slots.active & ~done & ~full), slots)
