"""Every format that we write is opened by a program that is not ours, and holds what was said, when and by whom."""

from __future__ import annotations

import csv
import html
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import av
import jsonschema
import pytest

from stenopool.domain import Transcript
from stenopool.formats import FORMATS, format_of, render
from tests import podcasts
from tests.transcripts import SCHEMA, segment, transcript

#: What is in the file for whoever opens it: when something begins, in seconds, and what.
Said = list[tuple[float, str]]

#: An hour without a word, then what breaks careless writers, and a pause for a chapter.
TALK = replace(
    transcript(
        replace(segment(3600, 3603, ' Fish & "chips", <b>now</b>.'), speaker="Ada"),
        replace(segment(3603.25, 3605, " Größe, 大きさ; =1+1"), speaker="Grace"),
        replace(segment(3900, 3902, " After a pause."), speaker="Ada"),
        seconds=4100,
    ),
    source="talk.mp3",
)
TEXTS = [one.text.strip() for one in TALK.segments]


def by_ffmpeg(path: Path) -> Said:
    """FFmpeg, which players of many kinds have inside."""
    with av.open(str(path)) as container:
        [stream] = container.streams.subtitles
        packets = [packet for packet in container.demux(stream) if packet.size]
    return [
        (float((packet.pts or 0) * (packet.time_base or 0)), html.unescape(bytes(packet).decode()))
        for packet in packets
    ]


def by_schema(path: Path) -> Said:
    """A validator of JSON schema, by the schema that is published."""
    document = json.loads(path.read_bytes())
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(document)
    return [(one["start"], one["text"].strip()) for one in document["segments"]]


def by_podcast_schema(path: Path) -> Said:
    """A validator of JSON schema, by the rules of the podcast namespace."""
    return [(one["startTime"], one["body"]) for one in podcasts.check_json(path.read_text("utf-8"))]


def by_chapters_schema(path: Path) -> Said:
    """The same, of chapters."""
    return [(start, "") for start in podcasts.check_chapters(path.read_text("utf-8"))]


def by_csv(path: Path) -> Said:
    """Python's reader of tables, as a spreadsheet reads them."""
    with path.open(newline="", encoding="utf-8") as file:
        return [(float(row["start"]), row["word"]) for row in csv.DictReader(file, strict=True)]


def by_tabs(path: Path) -> Said:
    """Python's reader of tables, told of tabs and that nothing is quoted."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
        return [(int(row["start"]) / 1000, row["text"]) for row in rows]


def by_html(path: Path) -> Said:
    """Python's reader of web pages."""
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            found.append(data)

    Reader().feed(path.read_text("utf-8"))
    times = [h * 3600 + m * 60 + s for h, m, s in (map(int, one.split(":")) for one in found if one.count(":") == 2)]
    texts = [one for one in found if one.strip() and ":" not in one]
    return list(zip(map(float, times), texts, strict=True))


def by_text(path: Path) -> Said:
    """A program that counts lines and letters; times are not in it."""
    counted = subprocess.run(
        ["wc", "-lm", str(path)], capture_output=True, check=True, text=True, env={"LC_ALL": "C.UTF-8"}
    )
    lines, letters = map(int, counted.stdout.split()[:2])
    text = path.read_text("utf-8")
    assert (lines, letters) == (len(TALK.segments), len(text))
    return [(0.0, line) for line in text.splitlines()]


#: By which programs each format is opened.
PROGRAMS: dict[str, Callable[[Path], Said]] = {
    "txt": by_text,
    "srt": by_ffmpeg,
    "vtt": by_ffmpeg,
    "tsv": by_tabs,
    "json": by_schema,
    "csv": by_csv,
    "podcast-json": by_podcast_schema,
    "podcast-html": by_html,
    "podcast-srt": by_ffmpeg,
    "podcast-vtt": by_ffmpeg,
    "chapters": by_chapters_schema,
}


def written(format: str, folder: Path, talk: Transcript = TALK) -> Path:
    """A file of that format."""
    path = folder / f"talk.{format_of(format).ending}"
    path.write_text(render(talk, format), encoding="utf-8", newline="")
    return path


def letters(text: str) -> str:
    """What is said, whoever says it and however it is cut into lines."""
    for name in ("<v Ada>", "<v Grace>", "Ada:", "Grace:"):
        text = text.replace(name, "")
    return "".join(text.split())


@pytest.mark.parametrize("format", FORMATS)
def test_another_program_reads_what_was_said(format: str, tmp_path: Path) -> None:
    """All of it, at its time; a format that is added needs a program that reads it."""
    said = PROGRAMS[format](written(format, tmp_path))

    if format != "chapters":
        assert letters("".join(text for _, text in said)) == letters("".join(TEXTS))
    if format == "txt":
        return
    starts = [start for start, _ in said]
    assert starts == sorted(starts)
    assert (0.0 if format == "chapters" else 3600.0) == starts[0]
    assert any(abs(start - 3900) < 1 for start in starts), "what is said after a pause of five minutes"
