"""The writers: what each prints, what subtitles promise to a reader, and the JSON's way back."""

from __future__ import annotations

import html
import json
import math
import re
import unicodedata
from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stenopool.domain import (
    Channel,
    Coverage,
    CoverageKind,
    CoveragePiece,
    Options,
    Provenance,
    Segment,
    Span,
    Transcript,
    Word,
)
from stenopool.errors import UsageError
from stenopool.formats import FORMATS, KEPT, parse_json, render
from stenopool.formats.timecode import milliseconds
from tests import strategies
from tests.transcripts import SCHEMA

SECOND = 16_000  # samples
HOUR = 3600 * SECOND


def span(start: float, end: float) -> Span:
    """A span from seconds."""
    return Span(round(start * SECOND), round(end * SECOND))


def segment(start: float, end: float, text: str, words: tuple[Word, ...] = ()) -> Segment:
    """A segment from seconds."""
    return Segment(
        span=span(start, end),
        text=text,
        chunk=0,
        avg_logprob=-0.25,
        compression_ratio=1.25,
        no_speech_prob=0.0,
        words=words,
    )


def transcript(*segments: Segment, seconds: float = 60) -> Transcript:
    """A transcript of a recording of that length."""
    whole = span(0, seconds)
    return Transcript(
        source="talk.mp3",
        recording="5e" * 32,
        duration=whole.end,
        language="en",
        language_probability=0.5,
        segments=segments,
        coverage=Coverage((CoveragePiece(span=whole, kind=CoverageKind.TRANSCRIBED),)),
        provenance=Provenance(model="pocket", model_digest="d1", dtype="float32", options=Options(), version="0.1.0"),
    )


def read_cues(text: str, format: str) -> list[tuple[int, int, list[str]]]:
    """(start, end, lines) of an SRT or VTT file, times in milliseconds; an own reader, as strict as can be."""
    mark = "," if format == "srt" else r"\."
    time = rf"(\d\d+):([0-5]\d):([0-5]\d){mark}(\d\d\d)"
    blocks = text.removesuffix("\n").split("\n\n") if text else []
    if format == "vtt":
        assert blocks.pop(0) == "WEBVTT"
    cues = []
    for number, block in enumerate(blocks, start=1):
        lines = block.split("\n")
        if format == "srt":
            assert lines.pop(0) == str(number)
        match = re.fullmatch(f"{time} --> {time}", lines.pop(0))
        assert match, block
        h1, m1, s1, ms1, h2, m2, s2, ms2 = map(int, match.groups())
        shown = [html.unescape(line) for line in lines] if format == "vtt" else lines
        start, end = ((h1 * 60 + m1) * 60 + s1) * 1000 + ms1, ((h2 * 60 + m2) * 60 + s2) * 1000 + ms2
        cues.append((start, end, shown))
    return cues


def shown(text: str, seconds: float = 6) -> list[list[str]]:
    """The lines of each cue of a segment of that text and length."""
    return [lines for _, _, lines in read_cues(transcript(segment(0, seconds, text)).to_srt(), "srt")]


def visible(text: str) -> str:
    """The text without its white space, as a text file can hold it."""
    return "".join(text.split()).replace("\0", "\ufffd")


TWO = transcript(segment(0, 1.5, " Hello there."), segment(1.5, 3.25, " Fish & chips <now>\tplease."))


def test_formats_are_listed_in_the_order_of_their_documentation() -> None:
    """The five that a farm keeps, a table of words, what podcasts want."""
    assert FORMATS[:5] == KEPT == ("txt", "srt", "vtt", "tsv", "json")
    assert FORMATS[5:] == ("csv", "podcast-json", "podcast-html", "podcast-srt", "podcast-vtt", "chapters")


def test_unknown_format_names_the_choices() -> None:
    """An unknown format is a usage error that names it and what there is."""
    with pytest.raises(UsageError, match=r"^unknown format 'docx': choose from txt, srt, vtt, tsv, json, csv, .*$"):
        render(TWO, "docx")


