"""The strip: what becomes of each stretch of a transcript, while it is made and after, without what was heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import case, select

from stenopool.domain import CoverageKind, CoveragePiece, Span
from storage.records import read_coverage
from storage.tables import ChunkRow, ChunkState, SilenceRow, TranscriptRow
from storage.transactions import Transactions


class StripState(StrEnum):
    """What a stretch is."""

    QUEUED = "queued"
    RUNNING = "running"
    #: It was begun before, and is to be begun again.
    RETRY = "retry"
    DONE = "done"
    GAP = "gap"
    SILENCE = "silence"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class StripPiece:
    """A stretch of a recording: a chunk, a silence, or a part of a chunk that gave no text on purpose."""

    span: Span
    state: StripState
    #: Of a chunk, as all that follows; None for what is none.
    index: int | None = None
    #: Times that it was claimed.
    attempts: int = 0
    #: Workers that died with it.
    deaths: int = 0
    fence: int = 0
    #: Who has it now.
    worker: str | None = None
    #: Why it is a gap, was skipped, or is to be begun again.
    reason: str | None = None
    #: Of a silence: the highest probability of speech in it.
    score: float | None = None


class Strip(Transactions):
    """Reads it."""

    def pieces(self, transcript: int) -> list[StripPiece]:
        """All of a transcript, in order; only neighbours overlap, and what was skipped lies in its chunk.

        A day has some ten thousand.
        """
        with self._transaction() as session:
            row = session.execute(
                select(
                    TranscriptRow.forgotten,
                    case((TranscriptRow.forgotten, TranscriptRow.document["coverage"])).label("coverage"),
                ).where(TranscriptRow.id == transcript)
            ).one_or_none()
            if row is None:
                return []
            chunks = session.execute(
                select(
                    ChunkRow.index.label("at"),
                    ChunkRow.start,
                    ChunkRow.end,
                    ChunkRow.state,
                    ChunkRow.attempt,
                    ChunkRow.crashes,
                    ChunkRow.fence,
                    ChunkRow.worker,
                    ChunkRow.result["failed"].as_string().label("failed"),
                    ChunkRow.result["skipped"].as_string().label("skipped"),
                    ChunkRow.result["quiet"].label("quiet"),
                )
                .where(ChunkRow.transcript_id == transcript)
                .order_by(ChunkRow.index)
            ).all()
            silences = session.execute(
                select(SilenceRow.start, SilenceRow.end, SilenceRow.score).where(SilenceRow.transcript_id == transcript)
            ).all()
        found = [
            StripPiece(span=Span(start, end), state=StripState.SILENCE, score=score) for start, end, score in silences
        ]
        coverage = read_coverage(row.coverage or ())
        for chunk in chunks:
            span = Span(chunk.start, chunk.end)
            state, reason = _state(chunk.state, chunk.attempt, chunk.crashes, chunk.failed, chunk.skipped)
            if row.forgotten and state is StripState.DONE:
                state, reason = _remembered(span, coverage)
            found.append(
                StripPiece(
                    span=span,
                    state=state,
                    index=chunk.at,
                    attempts=chunk.attempt,
                    deaths=chunk.crashes,
                    fence=chunk.fence,
                    worker=chunk.worker,
                    reason=reason,
                )
            )
            found += [
                StripPiece(span=Span(**skip["span"]), state=StripState.SKIPPED, reason=skip["reason"])
                for skip in chunk.quiet or ()
            ]
        return sorted(found, key=lambda piece: (piece.span.start, -piece.span.end))


def _state(
    state: str, attempts: int, deaths: int, failed: str | None, skipped: str | None
) -> tuple[StripState, str | None]:
    """A chunk's, and why."""
    reason: str | None
    if state == ChunkState.DONE:
        if failed is not None:
            return StripState.GAP, failed
        return (StripState.DONE, None) if skipped is None else (StripState.SKIPPED, skipped)
    if deaths:
        reason = f"{deaths} worker{'s' * (deaths > 1)} died with it"
    else:
        reason = "it was given back" if attempts > (state == ChunkState.LEASED) else None
    if state == ChunkState.LEASED:
        return StripState.RUNNING, reason
    return (StripState.RETRY if attempts else StripState.QUEUED), reason


def _remembered(span: Span, coverage: Sequence[CoveragePiece]) -> tuple[StripState, str | None]:
    """A chunk's that was done, where what was heard is not kept any more: what most of it is counted as."""
    kinds = {CoverageKind.FAILED: StripState.GAP, CoverageKind.SKIPPED: StripState.SKIPPED}
    parts = [(len(common), piece) for piece in coverage if (common := piece.span.intersection(span))]
    if not parts:
        return StripState.DONE, None
    most = max(parts, key=lambda part: part[0])[1]
    return kinds.get(most.kind, StripState.DONE), most.reason
