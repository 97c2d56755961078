"""Following a feed: its pages are fetched, and what they list belongs to a campaign.

What was read of a page is in the ledger together with what it listed. So a page that has not changed is not fetched
again, and whoever was killed goes on with the next one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from scheduler.campaigns import entry_of
from scheduler.podcast import read_feed
from storage.campaigns import Campaigns, FeedPage
from workers.fetch import Fetcher

#: Pages of a feed; of the largest archives, each of a hundred episodes or so.
MOST_PAGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What came of following a feed."""

    pages: int
    #: Of them, those that have not changed since they were read the last time.
    unchanged: int
    #: Recordings that were listed for the first time.
    new: int
    #: Entries without anything to hear.
    silent: int
    #: Why there may be more; None where all of it was read.
    stopped: str | None


def follow(
    campaigns: Campaigns,
    campaign: int,
    url: str,
    fetcher: Fetcher,
    *,
    most_pages: int = MOST_PAGES,
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> Followed:
    """List all that a feed has, page by page (RFC 5005).

    Args:
        fetcher: has a limit of size for pages.
        progress: told how many pages were read, and how many recordings were new.

    Raises:
        FetchError: a page cannot be had; those before it are listed.
        UsageError: it is no feed.
    """
    seen: set[str] = set()
    new = silent = unchanged = 0
    page: str | None = url
    stopped = None
    while page is not None:
        if page in seen:
            stopped = f"its page {page} comes twice"
            break
        if len(seen) == most_pages:
            stopped = f"it has more than {most_pages} pages"
            break
        known = campaigns.page(campaign, page)
        read, added, nothing = _read(campaigns, campaign, known, url, fetcher)
        seen.add(page)
        unchanged += added is None
        new += added or 0
        silent += nothing
        page = read.following
        progress(len(seen), new)
    return Followed(pages=len(seen), unchanged=unchanged, new=new, silent=silent, stopped=stopped)


def _read(
    campaigns: Campaigns, campaign: int, known: FeedPage, feed: str, fetcher: Fetcher
) -> tuple[FeedPage, int | None, int]:
    """The page as it is now; how many recordings were new, None where it has not changed; entries without any."""
    with tempfile.TemporaryDirectory(prefix="stenopool-") as folder:
        path = Path(folder) / "feed"
        fetched = fetcher.fetch(known.url, path, etag=known.etag, last_modified=known.last_modified)
        if fetched.unchanged:
            return known, None, 0
        found = read_feed(path.read_bytes(), feed, base=fetched.url)
    page = replace(known, etag=fetched.etag, last_modified=fetched.last_modified, following=found.following)
    new = campaigns.add(campaign, [entry_of(item) for item in found.items], page)
    return page, new, found.silent
