"""Whisper's encoder and decoder (Radford et al. 2022, openai/whisper `model.py`) as flax.nnx modules.

Parameters and activations have one dtype, `float32` or `bfloat16`; `models.whisper.quantize` makes the kernels and the
cross-attention cache int8. Sums inside products, layer norms and softmaxes are float32 always: on a GPU that costs
nothing, and on a CPU a bfloat16 product with a float32 result is the fast path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax
from jax.typing import DTypeLike

from models.whisper.dims import ModelDimensions
from models.whisper.quantize import Quantized, quantized

LAYER_NORM_EPS = 1e-5
_MASKED = -1e30  # finite, so that a row without any key stays a number

#: Keys or values that are kept from step to step, [batch, head, length, head_dim].
Kept = Array | Quantized
#: Keys and values of every decoder layer.
KeysValues = tuple[tuple[Kept, Kept], ...]


def _precision(dtype: DTypeLike) -> lax.Precision:
    # float32 asks for exactness: without this, GPUs multiply float32 as TF32.
    return lax.Precision.HIGHEST if dtype == jnp.float32 else lax.Precision.DEFAULT


def _product(spec: str, a: Array, b: Array) -> Array:
    """An einsum with float32 sums; the result is float32."""
    return jnp.einsum(spec, a, b, precision=_precision(a.dtype), preferred_element_type=jnp.float32)


class Linear(nnx.Module):
    """x @ kernel + bias, float32 inside; kernel [n_in, n_out]."""

    def __init__(self, n_in: int, n_out: int, *, bias: bool = True, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        scale = n_in**-0.5
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (n_in, n_out), dtype) * scale)
        #: float32 [n_out], where the kernel is int8.
        self.kernel_scale: nnx.Param[Array] | None = nnx.data(None)
        self.bias = nnx.Param(jnp.zeros((n_out,), dtype)) if bias else None

    def __call__(self, x: Array) -> Array:
        if self.kernel_scale is None:
            y = _product("...i,io->...o", x, self.kernel[...])
        else:
            rows = quantized(x)  # a scale per token
            y = jnp.einsum("...i,io->...o", rows.values, self.kernel[...], preferred_element_type=jnp.int32)
            y = y.astype(jnp.float32) * rows.scale * self.kernel_scale[None, None]
        if self.bias is not None:
            y = y + self.bias[None, None].astype(jnp.float32)
        return y.astype(x.dtype)


class LayerNorm(nnx.Module):
    """Layer norm over the last axis, computed in float32."""

    def __init__(self, n: int, *, dtype: DTypeLike) -> None:
        self.scale = nnx.Param(jnp.ones((n,), dtype))
        self.bias = nnx.Param(jnp.zeros((n,), dtype))

    def __call__(self, x: Array) -> Array:
        x32 = x.astype(jnp.float32)
        mean = x32.mean(-1, keepdims=True)
        variance = jnp.square(x32 - mean).mean(-1, keepdims=True)
        y = (x32 - mean) * lax.rsqrt(variance + LAYER_NORM_EPS)
        y = y * self.scale[None, None].astype(jnp.float32) + self.bias[None, None].astype(jnp.float32)
        return y.astype(x.dtype)


class FeedForward(nnx.Module):
    """Two linear layers with the exact (erf) GELU between them."""

    def __init__(self, d: int, hidden: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.fc1 = Linear(d, hidden, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(hidden, d, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class Attention(nnx.Module):
    """Multi-head attention whose keys and values can be made once and kept, also as int8.

    Shapes: queries [batch, q, d]; keys and values [batch, head, k, head_dim].
    """

    def __init__(self, d: int, n_head: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.n_head = n_head
        self.query = Linear(d, d, dtype=dtype, rngs=rngs)
        self.key = Linear(d, d, bias=False, dtype=dtype, rngs=rngs)
        self.value = Linear(d, d, dtype=dtype, rngs=rngs)
        self.out = Linear(d, d, dtype=dtype, rngs=rngs)

    def _heads(self, x: Array) -> Array:
        batch, length, d = x.shape
        return x.reshape(batch, length, self.n_head, d // self.n_head).transpose(0, 2, 1, 3)

    def keys_values(self, x: Array) -> tuple[Array, Array]:
        """Keys and values [batch, head, length, head_dim] of x [batch, length, d]."""
        return self._heads(self.key(x)), self._heads(self.value(x))

    def scores(self, x: Array, keys: Kept) -> Array:
        """Scaled similarities of x [batch, q, d] with the keys, float32 [batch, head, q, k]: before the softmax."""
        queries = self._heads(self.query(x))
        scale = float(queries.shape[-1] ** -0.5)
        if isinstance(keys, Quantized):
            products = _product("bhqd,bhkd->bhqk", queries, keys.values.astype(x.dtype))
            return products * keys.scale.swapaxes(2, 3) * scale
        return _product("bhqd,bhkd->bhqk", queries, keys) * scale

    def __call__(self, x: Array, keys: Kept, values: Kept, mask: Array | None = None) -> Array:
        """Attend from x [batch, q, d]; mask is True where a key may be seen, broadcast to [batch, head, q, k]."""
        scores = self.scores(x, keys)
        if mask is not None:
            scores = jnp.where(mask, scores, _MASKED)
        weights = jax.nn.softmax(scores, axis=-1)
        if isinstance(values, Quantized):
            weights = weights * values.scale.swapaxes(2, 3)
            values = values.values.astype(x.dtype)
        mixed = _product("bhqk,bhkd->bqhd", weights.astype(x.dtype), values).astype(x.dtype)
        return self.out(mixed.reshape(x.shape))


class EncoderLayer(nnx.Module):
    """Self-attention and feed-forward, each behind a layer norm."""

    def __init__(self, dims: ModelDimensions, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        d = dims.d_model
        self.attention_norm = LayerNorm(d, dtype=dtype)
        self.attention = Attention(d, dims.n_audio_head, dtype=dtype, rngs=rngs)
        self.feed_forward_norm = LayerNorm(d, dtype=dtype)
        self.feed_forward = FeedForward(d, dims.n_audio_ffn, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        y = self.attention_norm(x)
        x = x + self.attention(y, *self.attention.keys_values(y))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Encoder(nnx.Module):
    """Log-mel features [batch, 2 * n_audio_ctx, n_mels] to audio states [batch, n_audio_ctx, d]."""

    def __init__(self, dims: ModelDimensions, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        d = dims.d_model
        self.n_mels = dims.n_mels
        # The two convolutions of width 3 as products over three neighbouring frames.
        self.conv1 = Linear(3 * dims.n_mels, d, dtype=dtype, rngs=rngs)
        self.conv2 = Linear(3 * d, d, dtype=dtype, rngs=rngs)
        self.positions = nnx.Param(jnp.zeros((dims.n_audio_ctx, d), dtype))
        self.layers = nnx.List([EncoderLayer(dims, dtype=dtype, rngs=rngs) for _ in range(dims.n_audio_layer)])
        self.norm = LayerNorm(d, dtype=dtype)

    def __call__(self, features: Array) -> Array:
        *_, x = self.layer_by_layer(features)
        return x

    def layer_by_layer(self, features: Array) -> Iterator[Array]:
        """What comes out of every part in turn: both convolutions, each layer, the last norm."""
        x = features.astype(self.positions.dtype)
        yield (x := jax.nn.gelu(self.conv1(_neighbours(x, stride=1)), approximate=False))
        yield (x := jax.nn.gelu(self.conv2(_neighbours(x, stride=2)), approximate=False))
        x = x + self.positions[None]
        for layer in self.layers:
            yield (x := layer(x))
        yield self.norm(x)


def _neighbours(x: Array, *, stride: int) -> Array:
    """Each frame with its left and right neighbour, zeros beyond the edges.

    In:  [[a], [b], [c], [d]]            stride 1
    Out: [[0 a b], [a b c], [b c d], [c d 0]]
    """
    length = x.shape[1]
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
    return jnp.concatenate([padded[:, i : i + length : stride] for i in range(3)], axis=-1)


class DecoderLayer(nnx.Module):
    """Causal self-attention, cross-attention on the audio, feed-forward; each behind a layer norm."""

    def __init__(self, dims: ModelDimensions, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        d = dims.d_model
        self.attention_norm = LayerNorm(d, dtype=dtype)
        self.attention = Attention(d, dims.n_text_head, dtype=dtype, rngs=rngs)
        self.cross_attention_norm = LayerNorm(d, dtype=dtype)
        self.cross_attention = Attention(d, dims.n_text_head, dtype=dtype, rngs=rngs)
        self.feed_forward_norm = LayerNorm(d, dtype=dtype)
        self.feed_forward = FeedForward(d, dims.n_text_ffn, dtype=dtype, rngs=rngs)

    def finish(self, x: Array, cross: tuple[Kept, Kept]) -> Array:
        """What follows self-attention: the audio, then the feed-forward."""
        x = x + self.cross_attention(self.cross_attention_norm(x), *cross)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Decoder(nnx.Module):
    """Tokens and audio to the next token's logits."""

    def __init__(self, dims: ModelDimensions, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        d = dims.d_model
        self.embedding = nnx.Param(jax.random.normal(rngs.params(), (dims.n_vocab, d), dtype) * d**-0.5)
        #: float32 [n_vocab], where the embedding is int8.
        self.embedding_scale: nnx.Param[Array] | None = nnx.data(None)
        self.positions = nnx.Param(jnp.zeros((dims.n_text_ctx, d), dtype))
        self.layers = nnx.List([DecoderLayer(dims, dtype=dtype, rngs=rngs) for _ in range(dims.n_text_layer)])
        self.norm = LayerNorm(d, dtype=dtype)

    def cross_keys_values(self, audio: Array) -> KeysValues:
        """Keys and values of the audio [batch, n_audio_ctx, d], once per chunk."""
        return tuple(layer.cross_attention.keys_values(audio) for layer in self.layers)

    def logits(self, states: Array) -> Array:
        """States [batch, q, d] to the next token's logits, float32 [batch, q, n_vocab]."""
        if self.embedding_scale is None:
            return _product("btd,vd->btv", states, self.embedding[...])
        rows = quantized(states)
        products = jnp.einsum("btd,vd->btv", rows.values, self.embedding[...], preferred_element_type=jnp.int32)
        return products.astype(jnp.float32) * rows.scale * self.embedding_scale[None, None]

    def _embed(self, tokens: Array, positions: Array) -> Array:
        embedded = self.embedding[tokens]
        if self.embedding_scale is not None:
            embedded = embedded.astype(jnp.float32) * self.embedding_scale[tokens][..., None]
        return embedded.astype(self.positions.dtype) + self.positions[positions]

    def __call__(self, tokens: Array, cross: KeysValues) -> Array:
        """Teacher-forced logits: tokens int32 [batch, length] -> float32 [batch, length, n_vocab]."""
        return self.listen(tokens, cross, ())[0]

    def listen(self, tokens: Array, cross: KeysValues, heads: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
        """Teacher-forced logits, and where in the audio some heads looked.

        Args:
            tokens: int32 [batch, length].
            cross: keys and values of the audio.
            heads: (layer, head) of the cross-attention.

        Returns:
            float32 [batch, length, n_vocab]; and float32 [batch, heads, length, n_audio_ctx], before the softmax.
        """
        batch, length = tokens.shape
        x = self._embed(tokens, jnp.broadcast_to(jnp.arange(length), (batch, length)))
        causal = jnp.tril(jnp.ones((length, length), bool))[None, None]
        looked = []
        for index, (layer, kv) in enumerate(zip(self.layers, cross, strict=True)):
            y = layer.attention_norm(x)
            x = x + layer.attention(y, *layer.attention.keys_values(y), mask=causal)
            if of_layer := [head for at, head in heads if at == index]:
                scores = layer.cross_attention.scores(layer.cross_attention_norm(x), kv[0])
                looked.append(scores[:, np.array(of_layer)])
            x = layer.finish(x, kv)
        n_audio_ctx = jax.tree.leaves(cross)[0].shape[2]
        none = jnp.zeros((batch, 0, length, n_audio_ctx), jnp.float32)
        return self.logits(self.norm(x)), jnp.concatenate([none, *looked], axis=1)

    def extend(
        self, tokens: Array, positions: Array, places: Array, visible: Array, past: KeysValues, cross: KeysValues
    ) -> tuple[Array, KeysValues]:
        """New tokens behind what is kept: one for each hypothesis, several of one hypothesis, or a whole prompt.

        Args:
            tokens: int32 [batch, q].
            positions: int32 [batch, q]: of each token in its text.
            places: int32 [batch, q]: where its key and value are kept in `past`.
            visible: bool [batch, q, kept]: which of those it sees, its own among them.
            past: self-attention keys and values, [batch, head, kept, head_dim]; updated in place where donated.
            cross: keys and values of the audio.

        Returns:
            States [batch, q, d] for `logits`, and `past` with the new places filled.
        """
        batch = jnp.arange(tokens.shape[0])[:, None]
        x = self._embed(tokens, positions)
        mask = visible[:, None]
        filled = []
        for layer, (keys, values), kv in zip(self.layers, past, cross, strict=True):
            assert isinstance(keys, Array)  # what was said is short: only the audio's are worth quantising
            assert isinstance(values, Array)
            y = layer.attention_norm(x)
            key, value = layer.attention.keys_values(y)
            keys = keys.at[batch, :, places].set(key.swapaxes(1, 2))
            values = values.at[batch, :, places].set(value.swapaxes(1, 2))
            filled.append((keys, values))
            x = x + layer.attention(y, keys, values, mask=mask)
            x = layer.finish(x, kv)
        return self.norm(x), tuple(filled)


class Whisper(nnx.Module):
    """Encoder and decoder of one checkpoint."""

    def __init__(self, dims: ModelDimensions, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.encoder = Encoder(dims, dtype=dtype, rngs=rngs)
        self.decoder = Decoder(dims, dtype=dtype, rngs=rngs)
