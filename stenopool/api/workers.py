"""Workers: which processes work now."""

from __future__ import annotations

from fastapi import APIRouter

from stenopool.api.caller import Administrator, TheFarm
from stenopool.api.problem import Refused
from storage.fleet import Worker

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("", response_model=list[Worker])
def list_workers(farm: TheFarm, caller: Administrator) -> list[Worker]:
    """Which processes work, as they say of themselves. For operators' keys: workers are nobody's alone."""
    if caller.tenant is not None:
        raise Refused(403, "workers are for operators' keys; this one is a tenant's")
    return farm.fleet.workers()
