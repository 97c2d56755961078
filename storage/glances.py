"""Glances: how far submissions are that somebody waits for, many of them in one look; and what is heard so far."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Integer, cast, func, select

from stenopool.domain import ChunkResult, Span
from storage.records import result_of_record
from storage.tables import (
    COMPLETED,
    ENDED,
    ChunkRow,
    ChunkState,
    SubmissionRow,
    SubmissionState,
    SubmissionTranscriptRow,
    TranscriptRow,
)
from storage.transactions import Transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """How far a submission is."""

    state: SubmissionState
    #: The first of its transcripts; None before it is planned.
    transcript: int | None
    #: Chunks that are not done.
    chunks_open: int
    #: All of its transcripts are merged, though perhaps not in the object store yet.
    merged: bool

    @property
    def ready(self) -> bool:
        """It has its text, or nothing more will become of it."""
        return self.merged or self.state in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A chunk that is done, and where the one after it is."""

    result: ChunkResult
    following: Span | None


class Glances(Transactions):
    """Reads them."""

    def glances(self, submissions: Collection[int]) -> dict[int, Glance]:
        """How far they are, by id; those that there are."""
        complete = cast(TranscriptRow.state.in_(COMPLETED), Integer)
        with self._transaction() as session:
            rows = session.execute(
                select(
                    SubmissionRow.id,
                    SubmissionRow.state,
                    func.min(TranscriptRow.id),
                    func.coalesce(func.sum(TranscriptRow.chunks_open), 0),
                    func.coalesce(func.min(complete), 0),
                )
                .outerjoin(SubmissionTranscriptRow, SubmissionTranscriptRow.submission_id == SubmissionRow.id)
                .outerjoin(TranscriptRow, TranscriptRow.id == SubmissionTranscriptRow.transcript_id)
                .where(SubmissionRow.id.in_(submissions))
                .group_by(SubmissionRow.id, SubmissionRow.state)
            )
            return {
                id: Glance(
                    state=SubmissionState(state),
                    transcript=transcript,
                    chunks_open=int(chunks_open),
                    merged=bool(merged),
                )
                for id, state, transcript, chunks_open, merged in rows
            }

    def heard(self, transcript: int, begin: int, limit: int = 100) -> list[Heard]:
        """Chunks that are done, from that one on, in order and without a hole; none where that one is not."""
        with self._transaction() as session:
            rows = session.execute(
                select(ChunkRow.index, ChunkRow.start, ChunkRow.end, ChunkRow.state, ChunkRow.result)
                .where(ChunkRow.transcript_id == transcript, ChunkRow.index >= begin)
                .order_by(ChunkRow.index)
                .limit(limit + 1)
            ).all()
        spans = [Span(start, end) for _, start, end, _, _ in rows]
        found: list[Heard] = []
        for at, (index, _, _, state, record) in enumerate(rows[:limit]):
            if state != ChunkState.DONE or record is None or index != begin + at:
                break
            following = spans[at + 1] if at + 1 < len(spans) else None
            found.append(Heard(result=result_of_record(record), following=following))
        return found
