"""What is deleted, held, and kept for how long."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from stenopool.api.caller import Administrator, Caller, TheConfig, TheFarm, submission_of
from stenopool.api.problem import Refused
from stenopool.api.recordings import Id
from stenopool.api.shapes import HoldRecord, Receipt
from stenopool.api.terms import CENTURY, Line, Strict, Tenant, Text
from stenopool.errors import Missing, StoreError
from storage.access import Access
from storage.keeping import Keeping, Retention
from storage.tables import GONE
from workers.erase import Eraser, receipt_of
from workers.farm import Farm

router = APIRouter(prefix="/v1", tags=["keeping"])


@router.delete(
    "/recordings/{id}",
    response_model=Receipt,
    responses={202: {"model": Receipt, "description": "It goes as soon as whoever is at it ends."}},
)
def delete_recording(
    id: Id,
    farm: TheFarm,
    config: TheConfig,
    caller: Administrator,
    response: Response,
    reason: Annotated[Line | None, Query(description="Kept with the receipt.")] = None,
) -> dict[str, Any]:
    """Remove all that there is of a recording: texts, files, samples, every version. It cannot be undone."""
    found = submission_of(farm, caller, id)
    eraser = Eraser(farm, keep=config.keep)
    if eraser.erasing.begin(id, by=caller.key.who, reason=reason):
        _note(farm, caller, "submission.delete", f"submission {id}", found.tenant, {"reason": reason})
    try:
        done = eraser.go_on(id)
    except StoreError:  # the scheduler goes on with it
        done = False
    deletion = eraser.erasing.deletion(id)
    if deletion is None:
        raise Missing(f"there is no recording {id}")
    response.status_code = 200 if done else 202
    return receipt_of(deletion)


class Why(Strict):
    """Why something is held."""

    reason: Text | None = Field(None, description="Shown to whoever would delete it.")


@router.put("/recordings/{id}/hold", response_model=HoldRecord)
def hold_recording(id: Id, why: Why, farm: TheFarm, caller: Administrator) -> dict[str, Any]:
    """Remove nothing of a recording until it is released, whatever else says so."""
    found = submission_of(farm, caller, id)
    if found.state in GONE:
        raise Refused(409, f"recording {id} is {found.state}: there is nothing left to be held")
    keeping = Keeping(farm.database)
    _check_hold(farm, caller, id)
    keeping.hold(id, by=caller.key.who, reason=why.reason)
    _note(farm, caller, "submission.hold", f"submission {id}", found.tenant, {"reason": why.reason})
    hold = keeping.held(id)
    if hold is None:  # released just now
        raise Missing(f"recording {id} is not held")
    return asdict(hold)


@router.delete("/recordings/{id}/hold", status_code=204, response_class=Response)
def release_recording(id: Id, farm: TheFarm, caller: Administrator) -> Response:
    """Hold a recording no more."""
    found = submission_of(farm, caller, id)
    _check_hold(farm, caller, id)
    if not Keeping(farm.database).release(id):
        raise Missing(f"recording {id} is not held")
    _note(farm, caller, "submission.release", f"submission {id}", found.tenant)
    return Response(status_code=204)


@router.get("/retention", response_model=list[Retention])
def show_retention(
    farm: TheFarm, caller: Administrator, tenant: Annotated[Tenant | None, Query()] = None
) -> list[Retention]:
    """For how long what is a tenant's is kept, in seconds; null for what holds where nothing is set."""
    whose = caller.whose(tenant)
    keeping = Keeping(farm.database)
    return keeping.retentions() if whose is None else [keeping.retention(whose)]


class Periods(Strict):
    """For how long it is kept, in seconds; what is left out stays as it is, null is what holds where nothing is set."""

    source: float | None = Field(None, ge=0, le=CENTURY, description="Files, after the recording's end.")
    pcm: float | None = Field(None, ge=0, le=CENTURY, description="Samples, after the transcript's completion.")
    chunks: float | None = Field(None, ge=0, le=CENTURY, description="What was heard in each chunk, after the same.")
    transcript: float | None = Field(None, ge=0, le=CENTURY, description="All of it, after the recording's end.")


@router.patch("/retention/{tenant}", response_model=Retention)
def set_retention(tenant: Tenant, periods: Periods, farm: TheFarm, caller: Administrator) -> Retention:
    """Keep what is a tenant's for so long from now on, also what is there already."""
    whose = caller.acts_for(tenant)
    keeping = Keeping(farm.database)
    before = keeping.retention(whose)
    given = periods.model_dump(exclude_unset=True)
    keeping.set(replace(before, **given))
    _note(farm, caller, "retention.set", f"tenant {whose}", whose, given)
    return keeping.retention(whose)


def _check_hold(farm: Farm, caller: Caller, id: int) -> None:
    """Raises Refused where another than the caller's tenant holds it: an operator's hold is for operators to end."""
    hold = Keeping(farm.database).held(id)
    if hold is None or caller.tenant is None:
        return
    if hold.by not in {key.who for key in Access(farm.database).keys(tenant=caller.tenant)}:
        raise Refused(403, f"recording {id} is held by the farm's operator, who alone can release it: {hold.reason}")


def _note(
    farm: Farm, caller: Caller, action: str, subject: str, tenant: str, after: dict[str, object] | None = None
) -> None:
    Access(farm.database).note(caller.actor, action, subject, tenant=tenant, after=after)
