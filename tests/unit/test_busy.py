"""How long a worker has had work."""

from __future__ import annotations

from storage.throughput import Done
from workers.busy import Busy


def test_two_at_once_are_busy_once() -> None:
    """From when the first one begins until the last one ends; what goes on counts so far."""
    now = 100.0
    busy = Busy(lambda: now)

    with busy.working():
        now = 102.0
        with busy.working():
            now = 103.0
            assert busy.done == Done(0.0, 3.0)
        now = 105.0
        busy.did(60.0)
    now = 200.0

    assert busy.done == Done(60.0, 5.0)
    with busy.working():
        now = 201.0
    assert busy.done.busy == 6.0
