"""The outlook of a campaign: what it will take, how far it is, and how good the first forecast was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from scheduler.forecast import Band, Forecast, engines_of, error_of, eta, forecast, ingest_speed_of, speed_of
from stenopool.errors import UsageError
from storage.campaign_progress import HERE, LEFT, Progress
from storage.campaign_tables import CampaignState
from storage.campaigns import Campaign
from storage.tables import OPEN
from storage.throughput import INGEST
from workers.farm import Farm

#: Seconds that count as lately.
LATELY = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """How far a campaign is."""

    progress: Progress
    #: Seconds from now until it is done; None where nobody knows, or where it does not run.
    eta: Band | None
    #: How that is known, for people.
    basis: str
    #: All that is to be done is done.
    ended: bool
    #: Seconds from its start to its end; None while it goes on.
    took: float | None
    #: How much longer it took than was first forecast, or will take as it looks now: a share of the forecast.
    error: float | None


def forecast_now(farm: Farm, campaign: Campaign, more: int = 0) -> Forecast:
    """What the rest of a campaign will take.

    Args:
        more: engines that are not there yet.

    Raises:
        UsageError: nothing is known to go by.
    """
    workers = farm.fleet.workers()
    did = farm.throughput.of(campaign.model)
    speed = speed_of(did, workers, campaign.model)
    if speed is None:
        raise UsageError(
            f"no engine of {campaign.model} has worked on this farm yet, and nothing is known to forecast by; start "
            f"one with: stenopool worker --role engine --model {campaign.model}"
        )
    others = farm.progress.others(campaign.id, campaign.model)
    engines = engines_of(workers, campaign.model) + more
    remaining, partly = farm.progress.remaining(campaign.id)
    ingested = farm.throughput.of(INGEST)
    found = forecast(remaining, speed, engines, others, partly, ingest_speed_of(ingested, workers))
    if found is None:
        raise UsageError(
            f"{campaign.name}: nobody knows how long any of its recordings is; look with: "
            f"stenopool campaign validate {campaign.name}"
        )
    # How long it takes says how far back to look, and that says how long it takes.
    horizon = (found.finish or found.engine).high
    speed = speed_of(did, workers, campaign.model, horizon=horizon) or speed
    by_ingest = ingest_speed_of(ingested, workers, horizon=horizon)
    return forecast(remaining, speed, engines, others, partly, by_ingest) or found


def first_forecast(farm: Farm, campaign: Campaign) -> dict[str, Any] | None:
    """The forecast that a campaign is to be measured by; None where nothing is known to go by."""
    try:
        return record_of(forecast_now(farm, campaign))
    except UsageError:
        return None


def record_of(found: Forecast) -> dict[str, Any]:
    """A forecast as a record; all in seconds."""
    return asdict(found)


def outlook(farm: Farm, campaign: Campaign) -> Outlook:
    """How far a campaign is, and when it will be done."""
    since = campaign.now - (campaign.started_at or campaign.now)
    window = min(LATELY, max(since, 1e-3))
    progress = farm.progress.of(campaign.id, window)
    to_do = progress.states.get(LEFT, 0) + progress.states.get(HERE, 0)
    ended = campaign.started_at is not None and not to_do and not any(progress.states.get(one) for one in OPEN)
    if ended:
        took = max(0.0, (progress.ended_at or campaign.now) - (campaign.started_at or campaign.now))
        return Outlook(
            progress=progress, eta=None, basis="", ended=True, took=took, error=_error(campaign.forecast, took)
        )
    band, basis = _eta(farm, campaign, progress, window) if campaign.state == CampaignState.RUNNING else (None, "")
    error = _error(campaign.forecast, since + band.mid) if band else None
    return Outlook(progress=progress, eta=band, basis=basis, ended=False, took=None, error=error)


def _eta(farm: Farm, campaign: Campaign, progress: Progress, window: float) -> tuple[Band | None, str]:
    """By its own rate once that says something: in it is all that keeps it waiting. Else by what engines can do."""
    # Of what is under way nobody knows since when: within its first hour, all of it is of late.
    lately = progress.lately + (progress.partly if window < LATELY else 0.0)
    if band := eta(progress.remaining, lately, window, progress.n_lately, progress.partly):
        return band, f"at its rate of the last {window / 60:.0f} min"
    try:
        found = forecast_now(farm, campaign)
    except UsageError:
        return None, ""
    return found.finish, "by the engines' speed"


def _error(first: Mapping[str, Any] | None, took: float) -> float | None:
    finish = first and first["finish"]
    return error_of(finish["mid"], took) if finish else None
