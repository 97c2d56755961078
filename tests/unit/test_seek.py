"""How far a window's text reaches, and where the recording goes on."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.decoding.segments import up_to_seek
from scheduler.seek import keep

BEGIN = 100  # <|0.00|>
STEP = 320  # samples: 20 ms
S = 16_000  # one second


def t(seconds: float) -> int:
    """The timestamp token."""
    return BEGIN + round(seconds * 50)


@pytest.mark.parametrize(
    ("tokens", "pieces", "seek", "ended"),
    [
        # up to the last pair; what follows is heard again
        ([t(0), 1, t(2), t(2.4), 2, t(4), t(4), 3], [(0, 2, [t(0), 1, t(2)]), (2.4, 4, [t(2.4), 2, t(4)])], 4, False),
        ([t(0), 1, t(2), t(2)], [(0, 2, [t(0), 1, t(2)])], 2, False),
        ([t(0), 1, t(2), t(9), 2], [(0, 2, [t(0), 1, t(2)])], 2, False),
        # a timestamp alone at the end: nothing was said after it
        ([t(0), 1, t(2), t(3), 2, t(5)], [(0, 2, [t(0), 1, t(2)]), (3, 5, [t(3), 2, t(5)])], 30, True),
        ([t(1), 1, t(5)], [(0, 5, [t(1), 1, t(5)])], 30, True),
        # without a pair, all of it, up to the latest timestamp if there is one
        ([t(0), 1, 2], [(0, 30, [t(0), 1, 2])], 30, False),
        ([t(1), 1, 2], [(0, 1, [t(1), 1, 2])], 30, False),
        ([1, 2], [(0, 30, [1, 2])], 30, False),
        ([], [(0, 30, [])], 30, False),
        # text before the first timestamp begins with the window
        ([1, t(2), t(3), 2, t(4), t(4)], [(0, 2, [1, t(2)]), (3, 4, [t(3), 2, t(4)])], 4, False),
    ],
)
def test_a_window_is_cut_at_pairs_of_timestamps(
    tokens: list[int], pieces: list[tuple[float, float, list[int]]], seek: float, ended: bool
) -> None:
    """Segments lie between pairs, and the next window begins at the last one, as in openai/whisper."""
    kept = keep(tokens, BEGIN, STEP, 30 * S)

    assert [(span.start / S, span.end / S, list(own)) for span, own in kept.pieces] == pieces
    assert (kept.seek / S, kept.ended) == (seek, ended)


def test_a_short_window_is_over_at_its_own_end() -> None:
    """The length is that of the sound; times may lie beyond it, in the padding."""
    kept = keep([t(0), 1, t(12), t(12), 2, t(14)], BEGIN, STEP, 11 * S + 7)

    assert [span.end for span, _ in kept.pieces] == [12 * S, 14 * S]
    assert kept.seek == 11 * S + 7


@st.composite
def texts(draw: st.DrawFn) -> list[int]:
    """What the timestamp rules allow: pairs of times that never decrease, around text; the end may be missing."""
    at, tokens = draw(st.integers(0, 50)), list[int]()
    for _ in range(draw(st.integers(0, 4))):
        tokens += [BEGIN + at, *draw(st.lists(st.integers(0, BEGIN - 1), min_size=1, max_size=3))]
        at += draw(st.integers(1, 300))
        tokens.append(BEGIN + at)
        at += draw(st.integers(0, 60))
    return tokens[: draw(st.integers(0, len(tokens)))]


@given(texts())
def test_a_window_moves_on_and_tells_what_was_aligned(tokens: list[int]) -> None:
    """There is a next window, later than this one; text is kept as far as the engine tells its times."""
    kept = keep(tokens, BEGIN, STEP, 30 * S)

    assert kept.seek > 0
    assert [token for _, own in kept.pieces for token in own] == list(up_to_seek(tokens, BEGIN))
    assert all(a.end <= b.start for (a, _), (b, _) in pairwise(kept.pieces))
    if kept.seek < 30 * S:
        assert kept.seek == kept.pieces[-1][0].end
