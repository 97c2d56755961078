"""A process of the farm that will have accidents.

    python -m tests.faults.accidents ACCIDENT... -- standin [SECONDS]
    python -m tests.faults.accidents ACCIDENT... -- worker --role merge

runs a stand-in worker, or a command of `stenopool`, in which each ACCIDENT happens:

    die:POINT[:N]      it ends at once, the Nth time that it comes to POINT
    hang:POINT[:N]     it never gets beyond it, the Nth time
    full:POINT[:N]     there is no memory, the first N times
    ahead:SECONDS      its clock is ahead
    watched:SECONDS    its device counts as hung after so long
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from storage.chunks import Chunks
from storage.desk import Desk
from storage.folder import FolderStore
from storage.ledger import Ledger
from tests.standin import StandIn

#: The exit status of a process that died by accident.
DIED = 99

#: A method, and whether the accident is before it does anything or after it has, with something to show for it.
POINTS: dict[str, tuple[type, str, Literal["before", "after"]]] = {
    "claimed": (Chunks, "claim_queued", "after"),
    "heard": (Chunks, "finish_all", "before"),
    "kept, not committed": (Chunks, "_finish", "after"),
    "kept": (Chunks, "finish_all", "after"),
    "decoding": (StandIn, "step", "before"),
    "ingest claimed": (Desk, "claim", "after"),
    "samples put": (Ledger, "add_sources", "before"),
    "sources kept": (Ledger, "plan", "before"),
    "planned": (Ledger, "plan", "after"),
    "ingested": (Desk, "transcribing", "after"),
    "merge begun": (Ledger, "begin_merge", "after"),
    "merged": (Ledger, "complete", "before"),
    "merge kept": (Ledger, "complete", "after"),
    "transcript put": (FolderStore, "put", "before"),
    "published": (Desk, "published", "before"),
    "all published": (Desk, "published", "after"),
}


def at(point: str, happen: Callable[[int], None]) -> None:
    """Have something happen there; it is told the how manieth time it is."""
    owner, name, when = POINTS[point]
    static = isinstance(inspect.getattr_static(owner, name), staticmethod)
    method = getattr(owner, name)
    times = itertools.count(1)

    @functools.wraps(method)
    def accident(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            happen(next(times))
        result = method(*arguments, **named)
        if when == "after" and result is not False and result is not None and result != []:
            happen(next(times))
        return result

    setattr(owner, name, staticmethod(accident) if static else accident)


def arrange(accident: str) -> None:
    """Prepare what will happen."""
    kind, _, rest = accident.partition(":")
    point, _, number = rest.partition(":")
    nth = int(number or 1)
    if kind == "die":
        at(point, lambda n: os._exit(DIED) if n == nth else None)
    elif kind == "hang":
        at(point, lambda n: _for_ever() if n == nth else None)
    elif kind == "full":
        at(point, lambda n: _no_memory() if n <= nth else None)
    elif kind == "ahead":
        ahead, real = float(rest), time.time
        time.time = lambda: real() + ahead
    elif kind == "watched":
        from workers import lifecycle

        lifecycle.HUNG_AFTER = float(rest)
    else:
        raise ValueError(f"{accident}: no such accident")


def _for_ever() -> None:
    threading.Event().wait()


def _no_memory() -> None:
    raise MemoryError


def main(arguments: list[str]) -> None:
    """Be that process."""
    cut = arguments.index("--")
    for accident in arguments[:cut]:
        arrange(accident)
    command, *options = arguments[cut + 1 :]
    if command == "standin":
        from tests import standin

        sys.exit(standin.main(*map(float, options)))
    from stenopool.cli import main as stenopool

    sys.argv = ["stenopool", command, *options]
    stenopool()


if __name__ == "__main__":
    main(sys.argv[1:])
