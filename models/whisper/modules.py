"""Whisper's encoder and decoder (Radford et al. 2022, openai/whisper `model.py`) as flax.nnx modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from models.whisper.attention import Attend, Attention, Kept, KeysValues, Ways, attend_at_once
from models.whisper.dims import ModelDimensions
from models.whisper.layers import FeedForward, LayerNorm, Linear, drawn, product
from models.whisper.quantize import quantized


class EncoderLayer(nnx.Module):
    """Self-attention and feed-forward, each behind a layer norm."""

    def __init__(self, dims: ModelDimensions, *, dtype: DTypeLike, rngs: nnx.Rngs | None) -> None:
        d = dims.d_model
        self.attention_norm = LayerNorm(d, dtype=dtype)
        self.attention = Attention(d, dims.n_audio_head, dtype=dtype, rngs=rngs)
        self.feed_forward_norm = LayerNorm(d, dtype=dtype)
        self.feed_forward = FeedForward(d, dims.n_audio_ffn, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, attend: Attend) -> Array:
        x = x + self.attention.to_itself(self.attention_norm(x), attend)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Encoder(nnx.Module):
    """Log-mel features [batch, 2 * n_audio_ctx, n_mels] to audio states [batch, n_audio_ctx, d]."""

    def __init__(self, dims: ModelDimensions, *, dtype: DTypeLike, rngs: nnx.Rngs | None) -> None:
        d = dims.d_model
        self.n_mels = dims.n_mels
        #: How a window attends to itself; no part of what the model is.
        self.attend: Attend = attend_at_once
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
        yield (x := jax.nn.gelu(self.conv1(neighbours(x, stride=1)), approximate=False))
        yield (x := jax.nn.gelu(self.conv2(neighbours(x, stride=2)), approximate=False))
        x = x + self.positions[None]
        for layer in self.layers:
            yield (x := layer(x, self.attend))
        yield self.norm(x)


def neighbours(x: Array, *, stride: int) -> Array:
    """Each frame with its left and right neighbour, zeros beyond the edges.

    In:  [[a], [b], [c], [d]]            stride 1
    Out: [[0 a b], [a b c], [b c d], [c d 0]]
    """
    length = x.shape[1]
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
    return jnp.concatenate([padded[:, i : i + length : stride] for i in range(3)], axis=-1)


class DecoderLayer(nnx.Module):
    """Causal self-attention, cross-attention on the audio, feed-forward; each behind a layer norm."""

    def __init__(self, dims: ModelDimensions, *, dtype: DTypeLike, rngs: nnx.Rngs | None) -> None:
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

    def __init__(self, dims: ModelDimensions, *, dtype: DTypeLike, rngs: nnx.Rngs | None) -> None:
        d = dims.d_model
        self.embedding = nnx.Param(drawn(rngs, (dims.n_vocab, d), dtype, d**-0.5))
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
            return product("btd,vd->btv", states, self.embedding[...])
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
            keys = keys.at[batch, :, places].set(key.swapaxes(1, 2).astype(keys.dtype))
            values = values.at[batch, :, places].set(value.swapaxes(1, 2).astype(values.dtype))
            filled.append((keys, values))
            x = x + layer.attention(y, keys, values, mask=mask)
            x = layer.finish(x, kv)
        return self.norm(x), tuple(filled)


class Whisper(nnx.Module):
    """Encoder and decoder of one checkpoint."""

    def __init__(self, dims: ModelDimensions, *, dtype: DTypeLike, rngs: nnx.Rngs | None) -> None:
        self.encoder = Encoder(dims, dtype=dtype, rngs=rngs)
        self.decoder = Decoder(dims, dtype=dtype, rngs=rngs)

    def attend(self, ways: Ways) -> None:
        """Compute attention in these ways from now on."""
        self.encoder.attend = ways.attend
        for layer in self.decoder.layers:
            layer.cross_attention.read = ways.read
