"""Campaigns in the dispatcher's tick: each has so many submissions open and no more, and they do what it does.

All that is known of it is in the ledger: whoever is killed between two steps begins the second one again, with the same
outcome, as an item has one idempotency key for ever.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Engine

from scheduler.forecast import speed_of
from scheduler.items import Item
from stenopool.errors import QueueFull
from storage.campaign_progress import CampaignProgress
from storage.campaigns import Campaign, CampaignItem, Campaigns, Entry
from storage.desk import Desk, Order, Submission
from storage.fleet import Fleet
from storage.keys import is_elsewhere
from storage.tables import Lane
from storage.throughput import Throughput

#: Submissions that a campaign has open at most: the desk stays small, and engines have enough, however short they are.
OPEN_AT_MOST = 1000
#: Steps of a kind in a tick, of each campaign: nobody else's hints wait for long.
PAGE = 50


class Campaigner:
    """Hands in what belongs to campaigns, and has their submissions follow them."""

    def __init__(self, engine: Engine) -> None:
        self._campaigns = Campaigns(engine)
        self._progress = CampaignProgress(engine)
        self._desk = Desk(engine)
        self._fleet = Fleet(engine)
        self._throughput = Throughput(engine)

    def tick(self) -> None:
        """The next steps of all campaigns."""
        for campaign in self._campaigns.running():
            self._hand_in(campaign)
        self.follow()

    def follow(self) -> int:
        """Pause and cancel submissions whose campaigns are; how many there were."""
        to_pause, to_cancel = self._campaigns.to_pause(PAGE), self._campaigns.to_cancel(PAGE)
        for id in to_pause:
            self._desk.pause(id)
        for id in to_cancel:
            self._desk.cancel(id)
        return len(to_pause) + len(to_cancel)

    def resume(self, campaign: int) -> int:
        """Go on with submissions of a campaign that are paused; how many there were."""
        paused = self._campaigns.to_resume(campaign, PAGE)
        for id in paused:
            self._desk.resume(id)
        return len(paused)

    def _hand_in(self, campaign: Campaign) -> None:
        room = min(PAGE, OPEN_AT_MOST - self._campaigns.open(campaign.id))
        if room <= 0:
            return
        afford = self._affordable(campaign)
        for item in self._campaigns.left(campaign.id, room):
            afford -= (item.duration or 0) / 16_000
            if afford < 0:
                return
            try:
                submission = hand_in(self._desk, campaign, item)
            except QueueFull:  # by others of the same tenant, too
                return
            self._campaigns.handed_in(item.id, submission.id)

    def _affordable(self, campaign: Campaign) -> float:
        """Seconds of audio that its budget still pays for; none while nobody knows how fast an engine is."""
        if campaign.budget is None:
            return float("inf")
        speed = speed_of(self._throughput.of(campaign.model), self._fleet.workers(), campaign.model)
        if speed is None:
            return 0.0
        return campaign.budget * 3600 * speed.rate - self._progress.committed(campaign.id)


def hand_in(desk: Desk, campaign: Campaign, item: CampaignItem) -> Submission:
    """Make a submission of an item; it is the same one however often that is done."""
    assert item.source is not None
    return desk.accept(
        Order(
            tenant=campaign.tenant,
            name=item.name,
            source=item.source,
            file_sha256=None if is_elsewhere(item.source) else item.file_sha256,
            model=campaign.model,
            options={**campaign.options, **item.options},
            metadata=item.metadata,
            split=campaign.split,
            speakers=campaign.speakers,
            destination=campaign.destination,
            formats=campaign.formats,
            redact=campaign.redact,
            lane=campaign.lane if item.lane is None else Lane(item.lane),
            priority=campaign.priority,
            deadline=None if campaign.deadline_at is None else max(0.0, campaign.deadline_at - campaign.now),
            idempotency_key=f"campaign {campaign.id} item {item.id}",
            campaign_id=campaign.id,
        )
    )


def entry_of(item: Item) -> Entry:
    """An item as a campaign lists it: a URL is fetched by the farm, a file is uploaded first."""
    seconds = item.metadata.get("duration", "")
    return Entry(
        key=hashlib.sha256((item.key or item.location).encode()).hexdigest(),
        location=item.location,
        name=item.name,
        options=item.options,
        lane=None if item.lane is None else Lane[item.lane.upper()],
        metadata=item.metadata,
        source=item.location if is_elsewhere(item.location) else None,
        duration=int(seconds) * 16_000 if seconds.isdecimal() else None,
    )
