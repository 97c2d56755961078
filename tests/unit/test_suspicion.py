"""How likely it is that a segment was never said: what the signs are worth, and that none clears another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.suspicion import PHRASES, suspicion
from stenopool.domain import Segment, Span

S = 16_000
WHOLE = Span(10 * S, 14 * S)
SAID = Segment(
    span=WHOLE,
    text=" Please close the door.",
    chunk=0,
    avg_logprob=-0.3,
    compression_ratio=1.2,
    no_speech_prob=0.05,
)


def speech(share: float) -> tuple[Span, ...]:
    """Speech in that share of the segment, from its beginning; and some in other places."""
    end = WHOLE.start + round(share * len(WHOLE))
    return (Span(0, S), Span(WHOLE.start - S, end), Span(20 * S, 30 * S))


@pytest.mark.parametrize(
    ("changes", "share", "expected"),
    [
        ({}, None, 0.0),
        ({}, 1.0, 0.0),
        ({}, 0.5, 0.0),  # pauses are speech, too
        ({}, 0.0, 0.7),  # nobody spoke
        ({}, 0.25, 0.35),
        ({"avg_logprob": -0.8}, None, 0.0),
        ({"avg_logprob": -1.4}, None, 0.25),
        ({"avg_logprob": -5.0}, None, 0.5),
        ({"compression_ratio": 3.0}, None, 0.4),
        ({"compression_ratio": 9.0}, None, 0.8),
        ({"no_speech_prob": 1.0}, None, 0.4),
        ({"temperature": 1.0}, None, 0.2),
        ({"text": "x" * 210}, None, 0.3),  # 52.5 characters a second
        ({"avg_logprob": -5.0, "compression_ratio": 9.0}, None, 0.9),  # 1 - 0.5 * 0.2
        ({"avg_logprob": -5.0, "temperature": 1.0}, 0.0, 0.88),  # 1 - 0.5 * 0.8 * 0.3
        ({"text": " Thank you."}, 1.0, 0.0),  # somebody said so
        ({"text": " Thank you."}, None, 0.0),
        ({"text": " Thank you."}, 0.0, 0.94),  # 1 - 0.3 * 0.2
        ({"text": " Thanks for watching!"}, 0.0, 0.94),
    ],
)
def test_what_signs_are_worth(changes: dict[str, float], share: float | None, expected: float) -> None:
    """Each sign alone, two together, and the phrases that Whisper writes over silence."""
    segment = replace(SAID, **changes)  # type: ignore[arg-type]

    assert suspicion(segment, None if share is None else speech(share)) == pytest.approx(expected, abs=1e-3)


def test_a_segment_without_time_is_as_fast_as_can_be() -> None:
    """No division by nothing: a tenth of a second is the least."""
    assert suspicion(replace(SAID, span=Span(5, 5)), None) == pytest.approx(0.6, abs=1e-3)
    assert suspicion(replace(SAID, span=Span(5, 5)), ()) == pytest.approx(0.88, abs=1e-3)


def test_the_phrases_are_in_the_form_that_is_compared() -> None:
    """Lower case, without signs: else they would never be found."""
    assert all(phrase == "".join(c for c in phrase if c.isalpha() or c == " ").lower().strip() for phrase in PHRASES)


SEGMENTS = st.builds(
    replace,
    st.just(SAID),
    text=st.sampled_from([" Thank you.", " you", "", " It was late.", " la" * 80]),
    avg_logprob=st.floats(-3, 0),
    compression_ratio=st.floats(0, 5),
    no_speech_prob=st.floats(0, 1),
    temperature=st.floats(0, 1),
)


@given(SEGMENTS, st.none() | st.floats(0, 1))
def test_it_is_a_probability(segment: Segment, share: float | None) -> None:
    """Between 0 and 1, whatever comes together."""
    assert 0 <= suspicion(segment, None if share is None else speech(share)) <= 1


@given(
    SEGMENTS, st.sampled_from(["avg_logprob", "compression_ratio", "no_speech_prob", "temperature"]), st.floats(0, 3)
)
def test_a_worse_score_is_no_less_suspect(segment: Segment, name: str, more: float) -> None:
    """In each of the scores: what is less likely, more repetitive or more like silence is at least as suspect."""
    worse = getattr(segment, name) + (-more if name == "avg_logprob" else more)

    changed: dict[str, float] = {name: worse}
    assert suspicion(replace(segment, **changed), None) >= suspicion(segment, None)  # type: ignore[arg-type]


@given(SEGMENTS, st.floats(0, 1), st.floats(0, 1))
def test_less_speech_is_no_less_suspect(segment: Segment, a: float, b: float) -> None:
    """Nor is a segment less suspect because somebody listened for speech and found none."""
    less, more = sorted((a, b))

    assert suspicion(segment, speech(less)) >= suspicion(segment, speech(more)) >= suspicion(segment, speech(1.0))
    assert suspicion(segment, ()) >= suspicion(segment, None)
