"""Dynamic time warping on the device, for a batch of cost matrices of different sizes.

The recurrence is the usual one (Sakoe & Chiba 1978), the rule for ties that of openai/whisper's `timing.py`. A cell
needs its three neighbours above and to the left, so all cells of an anti-diagonal are computed at once.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

_Diagonal = tuple[Array, Array, Array]


def warp(costs: Array, n_tokens: Array, n_frames: Array) -> tuple[Array, Array]:
    """The cheapest way through each matrix, from its first cell to its last; token and frame never step back.

    A step from the side stays with its token, one from above stays on its frame, a diagonal one moves on in both. As in
    openai/whisper, the diagonal step and the one from above are taken only where they are strictly cheapest, else the
    one from the side: even where the other two are equal and cheaper than it.

    Args:
        costs: float32 [row, token, frame]; what lies outside a row's own size is never looked at.
        n_tokens: int32 [row], at least 1.
        n_frames: int32 [row], at least 1.

    Returns:
        First and last frame of each token, int32 [row, token]; 0 beyond the row's tokens.
    """
    entries = _entries(costs)
    rows = jnp.arange(costs.shape[0])

    def back(at: Array, token: Array) -> tuple[Array, tuple[Array, Array]]:
        # at: the last frame of this token, int32 [row].
        inside = token < n_tokens
        entry = entries[at + token, rows, token]
        first, is_diagonal = entry >> 1, entry & 1
        came_from = jnp.where(inside, first - is_diagonal, at)
        return came_from, (jnp.where(inside, first, 0), jnp.where(inside, at, 0))

    tokens = jnp.arange(costs.shape[1], dtype=jnp.int32)
    _, (first, last) = lax.scan(back, n_frames - 1, tokens, reverse=True)
    return first.T, last.T


def _entries(costs: Array) -> Array:
    """How the way to each cell came to its token: twice the frame at which it did, plus 1 if diagonally.

    With that beside the sums, the way back takes a step per token rather than one per cell.

    Returns:
        int32 [diagonal, row, token]; cell (token, frame) is on the diagonal token + frame.
    """
    n_row, n_token, n_frame = costs.shape
    n_diagonal = n_token + n_frame - 1
    # In:  [[a, b, c], [d, e, f]]
    # Out: [[a, b, c, 0], [0, d, e, f]], whose columns are the diagonals
    padded = jnp.pad(costs, ((0, 0), (0, 0), (0, n_token)))
    skewed = padded.reshape(n_row, -1)[:, : n_token * n_diagonal].reshape(n_row, n_token, n_diagonal)

    token = jnp.arange(n_token, dtype=jnp.int32)[None]
    outside = jnp.full((n_row, 1), jnp.inf)

    def step(carry: _Diagonal, diagonal: Array) -> tuple[_Diagonal, Array]:
        # Of the last diagonal and the one before: sums, shifted so that they lie above the cells of this one.
        before, left, entry_left = carry
        cost = lax.dynamic_index_in_dim(skewed, diagonal, axis=2, keepdims=False)
        above = jnp.concatenate([outside, left[:, :-1]], axis=1)
        frame = diagonal - token
        is_diagonal = (before < above) & (before < left)
        is_above = (above < before) & (above < left)
        entered = jnp.where(is_diagonal, 2 * frame + 1, 2 * frame)
        entry = jnp.where(is_diagonal | is_above, entered, entry_left)
        total = cost + jnp.where(is_diagonal, before, jnp.where(is_above, above, left))
        return (above, total, entry), entry

    # Before the first diagonal, only the way into the first cell costs nothing; thus left of the first frame everything
    # costs infinitely much, and what is right of the last frame is never asked.
    start = jnp.where(token == 0, 0.0, jnp.full((n_row, n_token), jnp.inf))
    carry = (start, jnp.full((n_row, n_token), jnp.inf), jnp.zeros((n_row, n_token), jnp.int32))
    _, entries = lax.scan(step, carry, jnp.arange(n_diagonal, dtype=jnp.int32))
    return entries
