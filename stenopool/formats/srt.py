"""SubRip: numbered cues with `HH:MM:SS,mmm` times."""

from __future__ import annotations

from dataclasses import replace

from stenopool.domain import Segment, Transcript
from stenopool.formats.subtitles import cues
from stenopool.formats.timecode import clock
from stenopool.formats.wrapping import SCREEN, Layout


def to_srt(transcript: Transcript, layout: Layout = SCREEN) -> str:
    """SubRip subtitles; without cues, the empty text. Where several speak, `Name:` tells who does from there on."""
    segments = tuple(map(_without_arrows, transcript.segments))
    blocks = []
    for number, cue in enumerate(cues(replace(transcript, segments=segments), layout, named=True), start=1):
        text = "\n".join(cue.lines)
        blocks.append(f"{number}\n{clock(cue.start, ',')} --> {clock(cue.end, ',')}\n{text}\n")
    return "\n".join(blocks)


def _without_arrows(segment: Segment) -> Segment:
    """The segment as SubRip can hold it.

    SubRip has no escapes, and a reader knows the next cue by its arrow: one in the text is pulled apart. The space goes
    in before the lines are cut, so that they keep to their width.
    """
    speaker = segment.speaker and segment.speaker.replace("-->", "-- >")
    return replace(segment, text=segment.text.replace("-->", "-- >"), speaker=speaker)
