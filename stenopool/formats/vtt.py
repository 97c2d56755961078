"""WebVTT, as the W3C specifies it."""

from __future__ import annotations

from stenopool.domain import Transcript
from stenopool.formats.subtitles import cues
from stenopool.formats.timecode import clock

#: "&" and "<" start an escape and a tag; without ">" no text can spell the arrow of a cue's times.
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def to_vtt(transcript: Transcript) -> str:
    """WebVTT subtitles; without cues, the header alone."""
    blocks = ["WEBVTT\n"]
    for cue in cues(transcript):
        text = "\n".join(cue.lines).translate(_ESCAPES)
        blocks.append(f"{clock(cue.start, '.')} --> {clock(cue.end, '.')}\n{text}\n")
    return "\n".join(blocks)
