"""Campaigns: many recordings as one. What is listed, looked at and told; campaigns_run.py has what changes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from scheduler.campaigns import entry_of
from scheduler.items import Item
from scheduler.podcast import MOST_BYTES
from scheduler.sources import Kind, kind_of, name_of
from stenopool.api.background import Background
from stenopool.api.caller import Caller, Reader, Submitter, TheConfig, TheFarm, owned
from stenopool.api.paging import Cursor, Limit, cursor_of, link_next, read_cursor
from stenopool.api.problem import Refused
from stenopool.api.shapes import Shape
from stenopool.api.terms import (
    How,
    Key,
    LaneName,
    Line,
    Metadata,
    OptionsGiven,
    Strict,
    Tenant,
    Url,
    own_options,
    terms_of,
)
from stenopool.config import Config
from stenopool.errors import UsageError
from storage.access import Access
from storage.campaign_progress import DUPLICATE
from storage.campaigns import Campaign
from workers.farm import Farm
from workers.fetch import Bounds, Fetcher
from workers.hand_in import Terms, check_item, options_for
from workers.manifest import as_csv, as_json, records
from workers.outlook import Outlook, forecast_now, outlook
from workers.outlook import record_of as forecast_record
from workers.podcast import follow

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"])

Id = Annotated[int, Path(ge=1, le=2**31 - 1)]

#: Recordings that are listed by one request.
MOST_ITEMS = 10_000


class CampaignItem(Strict):
    """A recording of a campaign, with what is its own."""

    source: Url = Field(description="http(s)://; for an operator's key s3://bucket/key as well.")
    name: Line | None = None
    options: OptionsGiven = Field(default_factory=dict)
    lane: LaneName | None = None
    key: Key | None = Field(None, description="What makes it the one it is; else its source does.")
    metadata: Metadata = Field(default_factory=dict)


class CampaignPlan(How):
    """What a campaign is, and how its recordings are to be transcribed."""

    name: Annotated[Line, Field(max_length=100)]
    lane: LaneName = "bulk"
    budget: float | None = Field(None, gt=0, le=1e9, description="Engine-hours; what takes more is left.")
    items: list[CampaignItem] = Field(default_factory=list, max_length=MOST_ITEMS)
    feeds: list[Url] = Field(default_factory=list, max_length=20, description="All episodes of RSS or Atom feeds.")


class CampaignItems(Strict):
    """More of what belongs to a campaign."""

    items: list[CampaignItem] = Field(default_factory=list, max_length=MOST_ITEMS)
    feeds: list[Url] = Field(default_factory=list, max_length=20)


class CampaignStatus(Shape):
    """How far a campaign is; bands hold in nine of ten cases."""

    id: int
    name: str
    tenant: str
    state: Literal["listing", "ready", "running", "paused", "cancelled", "ended"]
    model: str
    lane: str
    states: dict[str, int]
    audio_seconds_done: float
    audio_seconds_known: float
    unknown_lengths: int
    unchecked: int = Field(description="Recordings that nobody has looked at yet.")
    looking: bool = Field(description="This server follows its feeds or looks at its recordings just now.")
    trouble: str | None = Field(description="Why that ended before its end, the last time.")
    eta_seconds: dict[str, float] | None
    took_seconds: float | None
    forecast: dict[str, Any] | None
    forecast_error: float | None
    reasons: list[dict[str, Any]]


class Listed(Shape):
    """What came of listing."""

    campaign: CampaignStatus
    new: int = Field(description="Items that were listed for the first time; those of feeds come in the background.")


class CampaignPage(Shape):
    """Campaigns, the last one first."""

    campaigns: list[CampaignStatus]
    cursor: str | None


class CampaignProblem(Shape):
    """A recording that is left out."""

    name: str
    location: str
    problem: str


class ProblemPage(Shape):
    """Some of those that are left out, and what is there twice."""

    problems: list[CampaignProblem]
    duplicates: int
    cursor: str | None


def campaign_of(farm: Farm, caller: Caller, id: int) -> Campaign:
    """A campaign that is there for the caller. Raises Missing where there is none, for all that they are told."""
    missing = f"there is no campaign {id}; GET /v1/campaigns lists them"
    return owned(farm, caller, f"campaign {id}", lambda: farm.campaigns.get(id), missing)


def background_of(request: Request) -> Background:
    """What goes on in this process."""
    found: Background = request.app.state.background
    return found


def work_of(id: int) -> str:
    """What a campaign's work in the background is called."""
    return f"campaign {id}"


