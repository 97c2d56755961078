"""Sampled tokens back to timed text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.decoding.segments import TimedTokens, compression_ratio, split_segments
from stenopool.domain import Span

BEGIN = 100  # <|0.00|>
STEP = 320  # samples: 20 ms
S = 16_000  # one second


def t(seconds: float) -> int:
    """The timestamp token."""
    return BEGIN + round(seconds * 50)


def split(tokens: list[int], length: int = 5 * S) -> list[tuple[float, float, tuple[int, ...]]]:
    """Segments with their times in seconds."""
    return [(s.span.start / S, s.span.end / S, s.tokens) for s in split_segments(tokens, BEGIN, length)]


@pytest.mark.parametrize(
    ("tokens", "segments"),
    [
        # the usual: pairs with a pause between them
        ([t(0), 1, 2, t(2), t(2.4), 3, t(4)], [(0, 2, (1, 2)), (2.4, 4, (3,))]),
        # a pair without a pause
        ([t(0), 1, t(2), t(2), 2, t(3)], [(0, 2, (1,)), (2, 3, (2,))]),
        # one timestamp for an end and the next start
        ([t(0), 1, t(2), 2, t(4)], [(0, 2, (1,)), (2, 4, (2,))]),
        # the last timestamp is missing: to the chunk's end
        ([t(1), 1], [(1, 5, (1,))]),
        ([t(0), 1, t(2), t(2.5), 2, 3], [(0, 2, (1,)), (2.5, 5, (2, 3))]),
        # only one timestamp, at either side of the text
        ([1, t(2)], [(0, 2, (1,))]),
        ([t(2), 1, t(2)], [(2, 2, (1,))]),
        # none at all
        ([1, 2], [(0, 5, (1, 2))]),
        # times beyond the chunk's end lie in the padding
        ([t(4), 1, t(6)], [(4, 5, (1,))]),
        ([t(4), 1, t(6), t(7), 2, t(8)], [(4, 5, (1,)), (5, 5, (2,))]),
        ([t(6), 1], [(5, 5, (1,))]),
        # times that go back
        ([t(3), 1, t(1), t(0), 2, t(4)], [(3, 3, (1,)), (3, 4, (2,))]),
        # a run of timestamps: the latest counts
        ([t(0), t(1), t(2), 1, t(3)], [(2, 3, (1,))]),
        # no text
        ([t(0), t(5)], []),
        ([], []),
    ],
)
def test_tokens_are_cut_at_timestamps(tokens: list[int], segments: list[tuple[float, float, tuple[int, ...]]]) -> None:
    """Text lies between the timestamps around it, inside the chunk."""
    assert split(tokens) == segments


def test_times_are_samples() -> None:
    """A timestamp is 320 samples; the chunk's end need not be a multiple of that."""
    assert list(split_segments([BEGIN + 1, 7, BEGIN + 3], BEGIN, 1000)) == [TimedTokens(Span(320, 960), (7,))]
    assert list(split_segments([BEGIN + 1, 7, BEGIN + 4], BEGIN, 1000)) == [TimedTokens(Span(320, 1000), (7,))]
    assert list(split_segments([7, BEGIN + 4], BEGIN, 0)) == [TimedTokens(Span(0, 0), (7,))]


@given(st.lists(st.integers(0, BEGIN + 40), max_size=40), st.integers(0, 40 * STEP))
def test_no_text_is_lost_and_time_goes_forward(tokens: list[int], length: int) -> None:
    """Whatever was sampled: all text, in order, in spans that follow each other inside the chunk, none without text."""
    segments = list(split_segments(tokens, BEGIN, length))

    assert [token for segment in segments for token in segment.tokens] == [token for token in tokens if token < BEGIN]
    assert all(segment.tokens for segment in segments)
    assert all(0 <= segment.span.start <= segment.span.end <= length for segment in segments)
    assert all(a.span.end <= b.span.start for a, b in pairwise(segments))


def test_loops_compress_well() -> None:
    """A loop is beyond openai/whisper's threshold of 2.4, a sentence is not, and nothing is nothing."""
    assert compression_ratio("") == 0.0
    assert compression_ratio("a") == 1 / 9
    assert compression_ratio("Please close the door and check your microphone.") < 1.1
    assert compression_ratio(" Thank you." * 20) > 9
    assert compression_ratio("é") == 2 / 10  # bytes, not characters
