"""A transcript as it is read beside its sound: words with their times, and what else is to be seen in the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from stenopool.domain import SAMPLE_RATE, CoverageKind, CoveragePiece, Segment, Transcript

#: A word that is less likely than this is marked.
SURE = 0.5
#: As is a segment whose tokens are, on average, less likely, or that was likelier never said.
LIKELY, SUSPECT = -1.0, 0.5
#: Seconds of silence from which on it is shown.
QUIET = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A paragraph."""

    #: text, gap, skipped, silence or seam.
    kind: str
    #: Seconds.
    start: float
    end: float
    text: Markup | str = ""
    #: Who begins to speak here.
    speaker: str | None = None
    #: What is to be said of it.
    note: str = ""
    unsure: bool = False


def rows(transcript: Transcript) -> list[Row]:
    """A transcript in paragraphs, in the order of their times."""
    found = [*_segments(transcript), *_pieces(transcript)]
    return sorted(found, key=lambda row: (row.start, row.kind == "text"))


def timed(transcript: Transcript) -> bool:
    """Whether words have times of their own; else segments have."""
    return any(segment.words for segment in transcript.segments)


def unsure(transcript: Transcript) -> int:
    """How many words, or segments, are marked."""
    if timed(transcript):
        return sum(_low(word.probability) for segment in transcript.segments for word in segment.words)
    return sum(_doubtful(segment) for segment in transcript.segments)


def _segments(transcript: Transcript) -> Iterator[Row]:
    speaker, former = None, None
    for segment in transcript.segments:
        if not transcript.channels and former is not None and segment.chunk != former.chunk:
            at = segment.span.start / SAMPLE_RATE
            if not _apart(transcript, former, segment):
                yield Row(
                    kind="seam", start=at, end=at, note=f"chunk {former.chunk} ends, chunk {segment.chunk} begins"
                )
        doubt = not segment.words and _doubtful(segment)
        yield Row(
            kind="text",
            start=segment.span.start / SAMPLE_RATE,
            end=segment.span.end / SAMPLE_RATE,
            text=_words(segment),
            speaker=segment.speaker if segment.speaker != speaker else None,
            note="; ".join(segment.guards),
            unsure=doubt,
        )
        speaker, former = segment.speaker, segment


def _apart(transcript: Transcript, former: Segment, segment: Segment) -> bool:
    """Whether something lies between two segments that is shown itself."""
    return any(
        former.span.start < piece.span.start < segment.span.end and _shown(piece) for piece in transcript.coverage
    )


def _pieces(transcript: Transcript) -> Iterator[Row]:
    for piece in transcript.coverage:
        if _shown(piece):
            start, end = piece.span.start / SAMPLE_RATE, piece.span.end / SAMPLE_RATE
            kind = "gap" if piece.kind is CoverageKind.FAILED else piece.kind.value
            yield Row(kind=kind, start=start, end=end, note=piece.reason or "")


def _shown(piece: CoveragePiece) -> bool:
    if piece.kind is CoverageKind.SILENCE:
        return piece.span.seconds >= QUIET
    return piece.kind in (CoverageKind.FAILED, CoverageKind.SKIPPED)


def _words(segment: Segment) -> Markup:
    """Text that a browser finds the times in. Whatever was said stays text.

    In:  " Hello" at 1.2 s, " <b>" at 1.5 s
    Out: <span data-t="1.2">Hello</span> <span data-t="1.5">&lt;b&gt;</span>
    """
    if not segment.words:
        said = escape(segment.text.strip())
        return Markup(f'<span data-t="{segment.span.start / SAMPLE_RATE:.2f}">{said}</span>')
    parts = []
    for word in segment.words:
        bare = word.text.lstrip()
        space = " " if len(bare) < len(word.text) else ""
        low = f' class="l" title="{word.probability:.0%} sure"' if _low(word.probability) else ""
        parts.append(f'{space}<span data-t="{word.span.start / SAMPLE_RATE:.2f}"{low}>{escape(bare)}</span>')
    return Markup("".join(parts).strip())


def _low(probability: float | None) -> bool:
    return probability is not None and probability < SURE


def _doubtful(segment: Segment) -> bool:
    return segment.avg_logprob < LIKELY or segment.suspicion >= SUSPECT


def gaps(transcript: Transcript) -> list[tuple[float, float, str]]:
    """What is drawn over the waveform: start and end in seconds, and what it is."""
    kinds = {CoverageKind.FAILED: "gap", CoverageKind.SKIPPED: "skipped"}
    return [
        (piece.span.start / SAMPLE_RATE, piece.span.end / SAMPLE_RATE, kinds[piece.kind])
        for piece in transcript.coverage
        if piece.kind in kinds
    ]


def seams(transcript: Transcript) -> list[float]:
    """Where chunks meet; seconds."""
    if transcript.channels:
        return []
    return [b.span.start / SAMPLE_RATE for a, b in pairwise(transcript.segments) if a.chunk != b.chunk]
