"""The transcripts of channels as one: nothing is lost of who talks over whom, and each channel's coverage is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.channels import check_speakers, handed_out, join_channels
from stenopool.domain import Coverage, CoverageKind, CoveragePiece, Segment, Span, Transcript
from stenopool.errors import UsageError
from stenopool.formats import parse_json, render
from tests.transcripts import SCHEMA, segment, span, transcript


def channel(number: int, *segments: Segment, **other: object) -> Transcript:
    """What was heard in a channel of a minute."""
    return replace(transcript(*segments), channel=number, recording=str(number) * 64, **other)  # type: ignore[arg-type]


LEFT = channel(1, segment(0, 3, " How are you?"), segment(8, 9, " Good."))
RIGHT = channel(2, segment(2, 5, " Fine, and you?"))


def test_the_order_is_that_in_which_it_was_said() -> None:
    """Who talks over somebody comes after him, and both are there."""
    joined = join_channels([RIGHT, LEFT])

    assert [(one.speaker, one.text) for one in joined.segments] == [
        ("Channel 1", " How are you?"),
        ("Channel 2", " Fine, and you?"),
        ("Channel 1", " Good."),
    ]
    assert (joined.channel, joined.duration) == (None, LEFT.duration)
    assert [one.recording for one in joined.channels] == ["1" * 64, "2" * 64]
    assert joined.recording not in ("1" * 64, "2" * 64)


def test_names_are_for_the_first_channels() -> None:
    """Who has none is called by the channel's number."""
    joined = join_channels([LEFT, RIGHT], ["Ada"])

    assert [one.speaker for one in joined.channels] == ["Ada", "Channel 2"]
    assert render(joined, "txt") == "Ada: How are you?\nChannel 2: Fine, and you?\nAda: Good.\n"


def test_subtitles_show_both_who_talk_at_once() -> None:
    """Each in his own cue, at his own time; a name tells whose a card is."""
    joined = join_channels([LEFT, RIGHT], ["Ada", "Grace"])

    assert render(joined, "vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:03.000\n<v Ada>How are you?\n\n"
        "00:00:02.000 --> 00:00:05.000\n<v Grace>Fine, and you?\n\n"
        "00:00:08.000 --> 00:00:09.000\n<v Ada>Good.\n"
    )
    assert render(joined, "srt").splitlines()[2::4] == ["Ada: How are you?", "Grace: Fine, and you?", "Ada: Good."]


def test_a_long_speech_that_is_interrupted() -> None:
    """Who goes on after an interruption is named anew, though it is the same segment of his."""
    long = segment(
        0, 20, " one two three four five six seven eight nine ten eleven twelve thirteen fourteen", words=True
    )
    joined = join_channels([channel(1, long), channel(2, segment(6, 7, " Really?"))], ["Ada", "Grace"])

    cards = [" ".join(block.splitlines()[2:]) for block in render(joined, "podcast-srt").split("\n\n")]

    at = cards.index("Grace: Really?")
    assert cards[at - 1].split()[-1] in long.text
    assert cards[at + 1].startswith("Ada: ")
    assert " ".join(cards).replace("Ada: ", "").replace("Grace: Really? ", "") == long.text.strip()


def test_what_is_handed_out() -> None:
    """Of split channels, all joined and each; of mixed ones, what there is."""
    assert [one.channel for one in handed_out([LEFT, RIGHT])] == [None, 1, 2]
    assert handed_out([transcript()]) == [transcript()]
    assert handed_out([]) == []


