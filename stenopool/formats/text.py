"""Text for reading (txt) and for spreadsheets and scripts (tsv, as openai/whisper writes it)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stenopool.domain import Segment, Transcript
from stenopool.formats.timecode import milliseconds

#: NUL ends a string in many a reader, and half of a surrogate pair cannot be written as UTF-8.
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
#: All that str.splitlines, and hence somebody's reader, takes for the end of a line; and the tab.
_SEPARATORS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")


def to_txt(transcript: Transcript) -> str:
    """Plain text, a line per segment that says something."""
    return "".join(f"{_named(segment, text)}\n" for segment, text in lines_of(transcript))


def to_tsv(transcript: Transcript) -> str:
    """Start and end in integer milliseconds, and the text, separated by tabs, under a header."""
    rows = (
        f"{milliseconds(segment.span.start)}\t{milliseconds(segment.span.end)}\t{_named(segment, text)}\n"
        for segment, text in lines_of(transcript)
    )
    return "start\tend\ttext\n" + "".join(rows)


def writable(text: str) -> str:
    """The text with U+FFFD, the replacement character, for what a text file cannot hold; as long as before."""
    return _UNWRITABLE.sub("\ufffd", text)


def line_of(text: str) -> str:
    """The text as one line without white space at its ends, as a text file can hold it."""
    return _SEPARATORS.sub(" ", writable(text)).strip()


def lines_of(transcript: Transcript) -> Iterator[tuple[Segment, str]]:
    """The segments that say something, and what they say in one line."""
    for segment in transcript.segments:
        if text := line_of(segment.text):
            yield segment, text


def _named(segment: Segment, text: str) -> str:
    """The line with its speaker's name before it, where that is known."""
    return text if segment.speaker is None else f"{line_of(segment.speaker)}: {text}"
