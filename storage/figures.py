"""Figures of a farm's ledger, for whoever watches it: how much waits, for how long, and what should never be.

All of it is asked often. So what is counted is bounded: chunks that are ready, transcripts that are being made, the
first so many of what is accepted. On Postgres each look ends by itself after `WITHIN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Float, and_, case, cast, func, literal, select, text
from sqlalchemy.orm import Session

from stenopool.domain import SAMPLE_RATE
from storage.blame import DEATHS
from storage.conditions import now
from storage.tables import (
    COMPLETED,
    MAKING,
    ChunkRow,
    ChunkState,
    EventRow,
    Lane,
    RecordingRow,
    SubmissionRow,
    SubmissionState,
    SubmissionTranscriptRow,
    TranscriptRow,
    TranscriptState,
    WorkerRow,
)
from storage.transactions import Transactions

#: Seconds that a statement may take.
WITHIN = 5
#: Accepted submissions that are counted in a lane; where there are more, it is this number.
MOST_COUNTED = 10_000
#: Tables whose rows change all the time.
BUSY_TABLES = ("chunks", "transcripts", "submissions", "events", "workers")


@dataclass(frozen=True, slots=True)
class Ready:
    """Chunks of a lane that are ready, and that nobody does yet."""

    chunks: int
    #: Seconds of sound in them.
    audio: float
    #: Seconds since the first of their transcripts was planned.
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFigures:
    """What waits, who works, and how the database is. By lane, unless something else is said; absent is none."""

    ready: Mapping[int, Ready]
    #: Seconds of sound that are planned and not heard yet, those that are ready among them.
    open_audio: Mapping[int, float]
    #: Submissions that wait to be decoded, `MOST_COUNTED` at most.
    accepted: Mapping[int, int]
    #: Processes by role and state.
    workers: Mapping[tuple[str, str], int]
    #: Seconds since that one of a role was seen that was not seen for longest.
    silent: Mapping[str, float]
    #: Seconds that the oldest event has waited for its number.
    outbox_age: float
    #: By table, the share of its rows that are dead. Postgres only.
    dead: Mapping[str, float]
    #: Seconds that the oldest transaction lasts. Postgres only.
    oldest_transaction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFaults:
    """What should not be there."""

    #: Chunks that are gaps because workers died with them, of transcripts that are made or have gaps.
    quarantined: int
    #: By the name of the promise: rows that break it.
    violations: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Step:
    """A submission came to a state."""

    position: int
    state: SubmissionState
    lane: int
    #: Seconds since it was handed in.
    age: float


class Figures(Transactions):
    """Looks at the ledger; changes nothing."""

    def now(self) -> LedgerFigures:
        """As it is now."""
        with self._transaction() as session:
            postgres = self._hurried(session)
            return LedgerFigures(
                ready=_ready(session),
                open_audio=_open_audio(session),
                accepted={lane: n for lane in Lane if (n := _accepted(session, lane))},
                workers={
                    (role, state): n
                    for role, state, n in session.execute(
                        select(WorkerRow.role, WorkerRow.state, func.count()).group_by(WorkerRow.role, WorkerRow.state)
                    )
                },
                silent={
                    role: max(0.0, age)
                    for role, age in session.execute(
                        select(WorkerRow.role, now() - func.min(WorkerRow.seen_at)).group_by(WorkerRow.role)
                    )
                },
                outbox_age=session.scalar(select(now() - func.min(EventRow.at)).where(EventRow.position.is_(None)))
                or 0.0,
                dead=_dead(session) if postgres else {},
                oldest_transaction=_oldest_transaction(session) if postgres else 0.0,
            )

    def faults(self) -> LedgerFaults:
        """What should not be there. To look takes longer than `now`: not at every turn."""
        with self._transaction() as session:
            self._hurried(session)
            return LedgerFaults(
                quarantined=session.scalar(
                    select(func.count())
                    .select_from(ChunkRow)
                    .join(TranscriptRow, TranscriptRow.id == ChunkRow.transcript_id)
                    .where(
                        TranscriptRow.state.in_([*MAKING, TranscriptState.COMPLETED_WITH_GAPS]),
                        ChunkRow.state == ChunkState.DONE,
                        ChunkRow.crashes >= DEATHS,
                        ChunkRow.result["failed"].as_string().is_not(None),
                    )
                )
                or 0,
                violations={name: session.scalar(select(func.count()).where(rows)) or 0 for name, rows in _PROMISES},
            )

    def last(self) -> int:
        """The place of the last event."""
        with self._transaction() as session:
            return session.scalar(select(func.max(EventRow.position))) or 0

    def after(self, position: int, limit: int = 5000) -> list[Step]:
        """What submissions came to behind that place, in its order."""
        states = [state.value for state in SubmissionState]
        with self._transaction() as session:
            self._hurried(session)
            rows = session.execute(
                select(EventRow.position, EventRow.state, SubmissionRow.lane, EventRow.at - SubmissionRow.created_at)
                .join(SubmissionRow, SubmissionRow.id == EventRow.submission_id)
                .where(EventRow.position > position, EventRow.state.in_(states))
                .order_by(EventRow.position)
                .limit(limit)
            )
            return [Step(place or 0, SubmissionState(state), lane, max(0.0, age)) for place, state, lane, age in rows]

    @staticmethod
    def _hurried(session: Session) -> bool:
        """The database gives up what takes too long, if it can; whether it is Postgres."""
        if session.get_bind().dialect.name != "postgresql":
            return False
        session.execute(text(f"SET LOCAL statement_timeout = '{WITHIN}s'"))
        return True


def _ready(session: Session) -> dict[int, Ready]:
    rows = session.execute(
        select(
            ChunkRow.lane,
            func.count(),
            func.sum(ChunkRow.end - ChunkRow.start),
            now() - func.min(TranscriptRow.created_at),
        )
        .join(TranscriptRow, TranscriptRow.id == ChunkRow.transcript_id)
        .where(ChunkRow.state == ChunkState.READY, ChunkRow.lane.is_not(None))
        .group_by(ChunkRow.lane)
    )
    return {lane or 0: Ready(n, float(samples) / SAMPLE_RATE, max(0.0, age)) for lane, n, samples, age in rows}


def _open_audio(session: Session) -> dict[int, float]:
    share = cast(TranscriptRow.chunks_open, Float) / case(
        (TranscriptRow.chunks_total > 0, TranscriptRow.chunks_total), else_=1
    )
    rows = session.execute(
        select(TranscriptRow.lane, func.sum(RecordingRow.duration * share))
        .join(RecordingRow, RecordingRow.id == TranscriptRow.recording_id)
        .where(
            TranscriptRow.state == TranscriptState.TRANSCRIBING,
            TranscriptRow.lane.is_not(None),
            TranscriptRow.paused.is_(False),
        )
        .group_by(TranscriptRow.lane)
    )
    return {lane or 0: float(samples) / SAMPLE_RATE for lane, samples in rows}


def _accepted(session: Session, lane: int) -> int:
    first = (
        select(literal(1))
        .where(
            SubmissionRow.state == SubmissionState.ACCEPTED,
            SubmissionRow.lane == lane,
            SubmissionRow.paused.is_(False),
        )
        .limit(MOST_COUNTED)
        .subquery()
    )
    return session.scalar(select(func.count()).select_from(first)) or 0


def _dead(session: Session) -> dict[str, float]:
    rows = session.execute(
        text("SELECT relname, n_dead_tup, n_live_tup FROM pg_stat_user_tables WHERE relname = ANY(:tables)"),
        {"tables": list(BUSY_TABLES)},
    )
    # Of a handful of rows any share may be dead, and nothing is wrong.
    return {name: dead / max(1000, dead + live) for name, dead, live in rows}


def _oldest_transaction(session: Session) -> float:
    age = session.scalar(
        text(
            "SELECT extract(epoch FROM max(clock_timestamp() - xact_start)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    )
    return max(0.0, float(age or 0.0))


_OPEN = (
    select(func.count())
    .where(ChunkRow.transcript_id == TranscriptRow.id, ChunkRow.state != ChunkState.DONE)
    .correlate(TranscriptRow)
    .scalar_subquery()
)

#: What must hold at any moment, each with a name; the condition selects the rows that break it. Each looks at what is
#: being made or is leased, and at nothing else: there may be millions of the rest.
_PROMISES: tuple[tuple[str, ColumnElement[bool]], ...] = (
    ("leased_without_lease", and_(ChunkRow.state == ChunkState.LEASED, ChunkRow.lease_until.is_(None))),
    ("leased_without_worker", and_(ChunkRow.state == ChunkState.LEASED, ChunkRow.worker.is_(None))),
    ("open_chunks_miscounted", and_(TranscriptRow.state.in_(MAKING), TranscriptRow.chunks_open != _OPEN)),
    (
        "published_before_completed",
        and_(
            SubmissionRow.state == SubmissionState.PUBLISHING,
            select(SubmissionTranscriptRow.submission_id)
            .join(TranscriptRow, TranscriptRow.id == SubmissionTranscriptRow.transcript_id)
            .where(
                SubmissionTranscriptRow.submission_id == SubmissionRow.id,
                TranscriptRow.state.not_in(COMPLETED),
            )
            .exists(),
        ),
    ),
)

#: By name, all that `LedgerFaults.violations` has.
PROMISES = tuple(name for name, _ in _PROMISES)
