"""Campaigns: their list, and one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response

from stenopool.api.problem import Refused
from stenopool.errors import Missing
from stenopool.web.pages import AnActor, AViewer, Viewer
from storage.access import Access
from storage.campaign_progress import DUPLICATE, HERE, LEFT, PROBLEM
from storage.campaign_tables import CampaignState
from storage.campaigns import Campaign
from storage.listing import Listing, Which
from storage.tables import OPEN, PUBLISHED
from workers.farm import Farm
from workers.outlook import Outlook, outlook

router = APIRouter()

#: In which states what can be done, and what it is asked with.
_ASKS = {
    "pause": ((CampaignState.RUNNING,), "Nothing more of it is begun until it is resumed."),
    "resume": ((CampaignState.PAUSED,), "It goes on where it was."),
    "cancel": (
        tuple(state for state in CampaignState if state is not CampaignState.CANCELLED),
        "What is open of it is given up.",
    ),
}
_DOES: dict[str, Callable[[Farm, int], bool]] = {
    "pause": lambda farm, id: farm.campaigns.pause(id),
    "resume": lambda farm, id: farm.campaigns.resume(id),
    "cancel": lambda farm, id: farm.campaigns.cancel(id),
}


@router.get("/campaigns")
def listing(viewer: AViewer) -> Response:
    """The list."""
    found = viewer.farm.campaigns.all(viewer.tenant)
    return viewer.page("campaigns.html", found=[(one, parts(outlook(viewer.farm, one))) for one in found])


@router.get("/campaigns/{id}")
def campaign(viewer: AViewer, id: int) -> Response:
    """One of them."""
    return viewer.page("campaign.html", **_shown(viewer, id))


@router.get("/parts/campaigns/{id}")
def part(viewer: AViewer, id: int) -> Response:
    """What changes of it."""
    return viewer.page("parts/campaign.html", **_shown(viewer, id))


@router.post("/campaigns/{id}/{action}")
def act(viewer: AnActor, id: int, action: str, confirmed: Annotated[str, Form()] = "") -> Response:
    """Pause, resume or cancel it, once whoever asks has said so twice."""
    one = _find(viewer, id)
    if action not in _DOES:
        raise Refused(404, f"nobody can {action} a campaign; {', '.join(_DOES)} are possible")
    if not confirmed:
        asked = {"name": action, "asks": _ASKS[action][1]}
        return viewer.page("confirm.html", what=one.name, action=asked, back=f"/campaigns/{id}")
    if not _DOES[action](viewer.farm, id):
        raise Refused(409, f"{one.name} is {one.state.value}: there is nothing to {action}")
    Access(viewer.farm.database).note(
        viewer.caller.actor, f"campaign.{action}", f"campaign {one.name}", tenant=one.tenant
    )
    return RedirectResponse(f"/campaigns/{id}", 303)


def _find(viewer: Viewer, id: int) -> Campaign:
    for one in viewer.farm.campaigns.all(viewer.tenant):
        if one.id == id:
            return one
    raise Missing(f"there is no campaign {id}; /campaigns lists them")


def _shown(viewer: Viewer, id: int) -> dict[str, Any]:
    one = _find(viewer, id)
    look = outlook(viewer.farm, one)
    latest = Listing(viewer.farm.database).page(Which(tenant=one.tenant, campaign=one.name), limit=30)
    actions = [{"name": name, "asks": asks} for name, (states, asks) in _ASKS.items() if one.state in states]
    return {
        "one": one,
        "outlook": look,
        "parts": parts(look),
        "latest": latest,
        "actions": actions if viewer.submits else [],
    }


def parts(look: Outlook) -> list[tuple[str, int]]:
    """How many of a campaign's recordings are done, at work, waiting, or come to nothing; those that there are."""
    states = look.progress.states
    done = sum(states.get(one, 0) for one in PUBLISHED)
    waiting = states.get("accepted", 0) + states.get(LEFT, 0) + states.get(HERE, 0)
    found = {
        "done": done,
        "running": sum(states.get(one, 0) for one in OPEN if one != "accepted"),
        "queued": waiting,
        "gap": states.get("failed", 0) + states.get(PROBLEM, 0),
        "skipped": states.get("cancelled", 0) + states.get(DUPLICATE, 0),
    }
    return [(name, n) for name, n in found.items() if n]
