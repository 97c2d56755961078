"""Transcripts as the podcast namespace describes them, for podcast hosts and players.

https://github.com/Podcastindex-org/podcast-namespace/blob/main/docs/examples/transcripts/transcripts.md
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from stenopool.domain import SAMPLE_RATE, Segment, Transcript
from stenopool.formats.srt import to_srt
from stenopool.formats.text import line_of, lines_of, writable
from stenopool.formats.timecode import milliseconds
from stenopool.formats.vtt import to_vtt
from stenopool.formats.wrapping import Layout

SRT = Layout(width=32, lines=2)
VTT = Layout(width=65, lines=1)

#: A paragraph ends at a pause of so many samples, or with the first segment after so many.
PAUSE, PARAGRAPH = 2 * SAMPLE_RATE, 60 * SAMPLE_RATE

#: What HTML cannot hold, not even as an escape.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


def to_podcast_srt(transcript: Transcript) -> str:
    """SubRip of at most two lines of 32 characters, a new card for each speaker, `Name:` before what he says."""
    return to_srt(transcript, SRT)


def to_podcast_vtt(transcript: Transcript) -> str:
    """WebVTT of one line of at most 65 characters, `<v Name>` where the speaker is another one."""
    return to_vtt(transcript, VTT, each=False)


def to_podcast_json(transcript: Transcript) -> str:
    """JSON 1.0.0: an element for each segment that says something."""
    segments = []
    for segment, text in lines_of(transcript):
        who = {} if segment.speaker is None else {"speaker": line_of(segment.speaker)}
        times = {"startTime": _seconds(segment.span.start), "endTime": _seconds(segment.span.end)}
        segments.append({**who, **times, "body": text})
    return json.dumps({"version": "1.0.0", "segments": segments}, ensure_ascii=False, indent=2) + "\n"


def to_podcast_html(transcript: Transcript) -> str:
    """Paragraphs, each with the time at which it begins, and who speaks where that is known."""
    lines = ['<meta charset="utf-8">']
    for paragraph in _paragraphs(transcript):
        if paragraph.speaker is not None:
            lines.append(f"<cite>{_escaped(paragraph.speaker)}:</cite>")
        lines.append(f"<time>{_time(paragraph.start)}</time>")
        lines.append(f"<p>{_escaped(''.join(paragraph.texts))}</p>")
    return "\n".join(lines) + "\n"


@dataclass
class _Paragraph:
    """What somebody says in one go; times in samples."""

    speaker: str | None
    start: int
    end: int
    texts: list[str] = field(default_factory=list)

    def goes_on_with(self, segment: Segment) -> bool:
        """Whether that is still part of it."""
        start = segment.span.start
        return segment.speaker == self.speaker and start - self.end < PAUSE and start - self.start < PARAGRAPH


def _paragraphs(transcript: Transcript) -> Iterator[_Paragraph]:
    paragraph: _Paragraph | None = None
    for segment, _ in lines_of(transcript):
        if paragraph is None or not paragraph.goes_on_with(segment):
            if paragraph is not None:
                yield paragraph
            paragraph = _Paragraph(segment.speaker, segment.span.start, segment.span.end)
        paragraph.texts.append(segment.text)
        paragraph.end = max(paragraph.end, segment.span.end)
    if paragraph is not None:
        yield paragraph


def _escaped(text: str) -> str:
    plain = " ".join(writable(text).split())
    return html.escape(_CONTROLS.sub("\ufffd", plain), quote=False)


def _time(samples: int) -> str:
    """As people read a time: 4:05, 1:02:03."""
    minutes, seconds = divmod(samples // SAMPLE_RATE, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _seconds(samples: int) -> float:
    return milliseconds(samples) / 1000
