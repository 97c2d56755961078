"""Conditions that several modules share: leases, hints, versions of a transcript."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select

from storage.database import database_clock
from storage.tables import COMPLETED, TranscriptRow


def now() -> ColumnElement[float]:
    """The database's clock as a condition asks it: once, not for each row, so that an index can be asked, too."""
    return select(database_clock()).scalar_subquery()


def lapsed(row: Any) -> ColumnElement[bool]:
    """Nobody's lease on it is good any more."""
    return or_(row.lease_until.is_(None), row.lease_until < now())


def untold(row: Any, again_after: float) -> ColumnElement[bool]:
    """No worker was told of it, or not for so many seconds."""
    return or_(row.hinted_at.is_(None), row.hinted_at < now() - again_after)


#: What may be shown; of all versions, the newest of these is.
SHOWABLE = and_(TranscriptRow.state.in_(COMPLETED), TranscriptRow.withheld.is_(False))


def same_work(tenant: str, recording: str, work_digest: str) -> ColumnElement[bool]:
    """All versions of a transcript."""
    return and_(
        TranscriptRow.tenant == tenant,
        TranscriptRow.recording_id == recording,
        TranscriptRow.work_digest == work_digest,
    )
