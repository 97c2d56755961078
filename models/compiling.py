"""When this process compiled something: a device that is silent meanwhile does not hang."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds that compiling may take; who waits for longer waits for something that hangs.
COMPILES_WITHIN = 900.0

#: When this process last began and ended to compile, by the monotonic clock.
_began = _ended = float("-inf")


def last_compiled() -> float:
    """When this process last compiled something, by the monotonic clock; now, where it is at it, and not for long."""
    now = time.monotonic()
    return now if _ended < _began and now - _began < COMPILES_WITHIN else _ended


@contextmanager
def compiling() -> Iterator[None]:
    """This process compiles something."""
    global _began, _ended
    _began = time.monotonic()
    try:
        yield
    finally:
        _ended = time.monotonic()
