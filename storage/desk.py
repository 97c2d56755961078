"""The desk: what was handed in, by whom, and what became of it.

    accepted ──► ingesting ──► transcribing ──► publishing ──► completed | completed_with_gaps | completed_empty
        ▲____________│  it failed, but may not the next time; or its worker died
    any of these ──► failed | cancelled ──► accepted, if somebody asks for it

Every transition is one guarded UPDATE. Who ingests or publishes holds a lease, and a fence that makes him harmless when
he comes late.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from stenopool.errors import LedgerError, QueueFull
from storage.conditions import lapsed, untold
from storage.database import database_clock
from storage.tables import (
    COMPLETED,
    ENDED,
    ChunkRow,
    ChunkState,
    Lane,
    SubmissionRow,
    SubmissionState,
    SubmissionTranscriptRow,
    TenantRow,
    TranscriptRow,
    TranscriptState,
)
from storage.transactions import Transactions

LEASE = 60.0  # seconds
#: Times that a stage may be begun.
ATTEMPTS = 3

_STAGES = (SubmissionState.INGESTING, SubmissionState.PUBLISHING)
#: What a stage goes back to.
_BEFORE = {SubmissionState.INGESTING: SubmissionState.ACCEPTED, SubmissionState.PUBLISHING: SubmissionState.PUBLISHING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody hands in."""

    tenant: str
    name: str
    #: Key of the file in the object store.
    source: str
    file_sha256: str
    model: str
    options: Mapping[str, Any]
    split: bool = False
    again: bool = False
    lane: Lane = Lane.NORMAL
    priority: int = 0
    #: Seconds from now.
    deadline: float | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was handed in, as the ledger has it; times are in seconds since 1970, by the database's clock."""

    id: int
    tenant: str
    name: str
    source: str
    file_sha256: str
    model: str
    options: Mapping[str, Any]
    split: bool
    again: bool
    lane: Lane
    priority: int
    deadline_at: float | None
    paused: bool
    state: SubmissionState
    #: Samples; None until it is decoded.
    duration: int | None
    error: str | None
    #: Times that its present stage was begun.
    attempt: int
    fence: int
    created_at: float
    ended_at: float | None
    #: Channel and id of its transcripts.
    transcripts: tuple[tuple[int, int], ...]
    chunks_total: int
    chunks_open: int

    @property
    def ended(self) -> bool:
        """Nothing more will happen to it by itself."""
        return self.state in ENDED


