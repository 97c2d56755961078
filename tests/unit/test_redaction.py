"""What is redacted, what is not, and the way back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.redacted import redacted, redaction_map, restored
from scheduler.redaction import MARGIN, detect, find_masks, muted, read_rules
from stenopool.domain import Options, Segment, Span
from stenopool.errors import UsageError
from stenopool.masking import Mask, carried, join_masks
from stenopool.timing import span_of
from tests.transcripts import segment, span, transcript

ALL = read_rules("card,email,phone,iban")


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("My card is 4111 1111 1111 1111, thanks.", ["4111 1111 1111 1111"]),
        ("It is 4111111111111111.", ["4111111111111111"]),
        ("code 123, 4111 1111 1111 1111, 12 27, 737", ["4111 1111 1111 1111"]),
        ("4111 1111 1111 1111 5500 0000 0000 0004", ["4111 1111 1111 1111", "5500 0000 0000 0004"]),
        ("5500-0000-0000-0004", ["5500-0000-0000-0004"]),
        ("4 1 1 1, 1 1 1 1, 1 1 1 1, 1 1 1 1", ["4 1 1 1, 1 1 1 1, 1 1 1 1, 1 1 1 1"]),
        ("American Express 3782 822463 10005", ["3782 822463 10005"]),
        ("Write to jane.doe+x@mail.example.com, please.", ["jane.doe+x@mail.example.com"]),
        ("Write to jane dot doe at example dot com please", ["jane dot doe at example dot com"]),
        ("it's info at my-shop dot co dot uk", ["info at my-shop dot co dot uk"]),
        ("jane underscore doe, at, example.org", ["jane underscore doe, at, example.org"]),
        ("Call +49 30 901820 or +1 (212) 555-0123.", ["+49 30 901820", "+1 (212) 555-0123"]),
        ("Call 0044 20 7946 0958.", ["0044 20 7946 0958"]),
        ("plus 49 151 23456789", ["plus 49 151 23456789"]),
        ("My number is 212-555-0123 or (415) 555 2671.", ["212-555-0123", "(415) 555 2671"]),
        ("020 7946 0958 in London", ["020 7946 0958"]),
        ("06 12 34 56 78 à Paris", ["06 12 34 56 78"]),
        ("030 901820 in Berlin, 0151/23456789 mobil", ["030 901820", "0151/23456789"]),
        ("612 345 678 en Madrid", ["612 345 678"]),
        ("IBAN DE89 3704 0044 0532 0130 00.", ["DE89 3704 0044 0532 0130 00"]),
        ("GB29NWBK60161331926819", ["GB29NWBK60161331926819"]),
        ("d e 8 9 3 7 0 4 0 0 4 4 0 5 3 2 0 1 3 0 0 0", ["d e 8 9 3 7 0 4 0 0 4 4 0 5 3 2 0 1 3 0 0 0"]),
    ],
)
def test_what_is_found(text: str, gone: list[str]) -> None:
    """As it is written, and as it is said: in groups, digit by digit, with "at" and "dot"."""
    assert [text[start:end] for start, end, _ in detect(text, ALL)] == gone


@pytest.mark.parametrize(
    "text",
    [
        "The number 4111 1111 1111 1112 is no card.",  # Luhn says no
        "order 1234567890123456",
        "0000 0000 0000 0000",
        "version 10.2.3.4, and 2.11.0",
        "from 1914 to 1918, and from 1939 to 1945",
        "at 10:30, 12:45:10 or 2026-11-22 10:30",
        "22.11.2026 and 11/22/2026",
        "it costs 1,250,000.00 dollars, or 1 250 000 euros",
        "3.14159265358979 is pi",
        "from 1,000 to 10,000 to 100,000 to 1,000,000",
        "192.168.100.200",
        "100 000 000 samples, 16 000 a second",
        "rooms 101, 102, 103, 104 and 105",
        "we met at example dot product meetings",
        "look at the dot on the map at noon",
        "meet me at google.",
        "@everybody, look at this",
        "DE89 3704 0044 0532 0130 01 has a wrong checksum",
        "de 2026 en 2027",
        "in 0.5 seconds, 007 times",
        "chapter 12 34 56 78",
        "score 600 700",
        "The year 2000 bug of 01 01 2000",
        "50 000 000 000 000 tokens",
    ],
)
def test_what_is_not(text: str) -> None:
    """Near misses: numbers without their check digit, versions, years, times, dates, prices, addresses of machines."""
    assert detect(text, ALL) == []


def test_lists() -> None:
    """Terms are redacted as whole words, in whatever spelling."""
    rules = read_rules("", ["Kowalski", "project falcon", "  "])
    text = "KOWALSKI's Project: Falcon. Kowalskis, falcon."

    assert [text[start:end] for start, end, _ in detect(text, rules)] == ["KOWALSKI", "Project: Falcon"]
    assert rules.terms == ("Kowalski", "project falcon")
    with pytest.raises(
        UsageError, match="passport: nothing that can be redacted; choose from card, email, phone, iban"
    ):
        read_rules("card,passport")
    with pytest.raises(UsageError, match="nothing is named"):
        read_rules(" ,", ["..."])


def test_a_number_that_a_pause_cuts_in_two() -> None:
    """Is one, and is redacted in both segments; and the words keep their times."""
    said = transcript(
        segment(0, 4, " The card is 4111 1111", words=True), segment(4, 8, " 1111 1111. Thanks!", words=True)
    )
    rules = read_rules("card")
    masks = find_masks(said.segments, rules)
    done = redacted(said, masks, rules)

    assert [one.text for one in done.segments] == [" The card is [CARD]", " [CARD]. Thanks!"]
    assert [one.text for one in done.segments[0].words] == [" The", " card", " is", " [CARD]"]
    assert [one.text for one in done.segments[1].words] == [" [CARD].", " Thanks!"]
    before = [one.span for one in said.segments[0].words]
    assert [one.span for one in done.segments[0].words] == [*before[:3], Span(before[3].start, before[4].end)]
    assert muted(said.segments, masks, said.duration) == [
        Span(before[3].start - MARGIN, said.segments[1].words[1].span.end + MARGIN)
    ]
    assert (done.duration, done.coverage, done.recording) == (said.duration, said.coverage, said.recording)


def test_without_times_of_words_a_segment_is_muted_whole() -> None:
    """Rather too much than a digit too few."""
    said = transcript(segment(2, 4, " It is 4111111111111111."))
    masks = find_masks(said.segments, ALL)

    assert muted(said.segments, masks, said.duration) == [Span(span(2, 4).start - MARGIN, span(2, 4).end + MARGIN)]
    assert muted(said.segments, masks, span(2, 4).end)[0].end == span(2, 4).end


def test_prompts_are_redacted_too() -> None:
    """The document says what the model was told: that may be the very names."""
    rules = read_rules("email", ["Kowalski"])
    options = Options(initial_prompt="With Kowalski, k@example.org", hotwords="falcon Kowalski")
    done = redacted(transcript(segment(0, 1, " hello"), options=options), [], rules)

    assert done.provenance.options.initial_prompt == "With [NAME], [EMAIL]"
    assert done.provenance.options.hotwords == "falcon [NAME]"


PIECES = st.sampled_from(
    [" 4111 1111 1111 1111", " a@b.org", " hello", " +49 30 901820", ",", " 4111 1111", "1", " é", " Kowalski"]
)


@given(st.lists(st.lists(PIECES, max_size=6).map("".join), max_size=5), st.booleans())
def test_the_map_leads_back(texts: list[str], words: bool) -> None:
    """Whatever was redacted, the redacted text and the map give the original; the words still make up the text."""
    rules = read_rules("card,email,phone,iban", ["kowalski"])
    said = transcript(*(segment(at, at + 1, text, words=words) for at, text in enumerate(texts)))
    masks = find_masks(said.segments, rules)
    done = redacted(said, masks, rules)
    map = redaction_map(said, masks)

    assert restored([one.text for one in done.segments], map) == texts
    assert len(json.loads(map)["redactions"]) == len(masks)
    assert find_masks(done.segments, read_rules("card,email,iban", ["kowalski"])) == []
    for before, after in zip(said.segments, done.segments, strict=True):
        if before.words and "".join(one.text for one in before.words) == before.text:
            assert "".join(one.text for one in after.words) == after.text
            assert after.words[0].span.start == before.words[0].span.start
            assert after.words[-1].span.end == before.words[-1].span.end


def test_what_is_no_map() -> None:
    """Is said in a line."""
    for wrong in ("", "[]", "{}", '{"schema": "stenopool/redaction-map", "redactions": [{}]}'):
        with pytest.raises(UsageError, match="not a Stenopool redaction map"):
            restored(["a"], wrong)


def test_masks_that_meet() -> None:
    """Are one."""
    assert join_masks([Mask(0, 4, 9, "b"), Mask(0, 0, 5, "a"), Mask(1, 0, 5, "a")]) == [
        Mask(0, 0, 9, "a"),
        Mask(1, 0, 5, "a"),
    ]


def test_when_something_was_said() -> None:
    """By the words it is in; by the segment where these are not of that text."""
    one = segment(0, 3, " one two three", words=True)

    assert span_of(one, 5, 8) == one.words[1].span
    assert span_of(one, 3, 6) == Span(one.words[0].span.start, one.words[1].span.end)
    assert span_of(segment(0, 3, " one"), 1, 2) == span(0, 3)


def test_masks_go_with_what_was_said_to_another_version() -> None:
    """To the same text; where it was heard otherwise, all that was said at that time is masked."""

    def said(text: str, start: int, end: int) -> Segment:
        return Segment(
            span=Span(start, end), text=text, chunk=0, avg_logprob=0.0, compression_ratio=1.0, no_speech_prob=0.0
        )

    former = [said(" call Jane", 0, 10), said(" or Joe", 10, 20)]
    later = [said(" call Jane", 0, 10), said(" Joe", 12, 16), said(" bye", 20, 30)]
    masks = [Mask(0, 6, 10, "name"), Mask(1, 4, 7, "name")]
    assert carried(masks, former, later) == [Mask(0, 6, 10, "name"), Mask(1, 1, 4, "name")]
    assert carried([], former, later) == []
