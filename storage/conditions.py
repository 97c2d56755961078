"""Conditions that several tables share: on rows with a `lease_until`, and on rows with a `hinted_at`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, or_, select

from storage.database import database_clock


def now() -> ColumnElement[float]:
    """The database's clock as a condition asks it: once, not for each row, so that an index can be asked, too."""
    return select(database_clock()).scalar_subquery()


def lapsed(row: Any) -> ColumnElement[bool]:
    """Nobody's lease on it is good any more."""
    return or_(row.lease_until.is_(None), row.lease_until < now())


def untold(row: Any, again_after: float) -> ColumnElement[bool]:
    """No worker was told of it, or not for so many seconds."""
    return or_(row.hinted_at.is_(None), row.hinted_at < now() - again_after)
