"""Chapters for podcast players, from the pauses of a recording: where each begins, and no title.

https://github.com/Podcastindex-org/podcast-namespace, JSON chapters 1.2
"""

from __future__ import annotations

import json
from itertools import accumulate, pairwise

from stenopool.domain import SAMPLE_RATE, CoverageKind, Transcript
from stenopool.formats.timecode import milliseconds

PAUSE = 2 * SAMPLE_RATE  # samples without a word, at least
CHAPTER = 120 * SAMPLE_RATE  # samples that a chapter lasts, at least


def to_chapters(transcript: Transcript) -> str:
    """Chapters that begin where speech does after a pause, the longest pauses first; the first begins at 0.

    What a chapter is about nobody has asked: there are times alone.
    """
    chapters = [{"startTime": milliseconds(start) / 1000} for start in _starts(transcript)]
    return json.dumps({"version": "1.2.0", "chapters": chapters}, indent=2) + "\n"


def _starts(transcript: Transcript) -> list[int]:
    chosen = [0]
    for length, start in sorted(_pauses(transcript), key=lambda pause: (-pause[0], pause[1])):
        if length < PAUSE:
            break
        if transcript.duration - start >= CHAPTER and all(abs(start - other) >= CHAPTER for other in chosen):
            chosen.append(start)
    return sorted(chosen)


def _pauses(transcript: Transcript) -> list[tuple[int, int]]:
    """How long nothing is said, and where speech begins again; not where something may have been that was not heard."""
    spans = sorted(segment.span for segment in transcript.segments if segment.text.strip())
    unheard = [piece.span for piece in transcript.coverage if piece.kind is CoverageKind.FAILED]
    said_until = accumulate((span.end for span in spans), max)
    return [
        (after.start - until, after.start)
        for until, (_, after) in zip(said_until, pairwise(spans), strict=False)
        if not any(gap.start < after.start and until < gap.end for gap in unheard)
    ]