def test_txt_is_a_line_per_segment() -> None:
    """Each segment is a stripped line, whatever white space it holds."""
    spoken = transcript(segment(0, 1, " One\r\ntwo. "), segment(1, 2, "  "), segment(2, 3, " Three."))

    assert render(spoken, "txt") == "One two.\nThree.\n"


def test_tsv_has_integer_milliseconds() -> None:
    """A header, then start, end and text; a tab in the text is a space."""
    assert render(TWO, "tsv") == "start\tend\ttext\n0\t1500\tHello there.\n1500\t3250\tFish & chips <now> please.\n"


def test_srt_numbers_its_cues() -> None:
    """SubRip: numbers from 1, comma before milliseconds, text as it is."""
    assert render(TWO, "srt") == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n"
        "2\n00:00:01,500 --> 00:00:03,250\nFish & chips <now> please.\n"
    )


def test_vtt_escapes_its_markup() -> None:
    """WebVTT: header, full stop before milliseconds, &, < and > escaped."""
    assert render(TWO, "vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n\n"
        "00:00:01.500 --> 00:00:03.250\nFish &amp; chips &lt;now&gt; please.\n"
    )


def test_arrow_in_the_text_starts_no_cue() -> None:
    """Text that looks like a cue's times is harmless: apart in SubRip, escaped in WebVTT."""
    spoken = transcript(segment(0, 2, "00:00:01,000 --> 00:00:02,000"))

    assert render(spoken, "srt") == "1\n00:00:00,000 --> 00:00:02,000\n00:00:01,000 -- > 00:00:02,000\n"
    assert render(spoken, "vtt").endswith("\n00:00:01,000 --&gt; 00:00:02,000\n")


def test_empty_transcript_gives_valid_files() -> None:
    """Without segments there is no text, a header alone, or an empty list."""
    empty = transcript()

    assert [render(empty, name) for name in ("txt", "srt", "vtt", "tsv")] == ["", "", "WEBVTT\n", "start\tend\ttext\n"]
    assert json.loads(render(empty, "json"))["segments"] == []


def test_what_utf_8_cannot_hold_is_replaced() -> None:
    """Half of a surrogate pair or a NUL in a text never breaks the writing of a file."""
    spoken = transcript(segment(0, 1, "caf\udce9 \0"))

    assert render(spoken, "txt") == "caf\ufffd \ufffd\n"
    assert [render(spoken, name).encode() for name in FORMATS]  # would raise UnicodeEncodeError


@pytest.mark.parametrize(
    ("start", "srt", "tsv"),
    [
        (61 * 60, "01:01:00,001 --> 01:01:02,001", "3660001\t3662001"),
        (101 * 60, "01:41:00,001 --> 01:41:02,001", "6060001\t6062001"),
        (25 * 3600, "25:00:00,001 --> 25:00:02,001", "90000001\t90002001"),
        (123 * 3600 + 4 * 60 + 5, "123:04:05,001 --> 123:04:07,001", "443045001\t443047001"),
    ],
)
def test_late_times_are_exact(start: int, srt: str, tsv: str) -> None:
    """Past 60 minutes, 100 minutes, a day and 100 hours, times neither wrap nor drift."""
    late = segment(start + 0.001, start + 2.001, "late")
    spoken = transcript(late, seconds=start + 3)

    assert f"1\n{srt}\nlate\n" == render(spoken, "srt")
    assert f"WEBVTT\n\n{srt.replace(',', '.')}\nlate\n" == render(spoken, "vtt")
    assert f"{tsv}\tlate\n" in render(spoken, "tsv")


