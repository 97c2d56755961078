"""What podcasts are given, the table of words, and chapters: by rules and programs that are not ours."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stenopool.domain import Segment, Span, Transcript, Word
from stenopool.formats import FORMATS, format_of, render
from stenopool.formats.timecode import milliseconds
from tests import podcasts
from tests.transcripts import segment, span, transcript

S = 16_000
ADA, GRACE = "Ada", "Grace"


def says(speaker: str | None, start: float, end: float, text: str, *, words: bool = False) -> Segment:
    """A segment of somebody."""
    return replace(segment(start, end, text, words=words), speaker=speaker)


TALK = transcript(
    says(ADA, 0, 4, " Podcasting is really changing the game, and <nobody> saw it coming & so on."),
    says(GRACE, 4, 6, " Yeah, absolutely."),
    says(GRACE, 6, 9, " The new features are incredible."),
    says(ADA, 8, 10, " Exactly."),
)


def test_srt_as_podcasts_want_it() -> None:
    """Two lines of 32 characters, a new card for each speaker, whose name is before what he says."""
    cards = podcasts.check_srt(render(TALK, "podcast-srt"))

    assert [" ".join(lines) for _, lines in cards] == [
        "Ada: Podcasting is really changing the game,",
        "and <nobody> saw it coming & so on.",
        "Grace: Yeah, absolutely.",
        "The new features are incredible.",
        "Ada: Exactly.",
    ]
    assert cards[2][0] == "00:00:04,000 --> 00:00:06,000"


def test_vtt_as_podcasts_want_it() -> None:
    """A line of 65 characters, a voice where it changes; markup in a text is none."""
    cues = podcasts.check_vtt(render(TALK, "podcast-vtt"))

    assert [(voice, text) for _, voice, text in cues] == [
        (ADA, "Podcasting is really changing the game,"),
        (None, "and <nobody> saw it coming & so on."),
        (GRACE, "Yeah, absolutely."),
        (None, "The new features are incredible."),
        (ADA, "Exactly."),
    ]
    assert cues[2][0] == "00:00:04.000 --> 00:00:06.000"


def test_vtt_for_the_web_names_every_cue() -> None:
    """Who begins to watch in the middle knows who speaks."""
    assert render(TALK, "vtt").count("<v Ada>") == 2
    assert render(TALK, "vtt").count("<v Grace>") == 2
    assert render(replace(TALK, segments=(says("A > B & C", 0, 1, " Hi."),)), "vtt").endswith(
        "<v A &gt; B &amp; C>Hi.\n"
    )


def test_names_in_plain_text() -> None:
    """Each line says whose it is."""
    assert render(TALK, "txt").splitlines()[1:] == [
        "Grace: Yeah, absolutely.",
        "Grace: The new features are incredible.",
        "Ada: Exactly.",
    ]
    assert render(TALK, "tsv").splitlines()[2] == "4000\t6000\tGrace: Yeah, absolutely."


def test_json_as_podcasts_want_it() -> None:
    """Version 1.0.0; a speaker where one is known."""
    segments = podcasts.check_json(render(TALK, "podcast-json"))

    assert segments[1] == {"speaker": GRACE, "startTime": 4.0, "endTime": 6.0, "body": "Yeah, absolutely."}
    alone = transcript(segment(0.5, 1.25, " Hi.\n"), segment(2, 3, "  "))
    assert podcasts.check_json(render(alone, "podcast-json")) == [{"startTime": 0.5, "endTime": 1.25, "body": "Hi."}]


def test_html_as_podcasts_want_it() -> None:
    """A paragraph for what somebody says in one go; without speakers, until a pause or for a minute."""
    assert podcasts.check_html(render(TALK, "podcast-html")) == [
        (ADA, "0:00", "Podcasting is really changing the game, and <nobody> saw it coming & so on."),
        (GRACE, "0:04", "Yeah, absolutely. The new features are incredible."),
        (ADA, "0:08", "Exactly."),
    ]
    talk = [segment(at, at + 5, f" {at}.") for at in range(0, 80, 5)]
    late = segment(3725, 3726, " Late.")
    paragraphs = podcasts.check_html(render(transcript(*talk, late, seconds=4000), "podcast-html"))
    assert [(speaker, at) for speaker, at, _ in paragraphs] == [(None, "0:00"), (None, "1:00"), (None, "1:02:05")]


def test_words_are_a_table() -> None:
    """With their own times and probabilities; else with their share of the segment's, and none."""
    timed = replace(
        says(ADA, 0, 2, ' Hi, "you" there.'),
        words=(
            Word(span(0, 0.5), " Hi,", 0.9876),
            Word(span(0.5, 1), ' "you"', float("nan")),
            Word(span(1, 2), " there."),
        ),
    )
    text = render(transcript(timed, segment(10, 14, " ab cdef gh")), "csv")

    assert list(csv.reader(io.StringIO(text))) == [
        ["start", "end", "word", "probability", "speaker"],
        ["0.000", "0.500", "Hi,", "0.988", ADA],
        ["0.500", "1.000", '"you"', "", ADA],
        ["1.000", "2.000", "there.", "", ADA],
        ["10.000", "11.000", "ab", "", ""],
        ["11.000", "13.000", "cdef", "", ""],
        ["13.000", "14.000", "gh", "", ""],
    ]


