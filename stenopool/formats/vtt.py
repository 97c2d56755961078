"""WebVTT, as the W3C specifies it."""

from __future__ import annotations

from stenopool.domain import Transcript
from stenopool.formats.subtitles import Cue, cues
from stenopool.formats.text import writable
from stenopool.formats.timecode import clock
from stenopool.formats.wrapping import SCREEN, Layout

#: "&" and "<" start an escape and a tag; without ">" no text can spell the arrow of a cue's times.
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def to_vtt(transcript: Transcript, layout: Layout = SCREEN, *, each: bool = True) -> str:
    """WebVTT subtitles; without cues, the header alone.

    Args:
        each: whether every cue says who speaks, where that is known; else those at which it is another one.
    """
    blocks = ["WEBVTT\n"]
    before: str | None = None
    for cue in cues(transcript, layout):
        voice = _voice(cue) if each or cue.speaker != before else ""
        before = cue.speaker
        text = voice + "\n".join(cue.lines).translate(_ESCAPES)
        blocks.append(f"{clock(cue.start, '.')} --> {clock(cue.end, '.')}\n{text}\n")
    return "\n".join(blocks)


def _voice(cue: Cue) -> str:
    return "" if cue.speaker is None else f"<v {' '.join(writable(cue.speaker).translate(_ESCAPES).split())}>"
