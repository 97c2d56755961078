"""Manners: how many files are fetched from a host at once, and when one is asked again that wanted to be left alone.

Each ingest worker keeps them for itself: over a farm of N workers a host sees N times as many at most.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stenopool.errors import FetchError

#: Files that are fetched from a host at once.
AT_ONCE = 2
#: Seconds that a free turn is waited for: whoever waits keeps others from their hosts.
PATIENCE = 5.0
#: Seconds after which one is tried again for which there was no turn.
NEXT_TURN = 10.0
#: Seconds that a host is left alone which said nothing of how long, and at most.
A_WHILE, LONGEST = 60.0, 3600.0


class Hosts:
    """The hosts that this process fetches from.

    Args:
        at_once: files from a host.
        patience: seconds that a turn is waited for.
        clock: seconds, of any beginning.
    """

    def __init__(
        self, at_once: int = AT_ONCE, *, patience: float = PATIENCE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._at_once = at_once
        self._patience = patience
        self._clock = clock
        self._changed = threading.Condition()
        self._busy: Counter[str] = Counter()
        self._left_alone: dict[str, float] = {}

    @contextmanager
    def turn(self, host: str, patience: float | None = None) -> Iterator[None]:
        """One of the turns that a host has; where it asks for time meanwhile, nobody has one until that is over.

        Args:
            patience: seconds that this one waits; None for as long as others do.

        Raises:
            FetchError: there is none now; it says when to come again.
        """
        with self._changed:
            free = self._changed.wait_for(
                lambda: self._resting(host) > 0 or self._busy[host] < self._at_once,
                self._patience if patience is None else patience,
            )
            if (rest := self._resting(host)) > 0:
                raise FetchError("busy", f"{host} asked to be left alone for a while", retryable=True, later=rest)
            if not free:
                busy = f"{self._at_once} files are being fetched from {host}"
                raise FetchError("busy", f"{busy}; this one has its turn after them", retryable=True, later=NEXT_TURN)
            self._busy[host] += 1
        try:
            yield
        except FetchError as error:
            if error.code == "later":
                error.later = min(error.later or A_WHILE, LONGEST)
                with self._changed:
                    self._left_alone[host] = self._clock() + error.later
            raise
        finally:
            with self._changed:
                self._busy[host] -= 1
                if not self._busy[host]:
                    del self._busy[host]
                self._changed.notify_all()

    def _resting(self, host: str) -> float:
        """Seconds that it is left alone yet."""
        rest = self._left_alone.get(host, 0.0) - self._clock()
        if rest <= 0:
            self._left_alone.pop(host, None)
        return max(rest, 0.0)
