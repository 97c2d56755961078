"""The strip of a recording as a drawing: what became, or becomes, of each stretch of its time line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from stenopool.domain import SAMPLE_RATE
from stenopool.web.pages import clock
from storage.strip import StripPiece, StripState

#: Units of the drawing, as wide as there is room.
WIDTH = 1000
#: Pieces that are drawn one by one; of more, neighbours that are alike are drawn as one.
SINGLE = 400
#: Pieces that are told of in words, at most.
TOLD = 30

#: In the order of the legend.
ORDER = tuple(StripState(one) for one in ("done", "running", "retry", "queued", "gap", "skipped", "silence"))


@dataclass(frozen=True, slots=True)
class Box:
    """A stretch that is drawn."""

    x: float
    width: float
    state: str
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A strip."""

    boxes: tuple[Box, ...]
    #: How many there are of each state, as the legend has them.
    counts: tuple[tuple[str, int], ...]
    #: Stretches that something is to be said of.
    told: tuple[StripPiece, ...]
    #: How many more of them there are.
    more: int
    seconds: float


def drawing(pieces: Sequence[StripPiece], duration: int) -> Drawing:
    """Draw a strip of so many samples."""
    chunks = [piece for piece in pieces if piece.index is not None or piece.state is StripState.SILENCE]
    groups: list[list[StripPiece]] = (
        [[piece] for piece in chunks]
        if len(chunks) <= SINGLE
        else [list(group) for _, group in groupby(chunks, key=lambda piece: piece.state)]
    )
    # What was skipped lies within a chunk, and is drawn over it.
    groups += [[piece] for piece in pieces if piece.index is None and piece.state is StripState.SKIPPED]
    scale = WIDTH / max(duration, 1)
    boxes = []
    for group in groups:
        start, end = group[0].span.start, group[-1].span.end
        x, width = round(start * scale, 2), round(max((end - start) * scale, 0.5), 2)
        boxes.append(Box(x, width, group[0].state.value, _said(group)))
    counts = Counter(piece.state for piece in pieces)
    notable = [
        piece
        for piece in pieces
        if piece.state in (StripState.GAP, StripState.RETRY, StripState.RUNNING) or piece.reason or piece.attempts > 1
    ]
    notable.sort(key=lambda piece: ORDER.index(piece.state) if piece.state is not StripState.GAP else -1)
    return Drawing(
        boxes=tuple(boxes),
        counts=tuple((state.value, counts[state]) for state in ORDER if counts[state]),
        told=tuple(notable[:TOLD]),
        more=max(0, len(notable) - TOLD),
        seconds=duration / SAMPLE_RATE,
    )


def _said(group: Sequence[StripPiece]) -> str:
    first, last = group[0], group[-1]
    when = f"{clock(first.span.start / SAMPLE_RATE)}–{clock(last.span.end / SAMPLE_RATE)}"
    if first.index is None:
        return f"{when}: {first.state.value}" + (f", {first.reason}" if first.reason and len(group) == 1 else "")
    which = f"chunk {first.index}" if len(group) == 1 else f"chunks {first.index} to {last.index}"
    if len(group) > 1:
        return f"{when}, {which}: {first.state.value}"
    attempts = f", attempt {first.attempts}" if first.attempts > 1 else ""
    reason = f", {first.reason}" if first.reason else ""
    return f"{when}, {which}: {first.state.value}{attempts}{reason}"
