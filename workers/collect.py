"""Collecting: objects that no row needs are removed, and rows whose objects have gone get them again. What is to be
deleted, or was kept for long enough, goes as well.

A round goes through all objects and rows, in turns of bounded work, each from where the last one ended. Nothing is
removed that was put a short while ago: what is in the making has no row yet. Whether it is needed is asked inside the
transaction of each removal (`storage/needs.py`), so that a round may meet anybody who puts, publishes or begins anew.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice

from scheduler.dispatch import COLLECTING, Leadership
from stenopool.errors import LegalHold, StenopoolError, StoreError
from storage.keeping import Keeping
from storage.keys import FILES, PCM, PUBLISHER, SOURCES, TRANSCRIPTS, UPLOADS, WAVEFORMS, pcm_key
from storage.needs import Needs
from workers.erase import Eraser
from workers.farm import Farm
from workers.ingest import has_pcm
from workers.shown import file_keys, put_files

_log = logging.getLogger(__name__)

DAY = 86_400.0  # seconds
#: Seconds after which what was put has its row.
GRACE = 3600.0
#: Seconds between two turns, and between two rounds.
EVERY, REST = 5.0, 600.0
#: Looked at in a turn: objects, which are listed; rows, of which each takes a question to the object store.
OBJECTS, ROWS = 1000, 100


@dataclass(frozen=True, slots=True)
class Collected:
    """Something that was done, or would be."""

    #: "removed", "put again", "decoded again", "given up", "to be deleted", "deleted" or "forgotten".
    what: str
    #: An object's key, or which row.
    which: str
    #: Bytes that are free because of it.
    size: int = 0


#: What was done, and from where to go on: empty where the step has come to its end.
_Turn = tuple[list[Collected], str]


class Collector:
    """Goes round a farm's objects and rows.

    Args:
        keep: seconds that a file is kept after what can be done again has ended.
        sound: seconds that samples are kept to be listened to.
        grace: seconds in which nothing is removed that was put.
        dry: only say what would be done; unfinished drafts, of which a store tells nothing, are left out.
    """

    def __init__(self, farm: Farm, *, keep: float, sound: float = 0.0, grace: float = GRACE, dry: bool = False) -> None:
        self._farm = farm
        self._needs = Needs(farm.database, keep=keep, sound=sound)
        self._grace = grace
        self._dry = dry
        self._keeping = Keeping(farm.database)
        self._eraser = Eraser(farm, keep=keep, sound=sound)
        self._steps: Sequence[Callable[[str], _Turn]] = (
            self._expired,
            self._deletions,
            self._forgotten,
            self._drafts,
            self._uploads,
            *(partial(self._objects, kind) for kind in (SOURCES, PCM, WAVEFORMS, *FILES, PUBLISHER)),
            self._orphans,
            self._samples,
            self._published,
        )
        self._step = 0
        self._after = ""

    def run(self, stop: threading.Event) -> None:
        """Turn after turn until `stop` is set. Where the database or the store does not answer, it is tried again."""
        leadership = Leadership(self._farm.database, COLLECTING)
        said = ""
        while not stop.is_set():
            try:
                if leadership.held():
                    for one in self.turn():
                        _log.info("%s: %s", one.what, one.which)
                said = ""
            except StenopoolError as error:
                if str(error) != said:  # once, not at every turn
                    _log.warning("%s", said := str(error))
                if not error.retryable:  # the other steps may go well
                    self._go_on("")
            stop.wait(REST if self.at_its_beginning else EVERY)
        leadership.release()

    def round(self) -> Iterator[Collected]:
        """All turns of a round."""
        yield from self.turn()
        while not self.at_its_beginning:
            yield from self.turn()

    @property
    def at_its_beginning(self) -> bool:
        """Whether the next turn begins a round."""
        return self._step == 0 and not self._after

    def turn(self) -> list[Collected]:
        """The next piece of work; what was done."""
        done, after = self._steps[self._step](self._after)
        self._go_on(after)
        return done

    def _go_on(self, after: str) -> None:
        self._after = after
        if not after:
            self._step = (self._step + 1) % len(self._steps)

    # What was kept for long enough, or is to go

    def _expired(self, after: str) -> _Turn:
        rows = self._keeping.expired(int(after or 0), ROWS)
        done = []
        for id, seconds in rows:
            with contextlib.suppress(LegalHold):  # since just now
                reason = f"kept for {seconds / DAY:g} days, as its tenant has it"
                if self._dry or self._eraser.erasing.begin(id, by="retention", reason=reason):
                    done.append(Collected("to be deleted", f"submission {id}"))
        return done, str(rows[-1][0]) if len(rows) == ROWS else ""

    def _deletions(self, after: str) -> _Turn:
        ids = self._eraser.erasing.open(int(after or 0), ROWS)
        done = []
        for id in ids:
            try:
                if self._dry or self._eraser.go_on(id):
                    done.append(Collected("deleted", f"submission {id}"))
            except StoreError as error:
                if error.retryable:
                    raise
                line = "submission %d is not deleted yet: %s"  # the others may be
                _log.error(line, id, error, extra={"submission": id})
        return done, str(ids[-1]) if len(ids) == ROWS else ""

    def _forgotten(self, after: str) -> _Turn:
        ids = self._keeping.remembered(int(after or 0), ROWS)
        forgotten = [id for id in ids if self._dry or self._keeping.forget(id)]
        done = [Collected("forgotten", f"what was heard in the chunks of transcript {id}") for id in forgotten]
        return done, str(ids[-1]) if len(ids) == ROWS else ""

    # Objects without rows

    def _drafts(self, _: str) -> _Turn:
        n = 0 if self._dry else self._farm.store.collect_drafts()
        return [Collected("removed", f"{n} unfinished drafts")] if n else [], ""

    def _uploads(self, after: str) -> _Turn:
        """What was sent here by a URL, and never handed in."""
        found = list(islice(self._farm.store.list(UPLOADS, after), OBJECTS))
        old = [one for one in found if one.age > self._grace + DAY]
        for one in () if self._dry else old:
            self._farm.store.delete(one.key)
        done = [Collected("removed", one.key, one.size) for one in old]
        return done, found[-1].key if len(found) == OBJECTS else ""

    def _objects(self, kind: str, after: str) -> _Turn:
        found = list(islice(self._farm.store.list(kind, after), OBJECTS))
        old = {one.key: one.size for one in found if one.age > self._grace}
        unneeded = sorted(old.keys() - self._needs.needed(old))
        done = [Collected("removed", key, old[key]) for key in unneeded if self._remove(key)]
        return done, found[-1].key if len(found) == OBJECTS else ""

    def _remove(self, key: str) -> bool:
        """Remove an object; False where it is needed now, or was put anew since it was listed."""
        if self._dry:
            return True
        removed = False

        def remove() -> None:
            nonlocal removed
            found = self._farm.store.look(key)
            if found is not None and found.age > self._grace:
                self._farm.store.delete(key)
                removed = True

        self._needs.unless_needed(key, remove)
        return removed

    # Rows that nobody needs, or without objects

    def _orphans(self, _: str) -> _Turn:
        orphans = self._needs.orphans(self._grace, OBJECTS)
        given_up = orphans if self._dry else self._farm.desk.give_up(orphans)
        if not self._dry and (n := self._eraser.erasing.forsaken(OBJECTS)):
            _log.info("removed: %d transcripts of submissions that are deleted", n)
        return [Collected("given up", f"transcript {id}, for which nobody waits") for id in given_up], ""

    def _samples(self, after: str) -> _Turn:
        rows = self._needs.samples(int(after or 0), ROWS)
        done = []
        for row in rows:
            if has_pcm(self._farm.store, row.recording, row.duration):
                continue
            if self._dry or self._farm.desk.lost(row.transcript):
                done.append(Collected("decoded again", pcm_key(row.recording)))
        return done, str(rows[-1].transcript) if len(rows) == ROWS else ""

    def _published(self, after: str) -> _Turn:
        rows = self._needs.published(int(after or 0), ROWS)
        redacted = self._needs.redacted(rows)
        done = []
        for id, transcripts in rows.items():
            kinds = FILES if id in redacted else (TRANSCRIPTS,)
            keys = {
                key
                for channel, shown in transcripts.items()
                for kind in kinds
                for key in file_keys(id, shown, channel or None, kind)
            }
            there = {found.key for kind in kinds for found in self._farm.store.list(f"{kind}/{id}")}
            if missing := sorted(keys - there):
                if not self._dry:
                    put_files(self._farm, self._farm.desk.submission(id), there)
                done += [Collected("put again", key) for key in missing]
        return done, str(max(rows)) if len(rows) == ROWS else ""


@contextmanager
def collecting(farm: Farm, *, keep: float, sound: float) -> Iterator[None]:
    """A collector goes round meanwhile, in a thread of its own: an object store may keep it waiting."""
    stop = threading.Event()
    collector = Collector(farm, keep=keep, sound=sound)
    thread = threading.Thread(target=collector.run, args=(stop,), name="collector", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5.0)
