"""Plots as SVG, drawn by templates from figures that are ready: nothing here is text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Units of the drawing; it is as wide as there is room.
WIDTH, HEIGHT = 600, 120


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of time."""

    x: float
    y: float
    width: float
    height: float
    at: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Values over time, as bars."""

    title: str
    unit: str
    bars: tuple[Bar, ...]
    #: The value at the upper edge.
    top: float
    latest: float | None
    #: Places and times of marks on the time line.
    marks: tuple[tuple[float, float], ...]


def plot(title: str, unit: str, values: Sequence[tuple[float, float]], began: float, end: float, piece: float) -> Plot:
    """Place values, each of a piece of time, between two times."""
    shown = [(at, value) for at, value in values if began <= at < end]
    top = ceiling(max((value for _, value in shown), default=0.0))
    scale = WIDTH / (end - began)
    bars = tuple(
        Bar(
            x=round((at - began) * scale + 0.5, 2),
            y=round(HEIGHT - value / top * HEIGHT, 2),
            width=round(piece * scale - 1, 2),
            height=round(value / top * HEIGHT, 2),
            at=at,
            value=value,
        )
        for at, value in shown
    )
    first = math.ceil(began / 3600) * 3600
    marks = tuple((round((at - began) * scale, 1), float(at)) for at in range(first, int(end), 3600))
    return Plot(title=title, unit=unit, bars=bars, top=top, latest=shown[-1][1] if shown else None, marks=marks)


def ceiling(value: float) -> float:
    """The next round figure above.

    In: 0.3, 7, 23   Out: 0.5, 10, 50
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power)
