"""What is learnt from a batch: the text, and, where they are given, the teacher's opinion, the phonemes, the place.

All are sums divided by what the whole step has of it, so that a step in several parts is the step in one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from models.features import log_mel
from models.training.batches import Batch
from models.training.clock import blurred
from models.whisper.modules import Decoder, DecoderLayer, Encoder, EncoderLayer, Whisper, neighbours

#: How far from its time a token may look, in positions of 20 ms, before it costs much (Tachibana et al. 2017).
_WIDE = 15.0
#: Heads of each layer that are led.
_LED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much each loss counts."""

    text: float = 1.0
    #: Share of the certainty that is spread over all tokens.
    smoothing: float = 0.0
    #: Standard deviation of the bell of timestamps that is asked for instead of a single one; 0 for that one alone.
    blur: float = 0.0
    #: Of the teacher's distribution (Kullback-Leibler), both made softer by this temperature (Hinton et al. 2015).
    teacher: float = 0.0
    temperature: float = 2.0
    #: Connectionist temporal classification of the phonemes (Graves et al. 2006).
    phonemes: float = 0.0
    #: Of looking elsewhere than where a token is said.
    place: float = 0.0


class Losses(NamedTuple):
    """Of a step, each a share of the whole."""

    total: Array
    text: Array
    teacher: Array
    phonemes: Array
    place: Array
    #: Share of the tokens that were the likeliest.
    right: Array


class Counts(NamedTuple):
    """What the whole step has of each."""

    tokens: Array
    timed: Array
    spelt: Array


