"""The outbox: what became of submissions, in an order in which nobody who reads it misses anything.

An event is written in the transaction that changes its submission: it is there exactly if the change is. Transactions
end in another order than they begin, so that whoever remembered the last id that he saw would miss one that came in
late. Therefore the dispatcher numbers events once they are committed, and readers go by these numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from storage.database import database_clock
from storage.tables import EventRow, Heard, SubmissionRow, SubmissionState
from storage.transactions import Transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A submission came to a state, or something was heard in it."""

    #: From 1, without gaps; later ones are greater.
    position: int
    tenant: str
    submission: int
    state: SubmissionState | Heard
    #: Why it failed, in one line.
    error: str | None
    #: What was heard, and where (storage/watching.py); None for a state.
    detail: dict[str, Any] | None
    #: Seconds since 1970, by the database's clock.
    at: float

    @property
    def type(self) -> str:
        """What kind of event it is: "submission.completed"."""
        return f"submission.{self.state}"

    @property
    def data(self) -> dict[str, object]:
        """What it is about, as its kind has it."""
        about = {"submission": self.submission, "state": self.state.value, "error": self.error}
        return about if self.detail is None else {**about, "detail": self.detail}


def note_heard(session: Session, submission: SubmissionRow, detail: dict[str, Any]) -> None:
    """That a watched phrase was heard in this submission is an event."""
    session.add(
        EventRow(
            tenant=submission.tenant,
            submission_id=submission.id,
            state=Heard.PHRASE,
            detail=detail,
            at=database_clock(),
        )
    )


def note(session: Session, submissions: Iterable[int]) -> None:
    """What these submissions have become in this transaction is an event each."""
    state = select(
        SubmissionRow.tenant, SubmissionRow.id, SubmissionRow.state, SubmissionRow.error, database_clock()
    ).where(SubmissionRow.id.in_(list(submissions)))
    names = ["tenant", "submission_id", "state", "error", "at"]
    session.execute(insert(EventRow).from_select(names, state.order_by(SubmissionRow.id)))


class Outbox(Transactions):
    """Numbers events, and hands them out."""

    def number(self, limit: int = 1000) -> int:
        """Give those that are committed their places, first come first served; returns how many. The dispatcher's."""
        with self._transaction() as session:
            new = session.scalars(
                select(EventRow.id).where(EventRow.position.is_(None)).order_by(EventRow.id).limit(limit)
            ).all()
            if not new:
                return 0
            self._alone(session, "outbox")  # a dispatcher that was replaced may not know it yet
            last = session.scalar(select(func.max(EventRow.position))) or 0
            unnumbered = select(EventRow.id).where(EventRow.position.is_(None), EventRow.id.in_(new))
            ids = session.scalars(unnumbered.order_by(EventRow.id)).all()
            session.execute(
                update(EventRow), [{"id": id, "position": last + place} for place, id in enumerate(ids, start=1)]
            )
            return len(ids)

    def after(self, position: int, *, tenant: str | None = None, limit: int = 1000) -> list[Event]:
        """Those behind that place, in their order."""
        mine = () if tenant is None else (EventRow.tenant == tenant,)
        with self._transaction() as session:
            rows = session.scalars(
                select(EventRow).where(EventRow.position > position, *mine).order_by(EventRow.position).limit(limit)
            )
            return [event_of(row) for row in rows]


def event_of(row: EventRow) -> Event:
    """An event that has its number."""
    return Event(
        position=row.position or 0,
        tenant=row.tenant,
        submission=row.submission_id,
        state=Heard(row.state) if row.state in set(Heard) else SubmissionState(row.state),
        error=row.error,
        detail=row.detail,
        at=row.at,
    )
