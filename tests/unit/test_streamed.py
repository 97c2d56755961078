"""The kernel that reads what is kept in one pass gives what reading at once gives, and is one for NVIDIA GPUs.

Its arithmetic is seen here on a CPU, where Pallas interprets it; that Triton's compiler takes it, and how fast it is,
only a GPU can show.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.whisper.attention import read_at_once
from models.whisper.quantize import quantized
from models.whisper.streamed import ROWS, read_streamed

SLOTS, HEADS = 3, 2

#: By how much of the largest number they may differ. bfloat16: both round weights to 8 bits, one before and one after
#: they are divided by their sum. int8: float32 queries and weights are two parts of 8 bits.
BOUNDS = {"float32": 1e-5, "bfloat16": 2.0**-7, "int8": 2.0**-15}


def arguments(kind: str, n_queries: int, length: int, head_dim: int) -> tuple[Any, Any, Any]:
    """Queries, and what is kept in the kind, of which a softmax is neither flat nor a single peak."""
    rng = np.random.default_rng(0)
    q, k, v = (
        jnp.asarray(2 * rng.standard_normal((SLOTS, HEADS, n, head_dim), np.float32))
        for n in (n_queries, length, length)
    )
    if kind == "int8":  # the decoder's queries are float32 then
        small = jax.jit(quantized)
        return q, small(k), small(100 * v)
    return q.astype(kind), k.astype(kind), v.astype(kind)


def at_once(*given: Any) -> np.ndarray:
    """As read by the way that needs no GPU."""
    return np.asarray(jax.jit(partial(read_at_once, mask=None))(*given))


def streamed(*given: Any, **how: Any) -> np.ndarray:
    """As read by the kernel, interpreted."""
    return np.asarray(jax.jit(partial(read_streamed, mask=None, interpret=True, **how))(*given))


def assert_close(ours: np.ndarray, theirs: np.ndarray, bound: float) -> None:
    """The same shape and dtype, and numbers within the bound."""
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound * float(np.abs(theirs).max()))


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("n_queries", [1, 5])
@pytest.mark.parametrize("length", [1500, 64, 130])
@pytest.mark.parametrize("head_dim", [64, 32])
def test_what_is_kept_is_read(kind: str, n_queries: int, length: int, head_dim: int) -> None:
    """Every position counts, the last ones too where they do not fill a block; nothing behind them does."""
    given = arguments(kind, n_queries, length, head_dim)

    assert_close(streamed(*given), at_once(*given), BOUNDS[kind])


@pytest.mark.parametrize(("kind", "n_queries"), [("float32", 1), ("int8", 5)])
@pytest.mark.parametrize("programs", [1, 3 * SLOTS * HEADS, 7 * SLOTS * HEADS])
def test_the_positions_may_be_shared_out(kind: str, n_queries: int, programs: int) -> None:
    """All to one program, or to several: 13 blocks to 3 of 5, the last of which has 3, or to 7 of 2."""
    given = arguments(kind, n_queries, 13 * 64 - 1, 32)

    assert_close(streamed(*given, programs=programs), at_once(*given), BOUNDS[kind])


def test_what_is_masked_or_long_is_read_at_once() -> None:
    """A prompt's queries are many, and what was said is masked: neither is the kernel's."""
    q, k, v = arguments("float32", ROWS + 1, 50, 16)
    mask = jnp.broadcast_to(jnp.arange(50)[None, None, None] < 7, (SLOTS, 1, 1, 50))

    for queries, seen in ((q, None), (q[:, :, :1], mask)):
        np.testing.assert_array_equal(read_streamed(queries, k, v, seen), read_at_once(queries, k, v, seen))


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("n_queries", [1, 5])
def test_it_is_one_kernel_for_cuda(kind: str, n_queries: int) -> None:
    """Lowered to Triton's dialect, which needs no GPU; no product is left outside."""
    given = arguments(kind, n_queries, 1500, 64)

    traced = jax.jit(partial(read_streamed, mask=None)).trace(*given)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()

    assert text.count("__gpu$xla.gpu.triton") == 1
    assert "stablehlo.dot_general" not in text
