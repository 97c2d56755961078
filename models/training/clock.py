"""One clock for all timestamps: what each of the 1,501 tokens would have to learn alone, they learn together.

A window of 30 s has some twenty timestamps, so that each of them is seen once in a hundred windows, and nothing tells a
new model that <|12.34|> is next to <|12.36|>, or where in the sound either is. Here the vector of a timestamp is its
own plus a linear map, the same for all, of the sinusoids that the encoder has at that position. Exported, the two are
added up: it is a Whisper like any other.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

#: Of the map, float32 [d, d], among what learns.
NAME = "timestamps.kernel"
#: 0.00 to 30.00 in steps of 20 ms: the last tokens of every Whisper vocabulary.
N_TIMESTAMPS = 1501


def sinusoids(length: int, width: int) -> np.ndarray:
    """Sines and cosines of wavelengths up to 10,000 positions, float32 [length, width] (openai/whisper `model.py`)."""
    rates = np.exp(-np.log(10_000) / (width // 2 - 1) * np.arange(width // 2))
    angles = np.outer(np.arange(length), rates)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def still(width: int) -> Array:
    """A map that adds nothing: where every clock begins."""
    return jnp.zeros((width, width), jnp.float32)


def set_by(params: Mapping[str, Array]) -> dict[str, Array]:
    """The parameters with the map added to the embedding's last rows, which are the timestamps'; without the map."""
    kernel = params.get(NAME)
    rest = {name: value for name, value in params.items() if name != NAME}
    if kernel is None:
        return rest
    embedding = rest["decoder.embedding"]
    width = kernel.shape[0]
    # Divided, so that the map learns at the rate of all others.
    places = jnp.asarray(sinusoids(N_TIMESTAMPS, width) / np.sqrt(width))
    return rest | {"decoder.embedding": embedding.at[-N_TIMESTAMPS:].add(places @ kernel)}


def blurred(logs: Array, targets: Array, likely: Array, width: float) -> Array:
    """The log-probability of each target; where it is a timestamp, the mean of those near it, by a bell around it.

    Args:
        logs: log-probabilities, float32 [B, length, n_vocab].
        targets: int32 [B, length].
        likely: of the targets themselves, float32 [B, length].
        width: standard deviation of the bell, in timestamps.
    """
    nth = targets - (logs.shape[-1] - N_TIMESTAMPS)
    distance = jnp.arange(N_TIMESTAMPS, dtype=jnp.float32)[None, None] - nth.astype(jnp.float32)[..., None]
    bell = jax.nn.softmax(-jnp.square(distance / width) / 2)
    return jnp.where(nth >= 0, (bell * logs[..., -N_TIMESTAMPS:]).sum(-1), likely)
