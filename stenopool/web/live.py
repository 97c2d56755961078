"""Snapshots of the farm that all who look share: the database is asked once, however many look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from storage.overview import Look

#: Seconds that a snapshot is shown; of a database that takes long, for as many times as long.
FRESH, TIMES = 2.0, 10.0


class Snapshots:
    """The latest look at a farm, of each tenant and of all.

    Args:
        look: asks the database, for a tenant or for all.
    """

    def __init__(self, look: Callable[[str | None], Look], clock: Callable[[], float] = time.monotonic) -> None:
        self._look, self._clock = look, clock
        self._lock = threading.Lock()
        self._kept: dict[str | None, tuple[float, Look]] = {}
        self._locks: dict[str | None, threading.Lock] = {}

    def of(self, tenant: str | None) -> Look:
        """The farm as it is now, or was a moment ago."""
        with self._lock:
            mine = self._locks.setdefault(tenant, threading.Lock())
        with mine:  # who comes meanwhile waits, and has the same
            until, look = self._kept.get(tenant, (0.0, None))
            began = self._clock()
            if look is None or began >= until:
                look = self._look(tenant)
                ended = self._clock()
                self._kept[tenant] = (ended + max(FRESH, TIMES * (ended - began)), look)
            return look
