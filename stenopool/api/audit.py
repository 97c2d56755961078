"""The audit log: who did what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from stenopool.api.caller import Administrator, TheFarm
from stenopool.api.paging import Cursor, Limit, cursor_of, link_next, read_cursor
from stenopool.api.shapes import Shape
from stenopool.api.terms import Tenant
from storage.access import Access

router = APIRouter(prefix="/v1/audit", tags=["audit"])


class AuditEntry(Shape):
    """Something that was done, or tried."""

    id: int
    at: float
    who: str
    tenant: str | None
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request: str | None


class AuditPage(Shape):
    """Some of the log, the last entry first."""

    entries: list[AuditEntry]
    cursor: str | None


@router.get("", response_model=AuditPage)
def list_audit(
    request: Request,
    response: Response,
    farm: TheFarm,
    caller: Administrator,
    tenant: Tenant | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Who did what, the last first."""
    whose = caller.whose(tenant)
    found = Access(farm.database).entries(tenant=whose, before=read_cursor(cursor, whose), limit=limit + 1)
    following = cursor_of(found[limit - 1].id, whose) if len(found) > limit else None
    link_next(request, response, following)
    return {"entries": [asdict(one) for one in found[:limit]], "cursor": following}
