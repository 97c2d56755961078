"""Whisper's encoder and decoder (Radford et al. 2022, openai/whisper `model.py`) as flax.nnx modules.

Parameters and activations have one dtype, `float32` or `bfloat16`. Sums inside products, layer norms and softmaxes are
float32 always: on a GPU that costs nothing, and on a CPU a bfloat16 product with a float32 result is the fast path.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import DTypeLike

from models.whisper.dims import ModelDimensions

LAYER_NORM_EPS = 1e-5
_MASKED = -1e30  # finite, so that a row without any key stays a number


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
        self.bias = nnx.Param(jnp.zeros((n_out,), dtype)) if bias else None

    def __call__(self, x: Array) -> Array:
        y = _product("...i,io->...o", x, self.kernel[...])
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
    """Multi-head attention whose keys and values can be made once and kept.

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

    def __call__(self, x: Array, keys: Array, values: Array, mask: Array | None = None) -> Array:
        """Attend from x [batch, q, d]; mask is True where a key may be seen, broadcast to [batch, head, q, k]."""
        queries = self._heads(self.query(x))
        scores = _product("bhqd,bhkd->bhqk", queries, keys) * queries.shape[-1] ** -0.5
        if mask is not None:
            scores = jnp.where(mask, scores, _MASKED)
        weights = jax.nn.softmax(scores, axis=-1).astype(x.dtype)
        mixed = _product("bhqk,bhkd->bqhd", weights, values).astype(x.dtype)
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
        # The two convolutions of width 3 as products over three neighbouring frames.
        self.conv1 = Linear(3 * dims.n_mels, d, dtype=dtype, rngs=rngs)
        self.conv2 = Linear(3 * d, d, dtype=dtype, rngs=rngs)
        self.positions = nnx.Param(jnp.zeros((dims.n_audio_ctx, d), dtype))
        self.layers = nnx.List([EncoderLayer(dims, dtype=dtype, rngs=rngs) for _ in range(dims.n_audio_layer)])
        self.norm = LayerNorm(d, dtype=dtype)

    def __call__(self, features: Array) -> Array:
        x = features.astype(self.positions.dtype)
        x = jax.nn.gelu(self.conv1(_neighbours(x, stride=1)), approximate=False)
        x = jax.nn.gelu(self.conv2(_neighbours(x, stride=2)), approximate=False)
        x = x + self.positions[None]
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


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

    def finish(self, x: Array, cross: tuple[Array, Array]) -> Array:
        """What follows self-attention: the audio, then the feed-forward."""
        x = x + self.cross_attention(self.cross_attention_norm(x), *cross)
        return x + self.feed_forward(self.feed_forward_norm(x))


#: Keys and values of every decoder layer, each [batch, head, length, head_dim].
KeysValues = tuple[tuple[Array, Array], ...]


class Decoder(nnx.Module):
    """Tokens and audio to the next token's logits."""

    def __init__(self, dims: ModelDimensions, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        d = dims.d_model
        self.embedding = nnx.Param(jax.random.normal(rngs.params(), (dims.n_vocab, d), dtype) * d**-0.5)
        self.positions = nnx.Param(jnp.zeros((dims.n_text_ctx, d), dtype))
        self.layers = nnx.List([DecoderLayer(dims, dtype=dtype, rngs=rngs) for _ in range(dims.n_text_layer)])
        self.norm = LayerNorm(d, dtype=dtype)

    def cross_keys_values(self, audio: Array) -> KeysValues:
        """Keys and values of the audio [batch, n_audio_ctx, d], once per chunk."""
        return tuple(layer.cross_attention.keys_values(audio) for layer in self.layers)

    def _logits(self, x: Array) -> Array:
        return _product("btd,vd->btv", self.norm(x), self.embedding[...])

    def __call__(self, tokens: Array, cross: KeysValues) -> Array:
        """Teacher-forced logits: tokens int32 [batch, length] -> float32 [batch, length, n_vocab]."""
        length = tokens.shape[1]
        x = self.embedding[tokens] + self.positions[None, :length]
        causal = jnp.tril(jnp.ones((length, length), bool))[None, None]
        for layer, kv in zip(self.layers, cross, strict=True):
            y = layer.attention_norm(x)
            x = x + layer.attention(y, *layer.attention.keys_values(y), mask=causal)
            x = layer.finish(x, kv)
        return self._logits(x)

    def step(self, tokens: Array, positions: Array, past: KeysValues, cross: KeysValues) -> tuple[Array, KeysValues]:
        """One token per row, each row at its own position.

        Args:
            tokens: int32 [batch]: the token at `positions`.
            positions: int32 [batch].
            past: self-attention keys and values, length = the longest text; updated in place where donated.
            cross: keys and values of the audio.

        Returns:
            float32 [batch, n_vocab]: logits of the token after; and `past` with this position filled.
        """
        rows = jnp.arange(tokens.shape[0])
        x = (self.embedding[tokens] + self.positions[positions])[:, None]
        seen = jnp.arange(past[0][0].shape[2])[None] <= positions[:, None]
        filled = []
        for layer, (keys, values), kv in zip(self.layers, past, cross, strict=True):
            y = layer.attention_norm(x)
            key, value = layer.attention.keys_values(y)
            keys = keys.at[rows, :, positions].set(key[:, :, 0])
            values = values.at[rows, :, positions].set(value[:, :, 0])
            filled.append((keys, values))
            x = x + layer.attention(y, keys, values, mask=seen[:, None, None])
            x = layer.finish(x, kv)
        return self._logits(x)[:, 0], tuple(filled)


class Whisper(nnx.Module):
    """Encoder and decoder of one checkpoint."""

    def __init__(self, dims: ModelDimensions, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.encoder = Encoder(dims, dtype=dtype, rngs=rngs)
        self.decoder = Decoder(dims, dtype=dtype, rngs=rngs)
