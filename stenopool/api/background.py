"""What takes longer than a request may: it is begun, goes on in this process, and its outcome is in the ledger.

Whoever is killed with it has lost nothing: the same request begins it again, and it goes on where it was.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from stenopool.api.problem import Refused, said_of
from stenopool.errors import StenopoolError

_log = logging.getLogger(__name__)

#: That go on at once.
AT_ONCE = 4


class Background:
    """The works of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at: set[str] = set()
        self._failed: dict[str, str] = {}

    def begin(self, what: str, work: Callable[[], object]) -> bool:
        """Begin something; False where it goes on already. Raises Refused where too much does."""
        with self._lock:
            if what in self._at:
                return False
            if len(self._at) >= AT_ONCE:
                raise Refused(429, "others are at such work here; try again in a minute", headers={"Retry-After": "60"})
            self._at.add(what)
            self._failed.pop(what, None)
        threading.Thread(target=self._do, args=(what, work), name=what, daemon=True).start()
        return True

    def goes_on(self, what: str) -> bool:
        """Whether it does."""
        with self._lock:
            return what in self._at

    def error(self, what: str) -> str | None:
        """Why it ended before its end, the last time."""
        with self._lock:
            return self._failed.get(what)

    def _do(self, what: str, work: Callable[[], object]) -> None:
        failed = None
        try:
            work()
        except StenopoolError as error:
            failed = said_of(error)[1]
            _log.warning("%s: %s", what, error)
        except Exception:
            failed = "something is wrong here; the log says what"
            _log.exception("%s failed", what)
        with self._lock:
            self._at.discard(what)
            if failed is not None:
                self._failed[what] = failed
