"""The farm as one of its processes sees it: its ledger, its objects, its broker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from scheduler.broker import Broker
from stenopool.config import Config
from stenopool.errors import UsageError
from storage.campaign_progress import CampaignProgress
from storage.campaigns import Campaigns
from storage.database import open_database
from storage.desk import Desk
from storage.fleet import Fleet
from storage.ledger import Ledger
from storage.objects import ObjectStore
from storage.stores import open_store
from storage.throughput import Throughput

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a farm's ledger, broker and objects are, as URLs."""

    database: str
    broker: str
    store: str

    def environment(self) -> dict[str, str]:
        """As the settings that say so to another process."""
        return {
            "STENOPOOL_DATABASE": self.database,
            "STENOPOOL_BROKER": self.broker,
            "STENOPOOL_STORE": self.store,
        }


def places_file(config: Config) -> Path:
    """Where `stenopool up` says where its farm is."""
    return config.farm / "places.json"


def find_farm(config: Config) -> Places:
    """The farm that the settings name, or else the one that `stenopool up` runs on this machine.

    Raises:
        UsageError: there is neither, or not all of it is named.
    """
    named = {"database": config.database, "broker": config.broker, "store": config.store}
    given = {name: url for name, url in named.items() if url}
    if given:
        if missing := sorted(named.keys() - given.keys()):
            raise UsageError(f"STENOPOOL_{missing[0].upper()} is not set: a farm needs database, broker and store")
        return Places(**given)
    try:
        return Places(**json.loads(places_file(config).read_text()))
    except (OSError, ValueError, TypeError):
        raise UsageError(
            "there is no farm: start one on this machine with `stenopool up`, or set STENOPOOL_DATABASE, "
            "STENOPOOL_BROKER and STENOPOOL_STORE"
        ) from None


class Farm:
    """A farm's ledger, objects and broker, each opened when it is first needed. Close it in the end.

    Args:
        lease: seconds that a worker's claim is good for; it is renewed every third of it.

    Raises:
        LedgerError: the database is not there, or has another release's schema.
        StoreError: the object store cannot be used.
    """

    def __init__(self, places: Places, *, lease: float) -> None:
        self.places = places
        self.lease = lease

    @classmethod
    def find(cls, config: Config) -> Farm:
        """That of `find_farm`."""
        return cls(find_farm(config), lease=config.lease)

    @cached_property
    def database(self) -> Engine:
        """The connections to the database."""
        return open_database(self.places.database)

    @cached_property
    def ledger(self) -> Ledger:
        """Recordings, transcripts, chunks."""
        return Ledger(self.database, lease=self.lease)

    @cached_property
    def desk(self) -> Desk:
        """Submissions."""
        return Desk(self.database, lease=self.lease)

    @cached_property
    def fleet(self) -> Fleet:
        """Workers."""
        return Fleet(self.database)

    @cached_property
    def campaigns(self) -> Campaigns:
        """Campaigns, and what belongs to them."""
        return Campaigns(self.database)

    @cached_property
    def progress(self) -> CampaignProgress:
        """How far they are."""
        return CampaignProgress(self.database)

    @cached_property
    def throughput(self) -> Throughput:
        """What engines do."""
        return Throughput(self.database)

    @cached_property
    def store(self) -> ObjectStore:
        """Objects."""
        return open_store(self.places.store)

    @cached_property
    def broker(self) -> Broker:
        """Hints."""
        return Broker(self.places.broker)

    @cached_property
    def metrics(self) -> CollectorRegistry:
        """What is to be seen of its ledger and its broker."""
        from workers.metrics import LedgerMetrics, registry_of  # most commands show none

        return registry_of("api", [LedgerMetrics(self)])

    def close(self) -> None:
        """Give the connections back."""
        if "database" in vars(self):
            self.database.dispose()
        if "broker" in vars(self):
            self.broker.close()