@pytest.mark.parametrize(("samples", "ms"), [(0, 0), (7, 0), (8, 1), (23, 1), (24, 2), (10**18 + 8, 10**18 // 16 + 1)])
def test_milliseconds_round_half_up(samples: int, ms: int) -> None:
    """Half a millisecond, 8 samples, rounds up, exactly, at any time."""
    assert milliseconds(samples) == ms


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        # one line holds it
        (" a" * 21, [" ".join("a" * 21)]),
        # even lines, and no lone word on the second
        (
            "The quick brown fox jumps over the lazy dogs now",
            [["The quick brown fox jumps", "over the lazy dogs now"]],
        ),
        # a break after the comma, rather than in the middle
        (
            "When it rains for so long, nobody ever goes out for a walk",
            [["When it rains for so long,", "nobody ever goes out for a walk"]],
        ),
        # no short word alone on a line, though its sentence is
        (
            "He told them all about the farm. Definitely.",
            [["He told them all about", "the farm. Definitely."]],
        ),
        # cues end with sentences; that of an abbreviation is none
        (
            "This is the first sentence by Dr. Smith, and here it comes to its end. "
            "This is the second one, somewhat shorter.",
            [
                ["This is the first sentence by Dr. Smith,", "and here it comes to its end."],
                ["This is the second one, somewhat shorter."],
            ],
        ),
        # unbroken words
        ("x" * 100, [["x" * 25, "x" * 25], ["x" * 25, "x" * 25]]),
        # wide characters count twice; a line starts after 。, never with it
        (
            "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
            [["吾輩は猫である。名前はまだ無い。", "どこで生れたかとんと見当がつかぬ。"]],
        ),
        # Thai breaks after a vowel that ends a syllable
        (
            "สวัสดีครับวันนี้เราจะมาพูดถึงเรื่องการถอดเสียงครับ",
            [["สวัสดีครับวันนี้เราจะ", "มาพูดถึงเรื่องการถอดเสียงครับ"]],
        ),
        # French keeps a mark with its word
        (
            "Il n'avait pas dormi depuis trois longs jours !",
            [["Il n'avait pas dormi", "depuis trois longs jours !"]],
        ),
    ],
)
def test_lines_break_where_a_reader_would(text: str, lines: Any) -> None:
    """Lines are even, and break at the end of a sentence, a clause or a word, whatever the script."""
    assert shown(text) == (lines if isinstance(lines[0], list) else [lines])


@pytest.mark.parametrize("length", range(10, 22))
def test_japanese_lines_keep_to_their_rules(length: int) -> None:
    """No line starts with a closing mark, a small kana or a prolonged sound, none ends with an opening mark."""
    (lines,) = shown("あ" * length + "っー「" + "い" * (30 - length) + "。」")

    assert len(lines) == 2
    assert lines[1][0] in "あ「い"
    assert lines[0][-1] in "あーい」"


def test_marks_stay_on_their_letters() -> None:
    """A line never starts with a combining mark, a joined picture or half of a flag."""
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    for letter in ("e\u0301\u0323", family, "\U0001f1eb\U0001f1f7", "\U0001f44d\U0001f3fd"):
        for lines in shown(letter * 60):
            for line in lines:
                assert line == letter * (len(line) // len(letter))


def test_no_break_space_holds_unless_nothing_else_fits() -> None:
    """A no-break space keeps its words on one line, but breaks before a word would."""
    assert shown("They say that he went 10 000 km on foot to come here") == [
        ["They say that he went 10", "000 km on foot to come here"]
    ]
    assert shown("They say that he went 10\u00a0000\u00a0km on foot to come here") == [
        ["They say that he went", "10\u00a0000\u00a0km on foot to come here"]
    ]
    assert shown("a" * 30 + "\u00a0" + "b" * 30) == [["a" * 30, "b" * 30]]


def test_long_segment_shares_its_time_by_characters() -> None:
    """Without words' times, a cue's time is its share of the segment's characters."""
    long = "aaaa " * 8 + "aaaa. " + "bbbb " * 8 + "bbbb."  # 37 visible characters and as many again
    spoken = transcript(segment(10, 17.4, long))

    assert [(start, end) for start, end, _ in read_cues(spoken.to_srt(), "srt")] == [(10_000, 13_700), (13_700, 17_400)]


def test_words_give_a_cue_its_exact_times() -> None:
    """With words' times, a cue starts with its first word and, if that is long enough, ends with its last."""
    texts = [" aaaa"] * 8 + [" aaaa."] + [" bbbb"] * 8 + [" bbbb."]
    at = [10 + 0.25 * number for number in range(9)] + [15 + 0.5 * number for number in range(9)]
    words = tuple(Word(span(start, start + 0.25), text) for start, text in zip(at, texts, strict=True))
    spoken = transcript(segment(9, 20, "".join(texts), words))

    cues = [(start, end) for start, end, _ in read_cues(spoken.to_srt(), "srt")]

    assert cues == [(10_000, 12_250), (15_000, 19_250)]


def test_words_of_another_text_are_not_trusted() -> None:
    """Words that do not spell the segment's text give no times; the segment does."""
    words = (Word(span(3, 4), " other"),)

    cues = read_cues(transcript(segment(1, 5, " text", words)).to_vtt(), "vtt")

    assert cues == [(1000, 5000, ["text"])]


@pytest.mark.parametrize(
    ("segments", "times"),
    [
        # extended to 0.7 s in silence, and no further than the next cue
        (
            [segment(1, 1.2, "Yes."), segment(5, 5.1, "No."), segment(5.5, 7, "Maybe.")],
            [(1000, 1700), (5000, 5500), (5500, 7000)],
        ),
        # 40 columns are on screen for 2 s
        ([segment(1, 2, "ab " * 13 + "a")], [(1000, 3000)]),
        # but not beyond the recording, which ends after 60 s
        ([segment(59, 59.9, "ab " * 13 + "a")], [(59_000, 60_000)]),
        # unless the segment does
        ([segment(59, 61, "Late.")], [(59_000, 61_000)]),
        # a label over half a minute of music
        ([segment(1, 31, "[Music]")], [(1000, 8000)]),
        # segments that overlap
        ([segment(1, 4, "One."), segment(3, 6, "Two.")], [(1000, 3000), (3000, 6000)]),
        # of no length: before others, and where no time is left
        ([segment(1, 1, "One."), segment(1, 4, "Two.")], [(1000, 1700), (1700, 4000)]),
        ([segment(58, 59, "One."), segment(60, 60, "Two.")], [(58_000, 59_000), (59_300, 60_000)]),
        ([segment(58, 60, "One."), segment(60, 60, "Two.")], [(58_000, 59_999), (59_999, 60_000)]),
        # times that run backwards
        ([segment(9, 10, "One."), segment(3, 4, "Two.")], [(9000, 9700), (9700, 10_400)]),
    ],
)
def test_cues_stay_on_screen_long_enough(segments: list[Segment], times: list[tuple[int, int]]) -> None:
    """Cues reach into silence to be readable, never into each other."""
    cues = read_cues(render(transcript(*segments), "vtt"), "vtt")

    assert [(start, end) for start, end, _ in cues] == times


def test_slow_segment_is_divided() -> None:
    """Speech of more than 7 s is several cues, though one had room for its text."""
    cues = read_cues(transcript(segment(0, 12, " I think, if you ask me, we had better wait here")).to_srt(), "srt")

    assert cues == [(0, 5838, ["I think, if you ask me,"]), (5838, 12_000, ["we had better wait here"])]


def test_channel_changes_nothing_but_the_json() -> None:
    """A channel has a file of its own, and nothing in its text says so."""
    second = replace(TWO, channel=2)

    assert [name for name in FORMATS if render(second, name) != render(TWO, name)] == ["json"]


#: Letters that wrapping has rules for, and any others.
TEXTS = st.text(
    st.one_of(
        st.sampled_from("ab .,-!>。、語っスสเุ\u0301\u00a0\u200d\u200b \t\n\r\u2028«»\U0001f1eb"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=300,
)
LONG_WORDS = st.lists(st.text("abcé語ส", min_size=1, max_size=100), max_size=12).map(" ".join)
SPANS = st.tuples(st.integers(0, 40 * SECOND), st.integers(0, 40 * SECOND)).map(lambda ends: Span(*sorted(ends)))


@st.composite
def segments_of(draw: st.DrawFn) -> Segment:
    """A segment of any text and time, with words' times in some cases."""
    plain = replace(segment(0, 0, draw(TEXTS | LONG_WORDS)), span=draw(SPANS))
    pieces = re.findall(r"\s*\S+", plain.text)
    if not draw(st.booleans()):
        return plain
    spans = sorted(draw(st.lists(SPANS, min_size=len(pieces), max_size=len(pieces))))
    return replace(plain, words=tuple(Word(*timed) for timed in zip(spans, pieces, strict=True)))


@settings(deadline=None, max_examples=200)
@given(st.lists(segments_of(), max_size=4), st.sampled_from(["srt", "vtt"]))
def test_subtitles_keep_their_promises(segments: list[Segment], format: str) -> None:
    """Whatever the text and times: lines and cues within their limits, nothing overlaps, no letter lost or added."""
    cues = read_cues(render(transcript(*segments, seconds=20), format), format)

    for _, _, lines in cues:
        assert 1 <= len(lines) <= 2
        for line in lines:
            assert line.strip() == line != ""
            assert sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line) <= 42
    assert all(0 < end - start <= 7000 for start, end, _ in cues)
    assert all(end <= after for (_, end, _), (after, _, _) in pairwise(cues))
    spans: list[Span] = []
    for segment in segments:
        spans += [segment.span, *(word.span for word in segment.words)]
    last = max([20_000, *(milliseconds(span.end) for span in spans)])
    assert all(end <= last for _, end, _ in cues)
    following = [*(start for start, _, _ in cues[1:]), 20_000]
    for (start, end, _), after in zip(cues, following, strict=False):
        assert end - start >= 700 or end >= min(after, 20_000)
    texts = [visible(segment.text) for segment in segments]
    assert visible("".join(line for _, _, lines in cues for line in lines)) == "".join(texts)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("ab,. ", min_size=1, max_size=80), st.integers(1, 90_000)), max_size=30))
