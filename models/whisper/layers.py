"""The parts that encoder and decoder are made of: products, linear layers, layer norms, feed-forwards.

Parameters and activations have one dtype, `float32` or `bfloat16`; `models.whisper.quantize` makes the kernels and the
cross-attention cache int8. Sums inside products, layer norms and softmaxes are float32 always: on a GPU that costs
nothing, and on a CPU a bfloat16 product with a float32 result is the fast path.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import DTypeLike

from models.whisper.quantize import quantized

LAYER_NORM_EPS = 1e-5


def _precision(dtype: DTypeLike) -> lax.Precision:
    # float32 asks for exactness: without this, GPUs multiply float32 as TF32.
    return lax.Precision.HIGHEST if dtype == jnp.float32 else lax.Precision.DEFAULT


def product(spec: str, a: Array, b: Array) -> Array:
    """An einsum with float32 sums; the result is float32."""
    return jnp.einsum(spec, a, b, precision=_precision(a.dtype), preferred_element_type=jnp.float32)


def drawn(rngs: nnx.Rngs | None, shape: tuple[int, ...], dtype: DTypeLike, scale: float) -> Array:
    """Random numbers of this standard deviation; zeros without `rngs`, where a checkpoint is to take their place."""
    return jnp.zeros(shape, dtype) if rngs is None else jax.random.normal(rngs.params(), shape, dtype) * scale


class Linear(nnx.Module):
    """x @ kernel + bias, float32 inside; kernel [n_in, n_out]."""

    def __init__(self, n_in: int, n_out: int, *, bias: bool = True, dtype: DTypeLike, rngs: nnx.Rngs | None) -> None:
        self.kernel = nnx.Param(drawn(rngs, (n_in, n_out), dtype, n_in**-0.5))
        #: float32 [n_out], where the kernel is int8.
        self.kernel_scale: nnx.Param[Array] | None = nnx.data(None)
        self.bias = nnx.Param(jnp.zeros((n_out,), dtype)) if bias else None

    def __call__(self, x: Array) -> Array:
        if self.kernel_scale is None:
            y = product("...i,io->...o", x, self.kernel[...])
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

    def __init__(self, d: int, hidden: int, *, dtype: DTypeLike, rngs: nnx.Rngs | None) -> None:
        self.fc1 = Linear(d, hidden, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(hidden, d, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))
