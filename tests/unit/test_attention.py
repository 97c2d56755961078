"""Every way to attend gives the same sums; which one suits what."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.whisper.attention import (
    _narrowed,
    attend_at_once,
    attend_by_head,
    attend_fused,
    read_at_once,
    read_by_slot,
    suited,
)
from models.whisper.quantize import quantized

BATCH, HEADS, LENGTH, HEAD_DIM = 3, 2, 50, 16


def random(*shape: int, seed: int = 0) -> jax.Array:
    """Numbers around 0, of which a softmax is neither flat nor a single peak."""
    return 2 * jax.random.normal(jax.random.key(seed), shape, jnp.float32)


def attention(queries: Any, keys: Any, values: Any) -> np.ndarray:
    """The definition, in float64: [batch, query, head, head_dim]."""
    q, k, v = (np.asarray(x, np.float64) for x in (queries, keys, values))
    scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray((weights / weights.sum(-1, keepdims=True) @ v).swapaxes(1, 2))


@pytest.mark.parametrize("attend", [attend_at_once, attend_by_head])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 3e-2)])
def test_a_window_attends_to_itself(attend: Any, dtype: Any, tolerance: float) -> None:
    """Heads and chunks do not mix."""
    q, k, v = (random(BATCH, HEADS, LENGTH, HEAD_DIM, seed=seed).astype(dtype) for seed in range(3))

    mixed = jax.jit(attend)(q, k, v)

    assert mixed.dtype == dtype
    np.testing.assert_allclose(np.asarray(mixed, np.float64), attention(q, k, v), atol=tolerance)


@pytest.mark.parametrize("read", [read_at_once, read_by_slot])
@pytest.mark.parametrize("n_queries", [1, 5])
def test_what_is_kept_is_read(read: Any, n_queries: int) -> None:
    """By one token or several, as floating point or as int8: the scales count for keys and for values."""
    queries = random(BATCH, HEADS, n_queries, HEAD_DIM)
    keys, values = (random(BATCH, HEADS, LENGTH, HEAD_DIM, seed=seed) for seed in (1, 2))
    small, large = quantized(keys), quantized(values * 100)

    np.testing.assert_allclose(jax.jit(read)(queries, keys, values, None), attention(queries, keys, values), atol=1e-5)
    np.testing.assert_allclose(
        jax.jit(read)(queries, small, large, None),
        attention(queries, *(np.asarray(x.values, float) * np.asarray(x.scale) for x in (small, large))),
        rtol=1e-4,
        atol=1e-3,
    )


@pytest.mark.parametrize("read", [read_at_once, read_by_slot])
def test_what_is_masked_is_not_seen(read: Any) -> None:
    """Keys behind a position change nothing, whatever they hold."""
    queries, keys, values = (random(BATCH, HEADS, LENGTH, HEAD_DIM, seed=seed) for seed in range(3))
    seen = 7
    mask = jnp.broadcast_to(jnp.arange(LENGTH)[None, None, None] < seen, (BATCH, 1, LENGTH, LENGTH))

    mixed = jax.jit(read)(queries, keys, values.at[:, :, seen:].set(1e6), mask)

    np.testing.assert_allclose(mixed, attention(queries, keys[:, :, :seen], values[:, :, :seen]), atol=1e-5)


def test_which_way_suits_what() -> None:
    """Loops on one CPU, flash attention for bfloat16 on a GPU, all at once elsewhere."""
    cpu = suited("cpu", jnp.bfloat16, 1)

    assert (cpu.attend, cpu.read, cpu.kept) == (attend_by_head, read_by_slot, jnp.float32)
    assert suited("cpu", jnp.float32, 8).attend is attend_at_once
    assert suited("gpu", jnp.bfloat16, 1).attend is attend_fused
    assert suited("gpu", jnp.bfloat16, 1).kept == jnp.bfloat16
    assert suited("gpu", jnp.float32, 1).attend is attend_at_once
    assert suited("tpu", jnp.bfloat16, 4).attend is attend_at_once


def test_narrowing_is_rounding_to_even() -> None:
    """Bit for bit what `astype` gives, for all that is finite: random numbers, ties, subnormals, the largest."""
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    ties = (bits & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    drawn = np.concatenate([bits, ties, np.arange(0x10000, dtype=np.uint32)]).view(np.float32)
    numbers = jnp.asarray(drawn[np.isfinite(drawn)])

    narrow, wide = _narrowed(numbers), numbers.astype(jnp.bfloat16)

    assert (narrow.view(jnp.uint16) == wide.view(jnp.uint16)).all()