def test_cues_of_segments_that_touch_keep_their_starts(parts: list[tuple[str, int]]) -> None:
    """Segments of a line or two, one after another, each start when they are spoken, to the millisecond."""
    segments, at = [], 0
    for text, milliseconds_ in parts:
        segments.append(replace(segment(0, 0, text), span=Span(at, at + milliseconds_ * 16)))
        at += milliseconds_ * 16
    spoken = [part for part in segments if part.text.strip() and len(part.span) <= 7 * SECOND]

    starts = {start for start, _, _ in read_cues(transcript(*segments, seconds=at / SECOND).to_srt(), "srt")}

    assert starts >= {part.span.start // 16 for part in spoken}


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_ffmpeg_reads_the_subtitles(format: str, tmp_path: Path) -> None:
    """Another program finds the same cues at the same times with the same text."""
    spoken = transcript(
        segment(0.5, 2, " Fish & chips, --> <now>."),
        segment(3661, 3664.5, " This is a sentence that is longer than a line of subtitles, but not than two."),
        segment(100 * 3600, 100 * 3600 + 1.001, "語" * 100),
        seconds=101 * 3600,
    )
    path = tmp_path / f"talk.{format}"
    path.write_text(render(spoken, format), encoding="utf-8", newline="")

    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(container.streams.subtitles[0]) if packet.size]

    found = []
    for packet in packets:
        assert packet.pts is not None
        assert packet.duration is not None
        assert packet.time_base == Fraction(1, 1000)
        text = bytes(packet).decode()
        lines = (html.unescape(text) if format == "vtt" else text).split("\n")
        found.append((packet.pts, packet.pts + packet.duration, lines))
    assert len(found) == 5
    assert found == read_cues(render(spoken, format), format)