def fetcher_of(config: Config, *, size: float, seconds: float) -> Fetcher:
    """One that takes no more than so many bytes, for so long."""
    return Fetcher(Bounds(size=size, seconds=seconds), allowed=config.fetch_allow)


def status_of(request: Request, farm: Farm, found: Campaign, seen: Outlook | None = None) -> dict[str, Any]:
    """A campaign as it is shown."""
    seen = outlook(farm, found) if seen is None else seen
    work, background = work_of(found.id), background_of(request)
    return {
        "id": found.id,
        "name": found.name,
        "tenant": found.tenant,
        "state": "ended" if seen.ended and found.state.value == "running" else found.state.value,
        "model": found.model,
        "lane": found.lane.name.lower(),
        "states": seen.progress.states,
        "audio_seconds_done": seen.progress.done,
        "audio_seconds_known": seen.progress.lengths.total,
        "unknown_lengths": seen.progress.lengths.n_unknown,
        "unchecked": farm.campaigns.n_unchecked(found.id),
        "looking": background.goes_on(work),
        "trouble": background.error(work),
        "eta_seconds": None if seen.eta is None else asdict(seen.eta),
        "took_seconds": seen.took,
        "forecast": found.forecast,
        "forecast_error": seen.error,
        "reasons": [{"reason": reason, "recordings": n} for reason, n in seen.progress.reasons[:100]],
    }


@router.get("", response_model=CampaignPage)
def list_campaigns(
    request: Request,
    response: Response,
    farm: TheFarm,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Cursor = None,
    tenant: Tenant | None = None,
    name: Line | None = None,
) -> dict[str, Any]:
    """All campaigns, the last one first."""
    whose = caller.whose(tenant)
    behind = read_cursor(cursor, whose, name)
    found = [
        one
        for one in farm.campaigns.all(whose)
        if (behind is None or one.id < behind) and (name is None or one.name == name)
    ]
    page = found[:limit]
    following = cursor_of(page[-1].id, whose, name) if len(found) > limit else None
    link_next(request, response, following)
    return {"campaigns": [status_of(request, farm, one) for one in page], "cursor": following}


@router.post("", response_model=Listed, status_code=201)
def create_campaign(
    request: Request, response: Response, plan: CampaignPlan, farm: TheFarm, config: TheConfig, caller: Submitter
) -> dict[str, Any]:
    """List what belongs to a campaign; nothing is transcribed before it is started.

    The same plan once more lists what is new. Feeds are read in the background: `looking` says whether that goes on.
    """
    terms = terms_of(plan, caller, farm, config)
    items = [item_of(one, terms, caller) for one in plan.items]
    _check_feeds(plan.feeds)
    found = farm.campaigns.create(terms.plan(plan.name, plan.budget))
    Access(farm.database).note(caller.actor, "campaign.create", f"campaign {found.id}", tenant=found.tenant)
    new = _list(request, farm, config, found, items, plan.feeds)
    response.headers["Location"] = f"/v1/campaigns/{found.id}"
    return {"campaign": status_of(request, farm, farm.campaigns.get(found.id)), "new": new}


@router.post("/{id}/items", response_model=Listed)
def add_to_campaign(
    request: Request, id: Id, more: CampaignItems, farm: TheFarm, config: TheConfig, caller: Submitter
) -> dict[str, Any]:
    """List more of what belongs to a campaign; what is listed already is left as it is."""
    found = campaign_of(farm, caller, id)
    terms = _terms_of(found)
    _check_feeds(more.feeds)
    new = _list(request, farm, config, found, [item_of(one, terms, caller) for one in more.items], more.feeds)
    Access(farm.database).note(
        caller.actor, "campaign.add", f"campaign {id}", tenant=found.tenant, after={"new": new, "feeds": more.feeds}
    )
    return {"campaign": status_of(request, farm, farm.campaigns.get(id)), "new": new}


@router.get("/{id}", response_model=CampaignStatus)
def show_campaign(request: Request, id: Id, farm: TheFarm, caller: Reader) -> dict[str, Any]:
    """How far a campaign is, when it will be done, what failed, and how good the first forecast was."""
    return status_of(request, farm, campaign_of(farm, caller, id))


