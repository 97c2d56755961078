"""Conditions that several modules share: leases, hints, versions of a transcript."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.orm import aliased

from storage.database import database_clock
from storage.tables import COMPLETED, ChunkRow, TranscriptRow


def now() -> ColumnElement[float]:
    """The database's clock as a condition asks it: once, not for each row, so that an index can be asked, too."""
    return select(database_clock()).scalar_subquery()


def lapsed(row: Any) -> ColumnElement[bool]:
    """Nobody's lease on it is good any more."""
    return or_(row.lease_until.is_(None), row.lease_until < now())


def untold(row: Any, again_after: float) -> ColumnElement[bool]:
    """No worker was told of it, or not for so many seconds."""
    return or_(row.hinted_at.is_(None), row.hinted_at < now() - again_after)


#: Leases for which a chunk waits at most until nobody dies.
PATIENCE = 60


def in_peace(lease: Any) -> ColumnElement[bool]:
    """No worker has died for a lease's time: whoever dies now with one chunk alone has died of it.

    Where machines fail, one after the other, a chunk would soon have been with three of them, and be blamed for what it
    did not do. It waits, but not for ever: a machine that fails again and again must not keep recordings from ending.
    """
    other = aliased(ChunkRow)
    return or_(
        ~exists(select(other.index).where(other.blamed_at > now() - lease)),
        ChunkRow.blamed_at < now() - PATIENCE * lease,
        ChunkRow.blamed_at.is_(None),  # by a release that did not note when
    )


#: What may be shown; of all versions, the newest of these is.
SHOWABLE = and_(TranscriptRow.state.in_(COMPLETED), TranscriptRow.withheld.is_(False))


def same_work(tenant: str, recording: str, work_digest: str) -> ColumnElement[bool]:
    """All versions of a transcript."""
    return and_(
        TranscriptRow.tenant == tenant,
        TranscriptRow.recording_id == recording,
        TranscriptRow.work_digest == work_digest,
    )
