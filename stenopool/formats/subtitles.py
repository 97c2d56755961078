"""Cues: what subtitle files show, when, in which lines. Shared by SubRip and WebVTT.

A segment's text is cut into blocks (`wrapping`), each with the time of its characters: from the words' times where
there are any, otherwise its share of the segment. Then each cue is left on screen long enough to be read, as far as
silence follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from stenopool.domain import SAMPLE_RATE, Segment, Span, Transcript
from stenopool.formats.text import writable
from stenopool.formats.timecode import milliseconds
from stenopool.formats.wrapping import blocks, width

MIN_DURATION = 700  # milliseconds on screen, where silence leaves room for it
MAX_DURATION = 7_000  # milliseconds
READING_SPEED = 20  # columns per second, at most, where silence leaves room for it
_MAX_SAMPLES = MAX_DURATION * SAMPLE_RATE // 1000


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines on screen from `start` until `end`, in milliseconds; `start` < `end`."""

    start: int
    end: int
    lines: tuple[str, ...]

    @property
    def reading_time(self) -> int:
        """Milliseconds that it takes to read."""
        needed = 1000 * sum(map(width, self.lines)) // READING_SPEED
        return min(max(needed, MIN_DURATION), MAX_DURATION)


def cues(transcript: Transcript) -> tuple[Cue, ...]:
    """The transcript's cues in order: none overlaps the next, none ends after the recording unless its segment does.

    Every cue lasts at least a millisecond (a zero one is invalid in WebVTT and dropped by players), and at most
    `MAX_DURATION`.
    """
    spoken = [cue for segment in transcript.segments for cue in _spoken(segment)]
    return _scheduled(spoken, milliseconds(transcript.duration))


def _spoken(segment: Segment) -> list[Cue]:
    """A segment's cues with the times at which they are spoken; those may be empty or overlap."""
    text = writable(segment.text)
    spans = _character_spans(segment, text)

    def overlong(first: int, last: int) -> float:
        return max(0.0, (spans[last - 1].end - spans[first].start) / _MAX_SAMPLES - 1)

    return [
        Cue(milliseconds(spans[block.first].start), milliseconds(spans[block.last - 1].end), block.lines)
        for block in blocks(text, overlong)
    ]


def _character_spans(segment: Segment, text: str) -> list[Span]:
    """When each visible character of the text is spoken: an equal share of its word, or else of the segment."""
    visible = "".join(text.split())
    words = [(word.span, "".join(writable(word.text).split())) for word in segment.words]
    if "".join(letters for _, letters in words) != visible:  # no words, or they are not those of the text
        words = [(segment.span, visible)]
    return [
        Span(span.start + len(span) * index // len(letters), span.start + len(span) * (index + 1) // len(letters))
        for span, letters in words
        for index in range(len(letters))
    ]


def _scheduled(spoken: Sequence[Cue], duration: int) -> tuple[Cue, ...]:
    """The cues with times that run forwards, extended into silence; `duration` is the recording's."""
    starts = _starts(spoken, duration)
    scheduled = []
    for index, (start, cue) in enumerate(zip(starts, spoken, strict=True)):
        # Silence to read in ends with the recording, but speech may be timed beyond it, and is kept.
        end = max(cue.end, min(start + cue.reading_time, duration))
        end = min(end, start + MAX_DURATION)
        if index + 1 < len(starts):
            end = min(end, starts[index + 1])
        scheduled.append(Cue(start, max(end, start + 1), cue.lines))
    return tuple(scheduled)


def _starts(spoken: Sequence[Cue], duration: int) -> list[int]:
    """When each cue starts, in milliseconds: as spoken where that is possible, and always later than the one before."""
    count = len(spoken)
    starts = list(accumulate((cue.start for cue in spoken), max))
    limit = max([duration, *(cue.end for cue in spoken)])  # nothing is shown after this

    # Cues that start together (of empty segments, mostly) share the time until the next one, by reading time; none
    # keeps the one after it waiting for longer than that.
    i = 0
    while i < count:
        j = next((k for k in range(i + 1, count) if starts[k] > starts[i]), count)
        needs = [cue.reading_time for cue in spoken[i:j]]
        begin, need = starts[i], sum(needs)
        until = max(begin + need, *(cue.end for cue in spoken[i:j]))
        until = min(until, starts[j] if j < count else limit)
        if begin == until:  # the recording ends here: there can only be room in the silence before
            silent = max(starts[i - 1], spoken[i - 1].end) if i else 0
            begin = max(min(silent, begin), begin - need)
        room = min(until - begin, need)
        starts[i:j] = [begin + room * before // need for before in accumulate(needs[:-1], initial=0)]
        i = j

    # What shares too little, or comes too late, still gets its millisecond: from what precedes.
    latest = limit
    for k in reversed(range(count)):
        latest = starts[k] = max(min(starts[k], latest - 1), k)
    return starts
