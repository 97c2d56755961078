"""SubRip: numbered cues with `HH:MM:SS,mmm` times."""

from __future__ import annotations

from dataclasses import replace

from stenopool.domain import Transcript
from stenopool.formats.subtitles import cues
from stenopool.formats.timecode import clock


def to_srt(transcript: Transcript) -> str:
    """SubRip subtitles; without cues, the empty text."""
    # SubRip has no escapes, and a reader knows the next cue by its arrow: one in the text is pulled apart. The
    # space goes in before the lines are cut, so that they keep to their width.
    segments = tuple(replace(segment, text=segment.text.replace("-->", "-- >")) for segment in transcript.segments)
    blocks = []
    for number, cue in enumerate(cues(replace(transcript, segments=segments)), start=1):
        text = "\n".join(cue.lines)
        blocks.append(f"{number}\n{clock(cue.start, ',')} --> {clock(cue.end, ',')}\n{text}\n")
    return "\n".join(blocks)
