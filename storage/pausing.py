"""Lanes and tenants that are paused: nothing more of them is begun, as if each of their submissions were.

There are few pauses, mostly none: they are read first, and become conditions only where there are some. What is ready
waits again when a pause begins; what becomes ready later, as its worker gives it back, does so with whoever frees it,
and the dispatcher looks for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from storage.admin_tables import PauseRow


@dataclass(frozen=True, slots=True)
class Paused:
    """What is paused now."""

    lanes: frozenset[int] = frozenset()
    tenants: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.lanes or self.tenants)

    def has(self, tenant: str, lane: int | None) -> bool:
        """Whether work of that tenant in that lane is paused; None is the lane of one machine."""
        return tenant in self.tenants or lane in self.lanes


def paused_now(session: Session) -> Paused:
    """As the ledger has it."""
    rows = session.execute(select(PauseRow.lane, PauseRow.tenant)).all()
    return Paused(
        frozenset(lane for lane, _ in rows if lane is not None),
        frozenset(tenant for _, tenant in rows if tenant is not None),
    )


def unpaused(paused: Paused, row: Any) -> tuple[ColumnElement[bool], ...]:
    """Conditions on rows that have a lane and a tenant: neither is paused."""
    lanes = (row.lane.not_in(paused.lanes),) if paused.lanes else ()
    tenants = (row.tenant.not_in(paused.tenants),) if paused.tenants else ()
    return (*lanes, *tenants)
