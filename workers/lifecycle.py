"""The life of a worker process: it joins the fleet, shows that it is alive, drains, and leaves."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from stenopool.errors import LedgerUnreachable
from stenopool.logs import process_is
from stenopool.version import __version__
from storage.chunks import Claim
from storage.fleet import Worker
from storage.throughput import INGEST, Done
from workers.farm import Farm
from workers.patience import patiently

_log = logging.getLogger(__name__)

#: Seconds between two signs of life; less where leases are short.
BEAT = 5.0
#: Seconds without progress at which a device counts as hung: longer than any block of any model takes.
HUNG_AFTER = 300.0
#: The exit status of a worker whose device hung, as sysexits.h has it for a fault of software.
HUNG = 70


def new_worker(role: str) -> Worker:
    """This process, as it is to be known."""
    host = socket.gethostname()
    return Worker(
        id=f"{host[:40]}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
        role=role,
        host=host,
        pid=os.getpid(),
        version=__version__,
    )


def join(farm: Farm, worker: Worker) -> None:
    """Be in the fleet.

    Raises:
        LedgerUnreachable: the database has not answered for a minute. Who ends at once and is started again adds to the
            crowd before its door.
    """
    patiently(lambda: farm.fleet.join(worker), seconds=60.0)


@contextmanager
def alive(
    farm: Farm,
    worker: Worker,
    stalled: Callable[[], float] = lambda: 0.0,
    done: Callable[[], Done] = lambda: Done(0.0, 0.0),
    held: Callable[[], Iterable[Claim]] = lambda: (),
) -> Iterator[Callable[[], None]]:
    """The worker is in the fleet, and its leases are renewed as long as it makes progress.

    Args:
        stalled: seconds since its device last came back.
        done: what its engine, or its ingest, has done so far.
        held: chunks that it is about; leases of others that are said to be its own run out.

    Hands out what is to be called once it takes work.
    """
    process_is(worker=worker.id, role=worker.role)
    join(farm, worker)
    working, stop = threading.Event(), threading.Event()
    account = _Account(farm, worker, done)
    beat = (farm, worker, stalled, held, account, working, stop)
    thread = threading.Thread(target=_beat, args=beat, name="pulse", daemon=True)
    thread.start()

    def begin() -> None:
        working.set()
        join(farm, replace(worker, state="working"))

    try:
        yield begin
    finally:
        stop.set()
        thread.join()
        try:
            account.write()
            farm.ledger.release([worker.id])
            farm.fleet.leave(worker.id)
        except LedgerUnreachable as error:  # its leases run out by themselves
            _log.warning("%s", error)


class _Account:
    """What a worker does, as the ledger is told of it."""

    def __init__(self, farm: Farm, worker: Worker, done: Callable[[], Done]) -> None:
        self._farm = farm
        self._worker = worker
        self._done = done
        self._told = Done(0.0, 0.0)

    def write(self) -> None:
        """What was done since the last time."""
        done = self._done()
        new = Done(done.audio - self._told.audio, done.busy - self._told.busy)
        if new.audio > 0:
            self._farm.throughput.add(self._worker.id, self._worker.model or INGEST, new)
            self._told = done


def _beat(
    farm: Farm,
    worker: Worker,
    stalled: Callable[[], float],
    held: Callable[[], Iterable[Claim]],
    account: _Account,
    working: threading.Event,
    stop: threading.Event,
) -> None:
    renewed = -farm.lease
    draining = False
    while not stop.wait(min(BEAT, farm.lease / 6)):
        if stalled() > HUNG_AFTER:
            _log.critical("%s: the device has not come back for %d s; this worker ends", worker.id, HUNG_AFTER)
            logging.shutdown()
            os._exit(HUNG)  # no thread of ours can end one that waits for a device
        try:
            asked = farm.fleet.seen(worker.id)
            if asked is None:
                farm.fleet.join(replace(worker, state="working") if working.is_set() else worker)
            elif asked.drain and not draining:
                _log.info("%s is asked to end: it ends what it has begun", worker.id)
                draining = True
                os.kill(os.getpid(), signal.SIGTERM)  # once: at a second one it would give that back
            # A device that hangs must not keep its chunks from others.
            if time.monotonic() - renewed > farm.lease / 3 and stalled() < farm.lease / 3:
                farm.ledger.renew(worker.id, held())
                renewed = time.monotonic()
            account.write()
        except LedgerUnreachable as error:
            _log.warning("%s", error)
