"""Slots: the rows of the decoder's batch, each with a chunk of its own at a position of its own.

`fill` puts freshly encoded chunks into free slots while the others stay as they are; `refill` begins a chunk anew
whose audio is in a slot already; `models.decoding.steps` decodes. All are pure functions of the state and are compiled
once: a slot's chunk, prompt, position, temperature, limits and end are data, not shapes. The pattern is JetStream's
prefill / insert / generate.

A slot holds `width` hypotheses: 1, or the beams, or the samples. They share the slot's keys and values of the audio.
Those of the text lie in `width` rows, and are never moved when one hypothesis continues another: each notes in whose
row it finds each position.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from models.decoding.loops import LONGEST_PERIOD
from models.decoding.rules import Limits
from models.features import log_mel
from models.tokens import SpecialTokens
from models.whisper.attention import Kept, KeysValues
from models.whisper.dims import ModelDimensions
from models.whisper.modules import Whisper
from models.whisper.quantize import Quantized, quantized


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is compiled into a set of slots."""

    n_slots: int
    #: Hypotheses in a slot.
    width: int
    #: Ended hypotheses that a beam search gathers; 0 for every other way of decoding.
    capacity: int = 0
    #: Tokens of a prompt that a slot has room for.
    room: int
    #: Tokens in all: prompt, text, and the end.
    length: int
    #: Tokens that an assistant drafts in a round; 0 without one.
    drafted: int = 0

    @property
    def kept(self) -> int:
        """Positions of a hypothesis whose keys and values are kept: the last token is never fed."""
        return self.length - 1 + self.drafted


@functools.partial(jax.tree_util.register_dataclass)
@dataclass(frozen=True, kw_only=True)
class Ended:
    """Hypotheses of a beam search that have ended, [slot, capacity], in the order of ending.

    tokens: int32 [slot, capacity, length].
    n_tokens: int32, tokens in all, without the end.
    sum_logprob: float32, the end included.
    count: int32 [slot], how many there are.
    """

    tokens: Array
    n_tokens: Array
    sum_logprob: Array
    count: Array


@functools.partial(jax.tree_util.register_dataclass)
@dataclass(frozen=True, kw_only=True)
class Slots:
    """All that changes while decoding; the leading axis of every array is the slot, the second the hypothesis."""

    #: Self-attention keys and values per layer, [slot, head, width * kept, head_dim].
    past: KeysValues
    #: Cross-attention keys and values per layer, [slot, head, n_audio_ctx, head_dim]: made once, read every step.
    cross: KeysValues
    #: The assistant's, where there is one; else empty.
    draft_past: KeysValues
    draft_cross: KeysValues

    #: int32 [slot, width, length]: prompt, then what was sampled.
    tokens: Array
    #: int32 [slot, width, kept]: the row in which the keys and values of each position lie.
    ancestor: Array
    #: float32 [slot, width]: sum over the sampled tokens, the end included.
    sum_logprob: Array
    #: int32 [slot, width]: latest timestamp token, -1 before the first.
    last_timestamp: Array
    #: bool [slot, width]: has come to the end of its text.
    ended: Array
    #: int32 [slot, width]: tokens sampled without the end.
    n_sampled: Array
    #: int32 [slot, width, period]: for how many tokens each repeats the one a period ago.
    repeats: Array
    ends: Ended

    #: int32 [slot]: where the next token to feed stands.
    position: Array
    #: int32 [slot]: how many tokens were given ...
    prompt_length: Array
    #: ... and how many of the last of them the text begins with.
    given: Array
    #: int32 [slot]: tokens in all at which a slot stops, whether it has ended or not.
    limit: Array
    #: bool [slot]: still decoding.
    active: Array
    #: bool [slot]: stops where the text goes in circles.
    loop_guard: Array
    #: float32 [slot]: 0 where the likeliest token is taken.
    temperature: Array
    #: uint32 [slot, 2]: of the random numbers.
    key: Array
    limits: Limits

    #: float32 [slot]: probability of <|nospeech|> after <|startoftranscript|>.
    no_speech: Array
    #: float32 [slot, language]: probabilities after <|startoftranscript|>, in the order of the special tokens.
    languages: Array


@functools.partial(jax.tree_util.register_dataclass)
@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """Chunks on their way into slots, one row each; names are those of `Slots`.

    slot: int32 [row]; a number beyond the last slot marks a row of padding.
    tokens: int32 [row, room]: the prompt, zeros after it.
    start: int32 [row]: where <|startoftranscript|> stands in it.
    last_timestamp: int32 [row]: of the text's given beginning, -1 where there is none.
    """

    slot: Array
    tokens: Array
    start: Array
    prompt_length: Array
    given: Array
    last_timestamp: Array
    limit: Array
    loop_guard: Array
    temperature: Array
    key: Array
    limits: Limits


