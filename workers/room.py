"""The engine room: a thread that keeps an engine's slots full with whatever several others want decoded.

They hand in a request and get a future. A request may belong to a party: then the slots are emptied first, and nothing
else is taken up until the party is through.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from models.compiling import last_compiled, seconds_on_programs
from models.decoding.requests import Heard, Request
from stenopool.errors import DeviceFull, EngineError, StenopoolError, UsageError

if TYPE_CHECKING:
    from models.engine import Engine


@dataclass(eq=False, slots=True)
class _Job:
    """A request and who waits for it."""

    request: Request
    future: Future[Heard]
    #: Those that may be decoded beside it; None for all who belong to none.
    party: object | None


class Closed(EngineError):  # noqa: N818 - read as a statement
    """The engine room was closed before it came to this chunk."""


class EngineRoom:
    """An engine and the thread that drives it. Close it to end."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._waiting: deque[_Job] = deque()
        self._in_slots: set[_Job] = set()
        self._changed = threading.Condition()
        self._closed = False
        #: When the engine last came back from the device, by the monotonic clock; or had nothing to do.
        self._progressed = time.monotonic()
        #: Seconds in which there was work, but for those in which programs were compiled: they say nothing of the next.
        self.worked = 0.0
        #: By how many chunks were in the slots: times that the engine went on with them.
        self.turns: Counter[int] = Counter()
        #: Chunks that were put into slots, and samples of sound in them.
        self.encoded = self.sounding = 0
        #: Times that the device had no room.
        self.full = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def decode(self, request: Request, party: object | None = None) -> Future[Heard]:
        """Have a chunk decoded, beside those of its party only if it has one.

        The future raises EngineError where the device failed while the chunk was in a slot, UsageError where the
        request does not fit the model, and Closed where nobody came to it.
        """
        job = _Job(request, Future(), party)
        with self._changed:
            if self._closed:
                job.future.set_exception(Closed())
            else:
                self._waiting.append(job)
                self._changed.notify_all()
        return job.future

    @property
    def stalled(self) -> float:
        """Seconds since the engine last made progress; 0 where it has nothing to do. To compile is progress."""
        with self._changed:
            busy = bool(self._waiting or self._in_slots)
        return time.monotonic() - max(self._progressed, last_compiled()) if busy else 0.0

    def close(self) -> None:
        """End: what waits is refused, what is in the slots is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while (jobs := self._next()) is not None:
            began, on_programs = time.monotonic(), seconds_on_programs()
            try:
                self._turn(jobs)
            except DeviceFull as error:
                self.full += 1
                self._give_up(error, again=error.retryable)
            except StenopoolError as error:
                self._give_up(error)
            except BaseException as error:  # a fault of ours: whoever waits hears of it, and the next one is tried
                self._give_up(EngineError(f"{type(error).__name__}: {error}"))
            self.worked += max(0.0, time.monotonic() - began - (seconds_on_programs() - on_programs))
        self._give_up(Closed())

    def _next(self) -> list[_Job] | None:
        """What is to go into the slots now, which may be nothing; None at the end. Waits while there is no work."""
        with self._changed:
            while not (self._waiting or self._in_slots or self._closed):
                self._progressed = time.monotonic()
                self._changed.wait(1.0)
            if self._closed:
                return None
            party = next((job.party for job in self._in_slots), None)
            if party is None:
                party = next((job.party for job in self._waiting if job.party is not None), None)
                if party is not None and self._in_slots:
                    return []
            chosen = [job for job in self._waiting if job.party is party][: self.engine.room]
            for job in chosen:
                self._waiting.remove(job)
            return chosen

    def _turn(self, jobs: list[_Job]) -> None:
        wanted = [job for job in jobs if job.future.running() or job.future.set_running_or_notify_cancel()]
        try:
            self._submit(wanted)
        except UsageError:  # one of them does not fit the model, and none is in a slot
            for job in wanted:
                try:
                    self._submit([job])
                except UsageError as error:
                    job.future.set_exception(error)
        if self._in_slots:
            self.turns[len(self._in_slots)] += 1
        for heard in self.engine.step():
            assert isinstance(heard.key, _Job)
            job = heard.key
            self._in_slots.discard(job)
            # Not with the job in it, which has the future: in such a ring, samples stay until somebody collects rings.
            job.future.set_result(replace(heard, key=job.request.key))
        self._progressed = time.monotonic()

    def _submit(self, jobs: list[_Job]) -> None:
        self._in_slots.update(jobs)
        try:
            self.engine.submit([replace(job.request, key=job) for job in jobs])
        except UsageError:
            self._in_slots.difference_update(jobs)
            raise
        self.encoded += len(jobs)
        self.sounding += sum(len(job.request.pcm) for job in jobs)

    def _give_up(self, error: Exception, *, again: bool = False) -> None:
        """The slots are empty: their chunks begin again, or those who wait for them are told why not."""
        self.engine.drop()
        lost, self._in_slots = self._in_slots, set()
        with self._changed:
            if again:
                self._waiting.extendleft(lost)
                return
            if self._closed:
                lost.update(self._waiting)
                self._waiting.clear()
        for job in lost:
            if job.future.running() or job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)
