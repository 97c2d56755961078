"""What a farm is doing: its backlog, its workers, what they did lately, what failed. For people who look at it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Float, cast, func, select
from sqlalchemy.orm import Session

from stenopool.domain import SAMPLE_RATE
from storage.campaign_progress import Lengths, reason_of
from storage.campaign_tables import ThroughputRow
from storage.database import database_clock
from storage.fleet import GONE_AFTER
from storage.tables import (
    MAKING,
    OPEN,
    ChunkRow,
    ChunkState,
    Lane,
    RecordingRow,
    SubmissionRow,
    SubmissionState,
    SubmissionTranscriptRow,
    TranscriptRow,
    WorkerRow,
)
from storage.throughput import PIECE
from storage.transactions import Transactions

#: Seconds of throughput that are shown.
HISTORY = 6 * 3600
#: Seconds within which a failure counts as one of lately, and failures that are looked at, at most.
LATELY, MOST_FAILED = 86_400.0, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What a tenant has open in a lane."""

    lane: Lane
    tenant: str
    #: How many submissions are in each state.
    states: dict[str, int]
    paused: int
    #: Of how many nobody knows the length yet.
    n_unknown: int
    #: Seconds of audio that are to be transcribed, as far as lengths are known.
    audio: float
    #: When the oldest of them was handed in, by the database's clock.
    oldest: float

    @property
    def n(self) -> int:
        """How many submissions they are."""
        return sum(self.states.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """A worker, and what it has to do just now."""

    id: str
    role: str
    host: str
    state: str
    model: str | None
    slots: int
    #: Chunks that it holds.
    held: int
    #: Seconds of audio that it has transcribed in the last quarter of an hour, and seconds in which it had work.
    audio: float
    busy: float
    #: Seconds since it was last seen.
    silent: float

    @property
    def healthy(self) -> bool:
        """It was seen lately."""
        return self.silent < GONE_AFTER / 2


@dataclass(frozen=True, slots=True)
class Piece:
    """What all engines did in a piece of time."""

    #: Seconds since 1970.
    began: int
    #: Seconds of audio, and seconds in which an engine had work, of all engines.
    audio: float
    busy: float
    engines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A farm at a moment, as far as somebody may see it."""

    #: The database's clock.
    now: float
    backlog: tuple[Backlog, ...]
    #: Why submissions failed lately, the most frequent reason first.
    failures: tuple[tuple[str, int], ...]
    #: Who works, and what was done: of the farm as a whole.
    workers: tuple[Busy, ...]
    history: tuple[Piece, ...]
    #: Of what is open, by model: how long it is.
    remaining: dict[str, Lengths]


class Overview(Transactions):
    """Looks at a farm as a whole."""

    def look(self, tenant: str | None = None) -> Look:
        """The farm now; where a tenant is named, as far as it is theirs."""
        mine = () if tenant is None else (SubmissionRow.tenant == tenant,)
        with self._transaction() as session:
            now = session.scalar(select(database_clock())) or 0.0
            return Look(
                now=now,
                backlog=tuple(self._backlog(session, *mine)),
                failures=tuple(self._failures(session, now - LATELY, *mine)),
                workers=tuple(self._workers(session, now)) if tenant is None else (),
                history=tuple(self._history(session, now - HISTORY)) if tenant is None else (),
                remaining=self._remaining(session, *mine),
            )

    @staticmethod
    def _backlog(session: Session, *mine: ColumnElement[bool]) -> list[Backlog]:
        by = (SubmissionRow.lane, SubmissionRow.tenant)
        rows = session.execute(
            select(
                *by,
                SubmissionRow.state,
                func.count(),
                func.count().filter(SubmissionRow.paused),
                func.count().filter(SubmissionRow.duration.is_(None)),
                func.coalesce(func.sum(cast(SubmissionRow.duration, Float)), 0.0),
                func.min(SubmissionRow.created_at),
            )
            .where(SubmissionRow.state.in_(OPEN), *mine)
            .group_by(*by, SubmissionRow.state)
            .order_by(*by)
        ).all()
        share = cast(TranscriptRow.chunks_total - TranscriptRow.chunks_open, Float) / TranscriptRow.chunks_total
        done = {
            (lane, whose): samples
            for lane, whose, samples in session.execute(
                select(*by, func.sum(RecordingRow.duration * share))
                .select_from(SubmissionRow)
                .join(SubmissionTranscriptRow, SubmissionTranscriptRow.submission_id == SubmissionRow.id)
                .join(TranscriptRow, TranscriptRow.id == SubmissionTranscriptRow.transcript_id)
                .join(RecordingRow, RecordingRow.id == TranscriptRow.recording_id)
                .where(SubmissionRow.state.in_(OPEN), TranscriptRow.chunks_total > 0, *mine)
                .group_by(*by)
            )
        }
        found = []
        for lane, whose in dict.fromkeys((row[0], row[1]) for row in rows):
            its = [row[2:] for row in rows if (row[0], row[1]) == (lane, whose)]
            left = sum(row[4] for row in its) - (done.get((lane, whose)) or 0.0)
            found.append(
                Backlog(
                    lane=Lane(lane),
                    tenant=whose,
                    states={row[0]: row[1] for row in its},
                    paused=sum(row[2] for row in its),
                    n_unknown=sum(row[3] for row in its),
                    audio=max(0.0, left) / SAMPLE_RATE,
                    oldest=min(row[5] for row in its),
                )
            )
        return found

    @staticmethod
    def _failures(session: Session, since: float, *mine: ColumnElement[bool]) -> list[tuple[str, int]]:
        rows = session.execute(
            select(SubmissionRow.name, SubmissionRow.error)
            .where(SubmissionRow.state == SubmissionState.FAILED, SubmissionRow.ended_at > since, *mine)
            .order_by(SubmissionRow.id.desc())
            .limit(MOST_FAILED)
        )
        counted = Counter(reason_of(error or "nobody knows why", name) for name, error in rows)
        return sorted(counted.items(), key=lambda one: (-one[1], one[0]))

    @staticmethod
    def _workers(session: Session, now: float) -> list[Busy]:
        leased = (ChunkRow.state == ChunkState.LEASED, ChunkRow.worker.is_not(None))
        held = {  # noqa: C416 - rows are no tuples to a type checker
            worker: n
            for worker, n in session.execute(
                select(ChunkRow.worker, func.count()).where(*leased).group_by(ChunkRow.worker)
            )
        }
        lately = {
            worker: (audio, busy)
            for worker, audio, busy in session.execute(
                select(ThroughputRow.worker, func.sum(ThroughputRow.audio), func.sum(ThroughputRow.busy))
                .where(ThroughputRow.began > now - 3 * PIECE)
                .group_by(ThroughputRow.worker)
            )
        }
        rows = session.scalars(select(WorkerRow).order_by(WorkerRow.role, WorkerRow.started_at, WorkerRow.id))
        return [
            Busy(
                id=row.id,
                role=row.role,
                host=row.host,
                state=row.state,
                model=row.model,
                slots=row.slots,
                held=held.get(row.id, 0),
                audio=lately.get(row.id, (0.0, 0.0))[0],
                busy=lately.get(row.id, (0.0, 0.0))[1],
                silent=max(0.0, now - row.seen_at),
            )
            for row in rows
        ]

    @staticmethod
    def _history(session: Session, since: float) -> list[Piece]:
        rows = session.execute(
            select(
                ThroughputRow.began,
                func.sum(ThroughputRow.audio),
                func.sum(ThroughputRow.busy),
                func.count(),
            )
            .where(ThroughputRow.began > since)
            .group_by(ThroughputRow.began)
            .order_by(ThroughputRow.began)
        )
        return [Piece(*row) for row in rows]

    @staticmethod
    def _remaining(session: Session, *mine: ColumnElement[bool]) -> dict[str, Lengths]:
        """Chunks that are done shorten their recording."""
        left = (
            select(
                SubmissionTranscriptRow.submission_id.label("id"),
                func.sum(
                    cast(RecordingRow.duration, Float)
                    * TranscriptRow.chunks_open
                    / func.nullif(TranscriptRow.chunks_total, 0)
                ).label("samples"),
            )
            .join(TranscriptRow, TranscriptRow.id == SubmissionTranscriptRow.transcript_id)
            .join(RecordingRow, RecordingRow.id == TranscriptRow.recording_id)
            .where(TranscriptRow.state.in_(MAKING))
            .group_by(SubmissionTranscriptRow.submission_id)
            .subquery()
        )
        seconds = func.coalesce(left.c.samples, cast(SubmissionRow.duration, Float)) / SAMPLE_RATE
        rows = session.execute(
            select(
                SubmissionRow.model, func.count(), func.count(seconds), func.sum(seconds), func.sum(seconds * seconds)
            )
            .outerjoin(left, left.c.id == SubmissionRow.id)
            .where(
                SubmissionRow.state.in_([one for one in OPEN if one != SubmissionState.PUBLISHING]),
                SubmissionRow.paused.is_(False),
                *mine,
            )
            .group_by(SubmissionRow.model)
        )
        return {
            model: Lengths(n_known=known, total=float(total or 0), squares=float(squares or 0), n_unknown=n - known)
            for model, n, known, total, squares in rows
        }
