"""Cues: what subtitle files show, when, in which lines. Shared by SubRip and WebVTT.

A segment's text is cut into blocks (`wrapping`), each with the time of its characters: from the words' times where
there are any, otherwise its share of the segment. Then each cue is left on screen long enough to be read, as far as
silence follows.

Where several speak, each one's cues are in order and apart, and those of others may be on screen at the same time: so
nothing is lost of who talks over whom.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cached_property
from itertools import accumulate

from stenopool.domain import SAMPLE_RATE, Segment, Span, Transcript
from stenopool.formats.text import writable
from stenopool.formats.timecode import milliseconds
from stenopool.formats.wrapping import SCREEN, Layout, blocks, width

MIN_DURATION = 700  # milliseconds on screen, where silence leaves room for it
MAX_DURATION = 7_000  # milliseconds
LONGEST_NAME = 20  # columns of a speaker's name; what is longer is cut
READING_SPEED = 20  # columns per second, at most, where silence leaves room for it
_MAX_SAMPLES = MAX_DURATION * SAMPLE_RATE // 1000


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines on screen from `start` until `end`, in milliseconds; `start` < `end`."""

    start: int
    end: int
    lines: tuple[str, ...]
    #: Who says it, where that is known.
    speaker: str | None = None

    @property
    def reading_time(self) -> int:
        """Milliseconds that it takes to read."""
        needed = 1000 * sum(map(width, self.lines)) // READING_SPEED
        return min(max(needed, MIN_DURATION), MAX_DURATION)


def cues(transcript: Transcript, layout: Layout = SCREEN, *, named: bool = False) -> tuple[Cue, ...]:
    """The transcript's cues in order of their starts; none ends after the recording unless its segment does.

    No cue overlaps the next of the same speaker. Every cue lasts at least a millisecond (a zero one is invalid in
    WebVTT and dropped by players), and at most `MAX_DURATION`.

    Args:
        named: whether the text of a cue begins with its speaker's name where the cue before it is of another one.
    """
    duration = milliseconds(transcript.duration)
    parts = [_Part(segment, layout) for segment in transcript.segments]
    while True:
        shown = _shown(parts, duration)
        unnamed = set(_unnamed(shown, parts)) if named else set()
        if not unnamed:
            return tuple(cue for cue, _ in shown)
        # A name takes room, which may move what follows it: until all that need one have it.
        for index, first in sorted(unnamed):
            parts[index] = replace(parts[index], named=_Named.EVERY if first else _Named.FIRST)


class _Named(Enum):
    """Which cues of a segment say whose they are."""

    NONE = auto()
    FIRST = auto()
    #: Because others talk in between.
    EVERY = auto()


@dataclass(frozen=True)
class _Part:
    """A segment as cues."""

    segment: Segment
    layout: Layout
    named: _Named = _Named.NONE

    @cached_property
    def spoken(self) -> list[tuple[Cue, int]]:
        """Its cues with the times at which they are spoken, which may be empty or overlap; where in it each begins."""
        speaker, spans = self.segment.speaker, character_spans(self.segment)
        name = f"{_shortened(' '.join(writable(speaker or '').split()))}: "
        every = self.named is _Named.EVERY

        def overlong(first: int, last: int) -> float:
            return max(0.0, (spans[last - 1].end - spans[first].start) / _MAX_SAMPLES - 1)

        cues: list[tuple[Cue, int]] = []
        lead = 0 if self.named is _Named.NONE else width(name)
        for block in blocks(writable(self.segment.text), self.layout, overlong, lead=lead, every=every):
            lines = block.lines
            if lead and (every or not cues):
                lines = (f"{name}{lines[0]}".rstrip(), *lines[1:])
            start, end = spans[block.first].start, spans[block.last - 1].end
            cues.append((Cue(milliseconds(start), milliseconds(end), lines, speaker), block.first))
        return cues


def _shortened(name: str) -> str:
    """A name that leaves room beside it."""
    if width(name) <= LONGEST_NAME:
        return name
    kept = ""
    for character in name:
        if width(kept + character) >= LONGEST_NAME:
            break
        kept += character
    return f"{kept.rstrip()}…"


def character_spans(segment: Segment) -> list[Span]:
    """When each visible character of the text is spoken: an equal share of its word, or else of the segment."""
    visible = "".join(writable(segment.text).split())
    words = [(word.span, "".join(writable(word.text).split())) for word in segment.words]
    if "".join(letters for _, letters in words) != visible:  # no words, or they are not those of the text
        words = [(segment.span, visible)]
    return [
        Span(span.start + len(span) * index // len(letters), span.start + len(span) * (index + 1) // len(letters))
        for span, letters in words
        for index in range(len(letters))
    ]


#: A cue, and where its text is from: which segment, and which of that one's visible characters is its first.
_Shown = tuple[Cue, tuple[int, int]]


def _shown(parts: Sequence[_Part], duration: int) -> list[_Shown]:
    """The parts' cues with the times at which they are on screen, in the order of these."""
    voices: dict[str | None, list[_Shown]] = {}
    for index, part in enumerate(parts):
        voices.setdefault(part.segment.speaker, []).extend((cue, (index, first)) for cue, first in part.spoken)
    starts = {voice: _starts([cue for cue, _ in spoken], duration) for voice, spoken in voices.items()}
    everybodys = sorted(start for voice in starts.values() for start in voice)
    scheduled = [
        (cue, where)
        for voice, spoken in voices.items()
        for cue, (_, where) in zip(
            _scheduled([cue for cue, _ in spoken], starts[voice], everybodys, duration), spoken, strict=True
        )
    ]
    return sorted(scheduled, key=lambda one: one[0].start)


def _unnamed(shown: Sequence[_Shown], parts: Sequence[_Part]) -> Iterator[tuple[int, int]]:
    """Where texts begin that a reader would take for those of the speaker before."""
    before: str | None = None
    for cue, (index, first) in shown:
        named = parts[index].named
        if cue.speaker not in (None, before) and named is not _Named.EVERY and (first or named is _Named.NONE):
            yield index, first
        before = cue.speaker


def _scheduled(spoken: Sequence[Cue], starts: Sequence[int], everybodys: Sequence[int], duration: int) -> Iterator[Cue]:
    """One speaker's cues with times that run forwards, extended into silence.

    Args:
        starts: of these cues, in milliseconds.
        everybodys: those of all speakers' cues, in order: silence ends with them.
        duration: the recording's, in milliseconds.
    """
    for index, (start, cue) in enumerate(zip(starts, spoken, strict=True)):
        following = bisect_right(everybodys, start)
        # Silence to read in ends with the recording, but speech may be timed beyond it, and is kept.
        silent = min(duration, everybodys[following]) if following < len(everybodys) else duration
        end = max(cue.end, min(start + cue.reading_time, silent))
        end = min(end, start + MAX_DURATION)
        if index + 1 < len(starts):
            end = min(end, starts[index + 1])
        yield Cue(start, max(end, start + 1), cue.lines, cue.speaker)


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