#: Figures that JSON can hold.
FIGURES = st.floats(allow_nan=False, allow_infinity=False)
ANY_TEXT = st.text(max_size=20)


@st.composite
def coverages(draw: st.DrawFn) -> Coverage:
    """A coverage of up to four pieces."""
    pieces, at = [], 0
    for length in draw(st.lists(st.integers(0, 10**9), max_size=4)):
        kind, score, reason = draw(st.tuples(st.sampled_from(CoverageKind), st.none() | FIGURES, st.none() | ANY_TEXT))
        pieces.append(CoveragePiece(span=Span(at, at + length), kind=kind, score=score, reason=reason))
        at += length
    return Coverage(tuple(pieces))


SEGMENTS = strategies.segments(SPANS, ANY_TEXT, FIGURES)
TRANSCRIPTS = st.builds(
    Transcript,
    source=ANY_TEXT | st.just("caf\udce9.mp3"),
    recording=ANY_TEXT,
    duration=st.integers(min_value=0),
    language=ANY_TEXT,
    language_probability=st.none() | FIGURES,
    segments=st.lists(SEGMENTS, max_size=3).map(tuple),
    coverage=coverages(),
    provenance=strategies.provenances(ANY_TEXT, FIGURES),
    ended_early=st.none() | ANY_TEXT,
    damaged=st.integers(0, 2**31),
    channel=st.none() | st.integers(min_value=1),
    channels=st.lists(
        st.builds(
            Channel,
            channel=st.integers(min_value=1),
            speaker=ANY_TEXT,
            recording=ANY_TEXT,
            language=st.none() | ANY_TEXT,
            language_probability=st.none() | FIGURES,
            coverage=coverages(),
            ended_early=st.none() | ANY_TEXT,
            damaged=st.integers(0, 2**31),
        ),
        max_size=2,
    ).map(tuple),
)


