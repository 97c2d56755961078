"""The publisher's own transcripts: which ones a recording's metadata names, whoever wrote it."""

from __future__ import annotations

import json

import pytest

from scheduler.publisher import LONGEST, MOST, Link, links_of, media_type_of


def test_they_are_those_of_the_feed_once_each() -> None:
    """In its order; the first word counts."""
    said = [
        {"url": " https://a.org/1.vtt ", "type": "Text/VTT; charset=utf-8", "language": "en", "rel": "captions"},
        {"url": "https://a.org/1.srt"},
        {"url": "https://a.org/1.vtt", "type": "text/plain"},
    ]

    assert links_of({"transcripts": json.dumps(said)}) == [
        Link(url="https://a.org/1.vtt", media_type="text/vtt", language="en", rel="captions"),
        Link(url="https://a.org/1.srt", media_type=None, language=None, rel=None),
    ]


@pytest.mark.parametrize(
    "said",
    [
        "",
        "by hand, in 2019",
        "7",
        '"a"',
        "{}",
        "[" * 100_000,
        '["a", 7, null]',
        '[{"url": 7}, {"url": ""}, {"type": "a/b"}]',
    ],
)
def test_what_is_no_list_of_links_names_none(said: str) -> None:
    """Others may call something of theirs so, too."""
    assert links_of({"transcripts": said}) == []
    assert links_of({}) == []


def test_there_are_bounds() -> None:
    """Of how many, and of how long each is; a line feed is in no address."""
    urls = ["https://a.org/\nb", f"https://a.org/{'a' * LONGEST}", *(f"https://a.org/{at}" for at in range(MOST + 5))]
    said = json.dumps([{"url": url, "language": "e" * 50, "rel": "a\nb"} for url in urls])

    found = links_of({"transcripts": said})

    assert [one.url for one in found] == urls[2 : MOST + 2]
    assert {(one.language, one.rel) for one in found} == {(None, None)}


@pytest.mark.parametrize("said", ["", "text", "text/", "a b/c", "text/html\r\nX: y", "t/" + "a" * 100, "ü/x", 7, None])
def test_what_is_no_media_type(said: object) -> None:
    """Is none."""
    assert media_type_of(said) is None