def test_a_gap_in_one_channel_is_one() -> None:
    """It names the channel; where one speaks, silence of the other is none; and each keeps its own."""

    def pieces(*ends: tuple[float, CoverageKind, str | None]) -> Coverage:
        found, at = [], 0.0
        for end, kind, reason in ends:
            found.append(CoveragePiece(span=span(at, end), kind=kind, reason=reason))
            at = end
        return Coverage(tuple(found))

    said, silent, failed = CoverageKind.TRANSCRIBED, CoverageKind.SILENCE, CoverageKind.FAILED
    left = replace(LEFT, coverage=pieces((10, said, None), (60, silent, None)))
    right = replace(RIGHT, coverage=pieces((5, silent, None), (20, said, None), (30, failed, "no"), (60, silent, None)))

    joined = join_channels([left, right], ["Ada", "Grace"])

    assert joined.coverage == pieces((20, said, None), (30, failed, "Grace: no"), (60, silent, None))
    assert [one.coverage for one in joined.channels] == [left.coverage, right.coverage]


def test_the_language_is_that_of_most() -> None:
    """Of the channels that have one; what ended early or is damaged is so as a whole."""
    quiet = channel(3, language=None)
    german = replace(RIGHT, language="de", ended_early="cut off", damaged=2)

    joined = join_channels([quiet, LEFT, german])

    assert (joined.language, joined.ended_early, joined.damaged) == ("en", "cut off", 2)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["Ada", "Ada"], "Ada: two speakers cannot have the same name"),
        (["Ada", " "], "the name of speaker 2 is ' '"),
        (["Ada\n"], r"the name of speaker 1 is 'Ada\n'"),
        (["x" * 41], "a speaker's name has 40 characters at most, this one 41"),
    ],
)
def test_names_that_are_none(names: list[str], said: str) -> None:
    """One line that says which."""
    with pytest.raises(UsageError) as caught:
        check_speakers(names)

    assert said in str(caught.value)


@st.composite
def channels(draw: st.DrawFn) -> list[Transcript]:
    """One to four channels of the same source, whose segments overlap those of the others in any way."""
    found = []
    for number in range(1, draw(st.integers(1, 4)) + 1):
        times = sorted(draw(st.lists(st.integers(0, 60 * 16_000), max_size=8)))
        segments = [
            replace(segment(0, 0, f" {number}.{index}"), span=Span(start, end))
            for index, (start, end) in enumerate(zip(times[::2], times[1::2], strict=False))
        ]
        cuts = sorted({0, 60 * 16_000, *draw(st.lists(st.integers(1, 60 * 16_000 - 1), max_size=5))})
        kinds = st.sampled_from(CoverageKind)
        coverage = Coverage(
            tuple(
                CoveragePiece(span=Span(start, end), kind=draw(kinds), score=draw(st.none() | st.floats(0, 1)))
                for start, end in pairwise(cuts)
            )
        )
        found.append(channel(number, *segments, coverage=coverage))
    return found


@given(channels())
def test_nothing_is_lost_and_nothing_added(split: list[Transcript]) -> None:
    """Every segment once, in order of time and, in its channel, as before; the coverage is a partition of it, a gap
    exactly where one is; each channel's is as it was; and what is written is read back, and fits its schema.
    """
    joined = join_channels(split)

    starts = [one.span.start for one in joined.segments]
    assert starts == sorted(starts)
    for one in split:
        name = f"Channel {one.channel}"
        assert [replace(own, speaker=None) for own in joined.segments if own.speaker == name] == list(one.segments)
    assert len(joined.segments) == sum(len(one.segments) for one in split)
    assert joined.coverage.duration == joined.duration == 60 * 16_000
    assert [one.coverage for one in joined.channels] == [one.coverage for one in split]
    for at in {piece.span.start for one in split for piece in one.coverage}:
        there = [next(p.kind for p in one.coverage if p.span.start <= at < p.span.end) for one in split]
        [kind] = [piece.kind for piece in joined.coverage if piece.span.start <= at < piece.span.end]
        assert (kind is CoverageKind.FAILED) == (CoverageKind.FAILED in there)
        assert (kind is CoverageKind.SILENCE) == (set(there) == {CoverageKind.SILENCE})
    written = render(joined, "json")
    assert parse_json(written) == joined
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(written))
