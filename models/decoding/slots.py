"""Slots: the rows of the decoder's batch, each with a chunk of its own at a position of its own.

`fill` puts freshly encoded chunks into free slots while the others stay as they are; `advance` decodes a block of
tokens in every slot. Both are pure functions of the state and are compiled once: a slot's chunk, prompt, position and
end are data, not shapes. The pattern is JetStream's prefill / insert / generate; the greedy rule and the running
log-probability are openai/whisper's (`decoding.py`, `GreedyDecoder`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from models.decoding.rules import History, Rules
from models.features import log_mel
from models.whisper.dims import ModelDimensions
from models.whisper.modules import KeysValues, Whisper


@functools.partial(jax.tree_util.register_dataclass)
@dataclass(frozen=True, kw_only=True)
class Slots:
    """All that changes while decoding; the leading axis of every array is the slot."""

    #: Self-attention keys and values per layer, [slot, head, longest text, head_dim].
    past: KeysValues
    #: Cross-attention keys and values per layer, [slot, head, n_audio_ctx, head_dim]: made once, read every step.
    cross: KeysValues
    #: int32 [slot, longest text]: prompt, then what was sampled.
    tokens: Array
    #: int32 [slot]: where the next token to feed stands.
    position: Array
    #: int32 [slot]: how many tokens were given.
    prompt_length: Array
    #: int32 [slot]: tokens in all at which a slot stops, whether it has ended or not.
    limit: Array
    #: bool [slot]: still decoding.
    active: Array
    #: int32 [slot]: latest timestamp token, -1 before the first.
    last_timestamp: Array
    #: float32 [slot]: sum over the sampled tokens, the end included.
    sum_logprob: Array
    #: float32 [slot]: probability of <|nospeech|> after <|startoftranscript|>.
    no_speech: Array
    #: float32 [slot, language]: probabilities after <|startoftranscript|>, in the order of the rules' languages.
    languages: Array


def empty_slots(dims: ModelDimensions, rules: Rules, *, n_slots: int, longest: int, dtype: DTypeLike) -> Slots:
    """Slots without chunks.

    Args:
        dims: of the model.
        rules: of the checkpoint.
        n_slots: rows decoded together.
        longest: tokens of prompt and text that a slot has room for.
        dtype: of keys and values.
    """
    head_dim = dims.d_model // dims.n_text_head

    def pairs(length: int) -> KeysValues:
        shape = (n_slots, dims.n_text_head, length, head_dim)
        return tuple((jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)) for _ in range(dims.n_text_layer))

    def column(dtype: DTypeLike) -> Array:
        return jnp.zeros((n_slots,), dtype)

    return Slots(
        past=pairs(longest),
        cross=pairs(dims.n_audio_ctx),
        tokens=jnp.zeros((n_slots, longest), jnp.int32),
        position=column(jnp.int32),
        prompt_length=column(jnp.int32),
        limit=column(jnp.int32),
        active=column(jnp.bool_),
        last_timestamp=column(jnp.int32),
        sum_logprob=column(jnp.float32),
        no_speech=column(jnp.float32),
        languages=jnp.zeros((n_slots, len(rules.special.languages)), jnp.float32),
    )


@functools.partial(jax.tree_util.register_dataclass)
@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """Chunks on their way into slots, one row each.

    pcm: int16 [row, window], zeros after the chunk's end.
    slot: int32 [row]; a number beyond the last slot marks a row of padding.
    tokens: int32 [row, longest]: the prompt, zeros after it.
    prompt_length, limit: int32 [row].
    """

    pcm: Array
    slot: Array
    tokens: Array
    prompt_length: Array
    limit: Array


def fill(whisper: Whisper, n_mels: int, slots: Slots, arrivals: Arrivals) -> Slots:
    """Encode chunks and put each into its slot; rows of padding are dropped."""
    audio = whisper.encoder(log_mel(arrivals.pcm, n_mels))
    at = arrivals.slot

    def put(old: Array, new: Array) -> Array:
        return old.at[at].set(new.astype(old.dtype), mode="drop")

    def start(old: Array, value: float) -> Array:
        return old.at[at].set(value, mode="drop")

    return Slots(
        # What a former chunk left behind is masked: a slot sees only positions up to its own.
        past=slots.past,
        cross=jax.tree.map(put, slots.cross, whisper.decoder.cross_keys_values(audio)),
        tokens=put(slots.tokens, arrivals.tokens),
        position=start(slots.position, 0),
        prompt_length=put(slots.prompt_length, arrivals.prompt_length),
        limit=put(slots.limit, arrivals.limit),
        active=start(slots.active, True),
        last_timestamp=start(slots.last_timestamp, -1),
        sum_logprob=start(slots.sum_logprob, 0.0),
        no_speech=start(slots.no_speech, 0.0),
        languages=start(slots.languages, 0.0),
    )


def advance(whisper: Whisper, rules: Rules, slots: Slots, n_steps: int) -> Slots:
    """Decode up to `n_steps` tokens in every active slot; stops early once none is active."""

    def going(carry: tuple[Array, Slots]) -> Array:
        step, state = carry
        return (step < n_steps) & state.active.any()

    def step(carry: tuple[Array, Slots]) -> tuple[Array, Slots]:
        return carry[0] + 1, _step(whisper, rules, carry[1])

    return lax.while_loop(going, step, (jnp.int32(0), slots))[1]


def _step(whisper: Whisper, rules: Rules, slots: Slots) -> Slots:
    special = rules.special
    rows = jnp.arange(slots.position.shape[0])
    here = slots.position
    token = slots.tokens[rows, here]
    logits, past = whisper.decoder.step(token, here, slots.past, slots.cross)

    history = History(
        sampled=here + 1 - slots.prompt_length,
        last=token,
        before_last=slots.tokens[rows, jnp.maximum(here - 1, 0)],
        last_timestamp=slots.last_timestamp,
    )
    logp = rules.log_probabilities(logits, history)
    best = jnp.argmax(logp, axis=-1).astype(jnp.int32)

    # While the prompt lasts, the next token is given and nothing is scored.
    sampling = slots.active & (history.sampled >= 0) & (here + 1 < slots.limit)
    after = jnp.minimum(here + 1, slots.tokens.shape[1] - 1)
    chosen = jnp.where(sampling, best, slots.tokens[rows, after])
    score = jnp.where(sampling, logp[rows, best], 0.0)
    ended = (sampling & (best == special.end_of_text)) | (here + 2 >= slots.limit)
    active = slots.active & ~ended

    at_start = slots.active & (token == special.start_of_transcript)
    return Slots(
        past=past,
        cross=slots.cross,
        tokens=slots.tokens.at[rows, after].set(chosen),
        position=jnp.where(slots.active, here + 1, here),
        prompt_length=slots.prompt_length,
        limit=slots.limit,
        active=active,
        last_timestamp=jnp.where(sampling & (best >= special.timestamp_begin), best, slots.last_timestamp),
        sum_logprob=slots.sum_logprob + score,
        no_speech=jnp.where(at_start, jax.nn.softmax(logits)[:, special.no_speech], slots.no_speech),
        languages=jnp.where(at_start[:, None], _language_probabilities(rules, logits), slots.languages),
    )


def _language_probabilities(rules: Rules, logits: Array) -> Array:
    """Probabilities of the languages among themselves, [slot, language]; openai/whisper's `detect_language`."""
    ids = list(rules.special.languages.values())
    return jax.nn.softmax(logits[:, ids], axis=-1) if ids else jnp.zeros((logits.shape[0], 0), jnp.float32)
