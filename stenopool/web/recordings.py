"""Recordings: their list; one of them, with what becomes of each stretch; what can be done to it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query
from fastapi.responses import RedirectResponse, Response

from scheduler.why import why
from stenopool.api.caller import submission_of
from stenopool.api.problem import Refused
from stenopool.api.recordings import Id
from stenopool.domain import SAMPLE_RATE
from stenopool.web.actions import ACTIONS, fitting
from stenopool.web.pages import AnActor, AViewer, Viewer
from stenopool.web.strip import Drawing, drawing
from storage.desk import Submission
from storage.listing import Listing, Which
from storage.publisher import PublisherTranscripts
from storage.situation import Situations
from storage.strip import Strip
from storage.tables import ENDED, OPEN, PUBLISHED, Lane, SubmissionState

router = APIRouter()

#: Rows of a page of the list.
ROWS = 50

#: What can be asked for beside single states.
GROUPS: dict[str, tuple[SubmissionState, ...]] = {"open": OPEN, "published": PUBLISHED}


@router.get("/recordings")
def listing(
    viewer: AViewer,
    state: str = "",
    lane: str = "",
    tenant: str = "",
    name: Annotated[str, Query(max_length=200)] = "",
    before: int | None = None,
) -> Response:
    """The list."""
    given: dict[str, Any] = {"state": state, "lane": lane, "tenant": tenant, "name": name}
    which = Which(
        tenant=viewer.tenant or tenant or None,
        states=_states(state),
        lane=Lane[lane.upper()] if lane.upper() in Lane.__members__ else None,
        name=name.replace("\0", "") or None,
    )
    found = Listing(viewer.farm.database).page(which, before=before, limit=ROWS + 1)
    older = None
    if len(found) > ROWS:
        asked = {key: value for key, value in given.items() if value} | {"before": found[ROWS - 1].id}
        older = f"/recordings?{urlencode(asked)}"
    states = [*GROUPS, *(one.value for one in SubmissionState)]
    return viewer.page(
        "recordings.html", **given, found=found[:ROWS], older=older, first=before is None, states=states, lanes=Lane
    )


def _states(asked: str) -> tuple[SubmissionState, ...]:
    if asked in GROUPS:
        return GROUPS[asked]
    return tuple(one for one in SubmissionState if one.value == asked)


@router.get("/recordings/{id}")
def recording(viewer: AViewer, id: Id) -> Response:
    """One of them."""
    return viewer.page("recording.html", **_shown(viewer, id))


@router.get("/parts/recordings/{id}")
def part(viewer: AViewer, id: Id) -> Response:
    """What changes of it."""
    shown = _shown(viewer, id)
    response = viewer.page("parts/recording.html", **shown)
    if shown["one"].ended:
        response.headers["X-Last"] = "1"  # nothing more will change by itself
    return response


@router.post("/recordings/{id}/{action}")
def act(viewer: AnActor, id: Id, action: str, confirmed: Annotated[str, Form()] = "") -> Response:
    """Cancel, pause, resume or retry it, once whoever asks has said so twice."""
    one = submission_of(viewer.farm, viewer.caller, id)
    if action not in ACTIONS:
        raise Refused(404, f"nobody can {action} a recording; {', '.join(ACTIONS)} are possible")
    back = f"/recordings/{id}"
    if not confirmed:
        return viewer.page("confirm.html", what=one.name, action=ACTIONS[action], back=back)
    if not ACTIONS[action].do(viewer.farm, viewer.caller, one):
        raise Refused(409, f"{one.name} is {one.state.value.replace('_', ' ')}: there is nothing to {action}")
    return RedirectResponse(back, 303)


def _shown(viewer: Viewer, id: int) -> dict[str, Any]:
    one = submission_of(viewer.farm, viewer.caller, id)
    return {
        "one": one,
        "strips": strips(viewer, one),
        "actions": fitting(one) if viewer.submits else [],
        "ended": one.state in ENDED,
        "why": [] if one.published else why(Situations(viewer.farm.database).of(id)),
        "publisher": PublisherTranscripts(viewer.farm.database).of(id),
        "seconds": None if one.duration is None else one.duration / SAMPLE_RATE,
    }


def strips(viewer: Viewer, one: Submission) -> list[tuple[str, Drawing]]:
    """The strip of each channel, and what people call it."""
    found = []
    for channel, transcript in one.transcripts:
        work = viewer.farm.ledger.work(transcript)
        pieces = Strip(viewer.farm.database).pieces(transcript)
        speaker = one.speakers[channel - 1] if 0 < channel <= len(one.speakers) else f"Channel {channel}"
        found.append((speaker if channel else "", drawing(pieces, work.duration)))
    return found
