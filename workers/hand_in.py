"""Handing in: an item becomes a submission. A file is uploaded; what lies elsewhere stays there until ingest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scheduler.channels import check_channels
from scheduler.items import Item
from scheduler.sources import Kind, kind_of
from stenopool.domain import Options
from stenopool.errors import UsageError
from stenopool.options import options_of
from storage.campaigns import Plan
from storage.desk import Order, Submission
from storage.foreign import read_foreign
from storage.keys import source_key
from storage.tables import Lane
from workers.farm import Farm
from workers.fetch import check_url
from workers.ingest import digest_file
from workers.media import Probe, probe

#: Longer ones are no URLs of recordings, and no database's index takes them.
LONGEST = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How all of it is to be done that is handed in together, where an item does not say otherwise."""

    tenant: str
    model: str
    options: Options
    split: bool
    #: Of the channels, if they are split.
    speakers: tuple[str, ...] = ()
    again: bool
    #: Where the transcripts are sent as well, in which formats.
    destination: str | None = None
    formats: tuple[str, ...] = ()
    #: Kinds of what is to be redacted, separated by commas; None: nothing is.
    redact: str | None = None
    lane: str
    priority: int
    #: Seconds from now.
    deadline: float | None

    def plan(self, name: str, budget: float | None) -> Plan:
        """A campaign of that name, all of which is done so, within so many hours of engines."""
        return Plan(
            tenant=self.tenant,
            name=name,
            model=self.model,
            options=asdict(self.options),
            split=self.split,
            speakers=self.speakers,
            destination=self.destination,
            formats=self.formats,
            redact=self.redact,
            lane=Lane[self.lane.upper()],
            priority=self.priority,
            deadline=self.deadline,
            budget=budget,
        )

    def how(self, item: Item) -> dict[str, Any]:
        """What makes other work of the same recording."""
        return {"model": self.model, "options": asdict(options_for(item, self.options)), "split": self.split}


def options_for(item: Item, options: Options) -> Options:
    """An item's own options beside those of all; words to expect are added to theirs.

    Raises:
        UsageError: they do not fit together.
    """
    own: Mapping[str, object] = item.options
    if options.hotwords and (words := own.get("hotwords")):
        own = {**own, "hotwords": f"{options.hotwords}, {words}"}
    return options_of({**asdict(options), **own})


def check_item(item: Item, terms: Terms) -> None:
    """See that an item can be handed in, as far as can be told without opening a file or asking anybody.

    Raises:
        UsageError: its options do not fit, it names several recordings, or there is no such file.
        FetchError: its URL cannot be fetched.
    """
    options_for(item, terms.options)
    if not _is_elsewhere(item.location) and not (path := Path(item.location)).is_file():
        raise UsageError(f"{path}: {'is a folder; name one file' if path.is_dir() else 'does not exist'}")


def hand_in(
    farm: Farm,
    item: Item,
    terms: Terms,
    *,
    file_sha256: str | None = None,
    look: Callable[[Path], Probe] = probe,
) -> Submission:
    """Hand an item in; one with the key of an earlier one is that.

    Args:
        file_sha256: of a file, where it is known.
        look: says what a file is.

    Raises:
        MediaError: the file is no recording; the URL cannot be fetched.
        UsageError: its options do not fit; its key was used for something else.
        QueueFull: the tenant has as many open submissions as are allowed.
    """
    if _is_elsewhere(item.location):
        return farm.desk.accept(_order(item, terms, None))
    path = Path(item.location)
    check_channels(terms.speakers, look(path).channels, path)
    order = _order(item, terms, file_sha256 or digest_file(path))
    while True:
        try:
            return farm.desk.accept(order, there=farm.store.exists)
        except KeyError:  # also where it was removed just now, as nobody needed it any more
            farm.store.upload(path, order.source)


def _is_elsewhere(location: str) -> bool:
    """Whether ingest is to fetch it; what it never could is refused."""
    match kind_of(location):
        case Kind.PATH:
            return False
        case Kind.URL:
            check_url(location)
        case Kind.OBJECT:
            if read_foreign(location).is_prefix:
                raise UsageError(f"{location}: is a prefix; name one object")
    if len(location) > LONGEST:
        raise UsageError(f"{location[:60]}…: has {len(location)} letters, and a URL may have {LONGEST}")
    return True


def _order(item: Item, terms: Terms, file_sha256: str | None) -> Order:
    return Order(
        tenant=terms.tenant,
        name=item.name,
        source=item.location if file_sha256 is None else source_key(file_sha256),
        file_sha256=file_sha256,
        model=terms.model,
        options=asdict(options_for(item, terms.options)),
        metadata=item.metadata,
        split=terms.split,
        speakers=terms.speakers,
        again=terms.again,
        destination=terms.destination,
        formats=terms.formats,
        redact=terms.redact,
        lane=Lane[(item.lane or terms.lane).upper()],
        priority=terms.priority,
        deadline=terms.deadline,
        idempotency_key=item.key,
    )