class Desk(Transactions):
    """Queries and transitions of submissions; a claim is good for `lease` seconds, unless it is renewed."""

    def __init__(self, engine: Engine, *, lease: float = LEASE) -> None:
        super().__init__(engine)
        self.lease = lease

    # Handing in

    def accept(self, order: Order) -> Submission:
        """Take an order; one with an idempotency key that this tenant used before is that earlier one.

        Raises:
            QueueFull: the tenant has as many open submissions as are allowed.
        """
        try:
            with self._transaction() as session:
                return self._accept(session, order)
        except IntegrityError:  # the same key, or the first of a tenant, twice at the same moment
            with self._transaction() as session:
                return self._accept(session, order)

    def _accept(self, session: Session, order: Order) -> Submission:
        known = order.idempotency_key and session.scalar(
            select(SubmissionRow).where(
                SubmissionRow.tenant == order.tenant, SubmissionRow.idempotency_key == order.idempotency_key
            )
        )
        if known:
            return self._submission(session, known)
        tenant = session.get(TenantRow, order.tenant)
        if tenant is None:
            tenant = TenantRow(name=order.tenant, created_at=database_clock())
            session.add(tenant)
            session.flush()
        if tenant.max_queued is not None:
            n = session.scalar(
                select(func.count())
                .select_from(SubmissionRow)
                .where(SubmissionRow.tenant == order.tenant, SubmissionRow.state.not_in(ENDED))
            )
            if (n or 0) >= tenant.max_queued:
                raise QueueFull(
                    f"{order.tenant}: {n} submissions are open, and no more than {tenant.max_queued} may be; "
                    "wait until some have ended"
                )
        row = SubmissionRow(
            tenant=order.tenant,
            name=order.name,
            source=order.source,
            file_sha256=order.file_sha256,
            idempotency_key=order.idempotency_key,
            model=order.model,
            options=dict(order.options),
            split=order.split,
            again=order.again,
            lane=order.lane,
            priority=order.priority,
            deadline_at=None if order.deadline is None else database_clock() + order.deadline,
            state=SubmissionState.ACCEPTED,
            created_at=database_clock(),
        )
        session.add(row)
        session.flush()
        return self._submission(session, row)

    def set_tenant(self, name: str, *, weight: float = 1.0, max_queued: int | None = None) -> None:
        """Describe a tenant: his share beside the others, and how many submissions he may have open."""
        with self._transaction() as session:
            row = session.get(TenantRow, name)
            if row is None:
                session.add(TenantRow(name=name, weight=weight, max_queued=max_queued, created_at=database_clock()))
            else:
                row.weight, row.max_queued = weight, max_queued

    # Looking

    def submission(self, id: int) -> Submission:
        """One of them. Raises LedgerError where there is none."""
        with self._transaction() as session:
            return self._submission(session, self._row(session, id))

    def submissions(self, *, tenant: str | None = None, open_only: bool = False, limit: int = 100) -> list[Submission]:
        """The latest, the last one first."""
        conditions: list[ColumnElement[bool]] = []
        if tenant is not None:
            conditions.append(SubmissionRow.tenant == tenant)
        if open_only:
            conditions.append(SubmissionRow.state.not_in(ENDED))
        with self._transaction() as session:
            rows = session.scalars(
                select(SubmissionRow).where(*conditions).order_by(SubmissionRow.id.desc()).limit(limit)
            )
            return [self._submission(session, row) for row in rows]

    def counts(self) -> dict[tuple[int, str], int]:
        """How many submissions there are, by lane and state."""
        with self._transaction() as session:
            rows = session.execute(
                select(SubmissionRow.lane, SubmissionRow.state, func.count()).group_by(
                    SubmissionRow.lane, SubmissionRow.state
                )
            )
            return {(lane, state): n for lane, state, n in rows}

    # The dispatcher's

    def ingests(self, lane: int, limit: int, again_after: float) -> list[int]:
        """Accepted submissions of which no worker was told, or not for so many seconds; they count as told.

        Tenants take turns, one submission each.
        """
        due = or_(SubmissionRow.not_before.is_(None), SubmissionRow.not_before < database_clock())
        waiting = (
            SubmissionRow.state == SubmissionState.ACCEPTED,
            SubmissionRow.lane == lane,
            SubmissionRow.paused.is_(False),
            due,
            untold(SubmissionRow, again_after),
        )
        with self._transaction() as session:
            place = func.row_number().over(
                partition_by=SubmissionRow.tenant,
                order_by=(
                    SubmissionRow.deadline_at.asc().nulls_last(),
                    SubmissionRow.priority.desc(),
                    SubmissionRow.id,
                ),
            )
            turns = select(SubmissionRow.id, place.label("place")).where(*waiting).subquery()
            chosen = select(turns.c.id).order_by(turns.c.place, turns.c.id).limit(limit)
            rows = session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id.in_(chosen), SubmissionRow.state == SubmissionState.ACCEPTED)
                .values(hinted_at=database_clock())
                .returning(SubmissionRow.id)
                .execution_options(synchronize_session=False)
            )
            return sorted(id for (id,) in rows)

    def ahead(self) -> dict[int, int]:
        """By lane: samples of submissions that are being transcribed, as far as they are known."""
        with self._transaction() as session:
            rows = session.execute(
                select(SubmissionRow.lane, func.sum(func.coalesce(SubmissionRow.duration, 0)))
                .where(SubmissionRow.state == SubmissionState.TRANSCRIBING)
                .group_by(SubmissionRow.lane)
            )
            return {lane: int(samples or 0) for lane, samples in rows}

    def publishes(self, limit: int, again_after: float) -> list[int]:
        """Submissions that are to be published, as all their transcripts are merged; they count as told."""
        with self._transaction() as session:
            unmerged = (
                select(SubmissionTranscriptRow.submission_id)
                .join(TranscriptRow, TranscriptRow.id == SubmissionTranscriptRow.transcript_id)
                .where(SubmissionTranscriptRow.submission_id == SubmissionRow.id, TranscriptRow.state.not_in(COMPLETED))
            )
            session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.state == SubmissionState.TRANSCRIBING, ~unmerged.exists())
                .values(state=SubmissionState.PUBLISHING, attempt=0, hinted_at=None, worker=None, lease_until=None)
                .execution_options(synchronize_session=False)
            )
            chosen = (
                select(SubmissionRow.id)
                .where(
                    SubmissionRow.state == SubmissionState.PUBLISHING,
                    SubmissionRow.worker.is_(None),
                    or_(SubmissionRow.not_before.is_(None), SubmissionRow.not_before < database_clock()),
                    untold(SubmissionRow, again_after),
                )
                .order_by(SubmissionRow.lane, SubmissionRow.id)
                .limit(limit)
            )
            rows = session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id.in_(chosen))
                .values(hinted_at=database_clock())
                .returning(SubmissionRow.id)
                .execution_options(synchronize_session=False)
            )
            return sorted(id for (id,) in rows)

    def sweep(self) -> int:
        """Take back what dead workers ingested or published; what they died with three times has failed."""
        n = 0
        with self._transaction() as session:
            for stage in _STAGES:
                mine = (SubmissionRow.state == stage, SubmissionRow.worker.is_not(None), lapsed(SubmissionRow))
                given_up = session.execute(
                    update(SubmissionRow)
                    .where(*mine, SubmissionRow.attempt >= ATTEMPTS)
                    .values(
                        state=SubmissionState.FAILED,
                        error=f"{ATTEMPTS} workers died {stage.value} it",
                        worker=None,
                        lease_until=None,
                        ended_at=database_clock(),
                    )
                    .returning(SubmissionRow.id)
                    .execution_options(synchronize_session=False)
                ).all()
                again = session.execute(
                    update(SubmissionRow)
                    .where(*mine)
                    .values(state=_BEFORE[stage], worker=None, lease_until=None, hinted_at=None)
                    .returning(SubmissionRow.id)
                    .execution_options(synchronize_session=False)
                ).all()
                n += len(given_up) + len(again)
        return n

    # A worker's

    def claim(self, worker: str, id: int, stage: SubmissionState) -> Submission | None:
        """Begin to ingest or to publish a submission; None where it is not, or no longer, to be."""
        with self._transaction() as session:
            claimed = session.execute(
                update(SubmissionRow)
                .where(
                    SubmissionRow.id == id,
                    SubmissionRow.state == _BEFORE[stage],
                    SubmissionRow.worker.is_(None),
                    SubmissionRow.paused.is_(False),
                )
                .values(
                    state=stage,
                    worker=worker,
                    attempt=SubmissionRow.attempt + 1,
                    fence=SubmissionRow.fence + 1,
                    lease_until=database_clock() + self.lease,
                )
                .returning(SubmissionRow.id)
                .execution_options(synchronize_session=False)
            ).all()
            return self._submission(session, self._row(session, id)) if claimed else None

    def renew(self, submission: Submission) -> bool:
        """Prolong the lease of a claim; False where it was lost, or the submission was cancelled."""
        return self._end(submission, lease_until=database_clock() + self.lease)

    def transcribing(self, submission: Submission, transcripts: Iterable[tuple[int, int]], duration: int) -> bool:
        """It is ingested: these are its transcripts, channel and id, of so many samples. False if the claim is void."""
        with self._transaction() as session:
            if not self._held(
                session,
                submission,
                state=SubmissionState.TRANSCRIBING,
                duration=duration,
                error=None,
                attempt=0,
                **_FREE,
            ):
                return False
            for old in session.scalars(
                select(SubmissionTranscriptRow).where(SubmissionTranscriptRow.submission_id == submission.id)
            ):
                session.delete(old)
            session.flush()
            session.add_all(
                SubmissionTranscriptRow(submission_id=submission.id, channel=channel, transcript_id=transcript)
                for channel, transcript in transcripts
            )
            return True

    def published(self, submission: Submission, state: SubmissionState) -> bool:
        """It is published, and that is its end. False if the claim is void."""
        return self._end(submission, state=state, error=None, ended_at=database_clock(), **_FREE)

    def failed(self, submission: Submission, error: str) -> bool:
        """It cannot be done. False if the claim is void."""
        return self._end(submission, state=SubmissionState.FAILED, error=error, ended_at=database_clock(), **_FREE)

    def postponed(self, submission: Submission, error: str, seconds: float, *, counts: bool = False) -> bool:
        """It failed, and is tried again in so many seconds. False if the claim is void.

        Args:
            counts: as one of the times that a stage may be begun; else it is waited for what did not answer.
        """
        return self._end(
            submission,
            state=_BEFORE[submission.state],
            error=error,
            not_before=database_clock() + seconds,
            attempt=SubmissionRow.attempt - (0 if counts else 1),
            **_FREE,
        )

    def _end(self, submission: Submission, **changes: Any) -> bool:
        with self._transaction() as session:
            return self._held(session, submission, **changes)

    @staticmethod
    def _held(session: Session, submission: Submission, **changes: Any) -> bool:
        """Change it as long as its claim is good."""
        changed = session.execute(
            update(SubmissionRow)
            .where(
                SubmissionRow.id == submission.id,
                SubmissionRow.fence == submission.fence,
                SubmissionRow.state == submission.state,
            )
            .values(**changes)
            .returning(SubmissionRow.id)
            .execution_options(synchronize_session=False)
        )
        return bool(changed.all())

    # Whoever handed it in

    def cancel(self, id: int) -> bool:
        """Give it up: nothing of it is begun any more. False where it has ended already."""
        with self._transaction() as session:
            self._row(session, id)
            given_up = session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == id, SubmissionRow.state.not_in(ENDED))
                .values(state=SubmissionState.CANCELLED, ended_at=database_clock(), **_FREE)
                .returning(SubmissionRow.id)
                .execution_options(synchronize_session=False)
            ).all()
            for transcript in self._unwanted(session, id) if given_up else ():
                self._hold(session, transcript, state=TranscriptState.CANCELLED)
            return bool(given_up)

    def pause(self, id: int) -> bool:
        """Begin nothing more of it until it is resumed. False where it has ended."""
        with self._transaction() as session:
            if not self._set_paused(session, id, paused=True):
                return False
            for transcript in self._unwanted(session, id):
                self._hold(session, transcript, paused=True)
            return True

    def resume(self, id: int) -> bool:
        """Go on with what was paused. False where it has ended."""
        with self._transaction() as session:
            if not self._set_paused(session, id, paused=False):
                return False
            session.execute(update(TranscriptRow).where(TranscriptRow.id.in_(_transcripts_of(id))).values(paused=False))
            return True

    def retry(self, id: int) -> bool:
        """Do again what failed or was cancelled. False where it is neither."""
        with self._transaction() as session:
            self._row(session, id)
            again = session.execute(
                update(SubmissionRow)
                .where(
                    SubmissionRow.id == id,
                    SubmissionRow.state.in_([SubmissionState.FAILED, SubmissionState.CANCELLED]),
                )
                .values(state=SubmissionState.ACCEPTED, attempt=0, error=None, ended_at=None, not_before=None, **_FREE)
                .returning(SubmissionRow.id)
                .execution_options(synchronize_session=False)
            ).all()
            return bool(again)

    def _set_paused(self, session: Session, id: int, *, paused: bool) -> bool:
        self._row(session, id)
        changed = session.execute(
            update(SubmissionRow)
            .where(SubmissionRow.id == id, SubmissionRow.state.not_in(ENDED))
            .values(paused=paused, hinted_at=None)
            .returning(SubmissionRow.id)
            .execution_options(synchronize_session=False)
        )
        return bool(changed.all())

    @staticmethod
    def _unwanted(session: Session, id: int) -> Sequence[int]:
        """Its transcripts that nobody else waits for."""
        wanted = (
            select(SubmissionTranscriptRow.transcript_id)
            .join(SubmissionRow, SubmissionRow.id == SubmissionTranscriptRow.submission_id)
            .where(SubmissionRow.id != id, SubmissionRow.state.not_in(ENDED), SubmissionRow.paused.is_(False))
        )
        return session.scalars(
            select(TranscriptRow.id)
            .where(
                TranscriptRow.id.in_(_transcripts_of(id)),
                TranscriptRow.id.not_in(wanted),
                TranscriptRow.state == TranscriptState.TRANSCRIBING,
            )
            .with_for_update()
        ).all()

    @staticmethod
    def _hold(session: Session, transcript: int, **changes: Any) -> None:
        """None of its chunks is handed out any more; those that are being decoded end as ever."""
        held = session.execute(
            update(ChunkRow)
            .where(ChunkRow.transcript_id == transcript, ChunkRow.state == ChunkState.READY)
            .values(state=ChunkState.WAITING)
            .returning(ChunkRow.index)
            .execution_options(synchronize_session=False)
        ).all()
        session.execute(
            update(TranscriptRow)
            .where(TranscriptRow.id == transcript)
            .values(chunks_waiting=TranscriptRow.chunks_waiting + len(held), **changes)
            .execution_options(synchronize_session=False)
        )

    # Rows

    @staticmethod
    def _row(session: Session, id: int) -> SubmissionRow:
        row = session.get(SubmissionRow, id)
        if row is None:
            raise LedgerError(f"there is no submission {id}; `stenopool status` lists them")
        return row

    @staticmethod
    def _submission(session: Session, row: SubmissionRow) -> Submission:
        session.refresh(row)  # what the database's own clock gave
        transcripts = session.execute(
            select(
                SubmissionTranscriptRow.channel,
                TranscriptRow.id,
                TranscriptRow.chunks_total,
                TranscriptRow.chunks_open,
            )
            .join(TranscriptRow, TranscriptRow.id == SubmissionTranscriptRow.transcript_id)
            .where(SubmissionTranscriptRow.submission_id == row.id)
            .order_by(SubmissionTranscriptRow.channel)
        ).all()
        return Submission(
            id=row.id,
            tenant=row.tenant,
            name=row.name,
            source=row.source,
            file_sha256=row.file_sha256,
            model=row.model,
            options=row.options,
            split=row.split,
            again=row.again,
            lane=Lane(row.lane),
            priority=row.priority,
            deadline_at=row.deadline_at,
            paused=row.paused,
            state=SubmissionState(row.state),
            duration=row.duration,
            error=row.error,
            attempt=row.attempt,
            fence=row.fence,
            created_at=row.created_at,
            ended_at=row.ended_at,
            transcripts=tuple((channel, id) for channel, id, _, _ in transcripts),
            chunks_total=sum(one.chunks_total for one in transcripts),
            chunks_open=sum(one.chunks_open for one in transcripts),
        )


#: What a submission is that nobody works on.
_FREE: dict[str, Any] = {"worker": None, "lease_until": None, "hinted_at": None}


def _transcripts_of(id: int) -> Any:
    return select(SubmissionTranscriptRow.transcript_id).where(SubmissionTranscriptRow.submission_id == id)
