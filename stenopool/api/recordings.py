"""Recordings: what was handed in, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from scheduler.redaction import read_rules
from scheduler.why import why
from stenopool.api.caller import Administrator, Caller, Reader, Submitter, TheFarm, outcome_of, submission_of
from stenopool.api.paging import Cursor, Limit, cursor_of, link_next, read_cursor
from stenopool.api.problem import Refused
from stenopool.api.shapes import FullRecording, Recording, RecordingPage, Shape, more, recording
from stenopool.api.terms import CENTURY, Kind, LaneName, Line, Strict, Tenant
from stenopool.errors import UsageError
from storage.access import Access
from storage.listing import Listing, Which
from storage.redactions import Redactions
from storage.situation import Situations
from storage.steering import KEEP, Steering
from storage.tables import Lane, SubmissionState
from workers.farm import Farm
from workers.redact import redact as redact_transcript
from workers.shown import full_record_of, shown_of

router = APIRouter(prefix="/v1/recordings", tags=["recordings"])

#: No database has greater ones.
Id = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("", response_model=RecordingPage)
def list_recordings(
    request: Request,
    response: Response,
    farm: TheFarm,
    caller: Reader,
    limit: Limit = 50,
    cursor: Cursor = None,
    state: Annotated[list[SubmissionState] | None, Query(max_length=20, description="Only such; or several.")] = None,
    lane: LaneName | None = None,
    campaign: Annotated[Line | None, Query(description="Only what this campaign has; its name.")] = None,
    tenant: Annotated[Tenant | None, Query(description="Only this tenant's.")] = None,
    q: Annotated[Line | None, Query(description="Only those whose name has this in it.")] = None,
) -> dict[str, Any]:
    """What was handed in, the last one first. What comes in meanwhile moves no page."""
    which = Which(
        tenant=caller.whose(tenant),
        states=tuple(state or ()),
        lane=None if lane is None else Lane[lane.upper()],
        campaign=campaign,
        name=q,
    )
    before = read_cursor(cursor, which)
    found = Listing(farm.database).page(which, before=before, limit=limit + 1)
    page = found[:limit]
    following = cursor_of(page[-1].id, which) if len(found) > limit else None
    link_next(request, response, following)
    return {"recordings": list(map(recording, page)), "cursor": following}


@router.get("/{id}", response_model=FullRecording)
def show_recording(id: Id, farm: TheFarm, caller: Reader) -> dict[str, Any]:
    """All there is to know of a recording: how far it is, its transcripts, their coverage and versions."""
    found = outcome_of(farm, caller, id)
    return full_record_of(found) | more(found.submission)


class Why(Shape):
    """What a recording waits for."""

    reason: str = Field(description="A word for programs.")
    text: str


class Changes(Strict):
    """Who goes first."""

    lane: LaneName | None = None
    priority: int | None = Field(None, ge=-1_000_000, le=1_000_000)
    deadline: float | None = Field(None, ge=0, le=CENTURY, description="In so many seconds from now; null: none.")


@router.patch("/{id}", response_model=Recording)
def change_recording(id: Id, changes: Changes, farm: TheFarm, caller: Submitter) -> dict[str, Any]:
    """Let a recording go before others, or behind them; what is left out stays as it is."""
    found = submission_of(farm, caller, id)
    if found.ended:
        raise Refused(409, f"recording {id} has ended: it is {found.state}")
    Steering(farm.database, lease=farm.lease).reprioritise(
        caller.actor,
        id,
        lane=None if changes.lane is None else Lane[changes.lane.upper()],
        priority=changes.priority,
        deadline=changes.deadline if "deadline" in changes.model_fields_set else KEEP,
    )
    return recording(farm.desk.submission(id))


def _action(name: str, help: str, refusal: str) -> Callable[..., dict[str, Any]]:
    """A route that changes the state of a recording by the desk's method of that name."""

    def run(id: Id, farm: TheFarm, caller: Submitter) -> dict[str, Any]:
        found = submission_of(farm, caller, id)
        method: Callable[[int], bool] = getattr(farm.desk, name)
        if not method(id):
            raise Refused(409, f"recording {id} {refusal}; it is {found.state}")
        _note(farm, caller, f"submission.{name}", id, found.tenant)
        return recording(farm.desk.submission(id))

    run.__doc__ = help
    run.__name__ = f"{name}_recording"
    return router.post(f"/{{id}}/{name}", response_model=Recording)(run)


_action("cancel", "Give a recording up; what is begun of it ends as it will.", "has ended already")
_action("pause", "Begin nothing more of a recording until it is resumed.", "has ended already")
_action("resume", "Go on with a recording that was paused.", "has ended already")
_action(
    "retry",
    "Do again what failed or was cancelled; of what has gaps, only these.",
    "has neither failed nor gaps, nor was it cancelled",
)


@router.get("/{id}/why", response_model=list[Why])
def explain_recording(id: Id, farm: TheFarm, caller: Reader) -> list[dict[str, Any]]:
    """Why a recording has not ended: what it waits for, the first thing first."""
    submission_of(farm, caller, id)
    return [{"reason": one.code, "text": one.text} for one in why(Situations(farm.database).of(id))]


@router.post("/{id}/remerge", response_model=Recording, status_code=202)
def remerge_recording(id: Id, farm: TheFarm, caller: Administrator) -> dict[str, Any]:
    """Merge a recording's transcripts anew, of what was heard; nothing is transcribed."""
    found = submission_of(farm, caller, id)
    try:
        Steering(farm.database, lease=farm.lease).remerge(caller.actor, id)
    except UsageError as error:
        raise Refused(409, str(error)) from None
    return recording(farm.desk.submission(found.id))


class Redaction(Strict):
    """What is not for everybody."""

    kinds: list[Kind] = Field(default_factory=list, max_length=10)
    terms: list[Line] = Field(default_factory=list, max_length=10_000, description="Names and terms, whole words.")


class Redacted(Shape):
    """What came of a redaction."""

    recording: int
    redacted: int = Field(description="Places that are redacted now, also by earlier redactions.")


@router.post("/{id}/redact", response_model=Redacted)
def redact_recording(id: Id, redaction: Redaction, farm: TheFarm, caller: Administrator) -> dict[str, Any]:
    """Redact what is transcribed: from now on only administrators see all of it. What was redacted stays so."""
    rules = read_rules(",".join(redaction.kinds), redaction.terms)
    found = submission_of(farm, caller, id)
    shown = shown_of(farm, found)
    if not found.published or len(shown) < len(found.transcripts):
        raise Refused(409, f"recording {id} has no transcript to redact; it is {found.state}")
    redactions = Redactions(farm.database)
    n = sum(len(redact_transcript(redactions, work.id, transcript, rules).masks) for work, transcript in shown)
    _note(farm, caller, "submission.redact", id, found.tenant, {"kinds": redaction.kinds, "places": n})
    return {"recording": id, "redacted": n}


def _note(
    farm: Farm, caller: Caller, action: str, id: int, tenant: str, after: dict[str, object] | None = None
) -> None:
    Access(farm.database).note(caller.actor, action, f"submission {id}", tenant=tenant, after=after)
