"""The dispatcher: makes ready what there is room for, tells workers of it, and takes back what dead ones held.

All it knows is in the ledger. It may be killed at any time, there may be none for a while, and two at once do no harm:
one of them leads, by a lock that the database gives up when the leader's connection ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from scheduler.broker import INGEST, MERGE, PUBLISH, Broker, engine_queue
from scheduler.campaigns import Campaigner
from stenopool.domain import SAMPLE_RATE
from stenopool.errors import BrokerUnreachable, LedgerUnreachable
from storage.chunks import LEASE, Chunks
from storage.database import refusals
from storage.desk import Desk
from storage.fleet import Fleet, Worker
from storage.outbox import Outbox
from storage.tables import Lane
from storage.window import Hint, Window

_log = logging.getLogger(__name__)

TICK = 0.5  # seconds between two looks
SWEEP_EVERY = 2.0  # seconds

#: Seconds after which a hint is given again: where its queue is empty, it was lost, or its worker is about to claim.
LOST_AFTER = 3.0
#: Where it is not, the hint may still be in it.
STALE_AFTER = 60.0

#: Batches of each engine that are ready ahead of it, and chunks at least.
BATCHES_AHEAD, LEAST_AHEAD = 4, 64
#: Chunks of a hint where no engine has said how many it decodes at once.
BATCH = 16
#: Samples that are being transcribed, in a lane, at which no further submission of it is decoded: a day.
AHEAD = 24 * 3600 * SAMPLE_RATE
#: Hints that a queue holds at most: who has not come for so many needs no more to come for all. No hint expires by
#: itself, as that would be by the worker's clock.
MOST_QUEUED = 1000
#: Hints of a kind at a time, and chunks of a lane.
MOST_HINTS, MOST_CHUNKS = 200, 4000

#: Advisory locks, "sten" and "stec" in ASCII: who holds one leads.
DISPATCHING, COLLECTING = 0x7374656E, 0x73746563


class Leadership:
    """The lock of the one who dispatches, or collects. SQLite has no other process that could want it."""

    def __init__(self, engine: Engine, lock: int = DISPATCHING) -> None:
        self._engine = engine
        self._lock = lock
        self._connection: Connection | None = None

    def held(self) -> bool:
        """Whether this process leads; if nobody does, it does from now on.

        Raises:
            LedgerUnreachable: the database is away, and the lock with it.
        """
        if self._engine.dialect.name != "postgresql":
            return True
        try:
            with refusals(self._engine):
                if self._connection is None:
                    connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                    if not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": self._lock}):
                        connection.close()
                        return False
                    self._connection = connection
                self._connection.execute(text("SELECT 1"))  # the lock is gone with the connection
        except LedgerUnreachable:
            self.release()
            raise
        return True

    def release(self) -> None:
        """Lead no more."""
        if self._connection is not None:
            self._connection.invalidate()  # closed for good: a connection that goes back to the pool keeps its locks
            self._connection.close()
            self._connection = None


@dataclass(slots=True)
class Dispatched:
    """What a dispatcher has done since it was begun, for whoever watches it."""

    #: Leases that ran out.
    expired: int = 0
    #: Chunks of them that became gaps.
    quarantined: int = 0
    #: When it last looked for them, by this machine's clock; 0 where it never did.
    swept_at: float = 0.0
    #: Whether it leads.
    leading: bool = False


class Dispatcher:
    """Decides, tick by tick.

    Args:
        lease: seconds that the workers' claims are good for.
    """

    def __init__(self, engine: Engine, broker: Broker, *, lease: float = LEASE) -> None:
        self._chunks = Chunks(engine, lease=lease)
        self._desk = Desk(engine)
        self._fleet = Fleet(engine)
        self._window = Window(engine, lease=lease)
        self._outbox = Outbox(engine)
        self._campaigner = Campaigner(engine)
        self._leadership = Leadership(engine)
        self._broker = broker
        self._lease = lease
        self.done = Dispatched()
        self._looked = time.monotonic()
        self._sweep_at = self._looked
        self._patient = False

    def run(self, stop: threading.Event) -> None:
        """Tick until `stop` is set. Where the database or Redis does not answer, it is tried again."""
        failing = False
        while not stop.is_set():
            try:
                led, self.done.leading = self.done.leading, self._leadership.held()
                if self.done.leading:
                    if not led:
                        _log.info("this scheduler leads now")
                    self.tick()
                else:  # whoever leads has looked
                    self._looked = time.monotonic()
                failing = False
            except (LedgerUnreachable, BrokerUnreachable) as error:
                self.done.leading = False
                if not failing:  # once, not twice a second
                    _log.warning("%s", error)
                failing = True
            stop.wait(TICK)
        self._leadership.release()

    def tick(self) -> None:
        """All there is to decide now.

        Raises:
            LedgerUnreachable, BrokerUnreachable: the rest is left for the next time.
        """
        now = time.monotonic()
        if now - self._looked > self._lease / 3 and not self._patient:
            # The database was away, or we were: who could not renew a lease meanwhile is not dead for that.
            _log.warning("nothing was to be seen for %d s: leases are taken back a little later", now - self._looked)
            self._sweep_at = now + self._lease / 2
            self._patient = True  # until then: who is always slow looks after the dead as well
        self._looked = now
        if now >= self._sweep_at:
            self._sweep()
            self._sweep_at = now + SWEEP_EVERY
            self._patient = False
        self._outbox.number()
        self._campaigner.tick()
        self._tell_desk()
        self._window.hold_back()
        batches = self._batches(self._fleet.workers())
        for engine_key, lane in self._window.waiting():
            room = max(LEAST_AHEAD, BATCHES_AHEAD * sum(batches[engine_key]))
            self._window.admit(engine_key, lane, room)
        for engine_key, lane in sorted(self._window.ready(), key=lambda one: one[1]):
            room, again_after = self._room(engine_queue(engine_key, lane))
            hints = self._window.hints(engine_key, lane, room and MOST_CHUNKS, again_after)
            for group in grouped(hints, min(batches[engine_key], default=BATCH)):
                chunks = [(hint.transcript, hint.index) for hint in group]
                self._broker.transcribe(engine_key, lane, chunks, suspect=group[0].suspect)

    def _sweep(self) -> None:
        swept = self._chunks.sweep_crashed()
        self.done.expired += swept.ready + len(swept.quarantined)
        self.done.quarantined += len(swept.quarantined)
        if swept.ready:
            _log.warning("%d chunks are tried again apart: their lease ran out", swept.ready)
        for transcript, index in swept.quarantined:
            ids = {"chunk": index, "transcript": transcript}
            _log.error("chunk %d of transcript %d is a gap: workers died with it", index, transcript, extra=ids)
        self._desk.sweep()
        for worker in self._fleet.sweep():
            _log.warning("%s was not seen for long", worker, extra={"worker": worker})
        self.done.swept_at = time.time()

    def _tell_desk(self) -> None:
        ahead = self._desk.ahead()
        for lane in Lane:
            if ahead.get(lane, 0) < AHEAD:
                for submission in self._desk.ingests(lane, *self._room(INGEST)):
                    self._broker.ingest(submission)
        elections = self._window.elections(MOST_HINTS, LOST_AFTER)
        rooms = {queue: self._room(queue)[0] for queue in {engine_queue(key, lane) for _, key, lane in elections}}
        for transcript, engine_key, its_lane in elections:
            if rooms[queue := engine_queue(engine_key, its_lane)]:
                self._broker.detect(engine_key, its_lane, transcript)
                rooms[queue] -= 1
        for transcript in self._window.merges(*self._room(MERGE)):
            self._broker.merge(transcript)
        for submission in self._desk.publishes(*self._room(PUBLISH)):
            self._broker.publish(submission)

    def _room(self, queue: str) -> tuple[int, float]:
        """How many more hints are to go into a queue, and seconds after which one is given again."""
        length = self._broker.length(queue)
        return min(MOST_HINTS, max(0, MOST_QUEUED - length)), STALE_AFTER if length else LOST_AFTER

    @staticmethod
    def _batches(workers: Iterable[Worker]) -> defaultdict[str, list[int]]:
        """By engine key: how many chunks each of its engines decodes at once."""
        batches: defaultdict[str, list[int]] = defaultdict(list)
        for worker in workers:
            if worker.engine_key is not None and worker.slots:
                batches[worker.engine_key].append(worker.slots)
        return batches


def grouped(hints: Iterable[Hint], size: int) -> list[list[Hint]]:
    """Hints as they are sent: so many chunks in one, and a suspect by itself.

    In:  a b c* d e, two in one, c is suspect
    Out: a b, c, d e
    """
    groups: list[list[Hint]] = []
    last: list[Hint] | None = None
    for hint in hints:
        if hint.suspect:
            groups.append([hint])
        elif last is None or len(last) == size:
            last = [hint]
            groups.append(last)
        else:
            last.append(hint)
    return groups
