"""Workers, and what operators look at and do: for operators' keys, as it is nobody's alone."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field

from stenopool.api.caller import Administrator, Caller, TheFarm
from stenopool.api.problem import Refused
from stenopool.api.shapes import Shape
from stenopool.api.terms import LaneName, Line, Strict, Tenant
from storage.admin import Administration
from storage.fleet import Worker
from storage.steering import Steering
from storage.tables import Lane
from storage.views import VIEWS

router = APIRouter(prefix="/v1", tags=["workers"])

ViewName = Annotated[str, Path(pattern=f"^({'|'.join(view.name for view in VIEWS)})$")]


class ViewRows(Shape):
    """The first rows of a view."""

    columns: list[str]
    rows: list[dict[str, Any]]
    more: bool = Field(description="There are more; ask with a greater limit.")


class Target(Strict):
    """A lane, or a tenant."""

    lane: LaneName | None = None
    tenant: Tenant | None = None
    reason: Line | None = Field(None, description="Shown to whoever asks why nothing goes on.")


class Steered(Shape):
    """Whether something was changed by it."""

    changed: bool


@router.get("/workers", response_model=list[Worker])
def list_workers(farm: TheFarm, caller: Administrator) -> list[Worker]:
    """Which processes work, as they say of themselves."""
    _operators(caller)
    return farm.fleet.workers()


@router.post("/workers/{worker}/drain", response_model=Steered)
def drain_worker(worker: Annotated[Line, Path(max_length=80)], farm: TheFarm, caller: Administrator) -> dict[str, bool]:
    """Have a worker end once it has ended what it has begun."""
    _operators(caller)
    return {"changed": _steering(farm).drain(caller.actor, worker)}


@router.get("/admin/views/{view}", response_model=ViewRows)
def show_view(
    view: ViewName,
    farm: TheFarm,
    caller: Administrator,
    tenant: Tenant | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> dict[str, Any]:
    """What `stenopool admin` shows under that name; a tenant's administrator sees the tenant's rows."""
    whose = caller.whose(tenant)
    if caller.tenant is not None and not next(one for one in VIEWS if one.name == view).of_tenants:
        raise Refused(403, f"{view} is for operators' keys; this one is a tenant's")
    found = Administration(farm.database).view(view, tenant=whose, limit=limit)
    return {"columns": list(found.columns), "rows": found.records, "more": found.cut}


@router.post("/admin/pause", response_model=Steered)
def pause_lane_or_tenant(target: Target, farm: TheFarm, caller: Administrator) -> dict[str, bool]:
    """Begin nothing more of a lane, or of a tenant, until it is resumed; what is begun ends as ever."""
    _operators(caller)
    lane = None if target.lane is None else Lane[target.lane.upper()]
    done = _steering(farm).pause_of(caller.actor, lane=lane, tenant=target.tenant, reason=target.reason)
    return {"changed": done}


@router.post("/admin/resume", response_model=Steered)
def resume_lane_or_tenant(target: Target, farm: TheFarm, caller: Administrator) -> dict[str, bool]:
    """Go on with a lane, or a tenant, that was paused."""
    _operators(caller)
    if target.reason is not None:
        raise Refused(422, "reason is for pause; leave it out")
    lane = None if target.lane is None else Lane[target.lane.upper()]
    return {"changed": _steering(farm).resume_of(caller.actor, lane=lane, tenant=target.tenant)}


def _operators(caller: Caller) -> None:
    if caller.tenant is not None:
        raise Refused(403, "that is for operators' keys; this one is a tenant's")


def _steering(farm: TheFarm) -> Steering:
    return Steering(farm.database, lease=farm.lease)
