"""Watch-lists: phrases of which somebody wants to hear when they are said."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from stenopool.api.caller import Caller, Reader, Submitter, TheFarm, owned
from stenopool.api.shapes import Shape
from stenopool.api.terms import Line, Strict, Tenant
from stenopool.domain import SAMPLE_RATE
from storage.access import Access
from storage.redactions import Redactions
from storage.search import Search
from storage.watching import Watch, WatchHit, Watching
from workers.farm import Farm

router = APIRouter(prefix="/v1/watchlist", tags=["search"])

Id = Annotated[int, Path(ge=1, le=2**31 - 1)]


class Phrase(Strict):
    """What is to be watched."""

    phrase: Line = Field(description="Whole words, 20 at most; without case, punctuation and accents.")
    tenant: Tenant | None = None


class Place(Shape):
    """Where a phrase was heard; times in seconds."""

    watch: int
    phrase: str
    tenant: str
    transcript: int
    name: str
    start: float
    end: float
    text: str | None = Field(description="What was said around it; null where that is not for the caller.")
    at: float


@router.get("", response_model=list[Watch])
def list_watched(farm: TheFarm, caller: Reader, tenant: Tenant | None = None) -> list[Watch]:
    """What is watched, the oldest first."""
    return Watching(farm.database).watches(caller.whose(tenant))


@router.post("", response_model=Watch, status_code=201)
def watch_phrase(wanted: Phrase, farm: TheFarm, caller: Submitter) -> Watch:
    """Watch a phrase in what is transcribed from now on; one that is watched already is that one."""
    watch = Watching(farm.database).add(caller.acts_for(wanted.tenant), wanted.phrase)
    Access(farm.database).note(caller.actor, "watch.add", f"watch {watch.id}", tenant=watch.tenant)
    return watch


@router.get("/hits", response_model=list[Place])
def list_heard(
    farm: TheFarm,
    caller: Reader,
    tenant: Tenant | None = None,
    watch: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Of this phrase only.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:
    """Where watched phrases were heard, the last one first; not those in what is redacted, but for administrators."""
    if watch is not None:
        _watch_of(farm, caller, watch)
    found = Watching(farm.database).hits(tenant=caller.whose(tenant), watch=watch, limit=limit)
    transcripts = {one.transcript for one in found}
    names = Search(farm.database).names(transcripts)
    veils = {} if caller.sees_all else Redactions(farm.database).veils(transcripts)
    shown = [one for one in found if one.transcript not in veils or not veils[one.transcript].hides(one.start, one.end)]
    return [_place(one, names[one.transcript], veiled=one.transcript in veils) for one in shown]


@router.delete("/{id:int}", status_code=204, response_class=Response)
def unwatch_phrase(id: Id, farm: TheFarm, caller: Submitter) -> Response:
    """Watch a phrase no more; where it was heard is forgotten."""
    watch = _watch_of(farm, caller, id)
    Watching(farm.database).remove(id)
    Access(farm.database).note(caller.actor, "watch.remove", f"watch {id}", tenant=watch.tenant)
    return Response(status_code=204)


def _watch_of(farm: Farm, caller: Caller, id: int) -> Watch:
    missing = f"there is no watched phrase {id}; GET /v1/watchlist lists them"
    return owned(farm, caller, f"watch {id}", lambda: Watching(farm.database).watch(id), missing)


def _place(one: WatchHit, name: str, *, veiled: bool) -> dict[str, Any]:
    record = {field: getattr(one, field) for field in ("watch", "phrase", "tenant", "transcript", "at")}
    times = {"start": one.start / SAMPLE_RATE, "end": one.end / SAMPLE_RATE}
    return record | times | {"name": name, "text": None if veiled else one.text}
