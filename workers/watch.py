"""Watching a folder or a prefix: what is new there and whole is handed in, once, whoever is killed meanwhile.

What was handed in is known by its content: a file by the hash of its bytes, an object by its place and etag, each with
the model and the options. That is its idempotency key, so that the ledger remembers, and this process need not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scheduler.items import Item
from scheduler.settling import Settling
from scheduler.sources import Kind, key_of, kind_of, name_of
from stenopool.errors import MediaError, StenopoolError, UsageError
from storage.desk import Submission
from storage.known import Known
from workers.expand import files_of, names_many, recordings_below
from workers.farm import Farm
from workers.hand_in import Terms, hand_in
from workers.ingest import digest_file

#: Keys that the ledger is asked for at once.
BATCH = 100


@dataclass(frozen=True, slots=True)
class Taken:
    """Something new."""

    name: str
    #: What it has become, or why it cannot be taken.
    outcome: Submission | StenopoolError


class Watch:
    """A folder or prefix that is looked at again and again; for feeds there is `workers/watch_feed.py`.

    Args:
        place: a folder, or s3://bucket/prefix/.
        settle: seconds that a file must not have changed; an object is whole as soon as it is there.
        clock: seconds, of any beginning.

    Raises:
        UsageError: it is neither.
    """

    of_feed = False

    def __init__(
        self, farm: Farm, place: str, terms: Terms, *, settle: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not names_many(place) or (kind_of(place) is Kind.PATH and not Path(place).is_dir()):
            raise UsageError(f"{place}: is no folder that is there, and no s3://bucket/prefix/")
        self.of_objects = kind_of(place) is Kind.OBJECT
        self._farm = farm
        self._place = place
        self._terms = terms
        self._clock = clock
        self._settling = Settling(0.0 if self.of_objects else settle)

    def look(self) -> Iterator[Taken]:
        """Hand in what is new and whole.

        Raises:
            StenopoolError: ledger or store do not answer, or the place is gone; look again later.
        """
        there = self._objects() if self.of_objects else self._files()
        ready = self._settling.ready(there, self._clock())
        for at in range(0, len(ready), BATCH):
            names = ready[at : at + BATCH]
            items = dict[str, tuple[Item, str | None]]()
            for name in names:
                try:
                    item, file_sha256 = self._item(name, there[name])
                except MediaError:  # gone, or not to be read yet: it is looked at again
                    continue
                if self.of_objects or _look(name) == there[name]:  # it was not written to while it was read
                    items[name] = item, file_sha256
            keys = [item.key for item, _ in items.values() if item.key]
            known = Known(self._farm.database).keys(self._terms.tenant, keys)
            for name, (item, file_sha256) in items.items():
                if (key := item.key or "") not in known:
                    try:
                        submission = hand_in(self._farm, item, self._terms, file_sha256=file_sha256)
                    except (MediaError, UsageError) as error:
                        yield Taken(item.name, error)
                    else:
                        known[key] = submission.id
                        yield Taken(item.name, submission)
                self._settling.done(name, there[name])

    def _item(self, name: str, look: Hashable) -> tuple[Item, str | None]:
        """What is to be handed in, with the key by which it is known; and the hash of a file."""
        file_sha256 = None if self.of_objects else digest_file(Path(name))
        item = Item(location=name, name=name_of(name))
        identity = file_sha256 or f"{name} {look}"
        return replace(item, key=key_of(identity, self._terms.how(item))), file_sha256

    def _files(self) -> dict[str, Hashable]:
        if not Path(self._place).is_dir():
            raise UsageError(f"{self._place}: is not there any more; put it back, or watch another folder")
        looks = ((path, _look(path)) for path in files_of(self._place))
        return {path: look for path, look in looks if look is not None}

    def _objects(self) -> dict[str, Hashable]:
        return {one.place.url: one.etag for one in recordings_below(self._place)}


def _look(path: str) -> Hashable | None:
    """What changes where a file is written to; None where it has just gone."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
