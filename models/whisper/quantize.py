"""int8: weights with a scale per output channel, activations with a scale per token, the audio's cache per position.

Symmetric, rounded to nearest, no calibration: W8A8 with dynamic per-token activations as in ZeroQuant (Yao et al.
2022). Products of int8 by int8 are summed in int32, which CPUs (VNNI) and GPUs compute natively.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

if TYPE_CHECKING:
    from models.whisper.modules import Whisper

_LARGEST = 127.0


@functools.partial(jax.tree_util.register_dataclass)
@dataclass(frozen=True)
class Quantized:
    """`values * scale` stands for the original.

    values: int8, any shape.
    scale: float32, of the same rank, 1 along the axis that shares one.
    """

    values: Array
    scale: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values."""
        return self.values.shape


def quantized(x: Array, axis: int = -1) -> Quantized:
    """int8 values with one scale for all entries along `axis`."""
    x = x.astype(jnp.float32)
    largest = jnp.max(jnp.abs(x), axis=axis, keepdims=True)
    scale = jnp.where(largest > 0, largest, 1.0) / _LARGEST  # all zeros stay zeros
    return Quantized(jnp.round(x / scale).astype(jnp.int8), scale)


def quantize_decoder(whisper: Whisper) -> Whisper:
    """The model with int8 kernels in all layers of its decoder and an int8 embedding, in place.

    The encoder stays as it is: it reads its kernels once for 1,500 positions, so that their bytes do not matter, and
    bfloat16 products are as fast as int8 ones where activations have to be quantised first.
    """
    from models.whisper.layers import Linear

    decoder = whisper.decoder
    for _, module in nnx.iter_modules(decoder):
        if isinstance(module, Linear):
            kernel = quantized(module.kernel[...], axis=0)
            module.kernel = nnx.Param(kernel.values)
            module.kernel_scale = nnx.Param(kernel.scale[0])
    embedding = quantized(decoder.embedding[...], axis=1)
    decoder.embedding = nnx.Param(embedding.values)
    decoder.embedding_scale = nnx.Param(embedding.scale[:, 0])
    return whisper
