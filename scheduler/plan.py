"""Where to cut a recording into chunks: pure, from what voice activity detection (VAD) heard.

VAD chooses where to cut and never deletes speech. The rules:

- Chunks and silences together cover `[0, duration)`; a silence never meets a chunk. Chunks are sorted, at most one
  window long, and overlap only with their direct neighbours.
- Speech is padded on both sides. Non-speech of which at least `min_silence` is left after that is a silence, and
  separates *islands*; shorter non-speech is a pause and stays inside its island.
- Islands are bridged, the silence of at most `max_bridge` between them becoming part of the chunk, wherever the second
  then needs no more windows than it would alone: sparse talk does not leave windows half empty. This is greedy from
  the left, which gives the fewest windows where every island fits into one.
- An island longer than the window is cut into the fewest windows, in the middle of pauses, without overlap. Within the
  slack that this number of windows leaves, the longest pause wins; pauses of half a second or more count as equal, and
  of equals the later one wins. A tail shorter than a second is avoided where the slack allows it.
- A cut leaves no window less than half full, save an island's last: without a pause in the last half of the window it
  is a hard cut at the window's end, and the next chunk starts `overlap` earlier.
- At the two ends of the recording, non-speech shorter than `min_silence` joins the chunk beside it if that has room.

A sequential transcript is not cut at all: its chunks are the islands, of any length, bridged where that saves a window.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from stenopool.domain import SAMPLE_RATE, Chunk, Span
from stenopool.errors import UsageError

MIN_SILENCE = 2 * SAMPLE_RATE
PAD = 2 * SAMPLE_RATE // 5  # 0.4 s
MAX_BRIDGE = 5 * SAMPLE_RATE
MIN_WINDOW = 2 * SAMPLE_RATE
LONG_PAUSE = SAMPLE_RATE // 2  # from here on a pause is as good as a longer one
MIN_TAIL = SAMPLE_RATE  # at most half of MIN_WINDOW, so that sparing a tail never leaves a window half empty


@dataclass(frozen=True, slots=True)
class SpeechRun:
    """Uninterrupted speech, as VAD heard it: unpadded; pauses of about 0.1 s already separate runs."""

    span: Span
    #: Mean speech probability inside.
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A stretch that no chunk covers."""

    span: Span
    #: The highest speech probability that VAD saw in it.
    score: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A recording, divided into what is transcribed and what is silence."""

    chunks: tuple[Chunk, ...]
    silences: tuple[Silence, ...]


def plan_recording(
    duration: int,
    runs: Sequence[SpeechRun],
    *,
    peak: Callable[[Span], float],
    window: int,
    overlap: int,
    min_silence: int = MIN_SILENCE,
    pad: int = PAD,
    max_bridge: int = MAX_BRIDGE,
) -> Plan:
    """Chunks where there is speech, silences elsewhere; all lengths in samples.

    `runs` are sorted, disjoint and inside the recording; `peak` gives VAD's highest speech probability in a span.
    Raises UsageError if window and overlap do not fit together, ValueError if duration or runs make no sense.
    """
    _check(duration, window, overlap)
    _check_runs(duration, runs)
    knife = _Knife(window, overlap, [run.span for run in runs])
    spans: list[Span] = []
    for island in _islands(duration, runs, min_silence, pad):
        if spans and island.start - spans[-1].end <= max_bridge:
            joined = Span(spans[-1].start, island.end)
            if knife.count(joined) <= knife.count(island):
                spans[-1:] = knife.cut(joined)
                continue
        spans += knife.cut(island)
    return _plan(duration, spans, peak, min_silence, room=window)


def plan_islands(
    duration: int,
    runs: Sequence[SpeechRun],
    *,
    peak: Callable[[Span], float],
    window: int,
    min_silence: int = MIN_SILENCE,
    pad: int = PAD,
    max_bridge: int = MAX_BRIDGE,
) -> Plan:
    """Chunks of any length for a sequential transcript: speech between silences, uncut. Otherwise `plan_recording`."""
    _check(duration, window, 0)
    _check_runs(duration, runs)

    def windows(span: Span) -> int:
        return -(-len(span) // window)

    spans: list[Span] = []
    for island in _islands(duration, runs, min_silence, pad):
        if spans and island.start - spans[-1].end <= max_bridge:
            joined = Span(spans[-1].start, island.end)
            if windows(joined) < windows(spans[-1]) + windows(island):
                spans[-1] = joined
                continue
        spans.append(island)
    return _plan(duration, spans, peak, min_silence, room=duration)


def plan_without_vad(duration: int, *, window: int, overlap: int) -> Plan:
    """Overlapping chunks that tile the whole recording; all lengths in samples. Errors as in `plan_recording`."""
    _check(duration, window, overlap)
    return Plan(_chunks(_Knife(window, overlap, ()).cut(Span(0, duration))), ())


def plan_whole(duration: int) -> Plan:
    """One chunk, the whole recording: a sequential transcript without voice activity detection."""
    if duration <= 0:
        raise ValueError(f"a recording of {duration} samples has nothing to plan")
    return Plan(_chunks([Span(0, duration)]), ())


def _plan(duration: int, spans: list[Span], peak: Callable[[Span], float], min_silence: int, *, room: int) -> Plan:
    """The spans as chunks, and the silences between them; short ones at the ends join a chunk of at most `room`."""
    if spans and spans[0].start < min_silence and spans[0].end <= room:
        spans[0] = Span(0, spans[0].end)
    if spans and duration - spans[-1].end < min_silence and duration - spans[-1].start <= room:
        spans[-1] = Span(spans[-1].start, duration)
    silences = tuple(Silence(span=span, score=peak(span)) for span in _between(spans, duration))
    return Plan(_chunks(spans), silences)


def _check_runs(duration: int, runs: Sequence[SpeechRun]) -> None:
    edges = [0, *(edge for run in runs for edge in (run.span.start, run.span.end)), duration]
    if any(a > b for a, b in pairwise(edges)):
        raise ValueError("speech runs must be sorted, disjoint and inside the recording")


def _check(duration: int, window: int, overlap: int) -> None:
    if duration <= 0:
        raise ValueError(f"a recording of {duration} samples has nothing to plan")
    if window < MIN_WINDOW:
        raise UsageError(
            f"a chunk length of {window / SAMPLE_RATE:g} s is too short: "
            f"use at least {MIN_WINDOW / SAMPLE_RATE:g} s, at best the model's whole window"
        )
    if overlap < 0:
        raise UsageError(f"an overlap of {overlap / SAMPLE_RATE:g} s makes no sense: use 0 s or more")
    if 2 * overlap >= window:
        raise UsageError(
            f"an overlap of {overlap / SAMPLE_RATE:g} s does not fit chunks of {window / SAMPLE_RATE:g} s: "
            f"use less than {window / SAMPLE_RATE / 2:g} s, or longer chunks"
        )


def _islands(duration: int, runs: Sequence[SpeechRun], min_silence: int, pad: int) -> Iterator[Span]:
    """Padded speech, wherever the silence that the padding leaves is long enough to separate it."""
    first = 0
    for last, run in enumerate(runs):
        gap = runs[last + 1].span.start - run.span.end - 2 * pad if last + 1 < len(runs) else None
        if gap is None or gap >= max(min_silence, 1):
            yield Span(max(runs[first].span.start - pad, 0), min(run.span.end + pad, duration))
            first = last + 1


def _between(spans: Iterable[Span], duration: int) -> Iterator[Span]:
    at = 0
    for span in spans:
        if at < span.start:
            yield Span(at, span.start)
        at = span.end
    if at < duration:
        yield Span(at, duration)


def _chunks(spans: Iterable[Span]) -> tuple[Chunk, ...]:
    return tuple(Chunk(index=index, span=span) for index, span in enumerate(spans))


class _Knife:
    """Cuts what is longer than a window, in pauses where there are some.

    From a start `p` the next chunk can start at any pause in `[p + half, p + window]`, or, where there is none, at
    `p + window - overlap`. The later a chunk starts, the farther the next one can: hence the fewest windows are those
    of the farthest cuts, and the starts from which k windows suffice are all those from some sample on.
    """

    def __init__(self, window: int, overlap: int, runs: Sequence[Span]) -> None:
        self.window = window
        self.overlap = overlap
        self.half = (window + 1) // 2
        pauses = [Span(a.end, b.start) for a, b in pairwise(runs) if a.end < b.start]
        self.middles = [(pause.start + pause.end) // 2 for pause in pauses]
        self.lengths = [len(pause) for pause in pauses]

    def count(self, span: Span) -> int:
        """The fewest windows for this span."""
        return len(self._suffice(span))

    def cut(self, span: Span) -> list[Span]:
        """The span as chunks of at most one window."""
        chunks = []
        start = span.start
        # The first of the limits is met by the span's own start; each next chunk has to meet the next one.
        for limit in self._suffice(span)[-2::-1]:
            first = bisect_left(self.middles, max(start + self.half, limit))
            stop = bisect_right(self.middles, start + self.window)
            spare = bisect_right(self.middles, span.end - MIN_TAIL, 0, stop)
            if first < stop:
                best = max(range(first, spare if first < spare else stop), key=self._quality)
                end = following = self.middles[best]
            else:
                end = min(start + self.window, span.end - MIN_TAIL + self.overlap)
                following = end - self.overlap
            chunks.append(Span(start, end))
            start = following
        return [*chunks, Span(start, span.end)]

    def _quality(self, pause: int) -> tuple[int, int]:
        return min(self.lengths[pause], LONG_PAUSE), pause

    def _suffice(self, span: Span) -> list[int]:
        """The earliest starts from which 1, 2, 3, ... windows reach the end, up to one that the span's own meets."""
        limits = [span.end - self.window]
        while limits[-1] > span.start:
            # One window earlier: the earliest start from which a cut reaches `limit`.
            limit = limits[-1]
            at = bisect_left(self.middles, limit)
            earliest = limit + self.overlap - self.window
            if at > 0:  # a hard cut needs the last pause before the limit outside its last half
                earliest = max(earliest, self.middles[at - 1] - self.half + 1)
            if at < len(self.middles):
                earliest = min(earliest, self.middles[at] - self.window)
            limits.append(earliest)
        return limits