def test_chapters_begin_after_the_longest_pauses() -> None:
    """Two minutes apart, at least; not after two seconds less than a pause, nor where something was not heard."""
    at = [(0, 100), (103, 130), (140, 290), (291, 400), (430, 500), (502, 600)]
    spoken = [segment(start, end, " Words.") for start, end in at]

    assert podcasts.check_chapters(render(transcript(*spoken, seconds=700), "chapters")) == [0, 140, 430]
    failed = transcript(*spoken, seconds=700, gap=(405, 410, "the device failed"))
    assert podcasts.check_chapters(render(failed, "chapters")) == [0, 140, 502]
    assert podcasts.check_chapters(render(transcript(), "chapters")) == [0]


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_was_said(format: str) -> None:
    """Each format of an empty transcript is a valid file."""
    text = render(transcript(), format)

    assert text.encode().decode() == text
    if format == "podcast-json":
        assert podcasts.check_json(text) == []
    assert podcasts.check_srt(render(transcript(), "podcast-srt")) == []
    assert render(transcript(), "podcast-vtt") == "WEBVTT\n"
    assert podcasts.check_html(render(transcript(), "podcast-html")) == []
    assert render(transcript(), "csv").splitlines() == ["start,end,word,probability,speaker"]


def test_media_types() -> None:
    """As the podcast namespace and the formats' own pages name them; no two formats have the same ending."""
    assert format_of("podcast-srt").media_type == "application/x-subrip"
    assert format_of("podcast-vtt").media_type == "text/vtt"
    assert format_of("chapters").media_type == "application/json+chapters"
    assert len({format_of(name).ending for name in FORMATS}) == len(FORMATS)


MEETING = transcript(
    says(ADA, 0, 3, " Welcome to the weekly meeting."),
    says(GRACE, 2.5, 5, " Hello, everybody."),
    says(GRACE, 5, 8, " Shall we begin?"),
    seconds=9,
)


@pytest.mark.parametrize("name", ["podcast-vtt", "podcast-srt", "podcast-json", "podcast-html", "csv"])
def test_documented_examples_are_what_is_written(name: str) -> None:
    """Letter by letter."""
    page = (Path(__file__).parents[2] / "docs" / "outputs.md").read_text(encoding="utf-8")
    kind = name.rpartition("-")[2]

    assert f"```{kind}\n{render(MEETING, name)}```\n" in page


