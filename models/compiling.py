"""When this process compiled something, and how long: a device that is silent meanwhile does not hang."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds that compiling may take; who waits for longer waits for something that hangs.
COMPILES_WITHIN = 900.0

#: When this process last began and ended to compile, by the monotonic clock.
_began = _ended = float("-inf")

#: Seconds that went into programs, compiled or read.
_spent = 0.0


def seconds_on_programs() -> float:
    """Seconds that this process has spent on programs, compiled or read: once for each, whatever it does with it."""
    return _spent


@contextmanager
def on_programs() -> Iterator[None]:
    """This process gets a program."""
    global _spent
    started = time.monotonic()
    try:
        yield
    finally:
        _spent += time.monotonic() - started


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
