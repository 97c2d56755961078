"""Chunk results into the recording's segments: pure.

Where two chunks overlap and both were heard, `scheduler.seams` decides word by word; segments that lose or gain words
are rebuilt from those they keep. A chunk that failed or was skipped takes nothing from its neighbours. In the end no
time runs backwards: segments stay within their chunk and the recording, and none overlaps the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from scheduler.seams import Side, merge_seam, words_of
from stenopool.domain import ChunkResult, Segment, Span, Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """Where two chunks met, and how well they agreed."""

    #: The sample from which the right chunk's words were taken.
    at: int
    #: What both chunks heard.
    overlap: Span
    #: Moments in the overlap for which both heard the same text ...
    matched: int
    #: ... or for which one of them heard nothing.
    left_only: int
    right_only: int
    #: Share of all moments in the overlap that matched, 0 to 1; the rest is what only one heard or both differently.
    agreement: float


@dataclass(frozen=True, slots=True)
class Merged:
    """A recording's segments, and the audit of its seams."""

    segments: tuple[Segment, ...]
    seams: tuple[Seam, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # two segments may well be equal
class _Draft:
    """A segment and the words that it has by now."""

    segment: Segment
    chunk: Span
    words: list[Word]
    #: Whether the times of all words were heard, not interpolated.
    timed: bool
    changed: bool = False


def merge_chunks(duration: int, results: Sequence[ChunkResult]) -> Merged:
    """The segments of all chunks, each word of an overlap once; times in samples.

    Segments that no seam touches are returned as they are, as long as their times lie within their chunk and do not
    run backwards. Raises ValueError if the results are not sorted, or overlap others than their neighbours.
    """
    _check(results)
    drafts = [_drafts(result) for result in results]
    seams = []
    for at, (left, right) in enumerate(pairwise(results)):
        overlap = left.span.intersection(right.span)
        if overlap and _heard(left) and _heard(right):
            drafts[at], drafts[at + 1], seam = _resolve(drafts[at], drafts[at + 1], overlap)
            seams.append(seam)
    return Merged(_clamped(duration, [draft for chunk in drafts for draft in chunk]), tuple(seams))


def _check(results: Sequence[ChunkResult]) -> None:
    for a, b in pairwise(results):
        if a.index >= b.index or a.span.start >= b.span.start or a.span.end >= b.span.end:
            raise ValueError(f"chunk results must be sorted: {b.index} {b.span} follows {a.index} {a.span}")
    for a, b in zip(results, results[2:], strict=False):
        if a.span.intersection(b.span):
            raise ValueError(f"chunk {a.index} {a.span} overlaps chunk {b.index} {b.span}, which is not its neighbour")


def _heard(result: ChunkResult) -> bool:
    return result.failed is None and result.skipped is None


def _drafts(result: ChunkResult) -> list[_Draft]:
    if not _heard(result):
        return []
    return [
        _Draft(segment=segment, chunk=result.span, words=words_of(segment), timed=bool(segment.words))
        for segment in result.segments
    ]


def _resolve(left: list[_Draft], right: list[_Draft], overlap: Span) -> tuple[list[_Draft], list[_Draft], Seam]:
    """Both chunks' drafts with the words that the seam leaves them."""
    lefts = [(word, draft) for draft in left for word in draft.words]
    rights = [(word, draft) for draft in right for word in draft.words]
    resolution = merge_seam([word for word, _ in lefts], [word for word, _ in rights], overlap)

    kept = [(lefts if pick.side is Side.LEFT else rights)[pick.index] for pick in resolution.picks]
    before, after = kept[: resolution.turn], kept[resolution.turn :]
    seam = Seam(
        at=min(max(after[0][0].span.start, overlap.start), overlap.end) if after else overlap.end,
        overlap=overlap,
        matched=resolution.matched,
        left_only=resolution.left_only,
        right_only=resolution.right_only,
        agreement=resolution.agreement,
    )
    return _dealt(left, before), _dealt(right, after), seam


def _dealt(drafts: list[_Draft], kept: list[tuple[Word, _Draft]]) -> list[_Draft]:
    """The drafts with the words that are kept; a word from the other chunk goes with the word before it."""
    own = set(drafts)
    homes: dict[_Draft, list[tuple[Word, _Draft]]] = {}
    home = next((source for _, source in kept if source in own), None)
    for word, source in kept:
        home = source if source in own or home is None else home
        homes.setdefault(home, []).append((word, source))
    return [
        replace(
            home,
            words=(words := [word for word, _ in dealt]),
            timed=all(source.timed for _, source in dealt),
            changed=home.changed or words != home.words,
        )
        for home, dealt in homes.items()
    ]


def _clamped(duration: int, drafts: list[_Draft]) -> tuple[Segment, ...]:
    """The drafts as segments whose times stay inside their chunk and never run backwards."""
    recording = Span(0, duration)
    spans = [_clamp(_clamp(_span(draft), draft.chunk), recording) for draft in drafts]
    segments = []
    for draft, span in zip(drafts, _in_order(spans), strict=True):
        segment = draft.segment
        words = segment.words
        if draft.changed:
            words = tuple(draft.words) if draft.timed else ()
            segment = replace(segment, text="".join(word.text for word in draft.words))
        times = _in_order([_clamp(word.span, span) for word in words])
        words = tuple(
            word if word.span == time else replace(word, span=time) for word, time in zip(words, times, strict=True)
        )
        if (span, words) != (segment.span, segment.words):
            segment = replace(segment, span=span, words=words)
        segments.append(segment)
    return tuple(segments)


def _span(draft: _Draft) -> Span:
    if not draft.changed:
        return draft.segment.span
    return Span(min(word.span.start for word in draft.words), max(word.span.end for word in draft.words))


def _clamp(span: Span, room: Span) -> Span:
    start = min(max(span.start, room.start), room.end)
    return Span(start, max(min(span.end, room.end), start))


def _in_order(spans: Sequence[Span]) -> list[Span]:
    """The spans with starts that never decrease, each ending before the next starts."""
    starts = list(accumulate((span.start for span in spans), max))
    ends = [min(span.end, start) for span, start in zip(spans, starts[1:], strict=False)] + [
        span.end for span in spans[-1:]
    ]
    return [Span(start, max(start, end)) for start, end in zip(starts, ends, strict=True)]
