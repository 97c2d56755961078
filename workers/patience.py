"""Patience with the ledger: what a worker has to say, it says as soon as the database answers again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from stenopool.errors import LedgerUnreachable

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

#: Seconds that a worker holds on to what it has done. By then others have done it.
PATIENCE = 600.0
#: Seconds between two attempts, at first and at most; a random part of it, so that a fleet does not come at once.
SOON, AT_LAST = 0.2, 5.0


def patiently(work: Callable[[], _Result], *, seconds: float = PATIENCE) -> _Result:
    """Do something with the ledger, again until it answers.

    What was committed before the answer was lost is committed again: a fence must make that harmless.

    Raises:
        LedgerUnreachable: it has not answered for so long.
    """
    deadline = time.monotonic() + seconds
    pause = SOON
    while True:
        try:
            return work()
        except LedgerUnreachable as error:
            if time.monotonic() + pause > deadline:
                raise
            if pause == SOON:
                _log.warning("%s; trying on for %d s", error, seconds)
        time.sleep(random.uniform(pause / 2, pause))
        pause = min(2 * pause, AT_LAST)
