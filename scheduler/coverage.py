"""What became of every sample of a recording: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from scheduler.plan import Silence
from stenopool.domain import ChunkResult, Coverage, CoverageKind, CoveragePiece, Skip, Span

# Where neighbours overlap, the shared part counts as what the better one of them became: a chunk that was skipped was
# at least heard, and a stretch is a gap only where no chunk could be decoded.
_RANK = {CoverageKind.FAILED: 0, CoverageKind.SKIPPED: 1, CoverageKind.TRANSCRIBED: 2}


def coverage_of(duration: int, silences: Sequence[Silence], results: Sequence[ChunkResult]) -> Coverage:
    """The partition of `[0, duration)`, in samples, into transcribed, silence, skipped and failed.

    Touching pieces of one kind and one reason are one piece; silences stay apart, each with its score. Raises
    ValueError if a sample is unaccounted for, or accounted for by both a silence and a chunk.
    """
    pieces = _of_chunks(results)
    pieces += [CoveragePiece(span=s.span, kind=CoverageKind.SILENCE, score=s.score) for s in silences]
    joined: list[CoveragePiece] = []
    for piece in sorted((piece for piece in pieces if len(piece.span)), key=lambda piece: piece.span):
        last = joined[-1] if joined else None
        if (
            last
            and last.span.end == piece.span.start
            and last.kind is piece.kind is not CoverageKind.SILENCE
            and last.reason == piece.reason
        ):
            span = Span(last.span.start, piece.span.end)
            joined[-1] = CoveragePiece(span=span, kind=piece.kind, reason=piece.reason)
        else:
            joined.append(piece)
    coverage = Coverage(tuple(joined))
    if coverage.duration != duration:
        raise ValueError(f"coverage ends at sample {coverage.duration} of {duration}")
    return coverage


def _of_chunks(results: Sequence[ChunkResult]) -> list[CoveragePiece]:
    """The chunks' spans without what a better neighbour covers."""
    ordered = sorted(results, key=lambda result: result.span)
    chunks = [_piece(result) for result in ordered]
    for a, b in pairwise(chunks):
        if a.span.start == b.span.start or a.span.end >= b.span.end:
            raise ValueError(f"chunk {a.span} and chunk {b.span}: one lies within the other")
    for a, b in zip(chunks, chunks[2:], strict=False):
        if a.span.intersection(b.span):
            raise ValueError(f"chunk {a.span} overlaps {b.span}, which is not its neighbour")
    pieces: list[CoveragePiece] = []
    start = 0  # where the neighbour before leaves off
    for at, piece in enumerate(chunks):
        end = piece.span.end
        following = chunks[at + 1] if at + 1 < len(chunks) else None
        if following and _RANK[following.kind] > _RANK[piece.kind]:
            end = min(end, following.span.start)
        span = Span(max(piece.span.start, start), end)
        pieces += _with_skips(CoveragePiece(span=span, kind=piece.kind, reason=piece.reason), ordered[at].quiet)
        start = end
    return pieces


def _with_skips(piece: CoveragePiece, skips: Sequence[Skip]) -> Iterator[CoveragePiece]:
    """A chunk's piece, cut at the stretches inside it that gave no text on purpose."""
    at = piece.span.start
    if piece.kind is CoverageKind.TRANSCRIBED:
        for skip in skips:
            if inside := skip.span.intersection(Span(at, piece.span.end)):
                yield CoveragePiece(span=Span(at, inside.start), kind=piece.kind)
                yield CoveragePiece(span=inside, kind=CoverageKind.SKIPPED, reason=skip.reason)
                at = inside.end
    yield CoveragePiece(span=Span(at, piece.span.end), kind=piece.kind, reason=piece.reason)


def _piece(result: ChunkResult) -> CoveragePiece:
    if result.failed is not None:
        return CoveragePiece(span=result.span, kind=CoverageKind.FAILED, reason=result.failed)
    if result.skipped is not None:
        return CoveragePiece(span=result.span, kind=CoverageKind.SKIPPED, reason=result.skipped)
    return CoveragePiece(span=result.span, kind=CoverageKind.TRANSCRIBED)
