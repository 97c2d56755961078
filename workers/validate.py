"""Validating a campaign: whether what it lists can be had, and is sound, before any engine works for it.

A file of this machine is read in full. Of a URL the first part is fetched: that says whether it is there and what it
is, and how long it lasts where its header does; where not, its length stays unknown. Hosts are asked with the same
manners as by ingest.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from stenopool.config import Limits
from stenopool.domain import SAMPLE_RATE
from stenopool.errors import FetchError, FolderError, MediaUnreadable, StenopoolError, StoreError
from storage.campaign_progress import reason_of
from storage.campaigns import CampaignItem, Campaigns, Found
from storage.foreign import read_foreign, signed_url
from storage.keys import is_elsewhere, source_key
from storage.objects import ObjectStore
from workers.fetch import Fetcher, host_of, shown_url
from workers.hosts import Hosts
from workers.ingest import digest_file
from workers.media import Probe, probe
from workers.source import refusal_of

#: Bytes of the first part.
FIRST = 1 << 20
#: Items that are looked at at once, and that are kept at once.
AT_ONCE, PAGE = 4, 40
#: Seconds that a host is waited for which asks for time, and how often: what it then still refuses is looked at by the
#: next validation.
PATIENCE, TIMES = 120.0, 3

#: What begins so may tell of itself behind its first part: an MP4 whose index comes last, an MP3 with a large picture.
_LATE = ((0, b"ID3"), (4, b"ftyp"))


class _Enough(Exception):  # noqa: N818 - no error: the first part is there
    """The first part is there."""


@dataclass(frozen=True, slots=True)
class Validator:
    """Looks at items.

    Args:
        fetcher: of what lies elsewhere.
        limits: what files may be.
        first: bytes of a first part.
        split: each channel is transcribed by itself, and counts.
        hosts: whose turns are waited for.
    """

    fetcher: Fetcher
    limits: Limits
    first: int = FIRST
    split: bool = False
    hosts: Hosts = field(default_factory=lambda: Hosts(patience=3600.0))

    def look(self, item: CampaignItem) -> Found:
        """What can be found out about an item.

        Raises:
            FolderError: there is no room for its first part.
        """
        try:
            if is_elsewhere(item.location):
                return self._elsewhere(item)
            return self._whole(item, Path(item.location))
        except FolderError:
            raise
        except StenopoolError as error:
            return Found(id=item.id, problem=reason_of(str(error), item.location, shown_url(item.location)))

    def _whole(self, item: CampaignItem, path: Path) -> Found:
        found = probe(path, self.limits)
        return Found(id=item.id, size=path.stat().st_size, duration=self._samples(found), file_sha256=digest_file(path))

    def _samples(self, found: Probe) -> int | None:
        """Of all transcripts together, as a submission counts them."""
        n = found.channels if self.split else 1
        return None if found.seconds is None else round(found.seconds * SAMPLE_RATE) * n

    def _elsewhere(self, item: CampaignItem) -> Found:
        with tempfile.TemporaryDirectory(prefix="stenopool-") as folder:
            path = Path(folder) / f"source{PurePosixPath(item.name).suffix}"

            def progress(size: int) -> None:
                if size >= self.first:
                    raise _Enough

            try:
                self._ask(item, path, progress)
            except _Enough:
                look = self._part
            else:
                look = self._whole
            try:
                return look(item, path)
            except StenopoolError as error:
                return Found(id=item.id, problem=reason_of(str(error), str(path)))

    def _ask(self, item: CampaignItem, path: Path, progress: Callable[[int], None]) -> None:
        """Fetch it, in its host's turn, and once more where that one wants to be left alone for a moment."""
        url, name = _url(item), shown_url(item.location)
        for attempt in range(1, TIMES + 1):
            try:
                with self.hosts.turn(host_of(url)):
                    self.fetcher.fetch(url, path, name=name, refuse=refusal_of, progress=progress)
            except FetchError as error:
                if error.later is None or error.later > PATIENCE or attempt == TIMES:
                    raise
                time.sleep(error.later)
            else:
                return

    def _part(self, item: CampaignItem, path: Path) -> Found:
        try:
            found = probe(path, self.limits)
        except MediaUnreadable:
            with path.open("rb") as file:
                head = file.read(16)
            if any(head[at:].startswith(mark) for at, mark in _LATE):
                return Found(id=item.id)
            raise
        return Found(id=item.id, duration=self._samples(found) if found.announced else None)


def validate(
    campaigns: Campaigns, campaign: int, validator: Validator, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Look at all items that nobody has looked at, and again at those in which something was wrong.

    Whoever is killed goes on where he was.

    Args:
        progress: told how many more were looked at.
    """
    after = 0
    with ThreadPoolExecutor(AT_ONCE, "look") as pool:
        while page := campaigns.unchecked(campaign, after, PAGE):
            campaigns.found(list(pool.map(validator.look, page)))
            after = page[-1].id
            progress(len(page))
    campaigns.find_duplicates(campaign)


def upload(
    campaigns: Campaigns, campaign: int, store: ObjectStore, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Put all files of this machine into the object store, from which they are handed in.

    A file that cannot be read any more is a problem of its item.

    Raises:
        StoreError: the store cannot be reached, or refuses; what is there is there.
    """
    after = 0
    while page := campaigns.here(campaign, after, PAGE):
        for item in page:
            try:
                _upload(campaigns, item, store)
            except StoreError:
                raise
            except StenopoolError as error:
                campaigns.found([Found(id=item.id, problem=reason_of(str(error), item.location))])
            after = item.id
            progress(1)


def _upload(campaigns: Campaigns, item: CampaignItem, store: ObjectStore) -> None:
    path = Path(item.location)
    digest = digest_file(path)
    while True:
        try:
            campaigns.uploaded(item.id, source_key(digest), digest, there=store.exists)
        except KeyError:  # also where it was removed just now, as nobody needed it any more
            store.upload(path, source_key(digest))
        else:
            return


def _url(item: CampaignItem) -> str:
    """Where it can be fetched from; of an object, a secret."""
    if item.location.startswith("s3://"):
        return signed_url(read_foreign(item.location), seconds=600)
    return item.location
