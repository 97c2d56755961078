"""Speculative decoding (Leviathan et al. 2023): an assistant drafts a few tokens, the model checks them in one step.

Greedy only, and exact: a drafted token counts where it is the one that the model itself would have taken. Every slot
accepts as many as it can; the others are not held up. A round reads the model's weights and its keys and values of the
audio once, for up to one token more than were drafted.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
from jax import Array

from models.decoding.reports import Report
from models.decoding.rules import History, log_probabilities
from models.decoding.search import likeliest
from models.decoding.slots import Slots
from models.decoding.steps import add, history_of, repeated
from models.tokens import SpecialTokens
from models.whisper.modules import Whisper


def advance_drafted(
    whisper: Whisper,
    draft: Whisper,
    special: SpecialTokens,
    drafted: int,
    slots: Slots,
    n_rounds: int,
    *,
    until_idle: bool,
) -> tuple[Slots, Report]:
    """Up to `n_rounds` rounds of `drafted` tokens in every active slot; with `until_idle` as `advance`."""

    def once(slots: Slots) -> Slots:
        return _round(whisper, draft, special, drafted, slots)

    return repeated(once, slots, n_rounds, until_idle=until_idle)


def _round(whisper: Whisper, draft: Whisper, special: SpecialTokens, drafted: int, slots: Slots) -> Slots:
    kept = slots.ancestor.shape[2]
    first = jnp.take_along_axis(slots.tokens[:, 0], slots.position[:, None], axis=1)
    at = jnp.arange(kept)[None, None]

    # The assistant goes one step further than its last token counts: it needs the keys of that token later.
    history = history_of(slots, first)
    tokens, histories, draft_past = [first], [history], slots.draft_past
    for ahead in range(drafted + 1):
        here = slots.position[:, None] + ahead
        states, draft_past = draft.decoder.extend(
            tokens[-1], _in_text(draft, here), here, at <= here[..., None], draft_past, slots.draft_cross
        )
        if ahead < drafted:
            logp = log_probabilities(special, slots.limits, draft.decoder.logits(states), history)
            tokens.append(jnp.argmax(logp, axis=-1).astype(jnp.int32))
            history = _after(history, tokens[-1], special)
            histories.append(history)

    fed = jnp.concatenate(tokens, axis=1)
    here = slots.position[:, None] + jnp.arange(drafted + 1)[None]
    states, past = whisper.decoder.extend(
        fed, _in_text(whisper, here), here, at <= here[..., None], slots.past, slots.cross
    )
    logp = log_probabilities(special, slots.limits, whisper.decoder.logits(states), _stacked(histories))

    slots = replace(slots, past=past, draft_past=draft_past)
    accepted = slots.active
    for ahead in range(drafted + 1):
        choice = likeliest(logp[:, ahead : ahead + 1], slots)
        slots = add(special, slots, choice, accepted)
        if ahead < drafted:
            accepted = accepted & slots.active & (choice.token[:, 0] == fed[:, ahead + 1])
    return slots


def _in_text(whisper: Whisper, positions: Array) -> Array:
    """Positions as far as the model has them; what is drafted beyond is never accepted."""
    return jnp.minimum(positions, whisper.decoder.positions.shape[0] - 1)


def _after(history: History, token: Array, special: SpecialTokens) -> History:
    return History(
        sampled=history.sampled + 1,
        last=token,
        before_last=history.last,
        last_timestamp=jnp.where(token >= special.timestamp_begin, token, history.last_timestamp),
    )


def _stacked(histories: list[History]) -> History:
    return History(
        sampled=jnp.concatenate([one.sampled for one in histories], axis=1),
        last=jnp.concatenate([one.last for one in histories], axis=1),
        before_last=jnp.concatenate([one.before_last for one in histories], axis=1),
        last_timestamp=jnp.concatenate([one.last_timestamp for one in histories], axis=1),
    )