@router.get("/{id}/problems", response_model=ProblemPage)
def show_problems(
    request: Request,
    response: Response,
    id: Id,
    farm: TheFarm,
    caller: Reader,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """What of a campaign is left out, and why."""
    found = campaign_of(farm, caller, id)
    page = farm.campaigns.problems(id, read_cursor(cursor, id) or 0, limit + 1)
    following = cursor_of(page[limit - 1].id, id) if len(page) > limit else None
    link_next(request, response, following)
    problems = [{"name": one.name, "location": one.location, "problem": one.problem} for one in page[:limit]]
    states: Mapping[str, int] = farm.progress.of(found.id, 0).states
    return {"problems": problems, "duplicates": states.get(DUPLICATE, 0), "cursor": following}


@router.get("/{id}/forecast")
def forecast_campaign(
    id: Id,
    farm: TheFarm,
    caller: Reader,
    workers: Annotated[int, Query(ge=0, le=99_999, description="With so many engines more.")] = 0,
    price: Annotated[float | None, Query(ge=0, le=1e9, description="Of an engine's hour, in your money.")] = None,
) -> dict[str, Any]:
    """What the rest of a campaign will take, by what engines of its model did lately."""
    found = campaign_of(farm, caller, id)
    try:
        expected = forecast_now(farm, found, workers)
    except UsageError as error:
        raise Refused(409, str(error)) from None
    cost = None if price is None else asdict(expected.engine / 3600 * price)
    return forecast_record(expected) | {"cost": cost}


@router.get(
    "/{id}/manifest",
    response_class=StreamingResponse,
    responses={200: {"description": "The manifest.", "content": {"application/json": {}, "text/csv": {}}}},
)
def show_manifest(
    id: Id, farm: TheFarm, caller: Reader, format: Annotated[Literal["json", "csv"], Query()] = "json"
) -> StreamingResponse:
    """What became of every recording, with the keys and SHA-256 digests of its files in the object store."""
    found = campaign_of(farm, caller, id)
    items = records(farm, found)
    content = as_csv(items) if format == "csv" else as_json(farm, found, items)
    name = f"campaign-{id}.{format}"
    return StreamingResponse(
        content,
        media_type="text/csv" if format == "csv" else "application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def item_of(given: CampaignItem, terms: Terms, caller: Caller) -> Item:
    """An item as it is listed.

    Raises:
        UsageError: it cannot be handed in.
        Refused: not by this caller.
    """
    kind = kind_of(given.source)
    if kind is Kind.PATH:
        raise UsageError(f"{given.source[:100]!r} is no URL; files are handed in one by one, or uploaded")
    if kind is Kind.OBJECT and caller.tenant is not None:
        raise Refused(403, "s3:// is read with the farm's own credentials, for operators' keys; give https URLs")
    item = Item(
        location=given.source,
        name=given.name or name_of(given.source),
        options=given.options,
        lane=given.lane,
        key=given.key,
        metadata=given.metadata,
    )
    check_item(item, terms)
    own = own_options(asdict(options_for(item, terms.options)), terms)
    return Item(
        location=item.location, name=item.name, options=own, lane=item.lane, key=item.key, metadata=item.metadata
    )


def _terms_of(found: Campaign) -> Terms:
    from stenopool.options import options_of

    return Terms(
        tenant=found.tenant,
        model=found.model,
        options=options_of(found.options),
        split=found.split,
        again=False,
        lane=found.lane.name.lower(),
        priority=found.priority,
        deadline=found.deadline,
    )


def _check_feeds(feeds: list[str]) -> None:
    for feed in feeds:
        if kind_of(feed) is not Kind.URL:
            raise UsageError(f"{feed[:100]!r}: a feed is at an http or https URL")


def _list(request: Request, farm: Farm, config: Config, found: Campaign, items: list[Item], feeds: list[str]) -> int:
    """List items now, and feeds in the background; how many items were new."""
    new = farm.campaigns.add(found.id, list(map(entry_of, items))) if items else 0
    if not feeds:
        farm.campaigns.listed(found.id)
        return new
    fetcher = fetcher_of(config, size=MOST_BYTES, seconds=300.0)

    def read() -> None:
        for feed in feeds:
            follow(farm.campaigns, found.id, feed, fetcher)
        farm.campaigns.listed(found.id)

    if not background_of(request).begin(work_of(found.id), read):
        raise Refused(409, f"campaign {found.id} is being looked at just now; its items are listed, its feeds are not")
    return new
