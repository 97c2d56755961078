"""What the podcast namespace says of transcripts and chapters, as rules that a file keeps or breaks.

From its own pages: docs/tags/transcript.md, docs/examples/transcripts/transcripts.md and
docs/examples/chapters/jsonChapters.md of https://github.com/Podcastindex-org/podcast-namespace
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import feedparser
import jsonschema

TRANSCRIPT: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["version", "segments"],
    "properties": {
        "version": {"const": "1.0.0"},
        "segments": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["startTime", "body"],
                "properties": {
                    "speaker": {"type": "string", "minLength": 1},
                    "startTime": {"type": "number", "minimum": 0},
                    "endTime": {"type": "number", "minimum": 0},
                    "body": {"type": "string"},
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}

CHAPTERS: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["version", "chapters"],
    "properties": {
        "version": {"type": "string", "pattern": r"^1\.2\.0$"},
        "author": {"type": "string"},
        "title": {"type": "string"},
        "podcastName": {"type": "string"},
        "description": {"type": "string"},
        "fileName": {"type": "string"},
        "waypoints": {"type": "boolean"},
        "chapters": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["startTime"],
                "properties": {
                    "startTime": {"type": "number", "minimum": 0},
                    "title": {"type": "string"},
                    "img": {"type": "string"},
                    "url": {"type": "string"},
                    "toc": {"type": "boolean"},
                    "endTime": {"type": "number"},
                    "location": {"type": "object", "required": ["name", "geo"]},
                },
            },
        },
    },
}

#: Media types of the tag, and what each file must be.
TYPES = {"text/plain", "text/html", "text/vtt", "application/json", "application/x-subrip"}


def check_json(text: str) -> list[dict[str, Any]]:
    """The segments of a JSON transcript that keeps the rules."""
    document = json.loads(text)
    jsonschema.Draft202012Validator(TRANSCRIPT).validate(document)
    segments: list[dict[str, Any]] = document["segments"]
    assert all(one["startTime"] <= one.get("endTime", one["startTime"]) for one in segments)
    return segments


def check_chapters(text: str) -> list[float]:
    """When the chapters begin that keep the rules."""
    document = json.loads(text)
    jsonschema.Draft202012Validator(CHAPTERS).validate(document)
    starts = [chapter["startTime"] for chapter in document["chapters"]]
    assert all(one < other for one, other in pairwise(starts)), "in ascending order"
    return starts


def check_srt(text: str) -> list[tuple[str, list[str]]]:
    """Times and lines of the cards of an SRT that keeps the rules: two lines of 32 characters at most."""
    cards = []
    time = r"\d{2,}:[0-5]\d:[0-5]\d,\d{3}"
    for number, block in enumerate(text.removesuffix("\n").split("\n\n") if text else [], start=1):
        index, times, *lines = block.split("\n")
        assert index == str(number)
        assert re.fullmatch(f"{time} --> {time}", times)
        assert 1 <= len(lines) <= 2, block
        assert all(0 < len(line) <= 32 for line in lines), block
        cards.append((times, lines))
    return cards


def check_vtt(text: str) -> list[tuple[str, str | None, str]]:
    """Times, voice and text of the cues of a VTT that keeps the rules: `HH:MM:SS.mmm`, lines of 65 characters at most.

    A voice is named where it changes: after that it is None.
    """
    header, *blocks = text.removesuffix("\n").split("\n\n")
    assert header == "WEBVTT"
    cues = []
    before: str | None = None
    time = r"\d{2,}:[0-5]\d:[0-5]\d\.\d{3}"
    for block in blocks:
        times, *lines = block.split("\n")
        assert re.fullmatch(f"{time} --> {time}", times)
        voice = re.match(r"<v ([^>]+)>", lines[0])
        said = [line.removeprefix(voice[0]) if voice else line for line in lines]
        assert all(0 < len(unescaped(line)) <= 65 for line in said), block
        assert not any("-->" in line or "<" in line for line in said)
        assert voice is None or voice[1] != before, "named only where it changes"
        before = voice[1] if voice else before
        cues.append((times, voice[1] if voice else None, unescaped("\n".join(said))))
    return cues


def unescaped(text: str) -> str:
    """WebVTT's escapes as the letters that they stand for."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


class _Html(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("cite", "time", "p", "meta")
        if tag != "meta":
            self.found.append([tag, ""])

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.found[-1][1] += data


def check_html(text: str) -> list[tuple[str | None, str, str]]:
    """Speaker, time and text of the paragraphs of an HTML transcript that keeps the rules."""
    parser = _Html()
    parser.feed(text)
    parser.close()
    paragraphs = []
    speaker: str | None = None
    at = ""
    for tag, data in parser.found:
        if tag == "cite":
            assert data.endswith(":")
            speaker = data.removesuffix(":")
        elif tag == "time":
            assert re.fullmatch(r"(\d+:[0-5])?\d:[0-5]\d", data), data
            at = data
        else:
            paragraphs.append((speaker, at, data))
            speaker = None
    return paragraphs


def check_feed(feed: bytes) -> dict[str, list[dict[str, str]]]:
    """By GUID, the attributes of the transcript tags that feedparser finds in a feed that keeps the rules.

    feedparser keeps one tag of a name; so each is asked for in a feed whose episodes have no other.
    """
    parsed = feedparser.parse(feed)
    assert not parsed.bozo, parsed.get("bozo_exception")
    assert "https://podcastindex.org/namespace/1.0" in parsed.namespaces.values()
    tags: dict[str, list[dict[str, str]]] = {entry.get("id", ""): [] for entry in parsed.entries}
    pattern = re.compile(rb"<[\w.-]+:transcript\b[^>]*/>")
    head, *episodes = re.split(rb"(?=<item\b)", feed)
    assert not pattern.search(head), "only episodes have transcripts"
    for at in range(max((len(pattern.findall(one)) for one in episodes), default=0)):
        alone = b"".join([head, *(_only(pattern, at, one) for one in episodes)])
        for entry in feedparser.parse(alone).entries:
            for tag in (value for key, value in entry.items() if re.fullmatch(r"podcast\d*_transcript", key)):
                assert tag["url"].startswith(("http://", "https://"))
                assert tag["type"] in TYPES
                assert tag.get("rel") in (None, "captions")
                tags[entry.get("id", "")].append(dict(tag))
    assert sum(map(len, tags.values())) == len(pattern.findall(feed))
    return tags


def _only(pattern: re.Pattern[bytes], at: int, episode: bytes) -> bytes:
    """An episode with that tag of its tags alone."""
    places = [place.span() for place in pattern.finditer(episode)]
    for start, end in reversed(places[:at] + places[at + 1 :]):
        episode = episode[:start] + episode[end:]
    return episode
