"""Word alignment's steps as they are written down, in plain numpy, for the tests of those on the device."""

from __future__ import annotations

import numpy as np

#: (token, frame) of each cell.
Path = list[tuple[int, int]]


def cheapest(costs: np.ndarray) -> Path:
    """The cells of the way, found cell by cell: the recurrence as it is written down."""
    n, m = costs.shape
    total = np.full((n + 1, m + 1), np.inf, np.float32)
    total[0, 0] = 0
    steps = {}
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            diagonal, above, side = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
            if diagonal < min(above, side):
                step, best = (1, 1), diagonal
            elif above < min(diagonal, side):
                step, best = (1, 0), above
            else:
                step, best = (0, 1), side
            total[i, j], steps[i, j] = costs[i - 1, j - 1] + best, step
    path, at = Path(), (n, m)
    while at != (0, 0):
        path.append((at[0] - 1, at[1] - 1))
        at = (at[0] - steps[at][0], at[1] - steps[at][1])
    return path[::-1]


def slid(x: np.ndarray, width: int) -> np.ndarray:
    """The running median along the last axis, mirrored at its ends, one window after the other."""
    pad = width // 2
    if x.shape[-1] <= pad:
        return x
    mirrored = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(pad, pad)], mode="reflect")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(mirrored, width, axis=-1), axis=-1))