def empty_slots(
    dims: ModelDimensions,
    special: SpecialTokens,
    shape: Shape,
    *,
    dtype: DTypeLike,
    int8: bool = False,
    draft: ModelDimensions | None = None,
) -> Slots:
    """Slots without chunks.

    Args:
        dims: of the model.
        special: tokens of the checkpoint.
        shape: how many, how wide, how long.
        dtype: of keys and values.
        int8: whether those of the audio are int8.
        draft: sizes of the assistant.
    """
    slots, width = shape.n_slots, shape.width

    def zeros(*sizes: int, dtype: DTypeLike) -> Array:
        return jnp.zeros((slots, *sizes), dtype)

    def past(of: ModelDimensions | None) -> KeysValues:
        if of is None:
            return ()
        sizes = (of.n_text_head, width * shape.kept, of.d_model // of.n_text_head)
        return tuple((zeros(*sizes, dtype=dtype), zeros(*sizes, dtype=dtype)) for _ in range(of.n_text_layer))

    def cross(of: ModelDimensions | None) -> KeysValues:
        if of is None:
            return ()
        head_dim = of.d_model // of.n_text_head

        def one() -> Array | Quantized:
            if not int8:
                return zeros(of.n_text_head, of.n_audio_ctx, head_dim, dtype=dtype)
            values = zeros(of.n_text_head, of.n_audio_ctx, head_dim, dtype=jnp.int8)
            return Quantized(values, zeros(of.n_text_head, of.n_audio_ctx, 1, dtype=jnp.float32))

        return tuple((one(), one()) for _ in range(of.n_text_layer))

    i32, f32 = jnp.int32, jnp.float32
    return Slots(
        past=past(dims),
        cross=cross(dims),
        draft_past=past(draft),
        draft_cross=cross(draft),
        tokens=zeros(width, shape.length, dtype=i32),
        ancestor=zeros(width, shape.kept, dtype=i32),
        sum_logprob=zeros(width, dtype=f32),
        last_timestamp=zeros(width, dtype=i32),
        ended=zeros(width, dtype=jnp.bool_),
        n_sampled=zeros(width, dtype=i32),
        repeats=zeros(width, LONGEST_PERIOD, dtype=i32),
        ends=Ended(
            tokens=zeros(shape.capacity, shape.length, dtype=i32),
            n_tokens=zeros(shape.capacity, dtype=i32),
            sum_logprob=zeros(shape.capacity, dtype=f32),
            count=zeros(dtype=i32),
        ),
        position=zeros(dtype=i32),
        prompt_length=zeros(dtype=i32),
        given=zeros(dtype=i32),
        limit=zeros(dtype=i32),
        active=zeros(dtype=jnp.bool_),
        loop_guard=zeros(dtype=jnp.bool_),
        temperature=zeros(dtype=f32),
        key=zeros(2, dtype=jnp.uint32),
        limits=Limits(
            suppressed=zeros(dims.n_vocab, dtype=jnp.bool_),
            suppressed_first=zeros(dims.n_vocab, dtype=jnp.bool_),
            timestamps=zeros(dtype=jnp.bool_),
            latest_start=zeros(dtype=i32),
        ),
        no_speech=zeros(dtype=f32),
        languages=zeros(len(special.languages), dtype=f32),
    )


def fill(
    whisper: Whisper,
    draft: Whisper | None,
    special: SpecialTokens,
    slots: Slots,
    arrivals: Arrivals,
    pcm: Array,
) -> Slots:
    """Encode chunks and put each into its slot; rows of padding are dropped.

    Args:
        whisper: the model.
        draft: the assistant, if there is one. One that has the model's own encoder hears through it.
        special: tokens of the checkpoint.
        slots: donated.
        arrivals: what the chunks ask for.
        pcm: int16 [row, window], zeros after the chunk's end.
    """
    audio = whisper.encoder(log_mel(pcm, whisper.encoder.n_mels))
    cross = whisper.decoder.cross_keys_values(audio)
    draft_cross: KeysValues = ()
    if draft:
        shared = draft.encoder is whisper.encoder
        draft_audio = audio if shared else draft.encoder(log_mel(pcm, draft.encoder.n_mels))
        draft_cross = draft.decoder.cross_keys_values(draft_audio)
    return _insert(whisper, draft, special, slots, arrivals, cross, draft_cross)


def refill(
    whisper: Whisper,
    draft: Whisper | None,
    special: SpecialTokens,
    slots: Slots,
    arrivals: Arrivals,
    source: tuple[KeysValues, KeysValues] | None,
    rows: Array,
) -> Slots:
    """Begin chunks anew whose audio is known: with another prompt, at another temperature, in other slots.

    Args:
        whisper, draft, special, slots, arrivals: as of `fill`.
        source: `cross` and `draft_cross` of the slots where they are now; None for these slots.
        rows: int32 [row]: in which of those.
    """
    cross, draft_cross = source or (slots.cross, slots.draft_cross)
    taken, draft_taken = jax.tree.map(lambda x: x[rows], (cross, draft_cross))
    return _insert(whisper, draft, special, slots, arrivals, taken, draft_taken)


def _insert(
    whisper: Whisper,
    draft: Whisper | None,
    special: SpecialTokens,
    slots: Slots,
    arrivals: Arrivals,
    cross: KeysValues,
    draft_cross: KeysValues,
) -> Slots:
    at = arrivals.slot
    width, room = slots.tokens.shape[1], arrivals.tokens.shape[1]
    cross, draft_cross = _as_kept(cross, slots.cross), _as_kept(draft_cross, slots.draft_cross)
    past, states = _prefill(whisper, arrivals, cross)
    # The assistant's text begins with the same prompt; nothing is asked of it.
    draft_past = _prefill(draft, arrivals, draft_cross)[0] if draft else ()
    row = jnp.arange(at.shape[0])
    logits = whisper.decoder.logits(states[row, arrivals.start][:, None])[:, 0]

    def put(old: Array, new: Array) -> Array:
        return old.at[at].set(new.astype(old.dtype), mode="drop")

    def put_first(old: Array, new: Array) -> Array:
        """The prompt's keys and values, or its tokens: what lies behind belongs to a former chunk, and is not seen."""
        axis = old.ndim - (2 if old.ndim == 4 else 1)
        where = (at, slice(None), slice(0, new.shape[axis]))
        return old.at[where].set(new.astype(old.dtype), mode="drop")

    def start(old: Array, value: float) -> Array:
        return old.at[at].set(value, mode="drop")

    return Slots(
        past=jax.tree.map(put_first, slots.past, past),
        cross=jax.tree.map(put, slots.cross, cross),
        draft_past=jax.tree.map(put_first, slots.draft_past, draft_past),
        draft_cross=jax.tree.map(put, slots.draft_cross, draft_cross),
        tokens=put_first(slots.tokens, jnp.broadcast_to(arrivals.tokens[:, None], (len(at), width, room))),
        # All hypotheses begin with the prompt in the first row.
        ancestor=start(slots.ancestor, 0),
        sum_logprob=start(slots.sum_logprob, 0.0),
        last_timestamp=put(slots.last_timestamp, jnp.broadcast_to(arrivals.last_timestamp[:, None], (len(at), width))),
        ended=start(slots.ended, False),
        n_sampled=start(slots.n_sampled, 0),
        repeats=start(slots.repeats, 0),
        ends=jax.tree.map(lambda old: start(old, 0), slots.ends),
        position=put(slots.position, arrivals.prompt_length - 1),
        prompt_length=put(slots.prompt_length, arrivals.prompt_length),
        given=put(slots.given, arrivals.given),
        limit=put(slots.limit, arrivals.limit),
        active=put(slots.active, arrivals.limit > arrivals.prompt_length),
        loop_guard=put(slots.loop_guard, arrivals.loop_guard),
        temperature=put(slots.temperature, arrivals.temperature),
        key=put(slots.key, arrivals.key),
        limits=jax.tree.map(put, slots.limits, arrivals.limits),
        no_speech=put(slots.no_speech, jax.nn.softmax(logits)[:, special.no_speech]),
        languages=put(slots.languages, _language_probabilities(special, logits)),
    )


def _as_kept(cross: KeysValues, like: KeysValues) -> KeysValues:
    """Quantised where the slots keep int8."""

    def one(new: Kept, old: Kept) -> Kept:
        return quantized(new) if isinstance(old, Quantized) and not isinstance(new, Quantized) else new

    return tuple((one(k, like_k), one(v, like_v)) for (k, v), (like_k, like_v) in zip(cross, like, strict=True))


def _prefill(whisper: Whisper, arrivals: Arrivals, cross: KeysValues) -> tuple[KeysValues, Array]:
    """Keys and values [row, head, room, head_dim] of whole prompts, and the states [row, room, d] after each token."""
    rows, room = arrivals.tokens.shape
    decoder = whisper.decoder
    positions = jnp.broadcast_to(jnp.arange(room), (rows, room))
    causal = jnp.broadcast_to(jnp.tril(jnp.ones((room, room), bool)), (rows, room, room))
    n_head = decoder.layers[0].attention.n_head
    dtype = decoder.positions.dtype
    empty = jnp.zeros((rows, n_head, room, decoder.positions.shape[1] // n_head), dtype)
    past: KeysValues = tuple((empty, empty) for _ in decoder.layers)
    states, filled = decoder.extend(arrivals.tokens, positions, positions, causal, past, cross)
    return filled, states


def _language_probabilities(special: SpecialTokens, logits: Array) -> Array:
    """Probabilities of the languages among themselves, [row, language]; openai/whisper's `detect_language`."""
    ids = list(special.languages.values())
    return jax.nn.softmax(logits[:, jnp.array(ids)], axis=-1) if ids else jnp.zeros((logits.shape[0], 0), jnp.float32)
