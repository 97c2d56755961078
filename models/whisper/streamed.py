"""Reading what is kept in one pass: flash decoding (Dao et al. 2023) as a Pallas kernel for NVIDIA GPUs.

A decode step reads the audio's keys and values of every slot, and little else: at best it takes as long as reading each
byte once. The kernel walks the positions in blocks with an online softmax, so that neither similarities nor floating
point copies of int8 ever reach memory.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from models.whisper.attention import MASKED, Kept, read_at_once
from models.whisper.quantize import Quantized

#: Positions of a block. Keys and values of one are 16 KB in bfloat16, 32 registers of a thread with four warps, half of
#: those it may have where eight programs share a multiprocessor. 1,500 positions are 23.4 blocks: little is idle.
BLOCK = 64
#: Programs that fill a GPU: eight for each of an H200's 132 multiprocessors, so that some wait for memory while others
#: add. 64 slots of 20 heads are enough; of fewer, the positions are shared out to several programs.
PROGRAMS = 1024
#: Triton's products want as many rows; more queries than that are a prompt, of which no product is short of work.
ROWS = 16


def read_streamed(
    queries: Array,
    keys: Kept,
    values: Kept,
    mask: Array | None,
    *,
    programs: int = PROGRAMS,
    interpret: bool = False,
) -> Array:
    """A `Read` for few queries that see every position; others are read at once.

    Args:
        queries: [slot, head, q, head_dim], where head_dim is a power of two.
        keys, values: [slot, head, length, head_dim]; float32, bfloat16, or int8 with scales [slot, head, length, 1].
        mask: None, or what is left to `read_at_once`.
        programs: the positions are shared out until there are about so many.
        interpret: run the kernel without a GPU, slowly.

    Returns:
        float32 [slot, q, head, head_dim].
    """
    slots, heads, n_queries, head_dim = queries.shape
    if mask is not None or n_queries > ROWS:
        return read_at_once(queries, keys, values, mask)
    length = keys.shape[2]
    n_blocks = pl.cdiv(length, BLOCK)
    n_walked = pl.cdiv(n_blocks, min(n_blocks, pl.cdiv(programs, slots * heads)))
    n_shares = pl.cdiv(n_blocks, n_walked)
    rows = 1 if n_queries == 1 else ROWS

    def of_head(*sizes: int | None) -> Any:
        return pl.BlockSpec((None, None, *sizes), lambda slot, head, _: (slot, head, 0, 0))

    kept = of_head(length, head_dim)
    if isinstance(keys, Quantized):
        kept = Quantized(kept, of_head(length, None))
    mixed, weight = pl.pallas_call(
        partial(_walk, n_queries=n_queries, length=length, n_walked=n_walked),
        grid=(slots, heads, n_shares),
        in_specs=[of_head(rows, head_dim), kept, kept],
        out_specs=[
            pl.BlockSpec((None, None, rows, None, head_dim), lambda slot, head, share: (share, slot, 0, head, 0)),
            pl.BlockSpec((None, None, rows, None), lambda slot, head, share: (share, slot, 0, head)),
        ],
        out_shape=[
            jax.ShapeDtypeStruct((n_shares, slots, n_queries, heads, head_dim), jnp.float32),
            jax.ShapeDtypeStruct((n_shares, slots, n_queries, heads), jnp.float32),
        ],
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="read_streamed",
    )(queries, keys, values)
    share_of = jax.nn.softmax(weight, axis=0)  # all ones where there is one share
    whole: Array = (mixed * share_of[..., None]).sum(0)
    return whole


def _walk(
    queries: Any, keys: Any, values: Any, mixed: Any, weight: Any, *, n_queries: int, length: int, n_walked: int
) -> None:
    """What one head of one slot takes from its share of the positions.

    Args:
        queries: reference to [rows, head_dim], of which the first `n_queries` are there.
        keys, values: references to [length, head_dim], and of int8 to scales [length], too.
        mixed: reference to float32 [rows, head_dim]: the share's weighted mean of the values ...
        weight: ... and to float32 [rows]: the logarithm of its sum of exponentials.
        n_queries: of the slot.
        length: positions of the slot.
        n_walked: blocks of a share.
    """
    rows, head_dim = queries.shape
    there = jnp.arange(rows) < n_queries
    q = triton.load(queries, mask=there[:, None], other=0).astype(jnp.float32)
    share = pl.program_id(2)

    def block(number: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        mixture, total, highest = carry
        start = (share * n_walked + number) * BLOCK
        seen = start + jnp.arange(BLOCK) < length

        def load(kept: Any) -> tuple[Array, Array | None]:
            of = pl.ds(start, BLOCK)
            if not isinstance(kept, Quantized):
                return triton.load(kept.at[of, :], mask=seen[:, None], other=0), None
            scales: Any = kept.scale
            return load(kept.values)[0], triton.load(scales.at[of], mask=seen, other=0.0)

        # Both before the first is waited for: where nothing is a dot, Triton does not load ahead of its loop.
        (k, k_scale), (v, v_scale) = load(keys), load(values)
        scores = _product(q, k.T) * head_dim**-0.5
        if k_scale is not None:
            scores *= k_scale[None]
        scores = jnp.where(seen[None], scores, MASKED)
        above = jnp.maximum(highest, scores.max(axis=1))
        weights, before = jnp.exp(scores - above[:, None]), jnp.exp(highest - above)
        total = total * before + weights.sum(axis=1)
        if v_scale is not None:
            weights *= v_scale[None]
        return mixture * before[:, None] + _product(weights, v), total, above

    nothing = jnp.zeros((rows, head_dim), jnp.float32), jnp.zeros(rows, jnp.float32), jnp.full(rows, MASKED)
    mixture, total, highest = lax.fori_loop(0, n_walked, block, nothing)
    triton.store(mixed, mixture / total[:, None], mask=there[:, None])
    triton.store(weight, highest + jnp.log(total), mask=there)


def _product(a: Array, b: Array) -> Any:
    """float32 [rows, n] by what is kept, [n, m]: float32 [rows, m], as exact as the latter is."""
    if a.shape[0] == 1:
        # Padded to 16 rows it would be one sixteenth work, and pass through shared memory; this stays in registers.
        return (a.T * b.astype(jnp.float32)).sum(axis=0, keepdims=True)
    if b.dtype == jnp.float32:
        return triton.dot(a, b, precision=lax.Precision.HIGHEST)
    if b.dtype == jnp.int8:
        # For tensor cores: int8 is exact in bfloat16, and float32 nearly so in two parts of it.
        b = b.astype(jnp.bfloat16)
        high = a.astype(jnp.bfloat16)
        low = (a - high.astype(jnp.float32)).astype(jnp.bfloat16)
        return triton.dot(high, b) + triton.dot(low, b)
    return triton.dot(a.astype(b.dtype), b)
