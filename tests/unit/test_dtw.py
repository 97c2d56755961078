"""Dynamic time warping: the cheapest way of a text through its frames."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.alignment.dtw import warp
from tests.warping import Path, cheapest

WARP = jax.jit(warp)
SIZE = (13, 40)
SHAPES = ((1, 1), (1, 5), (5, 1), (2, 2), (3, 8), (8, 3), (13, 40), (13, 6))


def warped(matrices: Sequence[np.ndarray], size: tuple[int, int] = SIZE, filler: float = 0.0) -> list[Path]:
    """The cells of each matrix's way, all of them in one batch of that size."""
    batch = np.full((len(matrices), *size), filler, np.float32)
    for place, costs in zip(batch, matrices, strict=True):
        place[: costs.shape[0], : costs.shape[1]] = costs
    sizes = np.array([costs.shape for costs in matrices], np.int32)
    first, last = map(np.asarray, WARP(jnp.asarray(batch), *map(jnp.asarray, sizes.T)))
    for row, (n_tokens, _) in enumerate(sizes):
        assert not first[row, n_tokens:].any()
        assert not last[row, n_tokens:].any()
    return [
        [(i, j) for i in range(len(costs)) for j in range(first[row, i], last[row, i] + 1)]
        for row, costs in enumerate(matrices)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_way_is_the_cheapest(seed: int) -> None:
    """On real numbers the way is that of the plain recurrence."""
    rng = np.random.default_rng(seed)
    matrices = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]

    assert warped(matrices) == list(map(cheapest, matrices))


@pytest.mark.parametrize("seed", range(5))
def test_ties_are_broken_as_the_reference_does(seed: int) -> None:
    """On small integers many ways cost the same; the same one is chosen."""
    rng = np.random.default_rng(seed)
    matrices = [rng.integers(-1, 2, shape).astype(np.float32) for shape in SHAPES]

    assert warped(matrices) == list(map(cheapest, matrices))


def test_a_tie_goes_to_the_side() -> None:
    """Where the diagonal step and the one from above are equal, neither is taken, though the side costs more."""
    costs = np.array([[0, 0], [0, 9], [0, 0]], np.float32)

    # Into the last cell: 0 diagonally from (1, 0), 9 from above, 0 from the side: the side.
    assert warped([costs]) == [[(0, 0), (1, 0), (2, 0), (2, 1)]]

    # Into the last cell: 1 diagonally, 1 from above, 6 from the side.
    costs = np.array([[1, 0], [5, 0]], np.float32)
    assert warped([costs]) == [[(0, 0), (1, 0), (1, 1)]]


@pytest.mark.parametrize("shape", [(10, 20), (32, 16), (123, 1500), (234, 189)])
def test_a_hidden_way_is_found(shape: tuple[int, int]) -> None:
    """Cells that gain, on a random way through a matrix of cells that cost, are found again."""
    rng = np.random.default_rng(0)
    costs = rng.uniform(0.01, 1, (234, 1500)).astype(np.float32)
    way = [(0, 0)]
    while way[-1] != (shape[0] - 1, shape[1] - 1):
        steps = [(i, j) for i, j in ((0, 1), (1, 0), (1, 1)) if way[-1][0] + i < shape[0] and way[-1][1] + j < shape[1]]
        i, j = steps[rng.integers(len(steps))]
        way.append((way[-1][0] + i, way[-1][1] + j))
    for cell in way:
        costs[cell] -= 1

    assert warped([costs[: shape[0], : shape[1]]], (234, 1500)) == [way]


@given(shapes=st.lists(st.sampled_from(SHAPES), min_size=8, max_size=8), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_rows_see_neither_their_padding_nor_each_other(
    shapes: list[tuple[int, int]], seed: int, data: st.DataObject
) -> None:
    """Matrices of any sizes in one batch, amid numbers that mean nothing, give the ways that they give alone."""
    filler = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, -1e9, 0.0]))
    rng = np.random.default_rng(seed)
    matrices = [rng.integers(-1, 2, shape).astype(np.float32) for shape in shapes]

    assert warped(matrices, filler=filler) == list(map(cheapest, matrices))
