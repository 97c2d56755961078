"""How long a worker has had work, and how much of it is done: by these its speed is known."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from storage.throughput import Done


class Busy:
    """Counts the seconds in which at least one thread is at work, and what comes of it.

    Args:
        clock: seconds, of any beginning.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._at_work = 0
        self._since = 0.0
        self._busy = 0.0
        self._audio = 0.0

    @contextmanager
    def working(self) -> Iterator[None]:
        """This thread is at work."""
        with self._lock:
            if not self._at_work:
                self._since = self._clock()
            self._at_work += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work -= 1
                if not self._at_work:
                    self._busy += self._clock() - self._since

    def did(self, audio: float) -> None:
        """So many seconds of audio are done."""
        with self._lock:
            self._audio += audio

    @property
    def done(self) -> Done:
        """All so far."""
        with self._lock:
            now = self._clock() - self._since if self._at_work else 0.0
            return Done(self._audio, self._busy + now)
