"""Events: what became of recordings, for programs that would rather ask than be told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool

from stenopool.api.caller import Reader, TheFarm
from stenopool.api.problem import Refused
from stenopool.api.shapes import Shape
from stenopool.api.terms import Tenant
from storage.outbox import Event, Outbox
from storage.redactions import Redactions, Veil
from storage.watching import without_text

router = APIRouter(prefix="/v1/events", tags=["events"])

#: Seconds between two looks, and that one request may wait.
LOOK_EVERY, LONGEST = 0.5, 30.0
#: Requests that may wait at once, in this process: each looks again and again.
MOST_WAITING = 16


class EventRecord(Shape):
    """A recording came to a state, or something was heard in it."""

    position: int
    type: str
    tenant: str
    recording: int
    state: str
    error: str | None
    detail: dict[str, Any] | None
    at: float


class EventPage(Shape):
    """Some events, in their order."""

    events: list[EventRecord]
    after: int


_waiting = 0


@router.get("", response_model=EventPage)
async def list_events(
    farm: TheFarm,
    caller: Reader,
    after: Annotated[int, Query(ge=0, le=2**62, description="Those behind this number only.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    wait: Annotated[float, Query(ge=0, le=LONGEST, description="Seconds to wait for one, where there is none.")] = 0,
    tenant: Tenant | None = None,
) -> dict[str, Any]:
    """What became of recordings, in the order of its numbers. Who remembers `after` misses nothing.

    Of phrases heard in what is redacted, or is still to be, only administrators are told.
    """
    outbox, whose = Outbox(farm.database), caller.whose(tenant)

    def look() -> tuple[bool, dict[str, Any]]:
        found = outbox.after(after, tenant=whose, limit=limit)
        transcripts = {int(one.detail["transcript"]) for one in found if one.detail and "transcript" in one.detail}
        veils = Redactions(farm.database).veils(transcripts) if transcripts and not caller.sees_all else {}
        events = [record for one in found if (record := _record(one, veils)) is not None]
        return bool(found), {"events": events, "after": found[-1].position if found else after}

    there, answer = await run_in_threadpool(look)
    return answer if there or not wait else await _wait(look, wait)


async def _wait(look: Callable[[], tuple[bool, dict[str, Any]]], seconds: float) -> dict[str, Any]:
    """The answer as soon as there is something, or in the end; no thread is kept meanwhile."""
    global _waiting
    if _waiting >= MOST_WAITING:
        raise Refused(429, "too many wait here already; ask without wait", headers={"Retry-After": "5"})
    _waiting += 1
    try:
        ends = time.monotonic() + seconds
        while True:
            await asyncio.sleep(max(0.0, min(LOOK_EVERY, ends - time.monotonic())))
            there, answer = await run_in_threadpool(look)
            if there or time.monotonic() >= ends:
                return answer
    finally:
        _waiting -= 1


def _record(one: Event, veils: dict[int, Veil]) -> dict[str, Any] | None:
    """As it is told; None where nothing of it is for the caller."""
    detail = one.detail
    if detail is not None and (veil := veils.get(detail.get("transcript", 0))) is not None:
        open_ = [hit for hit in detail.get("hits", ()) if not veil.hides(hit["start"], hit["end"])]
        if not open_:
            return None
        detail = {**detail, "hits": without_text(open_)}
    return {
        "position": one.position,
        "type": one.type,
        "tenant": one.tenant,
        "recording": one.submission,
        "state": one.state.value,
        "error": one.error,
        "detail": detail,
        "at": one.at,
    }
