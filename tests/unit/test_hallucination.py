"""Text that was heard in nothing."""

from __future__ import annotations

import pytest

from scheduler.hallucination import anomaly, hallucinations, is_anomalous
from stenopool.domain import Segment, Span, Word

S = 16_000  # one second
LIKELY, UNLIKELY = 0.9, 0.1


def word(start: float, end: float, probability: float | None = LIKELY, text: str = " word") -> Word:
    """A word, by its seconds."""
    return Word(Span(round(start * S), round(end * S)), text, probability)


def segment(*words: Word, span: tuple[float, float] | None = None) -> Segment:
    """A segment around its words, or at those seconds."""
    start, end = (round(time * S) for time in span) if span else (words[0].span.start, words[-1].span.end)
    return Segment(
        span=Span(start, end),
        text="".join(one.text for one in words),
        chunk=0,
        avg_logprob=0.0,
        compression_ratio=1.0,
        no_speech_prob=0.0,
        words=words,
    )


def said(start: float) -> Segment:
    """Three usual words in a second."""
    return segment(*(word(start + i / 3, start + (i + 1) / 3) for i in range(3)))


def dreamt(start: float) -> Segment:
    """Three improbable words in a second."""
    return segment(*(word(start + i / 3, start + (i + 1) / 3, UNLIKELY) for i in range(3)))


@pytest.mark.parametrize(
    ("probability", "seconds", "score"),
    [
        (0.9, 0.5, 0),
        (0.15, 0.133, 0),  # just probable, just long enough
        (0.14, 0.5, 1),
        (None, 0.5, 1),
        (0.9, 0.033, 1.5),  # 15 for every second too short
        (0.9, 0.0, 1.995),
        (0.9, 3.5, 1.5),  # 1 for every second too long
        (0.1, 4.0, 3),
    ],
)
def test_strange_words(probability: float | None, seconds: float, score: float) -> None:
    """A word is strange if it is improbable, very short or very long."""
    assert anomaly(word(0, seconds, probability)) == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize(
    ("words", "strange"),
    [
        ([word(0, 0.5)] * 3, False),
        ([word(0, 0.5, UNLIKELY)] * 3, True),
        # one or two of many are not enough, three are
        ([word(0, 0.5, UNLIKELY)] * 2 + [word(0, 0.5)], False),
        ([word(0, 0.5, UNLIKELY)] * 3 + [word(0, 0.5)] * 9, True),
        # of the first eight
        ([word(0, 0.5)] * 6 + [word(0, 0.5, UNLIKELY)] * 9, False),
        # where there are fewer, all of them
        ([word(0, 0.5, UNLIKELY)], True),
        ([word(0, 0.5)], False),
        # punctuation alone is no word
        ([word(0, 0.5, UNLIKELY), word(0, 0.5, LIKELY, "."), word(0, 0.5, LIKELY, ")]")], True),
        ([word(0, 0.5, LIKELY, ".")], True),
        ([], False),
    ],
)
def test_strange_segments(words: list[Word], strange: bool) -> None:
    """A segment is strange if its first words are, together or nearly all."""
    assert is_anomalous(segment(*words, span=(0, 30))) is strange


def found(
    *segments: Segment, last_speech: float = 0, heard: tuple[float, float] = (100, 130), **other: float
) -> list[int]:
    """What is found in a window of 30 s at 100 s, with a threshold of 2 s."""
    return hallucinations(
        segments,
        heard=Span(round(heard[0] * S), round(heard[1] * S)),
        window_end=round(other.get("window_end", 130) * S),
        threshold=2 * S,
        last_speech=round(last_speech * S),
    )


def test_strange_words_in_silence_are_found() -> None:
    """Silence before and after; the text around stays."""
    assert found(said(103), dreamt(110), said(120), last_speech=99) == [1]
    assert found(said(103), said(110), said(120), last_speech=99) == []


def test_strange_words_beside_speech_stay() -> None:
    """Unclear speech is strange, too: only silence on both sides makes it a hallucination."""
    assert found(said(109), dreamt(110), said(120), last_speech=99) == []
    assert found(said(103), dreamt(110), said(111.5), last_speech=99) == []


def test_silence_may_be_before_the_window() -> None:
    """What counts is the last word, not the window's beginning; near the beginning it is not asked."""
    assert found(dreamt(105), last_speech=104) == []
    assert found(dreamt(105), last_speech=102) == [0]
    assert found(dreamt(101.5), last_speech=101) == [0]  # less than 2 s from where the window begins


def test_silence_may_be_after_the_window() -> None:
    """Within 2 s of the window's end there is silence; else up to the end of the sound."""
    assert found(dreamt(128), last_speech=99) == [0]
    assert found(dreamt(110), last_speech=99, heard=(100, 112), window_end=130) == []
    assert found(dreamt(110), last_speech=99, heard=(100, 112), window_end=112) == [0]


def test_they_come_in_rows() -> None:
    """One strange segment after another is as good as silence after it; what is found is no speech for the next."""
    assert found(dreamt(110), dreamt(111.1), last_speech=99) == [0, 1]
    assert found(said(109), dreamt(110), dreamt(111.1), last_speech=99) == []


def test_segments_without_words_say_nothing() -> None:
    """They are neither found nor speech."""
    empty = segment(span=(108, 118))

    assert found(empty, last_speech=99) == []
    assert found(said(103), empty, dreamt(110), empty, last_speech=99) == [2]


def test_the_beginning_of_a_recording_is_silence() -> None:
    """Before the first `threshold` of the recording there is nothing."""
    assert found(dreamt(1.9), heard=(0, 30), window_end=30, last_speech=1.5) == [0]