def counts(batch: Batch) -> Counts:
    """Of all parts together; at least one of each, as what there is none of has no loss."""
    spelt = _spelt(batch.phonemes, batch.pcm.shape[-1] // 320)
    numbers = [(batch.targets >= 0).sum(), ((batch.times >= 0) & (batch.targets >= 0)).sum(), spelt.sum()]
    return Counts(*(jnp.maximum(number, 1).astype(jnp.float32) for number in numbers))


def _spelt(phonemes: Array, positions: int) -> Array:
    """Rows whose phonemes are known and can be aligned."""
    lengths = (phonemes > 0).sum(-1)
    return (lengths > 0) & (lengths < positions)


def features(batch: Batch, n_mels: int) -> Array:
    """Log-mel features of a part's windows, [B, frames, n_mels], the masked ones at their mean."""
    heard = log_mel(batch.pcm, n_mels)
    mean = heard.mean((1, 2), keepdims=True)
    return jnp.where(batch.no_times[:, :, None] | batch.no_bands[:, None, :], mean, heard)


def encoded(encoder: Encoder, heard: Array, offset: Array, *, rematerialise: bool) -> Array:
    """Audio states of windows of any length, [B, T, d], each from its own first position on."""

    def layer_of(layer: EncoderLayer, x: Array) -> Array:
        return layer(x, encoder.attend)

    x = heard.astype(encoder.positions.dtype)
    x = jax.nn.gelu(encoder.conv1(neighbours(x, stride=1)), approximate=False)
    x = jax.nn.gelu(encoder.conv2(neighbours(x, stride=2)), approximate=False)
    x = x + encoder.positions[offset[:, None] + jnp.arange(x.shape[1])[None]]
    for layer in encoder.layers:
        x = _again(layer_of, rematerialise)(layer, x)
    return encoder.norm(x)


def decoded(decoder: Decoder, tokens: Array, audio: Array, *, led: int, rematerialise: bool) -> tuple[Array, Array]:
    """Teacher-forced logits float32 [B, length, n_vocab]; and where `led` heads of each layer look."""
    length = tokens.shape[1]
    causal = jnp.tril(jnp.ones((length, length), bool))[None, None]

    def layer_of(layer: DecoderLayer, x: Array, audio: Array) -> tuple[Array, Array]:
        y = layer.attention_norm(x)
        x = x + layer.attention(y, *layer.attention.keys_values(y), mask=causal)
        cross = layer.cross_attention.keys_values(audio)
        scores = layer.cross_attention.scores(layer.cross_attention_norm(x), cross[0][:, :]) if led else None
        looked = (
            jnp.zeros((x.shape[0], 0, length, audio.shape[1])) if scores is None else jax.nn.softmax(scores[:, :led])
        )
        return layer.finish(x, cross), looked

    x = decoder.embedding[tokens] + decoder.positions[jnp.arange(length)][None]
    places = []
    for layer in decoder.layers:
        x, looked = _again(layer_of, rematerialise)(layer, x, audio)
        places.append(looked)
    return decoder.logits(decoder.norm(x)), jnp.concatenate(places, axis=1)


def _again(function: Any, rematerialise: bool) -> Any:
    """A layer whose inner values are computed again on the way back instead of being kept."""
    if not rematerialise:
        return function

    def run(layer: nnx.Module, *rest: Array) -> Any:
        graph, state = nnx.split(layer)
        return jax.checkpoint(lambda state, *rest: function(nnx.merge(graph, state), *rest))(state, *rest)

    return run


def losses(
    student: Whisper,
    teacher: Whisper | None,
    ctc: dict[str, Array] | None,
    part: Batch,
    of: Counts,
    weights: Weights,
    *,
    shared_encoder: bool,
    rematerialise: bool,
) -> Losses:
    """Of one part of a step.

    Args:
        student: who learns.
        teacher: whose opinion counts, if anybody's.
        ctc: `kernel` [d, symbols] and `bias` of the layer that hears phonemes.
        part: arrays without the axis of the parts.
        of: what the whole step has.
        weights: what counts how much.
        shared_encoder: the teacher hears by the student's encoder, which does not learn.
        rematerialise: save memory for time.
    """
    heard = features(part, student.encoder.n_mels)
    audio = encoded(student.encoder, heard, part.offset, rematerialise=rematerialise)
    led = _LED if weights.place else 0
    logits, places = decoded(student.decoder, part.tokens, audio, led=led, rematerialise=rematerialise)
    asked = part.targets >= 0
    targets = jnp.maximum(part.targets, 0)
    logs = jax.nn.log_softmax(logits)
    likely = jnp.take_along_axis(logs, targets[..., None], axis=-1)[..., 0]
    if weights.blur:
        likely = blurred(logs, targets, likely, weights.blur)
    entropy = -(1 - weights.smoothing) * likely - weights.smoothing * logs.mean(-1)
    text = jnp.where(asked, entropy, 0.0).sum() / of.tokens
    right = (asked & (logits.argmax(-1) == targets)).sum().astype(jnp.float32) / of.tokens
    nothing = jnp.zeros(())
    opinion = phonemes = place = nothing
    if teacher is not None:
        theirs = audio
        if not shared_encoder:
            theirs = encoded(teacher.encoder, heard, part.offset, rematerialise=False)
        taught, _ = decoded(teacher.decoder, part.tokens, jax.lax.stop_gradient(theirs), led=0, rematerialise=False)
        opinion = _divergence(jax.lax.stop_gradient(taught), logits, asked, weights.temperature) / of.tokens
    if ctc is not None:
        phonemes = _phonemes(audio, ctc, part.phonemes) / of.spelt
    if led:
        place = _elsewhere(places, part.times, asked) / of.timed
    total = weights.text * text + weights.teacher * opinion + weights.phonemes * phonemes + weights.place * place
    return Losses(total, text, opinion, phonemes, place, right)


def _divergence(teacher: Array, student: Array, asked: Array, temperature: float) -> Array:
    """Sum over the tokens asked for; times the temperature squared, so that its gradient is as large as the text's."""
    p, q = jax.nn.log_softmax(teacher / temperature), jax.nn.log_softmax(student / temperature)
    return jnp.where(asked, (jnp.exp(p) * (p - q)).sum(-1), 0.0).sum() * temperature**2


def _phonemes(audio: Array, ctc: dict[str, Array], phonemes: Array) -> Array:
    """Sum over the rows that are spelt, each by its length."""
    logits = audio.astype(jnp.float32) @ ctc["kernel"].astype(jnp.float32) + ctc["bias"][None, None].astype(jnp.float32)
    here = _spelt(phonemes, audio.shape[1])
    padding = (phonemes == 0).astype(jnp.float32)
    lengths = jnp.maximum((phonemes > 0).sum(-1), 1).astype(jnp.float32)
    each = optax.ctc_loss(logits, jnp.zeros(logits.shape[:2]), phonemes, padding) / lengths
    return jnp.where(here, each, 0.0).sum()


def _elsewhere(places: Array, times: Array, asked: Array) -> Array:
    """Sum over the tokens with a time: the share of their attention that lies away from it, mean over the heads."""
    distance = jnp.arange(places.shape[-1], dtype=jnp.float32)[None, None] - times[..., None]
    away = 1 - jnp.exp(-jnp.square(distance / _WIDE) / 2)
    each = (places * away[:, None]).sum(-1).mean(1)
    return jnp.where(asked & (times >= 0), each, 0.0).sum()
