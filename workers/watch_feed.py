"""Watching a feed: episodes that are new in it are handed in, once, whoever is killed meanwhile.

An episode is known by its feed, its GUID and its enclosure, with the model and the options: that is its idempotency
key.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scheduler.podcast import Feed, read_feed
from scheduler.sources import key_of
from stenopool.errors import MediaError, UsageError
from storage.known import Known
from workers.farm import Farm
from workers.fetch import Fetcher
from workers.hand_in import Terms, hand_in
from workers.podcast import MOST_PAGES
from workers.watch import Taken


@dataclass(frozen=True, slots=True)
class _Read:
    """A page, all of which is handed in."""

    etag: str | None
    last_modified: str | None
    following: str | None


class FeedWatch:
    """A feed that is looked at again and again.

    Args:
        fetcher: has a limit of size for pages.
    """

    #: An episode is whole as soon as it is listed.
    of_objects, of_feed = True, True

    def __init__(self, farm: Farm, url: str, terms: Terms, fetcher: Fetcher) -> None:
        self._farm = farm
        self._url = url
        self._terms = terms
        self._fetcher = fetcher
        self._read: dict[str, _Read] = {}

    def look(self) -> Iterator[Taken]:
        """Hand in what is new. Of a page that has not changed nothing is sent; behind it, only pages are read that no
        look has come to.

        Raises:
            StenopoolError: feed or ledger do not answer, or it is no feed; look again later.
        """
        page: str | None = self._url
        seen: set[str] = set()
        while page is not None and page not in seen and len(seen) < MOST_PAGES:
            seen.add(page)
            known = self._read.get(page, _Read(None, None, None))
            with tempfile.TemporaryDirectory(prefix="stenopool-") as folder:
                path = Path(folder) / "feed"
                fetched = self._fetcher.fetch(page, path, etag=known.etag, last_modified=known.last_modified)
                found = None if fetched.unchanged else read_feed(path.read_bytes(), self._url, base=fetched.url)
            if found is None:
                page = None if known.following in self._read else known.following
                continue
            yield from self._hand_in(found)
            self._read[page] = _Read(fetched.etag, fetched.last_modified, found.following)
            page = found.following

    def _hand_in(self, feed: Feed) -> Iterator[Taken]:
        items = [replace(item, key=key_of(item.key or "", self._terms.how(item))) for item in feed.items]
        known = Known(self._farm.database).keys(self._terms.tenant, [item.key for item in items if item.key])
        for item in items:
            if item.key in known:
                continue
            try:
                yield Taken(item.name, hand_in(self._farm, item, self._terms))
            except (MediaError, UsageError) as error:
                yield Taken(item.name, error)