#: What breaks careless writers: arrows, markup, quotation marks, very long words, both directions, pictures, nothing.
ODD = st.one_of(
    st.sampled_from(
        ["-->", "<v Bob>", "</p>", "&amp;", '"', ",", "=1+1", "\u202eright to left", "שלום עולם", "\0", "\x85"]
    ),
    st.sampled_from(["\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1eb\U0001f1f7", "語" * 40, "x" * 200, ""]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
TEXTS = st.lists(ODD, max_size=8).map(" ".join)
SPEAKERS = st.sampled_from([ADA, GRACE, "Dr. Alexandria Montgomery-Smythe-Jones", "語" * 20])
#: Overlapping, empty, and beyond a hundred hours.
SPANS = st.tuples(st.sampled_from([0, 400_000 * S]), st.integers(0, 30 * S), st.integers(0, 20 * S)).map(
    lambda parts: Span(parts[0] + parts[1], parts[0] + parts[1] + parts[2])
)


@st.composite
def talks(draw: st.DrawFn) -> Transcript:
    """A transcript of any texts and times, whose speakers are known or not."""
    speakers = draw(st.sampled_from([st.none(), SPEAKERS]))
    spoken = [
        replace(segment(0, 0, draw(TEXTS)), span=where, speaker=draw(speakers))
        for where in sorted(draw(st.lists(SPANS, max_size=6)))
    ]
    return replace(transcript(seconds=60), segments=tuple(spoken))


@settings(deadline=None, max_examples=150)
@given(talks())
def test_whatever_is_said_the_rules_are_kept(talk: Transcript) -> None:
    """In each format, by its own rules, and no word of it is lost."""
    said = "".join(letters(segment.text) for segment in talk.segments)

    podcasts.check_json(render(talk, "podcast-json"))
    podcasts.check_chapters(render(talk, "chapters"))
    paragraphs = podcasts.check_html(render(talk, "podcast-html"))
    rows = list(csv.DictReader(io.StringIO(render(talk, "csv"))))
    cues = podcasts.check_vtt(render(talk, "podcast-vtt"))
    cards = podcasts.check_srt(render(talk, "podcast-srt"))

    assert sorted("".join(row["word"] for row in rows)) == sorted(said)
    assert all(float(row["start"]) <= float(row["end"]) for row in rows)
    assert sorted("".join(letters(text) for _, _, text in cues)) == sorted(said)
    assert len("".join(letters(text) for _, _, text in paragraphs)) == len(said)
    assert sum(len(letters("".join(lines))) for _, lines in cards) >= len(said)


def letters(text: str) -> str:
    """What is seen of a text, as a file can hold it."""
    return "".join(text.split()).replace("\0", "\ufffd")


@settings(deadline=None, max_examples=150)
@given(talks())
def test_who_speaks_is_always_known(talk: Transcript) -> None:
    """A card that follows another speaker's begins with a name, and in order of time; nobody has two at a time."""
    cards = podcasts.check_srt(render(replace(talk, segments=tuple(map(short, talk.segments))), "podcast-srt"))

    starts = [times.partition(" --> ")[0] for times, _ in cards]
    assert [len(start) for start in starts] == sorted(len(start) for start in starts)
    assert all(one <= other for one, other in pairwise(starts) if len(one) == len(other))
    speaking: str | None = None
    for _, lines in cards:
        text = " ".join(lines)
        named = next((name for name in (ADA, GRACE) if text.startswith(f"{name}:")), None)
        speaking = named or speaking
        assert speaking in (ADA, GRACE)
        assert all(word.startswith(speaking.lower()) for word in text.removeprefix(f"{speaking}:").split())


def short(segment: Segment) -> Segment:
    """The same, said by one of two, in words that tell who says them."""
    speaker = GRACE if segment.speaker == GRACE else ADA
    words = [f"{speaker.lower()}{'x' * (len(word) % 9)}" for word in segment.text.split()]
    return replace(segment, speaker=speaker, text=" ".join(words))


@pytest.mark.parametrize("format", ["podcast-srt", "podcast-vtt"])
def test_ffmpeg_reads_them(format: str, tmp_path: Path) -> None:
    """As many cues as we wrote, at their times."""
    long = transcript(
        *TALK.segments,
        says(ADA, 400_000, 400_004, " A hundred hours later, --> still here."),
        seconds=400_010,
    )
    text = render(long, format)
    path = tmp_path / f"talk.{format_of(format).ending}"
    path.write_text(text, encoding="utf-8", newline="")

    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(container.streams.subtitles[0]) if packet.size]

    assert len(packets) == text.count(" --> ")
    assert packets[-1].time_base == Fraction(1, 1000)
    assert packets[-1].pts == milliseconds(400_000 * S)
    assert b"still here." in bytes(packets[-1])


def test_words_have_the_time_of_their_line() -> None:
    """Where words have times, a line begins when its first word does; else in proportion to its letters."""
    halves = " " + "a" * 20 + " " + "b" * 20 + " " + "c" * 20
    timed = replace(
        segment(0, 12, halves),
        words=(
            Word(span(0, 1), " " + "a" * 20),
            Word(span(1, 2), " " + "b" * 20),
            Word(span(9, 12), " " + "c" * 20),
        ),
    )

    def begins(one: Segment) -> list[str]:
        return [times[:12] for times, _ in podcasts.check_srt(render(transcript(one), "podcast-srt"))]

    assert begins(timed) == ["00:00:00,000", "00:00:09,000"]
    assert begins(replace(timed, words=())) == ["00:00:00,000", "00:00:04,000"]