def in_order(value: Any, schema: dict[str, Any]) -> bool:
    """Whether the keys of every object are those of the schema, in its order."""
    if reference := schema.get("$ref"):
        schema = SCHEMA["$defs"][reference.removeprefix("#/$defs/")]
    if isinstance(value, dict):
        keys = schema["properties"]
        return list(value) == list(keys) and all(in_order(inner, keys[key]) for key, inner in value.items())
    return not isinstance(value, list) or all(in_order(inner, schema.get("items", {})) for inner in value)


@settings(deadline=None)
@given(TRANSCRIPTS)
def test_json_reads_back_as_it_was(written: Transcript) -> None:
    """The way through JSON and back changes nothing, and can be taken through a file."""
    assert parse_json(render(written, "json").encode().decode()) == written


@settings(deadline=None, max_examples=30)
@given(TRANSCRIPTS)
def test_json_fits_its_schema(written: Transcript) -> None:
    """Each key of the schema is there, in its order and of its type, and no other."""
    document = json.loads(render(written, "json"))

    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert in_order(document, SCHEMA)


def test_schema_is_one() -> None:
    """It is valid itself, and docs/ shows the one that the package has."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    published = Path(__file__).parents[2] / "docs" / "transcript.schema.json"

    assert json.loads(published.read_text(encoding="utf-8")) == SCHEMA


def test_schema_leaves_nothing_open() -> None:
    """Every object of the schema requires all of its keys and allows no others."""
    objects = [SCHEMA, *(part for part in SCHEMA["$defs"].values() if part["type"] == "object")]

    assert len(objects) == 7
    for part in objects:
        assert part["required"] == list(part["properties"])
        assert part["additionalProperties"] is False


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (Transcript, SCHEMA),
        (Segment, SCHEMA["$defs"]["segment"]),
        (Word, SCHEMA["$defs"]["word"]),
        (CoveragePiece, SCHEMA["$defs"]["piece"]),
        (Channel, SCHEMA["$defs"]["channel"]),
        (Provenance, SCHEMA["$defs"]["provenance"]),
        (Options, SCHEMA["$defs"]["options"]),
    ],
)
def test_schema_has_every_field_of_the_domain(kind: Any, keys: dict[str, Any]) -> None:
    """A field that the domain gains is missed here, until the schema has a version with it."""
    assert {field.name for field in fields(kind)} - {"span"} <= set(keys["properties"])


def test_json_is_laid_out_for_people() -> None:
    """Indented, UTF-8 unescaped, seconds with three decimals beside the samples."""
    word = Word(Span(8, 24_000), " Grüße", 0.75)
    text = render(transcript(replace(segment(0, 0, " Grüße", (word,)), span=Span(8, 24_000)), seconds=2), "json")

    assert text.startswith('{\n  "schema": "stenopool/transcript",\n  "version": 3,\n  "source": "talk.mp3",\n')
    assert text.endswith('  "ended_early": null,\n  "damaged": 0,\n  "channel": null,\n  "channels": []\n}\n')
    assert '"text": "Grüße",\n' in text
    assert json.loads(text)["segments"] == [
        {
            "start": 0.001,
            "end": 1.5,
            "start_sample": 8,
            "end_sample": 24_000,
            "text": " Grüße",
            "chunk": 0,
            "avg_logprob": -0.25,
            "compression_ratio": 1.25,
            "no_speech_prob": 0.0,
            "temperature": 0.0,
            "language": None,
            "guards": [],
            "suspicion": 0.0,
            "speaker": None,
            "words": [
                {
                    "start": 0.001,
                    "end": 1.5,
                    "start_sample": 8,
                    "end_sample": 24_000,
                    "text": " Grüße",
                    "probability": 0.75,
                }
            ],
        }
    ]


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_json_has_null_for_what_is_no_number(figure: float) -> None:
    """NaN and infinity are no JSON; they are written as null, and read as NaN."""
    text = render(transcript(replace(segment(0, 1, " a"), avg_logprob=figure)), "json")

    assert json.loads(text)["segments"][0]["avg_logprob"] is None
    assert math.isnan(parse_json(text).segments[0].avg_logprob)


def test_documented_example_is_a_document() -> None:
    """The example of the documentation reads, and is written again letter by letter."""
    page = (Path(__file__).parents[2] / "docs" / "transcript-json.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)

    assert render(parse_json(example), "json") == example


#: What is replaced in a good document, and the complaint about the result.
DAMAGE = [
    ('"version": 3', '"version": 1', "transcript of schema version 1, this Stenopool reads version 3: .*"),
    ('"version": 3', '"version": true', "transcript of schema version True, this Stenopool reads version 3: .*"),
    ("stenopool/transcript", "other", 'not a Stenopool transcript: it has no "schema": "stenopool/transcript"'),
    ('"chunk": 0,', "", r"not a Stenopool transcript: segments\[0\]\.chunk is missing"),
    ('"chunk": 0', '"chunk": "0"', r"not a Stenopool transcript: segments\[0\]\.chunk must be an integer, is a string"),
    ('"chunk": 0', '"chunk": true', r"not .*: segments\[0\]\.chunk must be an integer, is true or false"),
    ('"chunk": 0', '"chunk": 0, "mood": 1', r"not .*: segments\[0\]\.'mood' is not a key of the schema"),
    (
        '"no_speech_prob": 0.0',
        '"no_speech_prob": 1e999',
        r"not .*: segments\[0\]\.no_speech_prob is too large a number",
    ),
    ('"no_speech_prob": 0.0', '"no_speech_prob": NaN', r"not .*: it is not JSON \(NaN is no JSON number\)"),
    (
        '"end_sample": 24000,\n      "text"',
        '"end_sample": -1,\n      "text"',
        r"not .*: segments\[0\]\.start_sample and end_sample: a span .*",
    ),
    ('"kind": "transcribed"', '"kind": "lost"', r"not .*: coverage\[0\]\.kind must be one of transcribed, .*'lost'"),
    (
        '"start_sample": 0,\n      "end_sample": 960000',
        '"start_sample": 1,\n      "end_sample": 960000',
        "not .*: coverage has a hole .*",
    ),
    ('"task": "transcribe"', '"task": "sing"', r"not .*: provenance\.options\.task must be 'tran.* or .*, is 'sing'"),
    ('"words": []', '"words": [null]', r"not .*: segments\[0\]\.words\[0\] must be an object, is null"),
    ('"duration": 960000', '"duration": -1', "not .*: duration must not be negative, is -1"),
]


@pytest.mark.parametrize(("good", "bad", "message"), DAMAGE)
def test_damaged_json_is_named(good: str, bad: str, message: str) -> None:
    """What does not fit the schema is a usage error of one line, which says where."""
    text = render(TWO, "json")
    assert good in text

    with pytest.raises(UsageError, match=f"^{message}$"):
        parse_json(text.replace(good, bad, 1))


@pytest.mark.parametrize("text", ["", "no", "[]", "{}", "null", "[" * 100_000, '"stenopool/transcript"', "{" * 9])
def test_foreign_text_is_no_transcript(text: str) -> None:
    """Any other text is a usage error of one line."""
    with pytest.raises(UsageError, match=r"\Anot a Stenopool transcript: .+\Z"):
        parse_json(text)
