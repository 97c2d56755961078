"""A transcript as text: plain, subtitles, a table, the whole as JSON. Pure functions that know nothing of files."""

from __future__ import annotations

from collections.abc import Callable

from stenopool.domain import Transcript
from stenopool.errors import UsageError
from stenopool.formats.document import to_json
from stenopool.formats.reading import parse_json
from stenopool.formats.srt import to_srt
from stenopool.formats.text import to_tsv, to_txt
from stenopool.formats.vtt import to_vtt

__all__ = ["FORMATS", "parse_json", "render"]

_WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_txt,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "json": to_json,
}

#: The names that `render` knows; each is also the file's extension.
FORMATS: tuple[str, ...] = tuple(_WRITERS)


def render(transcript: Transcript, format: str) -> str:
    """The transcript in one of `FORMATS`, lines ended by LF; it can always be encoded as UTF-8.

    Raises UsageError for a format of another name.
    """
    writer = _WRITERS.get(format)
    if writer is None:
        raise UsageError(f"unknown format {format!r}: choose from {', '.join(FORMATS)}")
    return writer(transcript)
