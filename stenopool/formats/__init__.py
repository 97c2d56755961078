"""A transcript as text: plain, subtitles, tables, the whole as JSON. Pure functions that know nothing of files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stenopool.domain import Transcript
from stenopool.errors import UsageError
from stenopool.formats.chapters import to_chapters
from stenopool.formats.document import to_json
from stenopool.formats.podcast import to_podcast_html, to_podcast_json, to_podcast_srt, to_podcast_vtt
from stenopool.formats.reading import parse_json
from stenopool.formats.srt import to_srt
from stenopool.formats.text import to_tsv, to_txt
from stenopool.formats.vtt import to_vtt
from stenopool.formats.words import to_csv

__all__ = ["FORMATS", "KEPT", "Format", "format_of", "parse_json", "render"]


@dataclass(frozen=True, slots=True)
class Format:
    """One of the ways to write a transcript."""

    name: str
    #: Of its files: "talk" and "podcast.vtt" make talk.podcast.vtt.
    ending: str
    #: As which it is served.
    media_type: str
    write: Callable[[Transcript], str]


_FORMATS = (
    Format("txt", "txt", "text/plain", to_txt),
    Format("srt", "srt", "application/x-subrip", to_srt),
    Format("vtt", "vtt", "text/vtt", to_vtt),
    Format("tsv", "tsv", "text/tab-separated-values", to_tsv),
    Format("json", "json", "application/json", to_json),
    Format("csv", "csv", "text/csv", to_csv),
    Format("podcast-json", "podcast.json", "application/json", to_podcast_json),
    Format("podcast-html", "podcast.html", "text/html", to_podcast_html),
    Format("podcast-srt", "podcast.srt", "application/x-subrip", to_podcast_srt),
    Format("podcast-vtt", "podcast.vtt", "text/vtt", to_podcast_vtt),
    Format("chapters", "chapters.json", "application/json+chapters", to_chapters),
)
_BY_NAME = {format.name: format for format in _FORMATS}

#: The names that `render` knows.
FORMATS: tuple[str, ...] = tuple(_BY_NAME)

#: What a farm keeps of every transcript in its object store; the others are made of the same when they are asked for.
KEPT: tuple[str, ...] = ("txt", "srt", "vtt", "tsv", "json")


def format_of(name: str) -> Format:
    """One of `FORMATS`. Raises UsageError for any other name."""
    format = _BY_NAME.get(name)
    if format is None:
        raise UsageError(f"unknown format {name!r}: choose from {', '.join(FORMATS)}")
    return format


def render(transcript: Transcript, format: str) -> str:
    """The transcript in one of `FORMATS`, lines ended by LF; it can always be encoded as UTF-8.

    Raises UsageError for a format of another name.
    """
    return format_of(format).write(transcript)
