"""What changes campaigns: looking at them, starting them, holding them back, doing again what failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field

from scheduler.campaigns import Campaigner
from stenopool.api.caller import Submitter, TheConfig, TheFarm
from stenopool.api.campaigns import CampaignStatus, Id, background_of, campaign_of, fetcher_of, status_of, work_of
from stenopool.api.problem import Refused
from stenopool.api.shapes import Shape
from stenopool.api.terms import Strict
from storage.access import Access
from storage.campaign_tables import CampaignState
from storage.tables import SubmissionState
from workers.outlook import first_forecast
from workers.validate import Validator, validate

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"])

#: Recordings that are done again by one request, and that are looked for at once.
MOST_AGAIN, PAGE = 2000, 500


@router.post("/{id}/validate", response_model=CampaignStatus, status_code=202)
def validate_campaign(request: Request, id: Id, farm: TheFarm, config: TheConfig, caller: Submitter) -> dict[str, Any]:
    """Look whether what belongs to a campaign can be had and is sound; in the background.

    `unchecked` says how many nobody has looked at yet, and /problems what was found. Once more, only what is new and
    what had a problem is looked at.
    """
    found = campaign_of(farm, caller, id)
    fetcher = fetcher_of(config, size=config.limits.size, seconds=60.0)
    validator = Validator(fetcher, config.limits, split=found.split)
    if not background_of(request).begin(work_of(id), lambda: validate(farm.campaigns, id, validator)):
        raise Refused(409, f"campaign {id} is being looked at just now")
    Access(farm.database).note(caller.actor, "campaign.validate", f"campaign {id}", tenant=found.tenant)
    return status_of(request, farm, found)


@router.post("/{id}/start", response_model=CampaignStatus)
def start_campaign(request: Request, id: Id, farm: TheFarm, caller: Submitter) -> dict[str, Any]:
    """Transcribe a campaign: the scheduler hands in what belongs to it, also what is listed later."""
    found = campaign_of(farm, caller, id)
    if found.state == CampaignState.LISTING:
        raise Refused(409, f"campaign {id} is being listed; wait for its feeds, or give the same plan once more")
    if found.state in (CampaignState.PAUSED, CampaignState.CANCELLED):
        raise Refused(409, f"campaign {id} is {found.state}")
    farm.campaigns.find_duplicates(id)
    if farm.campaigns.start(id, first_forecast(farm, found)):
        Access(farm.database).note(caller.actor, "campaign.start", f"campaign {id}", tenant=found.tenant)
    return status_of(request, farm, farm.campaigns.get(id))


def _action(name: str, help: str, refusal: str) -> Callable[..., dict[str, Any]]:
    """A route that changes the state of a campaign; its recordings follow, also those not handed in yet."""

    def run(request: Request, id: Id, farm: TheFarm, caller: Submitter) -> dict[str, Any]:
        found = campaign_of(farm, caller, id)
        method: Callable[[int], bool] = getattr(farm.campaigns, name)
        changed = method(id)
        if name == "resume":  # of what follows pauses and cancellations, the scheduler sees to it
            campaigner = Campaigner(farm.database)
            while campaigner.resume(id):
                pass
        if not changed:
            raise Refused(409, f"campaign {id} {refusal}; it is {found.state}")
        Access(farm.database).note(caller.actor, f"campaign.{name}", f"campaign {id}", tenant=found.tenant)
        return status_of(request, farm, farm.campaigns.get(id))

    run.__doc__ = help
    run.__name__ = f"{name}_campaign"
    return router.post(f"/{{id}}/{name}", response_model=CampaignStatus)(run)


_action("pause", "Begin nothing more of a campaign.", "does not run")
_action("resume", "Go on with a campaign that was paused.", "is not paused")
_action("cancel", "Give a campaign up, for good.", "was cancelled before")


class Again(Strict):
    """What is done again."""

    gaps: bool = Field(False, description="Also the gaps of those that have some.")


class DoneAgain(Shape):
    """What came of it."""

    recordings: int = Field(description="That are done again.")
    more: bool = Field(description="There are more: ask once more.")


@router.post("/{id}/retry-failed", response_model=DoneAgain)
def retry_failed(id: Id, again: Again, farm: TheFarm, caller: Submitter) -> dict[str, Any]:
    """Do again what failed of a campaign; some thousands at once."""
    found = campaign_of(farm, caller, id)
    states = [SubmissionState.FAILED, *([SubmissionState.COMPLETED_WITH_GAPS] if again.gaps else [])]
    n = after = 0
    more = True
    while n < MOST_AGAIN and (more := bool(ids := farm.campaigns.ended_as(id, states, after, PAGE))):
        n += sum(map(farm.desk.retry, ids))
        after = ids[-1]
    Access(farm.database).note(
        caller.actor, "campaign.retry-failed", f"campaign {id}", tenant=found.tenant, after={"recordings": n}
    )
    return {"recordings": n, "more": more}
