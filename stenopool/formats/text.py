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
    return "".join(f"{text}\n" for _, text in _lines(transcript))


def to_tsv(transcript: Transcript) -> str:
    """Start and end in integer milliseconds, and the text, separated by tabs, under a header."""
    rows = (
        f"{milliseconds(segment.span.start)}\t{milliseconds(segment.span.end)}\t{text}\n"
        for segment, text in _lines(transcript)
    )
    return "start\tend\ttext\n" + "".join(rows)


def writable(text: str) -> str:
    """The text with U+FFFD, the replacement character, for what a text file cannot hold; as long as before."""
    return _UNWRITABLE.sub("\ufffd", text)


def _lines(transcript: Transcript) -> Iterator[tuple[Segment, str]]:
    for segment in transcript.segments:
        text = _SEPARATORS.sub(" ", writable(segment.text)).strip()
        if text:
            yield segment, text
