"""Origins: whose trace a transcript's spans belong to."""

from __future__ import annotations

from stenopool import tracing
from stenopool.tracing import Origin
from storage.desk import Desk
from workers.patience import patiently


def origin_of(desk: Desk, transcript: int) -> Origin | None:
    """Of who waited for it first; where there are no traces, nobody is asked."""
    if not tracing.is_on():
        return None
    first = patiently(lambda: desk.first_of(transcript))
    return None if first is None else Origin(*first)
