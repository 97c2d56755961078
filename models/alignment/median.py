"""A running median along the last axis, for rows of different lengths."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def median_filter(x: Array, lengths: Array, width: int) -> Array:
    """The median of `width` neighbours, each row mirrored at its own ends (openai/whisper `timing.py`).

    Args:
        x: float32 [row, ..., length].
        lengths: int32 [row]: of each row's own values; what follows them is not read, and means nothing in the result.
        width: odd.

    Returns:
        As x. Rows that are too short to be mirrored, of at most width // 2 values, stay as they are.
    """
    pad, length = width // 2, x.shape[-1]
    if not pad or length <= pad:
        return x
    own = lengths.reshape(-1, *(1,) * (x.ndim - 1))
    # In:  [a b c d ? ?]                width 5, 4 values of its own
    # Out: [c b a b c d c b ? ?]
    extended = jnp.pad(jnp.concatenate([x[..., pad:0:-1], x], axis=-1), [(0, 0)] * (x.ndim - 1) + [(0, pad)])
    at = jnp.arange(length + 2 * pad).reshape(*(1,) * (x.ndim - 1), -1)
    for beyond in range(pad):
        source = jnp.broadcast_to(jnp.maximum(own - 2 - beyond, 0), (*x.shape[:-1], 1))
        extended = jnp.where(at == own + pad + beyond, jnp.take_along_axis(x, source, axis=-1), extended)
    middle = _middle([extended[..., shift : shift + length] for shift in range(width)])
    return jnp.where(own > pad, middle, x)


def _middle(values: list[Array]) -> Array:
    """The elementwise median of an odd number of arrays.

    The least and the greatest of more than half of the values cannot be the median: they are dropped and the next one
    is looked at, until one is left. Minima and maxima of whole arrays are far cheaper than many small sorts.
    """
    kept, rest = values[: len(values) // 2 + 2], values[len(values) // 2 + 2 :]
    while len(kept) > 1:
        for i in range(1, len(kept)):
            kept[0], kept[i] = jnp.minimum(kept[0], kept[i]), jnp.maximum(kept[0], kept[i])
        for i in range(1, len(kept) - 1):
            kept[i], kept[-1] = jnp.minimum(kept[i], kept[-1]), jnp.maximum(kept[i], kept[-1])
        kept = kept[1:-1] + rest[:1]
        rest = rest[1:]
    return kept[0]
