"""Who is alive on this machine: a lock per process, which the system gives up when the process ends, however it ends.

So the chunks of a process that was killed are free again at once, not only when their leases run out.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from stenopool.errors import LedgerError


class Presence:
    """This process among the workers that share a home. Close it to leave.

    Raises:
        LedgerError: the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: Unique, also among processes that get the same number one after the other.
        self.worker = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._lock(self._path(self.worker))
        except OSError as error:
            raise LedgerError(
                f"{folder}: cannot be written to ({error.strerror}); set STENOPOOL_HOME elsewhere"
            ) from error
        self.dead(path.stem for path in folder.glob("*.lock"))  # their files go

    @staticmethod
    def _lock(path: Path) -> TextIO:
        while True:
            file = path.open("w")
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists():
                return file
            # Between the two lines above, somebody took it for a dead one's and cleared it away.
            file.close()

    def _path(self, worker: str) -> Path:
        return self._folder / f"{worker}.lock"

    def dead(self, workers: Iterable[str]) -> list[str]:
        """Those of the workers that have ended."""
        return [worker for worker in workers if worker != self.worker and self._is_dead(worker)]

    def _is_dead(self, worker: str) -> bool:
        path = self._path(worker)
        try:
            with path.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return True
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Leave."""
        self._path(self.worker).unlink(missing_ok=True)
        self._file.close()
