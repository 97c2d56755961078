"""The waiting room: of which submissions workers are told, and what becomes of those whose worker died."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, union_all, update

from storage.conditions import lapsed, now, untold
from storage.database import database_clock
from storage.holding import abandon, transcripts_of
from storage.outbox import note
from storage.pausing import paused_now, unpaused
from storage.search_index import index_shown
from storage.tables import (
    COMPLETED,
    SubmissionRow,
    SubmissionState,
    SubmissionTranscriptRow,
    TenantRow,
    TranscriptRow,
)
from storage.transactions import Transactions

#: Times that a stage may be begun.
ATTEMPTS = 3

#: What each stage goes back to.
BEFORE = {SubmissionState.INGESTING: SubmissionState.ACCEPTED, SubmissionState.PUBLISHING: SubmissionState.PUBLISHING}

#: What a submission is that nobody works on.
FREE: dict[str, Any] = {"worker": None, "lease_until": None, "hinted_at": None}


def ended_without(state: SubmissionState) -> dict[str, Any]:
    """What becomes of a submission that comes to nothing: that state, or the one that it had with its gaps."""
    return {
        "state": func.coalesce(SubmissionRow.settled, state.value),
        "settled": None,
        "ended_at": database_clock(),
        **FREE,
    }


class WaitingRoom(Transactions):
    """What the dispatcher asks of submissions."""

    def ingests(self, lane: int, limit: int, again_after: float) -> list[int]:
        """Accepted submissions of which no worker was told, or not for so many seconds; they count as told.

        Tenants have equal shares of them; those go first whose first one was there first.
        """
        waiting: tuple[ColumnElement[bool], ...] = (
            SubmissionRow.state == SubmissionState.ACCEPTED,
            SubmissionRow.lane == lane,
            SubmissionRow.paused.is_(False),
            or_(SubmissionRow.not_before.is_(None), SubmissionRow.not_before < now()),
            untold(SubmissionRow, again_after),
        )
        turn = (SubmissionRow.deadline_at.asc().nulls_last(), SubmissionRow.priority.desc(), SubmissionRow.id)
        with self._transaction() as session:
            waiting += unpaused(paused_now(session), SubmissionRow)
            # Tenant by tenant, each by its index: to number all that is waiting takes longer the more there is.
            first = (
                select(SubmissionRow.id)
                .where(*waiting, SubmissionRow.tenant == TenantRow.name)
                .order_by(*turn)
                .limit(1)
                .scalar_subquery()
            )
            firsts = select(TenantRow.name, first.label("id")).subquery()
            tenants = session.scalars(
                select(firsts.c.name).where(firsts.c.id.is_not(None)).order_by(firsts.c.id).limit(limit)
            ).all()
            if not tenants:
                return []
            shares = [
                select(SubmissionRow.id)
                .where(*waiting, SubmissionRow.tenant == tenant)
                .order_by(*turn)
                .limit(limit // len(tenants))
                .subquery()
                for tenant in tenants
            ]
            rows = session.execute(
                update(SubmissionRow)
                .where(
                    SubmissionRow.id.in_(union_all(*(select(share.c.id) for share in shares))),
                    SubmissionRow.state == SubmissionState.ACCEPTED,
                )
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
                    SubmissionRow.paused.is_(False),
                    *unpaused(paused_now(session), SubmissionRow),
                    or_(SubmissionRow.not_before.is_(None), SubmissionRow.not_before < now()),
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
        given_up: list[int] = []
        again: list[int] = []
        with self._transaction() as session:
            for stage, before in BEFORE.items():
                mine = (SubmissionRow.state == stage, SubmissionRow.worker.is_not(None), lapsed(SubmissionRow))
                given_up += session.scalars(
                    update(SubmissionRow)
                    .where(*mine, SubmissionRow.attempt >= ATTEMPTS)
                    .values(**ended_without(SubmissionState.FAILED), error=f"{ATTEMPTS} workers died {stage.value} it")
                    .returning(SubmissionRow.id)
                    .execution_options(synchronize_session=False)
                )
                again += session.scalars(
                    update(SubmissionRow)
                    .where(*mine)
                    .values(state=before, **FREE)
                    .returning(SubmissionRow.id)
                    .execution_options(synchronize_session=False)
                )
            note(session, given_up)
            for id in sorted(given_up):
                abandon(session, id)
            index_shown(session, session.scalars(transcripts_of(*given_up)))
        return len(given_up) + len(again)
