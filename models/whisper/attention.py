"""Attention: to what is kept from step to step, and of a whole window to itself.

The second is most of an encoder's memory traffic, 1,500 x 1,500 similarities for every head; the first is most of a
decoder's, the whole audio for every token. So there are several ways to each, with the same sums in another order, and
each is fastest somewhere (`suited`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import DTypeLike

from models.whisper.layers import Linear, product
from models.whisper.quantize import Quantized

MASKED = -1e30  # finite, so that a row without any key stays a number

#: Keys or values that are kept from step to step, [batch, head, length, head_dim].
Kept = Array | Quantized
#: Keys and values of every decoder layer.
KeysValues = tuple[tuple[Kept, Kept], ...]

#: From queries, keys and values [batch, head, length, head_dim] to [batch, length, head, head_dim].
Attend = Callable[[Array, Array, Array], Array]
#: From queries [batch, head, q, head_dim], keys, values, and a mask or None to float32 [batch, q, head, head_dim].
Read = Callable[[Array, Kept, Kept, Array | None], Array]


def attend_at_once(queries: Array, keys: Array, values: Array) -> Array:
    """All similarities first, then their softmax, then the values."""
    return read_at_once(queries, keys, values, None).astype(values.dtype)


def attend_by_head(queries: Array, keys: Array, values: Array) -> Array:
    """One head after the other: what a head needs stays in a CPU's cache, and its two products are plain ones."""
    batch, n_head, length, head_dim = queries.shape

    def one(head: tuple[Array, Array, Array]) -> Array:
        q, k, v = head
        scores = product("qd,kd->qk", q, k) * float(head_dim**-0.5)
        weights = jnp.exp(scores - scores.max(-1, keepdims=True))
        mixed = product("qk,kd->qd", _narrowed(weights) if v.dtype == jnp.bfloat16 else weights, v)
        return (mixed / weights.sum(-1, keepdims=True)).astype(v.dtype)

    flat = tuple(x.reshape(batch * n_head, length, head_dim) for x in (queries, keys, values))
    mixed: Array = lax.map(one, flat)
    return mixed.reshape(batch, n_head, length, head_dim).swapaxes(1, 2)


def _narrowed(x: Array) -> Array:
    """Finite float32 as bfloat16, rounded to even as `astype` does, which CPUs take four times as long for."""
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    rounded = bits + jnp.uint32(0x7FFF) + ((bits >> 16) & 1)
    return lax.bitcast_convert_type((rounded >> 16).astype(jnp.uint16), jnp.bfloat16)


def attend_fused(queries: Array, keys: Array, values: Array) -> Array:
    """cuDNN's flash attention (Dao et al. 2022): the similarities never reach memory. bfloat16, on NVIDIA GPUs."""
    q, k, v = (x.swapaxes(1, 2) for x in (queries, keys, values))
    mixed: Array = jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    return mixed


def similarities(queries: Array, keys: Kept) -> Array:
    """Scaled products of queries [batch, head, q, head_dim] with keys, float32 [batch, head, q, k]."""
    scale = float(queries.shape[-1] ** -0.5)
    if isinstance(keys, Quantized):
        return (
            product("bhqd,bhkd->bhqk", queries, keys.values.astype(queries.dtype)) * keys.scale.swapaxes(2, 3) * scale
        )
    return product("bhqd,bhkd->bhqk", queries.astype(keys.dtype), keys) * scale


def read_at_once(queries: Array, keys: Kept, values: Kept, mask: Array | None) -> Array:
    """All slots together; what is int8 is made floating point first."""
    scores = similarities(queries, keys)
    if mask is not None:
        scores = jnp.where(mask, scores, MASKED)
    weights = jax.nn.softmax(scores, axis=-1)
    if isinstance(values, Quantized):
        weights = weights * values.scale.swapaxes(2, 3)
        values = values.values.astype(queries.dtype)
    return product("bhqk,bhkd->bqhd", weights.astype(values.dtype), values)


def read_by_slot(queries: Array, keys: Kept, values: Kept, mask: Array | None) -> Array:
    """One slot after the other where they are int8: what is made floating point stays in a CPU's cache."""
    if not isinstance(keys, Quantized) or mask is not None:
        return read_at_once(queries, keys, values, mask)

    def one(slot: tuple[Array, Kept, Kept]) -> Array:
        q, k, v = jax.tree.map(lambda x: x[None], slot)
        return read_at_once(q, k, v, None)[0]

    mixed: Array = lax.map(one, (queries, keys, values))
    return mixed


@dataclass(frozen=True, slots=True)
class Ways:
    """How attention is computed on a kind of device."""

    attend: Attend
    read: Read
    #: Keys and values of bfloat16 models are kept in this.
    kept: Any

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called, the same in every process."""
        return self.attend.__name__, self.read.__name__, str(jnp.dtype(self.kept))


def suited(backend: str, dtype: DTypeLike, n_devices: int) -> Ways:
    """The fastest ways for a backend of JAX, the dtype of activations, and a mesh of so many devices."""
    if backend == "cpu" and n_devices == 1:  # over several, a loop over heads or slots would visit each in turn
        # CPUs read float32 faster than they make it of bfloat16.
        return Ways(attend_by_head, read_by_slot, jnp.float32)
    fused = backend == "gpu" and dtype == jnp.bfloat16
    return Ways(attend_fused if fused else attend_at_once, read_at_once, dtype)


class Attention(nnx.Module):
    """Multi-head attention whose keys and values can be made once and kept, also as int8.

    Shapes: queries [batch, q, d]; keys and values [batch, head, k, head_dim].
    """

    def __init__(self, d: int, n_head: int, *, dtype: DTypeLike, rngs: nnx.Rngs | None) -> None:
        self.n_head = n_head
        self.query = Linear(d, d, dtype=dtype, rngs=rngs)
        self.key = Linear(d, d, bias=False, dtype=dtype, rngs=rngs)
        self.value = Linear(d, d, dtype=dtype, rngs=rngs)
        self.out = Linear(d, d, dtype=dtype, rngs=rngs)
        #: How what is kept is read; no part of what the model is.
        self.read: Read = read_at_once

    def _heads(self, x: Array) -> Array:
        batch, length, d = x.shape
        return x.reshape(batch, length, self.n_head, d // self.n_head).transpose(0, 2, 1, 3)

    def keys_values(self, x: Array) -> tuple[Array, Array]:
        """Keys and values [batch, head, length, head_dim] of x [batch, length, d]."""
        return self._heads(self.key(x)), self._heads(self.value(x))

    def to_itself(self, x: Array, attend: Attend) -> Array:
        """Attend from x [batch, length, d] to all of x."""
        mixed = attend(self._heads(self.query(x)), *self.keys_values(x))
        return self.out(mixed.reshape(x.shape))

    def scores(self, x: Array, keys: Kept) -> Array:
        """Scaled similarities of x [batch, q, d] with the keys, float32 [batch, head, q, k]: before the softmax."""
        return similarities(self._heads(self.query(x)), keys)

    def __call__(self, x: Array, keys: Kept, values: Kept, mask: Array | None = None) -> Array:
        """Attend from x [batch, q, d]; mask is True where a key may be seen, broadcast to [batch, head, q, k]."""
        mixed = self.read(self._heads(self.query(x)), keys, values, mask)
        return self.out(mixed.astype(x.dtype).reshape(x.shape))
