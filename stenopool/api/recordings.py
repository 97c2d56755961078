"""Recordings: what was handed in, and what became of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from stenopool.api.caller import Reader, TheFarm, submission_of
from workers.shown import record_of

router = APIRouter(prefix="/v1/recordings", tags=["recordings"])

#: No database has greater ones.
Id = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("/{id}")
def show(id: Id, farm: TheFarm, caller: Reader) -> dict[str, Any]:
    """All there is to know of a recording that was handed in."""
    return record_of(submission_of(farm, caller, id))
