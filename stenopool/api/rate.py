"""How often a key may ask: a bucket of tokens each, in this process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Seconds of its rate that a key may use at once.
BURST = 2.0
#: Keys that are remembered; of more, those are forgotten that have not asked for longest: their buckets are full.
MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What is left to a key."""

    allowed: bool
    #: Requests that it may make at once.
    burst: int
    left: int
    #: Seconds until there is one more, and until there are all.
    next: float
    full: float

    @property
    def headers(self) -> dict[str, str]:
        """As its caller is told (draft-ietf-httpapi-ratelimit-headers)."""
        told = {
            "RateLimit-Policy": f'"key";q={self.burst};w={math.ceil(BURST)}',
            "RateLimit": f'"key";r={self.left};t={math.ceil(self.full)}',
        }
        return told if self.allowed else {**told, "Retry-After": str(max(1, math.ceil(self.next)))}


class Rates:
    """The buckets of all keys; for many threads.

    Args:
        rate: requests a second; 0 for any number.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = max(1.0, rate * BURST)
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[int, tuple[float, float]] = {}

    def take(self, key: int) -> Allowance | None:
        """A request of that key; None where there is no limit."""
        if not self._rate:
            return None
        now = self._clock()
        with self._lock:
            tokens, since = self._buckets.pop(key, (self._burst, now))
            tokens = min(self._burst, tokens + (now - since) * self._rate)
            allowed = tokens >= 1
            tokens -= allowed
            self._buckets[key] = (tokens, now)  # the last one asked last
            while len(self._buckets) > MOST:
                del self._buckets[next(iter(self._buckets))]
        return Allowance(
            allowed=allowed,
            burst=math.floor(self._burst),
            left=math.floor(tokens),
            next=max(0.0, 1 - tokens) / self._rate,
            full=(self._burst - tokens) / self._rate,
        )
