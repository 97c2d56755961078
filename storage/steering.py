"""What operators change while a farm runs. Each change is written down in the transaction that makes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from sqlalchemy import delete, false, select, tuple_, update
from sqlalchemy.orm import Session

from stenopool.errors import Missing, UsageError
from storage.access import Actor, record
from storage.admin_tables import PauseRow
from storage.conditions import same_work
from storage.database import database_clock
from storage.desk import Desk
from storage.holding import hold, hold_paused
from storage.keys import pcm_key
from storage.ledger import Ledger, Queued
from storage.outbox import note
from storage.tables import (
    CHUNK_KEY,
    COMPLETED,
    ENDED,
    MAKING,
    PUBLISHED,
    ChunkRow,
    ChunkState,
    Lane,
    SubmissionRow,
    SubmissionState,
    SubmissionTranscriptRow,
    TranscriptRow,
    WorkerRow,
)
from storage.waiting import FREE


class Keep(Enum):
    """For what is not to be changed, where None means something."""

    KEEP = "keep"


KEEP = Keep.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A lane or a tenant that is paused."""

    lane: Lane | None
    tenant: str | None
    reason: str | None
    by: str
    #: Seconds since 1970, by the database's clock.
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a submission stands in the queue."""

    lane: str
    priority: int
    #: Seconds since 1970, by the database's clock.
    deadline_at: float | None


class Steering(Desk):
    """Transitions that an operator asks for; `by` is who."""

    # Lanes and tenants

    def pause_of(self, by: Actor, *, lane: Lane | None = None, tenant: str | None = None, reason: str | None) -> bool:
        """Begin nothing more of a lane, or of a tenant, until it is resumed. False where it is paused already."""
        with self._transaction() as session:
            self._alone(session, "pauses")
            if session.scalar(select(PauseRow.id).where(_is(lane, tenant))) is not None:
                return False
            session.add(PauseRow(lane=lane, tenant=tenant, reason=reason, by=by.who, at=database_clock()))
            session.flush()
            hold_paused(session)
            what, subject = _named(lane, tenant)
            record(session, by, f"{what}.pause", subject, tenant=tenant, after={"reason": reason})
            return True

    def resume_of(self, by: Actor, *, lane: Lane | None = None, tenant: str | None = None) -> bool:
        """Go on with what was paused so. False where it was not."""
        with self._transaction() as session:
            self._alone(session, "pauses")
            resumed = session.execute(delete(PauseRow).where(_is(lane, tenant)).returning(PauseRow.id)).all()
            if resumed:
                what, subject = _named(lane, tenant)
                record(session, by, f"{what}.resume", subject, tenant=tenant)
            return bool(resumed)

    def pauses(self) -> list[Pause]:
        """What is paused, the longest first."""
        with self._transaction() as session:
            return [
                Pause(
                    lane=None if row.lane is None else Lane(row.lane),
                    tenant=row.tenant,
                    reason=row.reason,
                    by=row.by,
                    at=row.at,
                )
                for row in session.scalars(select(PauseRow).order_by(PauseRow.at, PauseRow.id))
            ]

    # Submissions

    def reprioritise(
        self,
        by: Actor,
        id: int,
        *,
        lane: Lane | None = None,
        priority: int | None = None,
        deadline: float | Keep | None = KEEP,
    ) -> tuple[Standing, Standing]:
        """Give a submission another place in the queue; where it stood, and where it stands.

        Args:
            lane, priority: None: as they are.
            deadline: seconds from now; None: it has none.

        A transcript for which others wait as well goes with the first of them. Chunks that are being decoded end as
        ever; what is ready waits for its new turn.

        Raises:
            Missing: there is none.
            UsageError: it has ended.
        """
        with self._transaction() as session:
            row = self._locked(session, id)
            if row.state in ENDED:
                raise UsageError(f"{id} has ended already ({row.state}): nothing of it waits")
            before = _standing(row)
            row.lane = row.lane if lane is None else lane
            row.priority = row.priority if priority is None else priority
            if not isinstance(deadline, Keep):
                now = session.scalar(select(database_clock())) or 0.0
                row.deadline_at = None if deadline is None else now + deadline
            row.hinted_at = None
            session.flush()
            for transcript in self._making(session, id):
                self._place(session, transcript)
            after = _standing(row)
            subject = f"submission {id}"
            record(
                session,
                by,
                "submission.reprioritise",
                subject,
                tenant=row.tenant,
                before=asdict(before),
                after=asdict(after),
            )
            return before, after

    def requeue(self, by: Actor, id: int) -> bool:
        """As `retry`: do again what failed or was cancelled, or the gaps of what has some. False: it is none of these.

        Raises:
            Missing: there is none.
        """
        with self._transaction() as session:
            row = self._locked(session, id)
            before = row.state
            if not self._retry(session, id):
                return False
            session.refresh(row)
            states: dict[str, object] = {"state": row.state}
            record(
                session,
                by,
                "submission.requeue",
                f"submission {id}",
                tenant=row.tenant,
                before={"state": before},
                after=states,
            )
            return True

    def remerge(self, by: Actor, id: int) -> list[int]:
        """Merge a published submission's transcripts anew, of what was heard; the new versions' ids.

        They are other versions, and shown from when they are complete; until then, those that are shown now.

        Raises:
            Missing: there is none.
            UsageError: it is not published, is being made again, or what was heard is no longer kept.
        """
        with self._transaction() as session:
            row = self._locked(session, id)
            if row.state not in PUBLISHED:
                raise UsageError(f"{id} is {row.state}: only what is published can be merged anew")
            links = session.scalars(
                select(SubmissionTranscriptRow)
                .where(SubmissionTranscriptRow.submission_id == id)
                .order_by(SubmissionTranscriptRow.channel)
            ).all()
            for link in links:
                link.transcript_id = self._again(session, row, link.transcript_id).id
            before = row.state
            session.flush()
            changes: dict[str, Any] = {"settled": before, "attempt": 0, "error": None, "ended_at": None}
            session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == id)
                .values(state=SubmissionState.TRANSCRIBING, not_before=None, **changes, **FREE)
                .execution_options(synchronize_session=False)
            )
            note(session, [id])
            new = [link.transcript_id for link in links]
            record(session, by, "submission.remerge", f"submission {id}", tenant=row.tenant, after={"transcripts": new})
            return new

    # Workers

    def drain(self, by: Actor, worker: str) -> bool:
        """Have a worker end once it has ended what it has begun. False where it was asked already.

        It hears of it at its next sign of life. Whoever supervises it may start another in its place.

        Raises:
            Missing: there is none.
        """
        with self._transaction() as session:
            row = session.scalar(select(WorkerRow).where(WorkerRow.id == worker).with_for_update())
            if row is None:
                raise Missing(f"there is no worker {worker}; `stenopool admin workers` lists them")
            if row.drain:
                return False
            row.drain = True
            session.flush()
            record(session, by, "worker.drain", f"worker {worker}", after={"role": row.role, "host": row.host})
            return True

    # Rows

    def _locked(self, session: Session, id: int) -> SubmissionRow:
        self._row(session, id)
        return session.scalars(
            select(SubmissionRow)
            .where(SubmissionRow.id == id)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        ).one()

    @staticmethod
    def _making(session: Session, submission: int) -> Iterable[TranscriptRow]:
        """Its transcripts that are being made, locked."""
        return session.scalars(
            select(TranscriptRow)
            .join(SubmissionTranscriptRow, SubmissionTranscriptRow.transcript_id == TranscriptRow.id)
            .where(SubmissionTranscriptRow.submission_id == submission, TranscriptRow.state.in_(MAKING))
            .order_by(TranscriptRow.id)
            .with_for_update(of=TranscriptRow, key_share=True)
            .execution_options(populate_existing=True)
        ).all()

    @staticmethod
    def _place(session: Session, transcript: TranscriptRow) -> None:
        """A transcript stands where the first of those stands who wait for it."""
        waiting = session.scalars(
            select(SubmissionRow)
            .join(SubmissionTranscriptRow, SubmissionTranscriptRow.submission_id == SubmissionRow.id)
            .where(SubmissionTranscriptRow.transcript_id == transcript.id, SubmissionRow.state.not_in(ENDED))
        ).all()
        lane = min(one.lane for one in waiting)
        deadlines = [one.deadline_at for one in waiting if one.deadline_at is not None]
        place = {
            "lane": lane,
            "priority": max(one.priority for one in waiting),
            "deadline_at": min(deadlines, default=None),
        }
        id = transcript.id
        hold(session, id, **place)
        # Whoever ends a chunk has it locked, and waits for its transcript, which is ours: he is not waited for.
        free = (
            select(*CHUNK_KEY)
            .where(ChunkRow.transcript_id == id, ChunkRow.state != ChunkState.DONE)
            .with_for_update(skip_locked=True)
            .cte("free")
        )
        session.execute(
            update(ChunkRow)
            .where(tuple_(*CHUNK_KEY).in_(select(free)))
            .values(lane=lane)
            .execution_options(synchronize_session=False)
        )

    def _again(self, session: Session, row: SubmissionRow, transcript: int) -> TranscriptRow:
        """The next version of a transcript, all of whose chunks are done."""
        given = session.get_one(TranscriptRow, transcript)
        self._alone(session, pcm_key(given.recording_id))
        old = Ledger._latest(session, same_work(given.tenant, given.recording_id, given.work_digest))
        if old is None or old.state not in COMPLETED:
            raise UsageError(f"{row.id}: its transcript is being made again; wait until that has ended")
        if old.forgotten:
            raise UsageError(f"{row.id}: what was heard in its chunks is no longer kept; submit it again with --force")
        queued = Queued(
            tenant=given.tenant,
            engine_key=old.engine_key,
            lane=row.lane,
            priority=row.priority,
            deadline_at=row.deadline_at,
        )
        return Ledger._next_version(session, old, queued, false())


def _is(lane: Lane | None, tenant: str | None) -> Any:
    if (lane is None) == (tenant is None):
        raise UsageError("name a lane or a tenant")
    return PauseRow.tenant == tenant if lane is None else PauseRow.lane == lane


def _named(lane: Lane | None, tenant: str | None) -> tuple[str, str]:
    """What it is, and which, as the audit log has it."""
    return ("tenant", f"tenant {tenant}") if lane is None else ("lane", f"lane {lane.name.lower()}")


def _standing(row: SubmissionRow) -> Standing:
    return Standing(lane=Lane(row.lane).name.lower(), priority=row.priority, deadline_at=row.deadline_at)
