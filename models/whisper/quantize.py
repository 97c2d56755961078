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


def quantize_kernels(whisper: Whisper) -> Whisper:
    """The model with int8 kernels in all its layers and an int8 embedding, in place.

    The two convolutions stay as they are: they see raw features, and are a hundredth of the work.
    """
    from models.whisper.modules import Linear

    convolutions = {id(whisper.encoder.conv1), id(whisper.encoder.conv2)}
    for _, module in nnx.iter_modules(whisper):
        if isinstance(module, Linear) and id(module) not in convolutions:
            kernel = quantized(module.kernel[...], axis=0)
            module.kernel = nnx.Param(kernel.values)
            module.kernel_scale = nnx.Param(kernel.scale[0])
    embedding = quantized(whisper.decoder.embedding[...], axis=1)
    whisper.decoder.embedding = nnx.Param(embedding.values)
    whisper.decoder.embedding_scale = nnx.Param(embedding.scale[:, 0])
    return whisper
