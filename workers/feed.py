"""The feed: files on their way to the ledger, several at once, in threads of this process.

The threads digest, plan and keep the ledger; where there are several, each has its file decoded by a process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

from stenopool.config import Limits
from stenopool.errors import MediaError
from storage.ledger import Ledger
from storage.objects import ObjectStore
from workers.assignment import Assignment
from workers.decoders import Decoders
from workers.ingest import Ingest, ingest
from workers.prepare import Prepared, SourceFile, prepare
from workers.transcriber import Observer


@dataclass(slots=True)
class _Coming:
    """A file on its way."""

    source: SourceFile
    #: Samples decoded so far.
    decoded: int = 0
    #: Seconds it took.
    seconds: float = 0.0


class Feed:
    """Prepares files, so many at a time. Close it to end what is on its way.

    Args:
        decoders: how many; 1 decodes in this process, more in one process each.
        observer: told of progress, from their threads.
        limits: what files may be; None for what is set where nothing is.
    """

    def __init__(
        self,
        assignment: Assignment,
        ledger: Ledger,
        store: ObjectStore,
        *,
        decoders: int,
        observer: Observer | None,
        limits: Limits | None = None,
    ) -> None:
        self._assignment = assignment
        self._ledger = ledger
        self._store = store
        self._n = decoders
        self._observer = observer
        limits = limits or Limits()
        self._decoders = Decoders(limits)
        self._ingest: Ingest = partial(ingest, limits=limits) if decoders == 1 else self._decoders.ingest
        # One at a time: writers that meet in SQLite sleep before they try again, and the model's thread with them.
        self._planning = threading.Lock()
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(decoders, thread_name_prefix="prepare")
        self._coming: dict[Future[Prepared | MediaError], _Coming] = {}
        #: That preparing took, all files together.
        self.seconds = 0.0

    @property
    def busy(self) -> bool:
        """Whether files are on their way."""
        return bool(self._coming)

    def takes(self, backlog: int, lookahead: int) -> bool:
        """Whether to add another file, where so many samples are prepared and so many are wanted.

        Files on their way count as far as they are decoded: so many files at most go beyond what is wanted.
        """
        if len(self._coming) == self._n:
            return False
        # Where nothing is prepared, the device waits: however much is on its way, more hands are needed.
        return backlog == 0 or backlog + sum(one.decoded for one in self._coming.values()) < lookahead

    def add(self, source: SourceFile) -> None:
        """Begin to prepare a file."""
        coming = _Coming(source)
        self._coming[self._threads.submit(self._prepare, coming)] = coming

    def wait(self, seconds: float) -> bool:
        """Wait until a file is prepared; False if none is after so long."""
        return bool(wait(self._coming, seconds, FIRST_COMPLETED).done)

    def ready(self) -> Iterator[tuple[SourceFile, Prepared | MediaError]]:
        """What is prepared by now, in the order in which it was begun; or why it cannot be.

        Raises:
            StenopoolError: any that is not about the file.
        """
        for future in [future for future in self._coming if future.done()]:
            coming = self._coming.pop(future)
            self.seconds += coming.seconds
            yield coming.source, future.result()

    def close(self) -> None:
        """Give up what is on its way, between two blocks of samples, and wait until it has ended."""
        self._stop.set()
        self._threads.shutdown()
        self._decoders.close()

    def _prepare(self, coming: _Coming) -> Prepared | MediaError:
        source, started = coming.source, time.perf_counter()

        def progress(samples: int) -> None:
            coming.decoded = samples
            if self._observer:
                self._observer.decoded(source, samples)

        try:
            return prepare(
                source,
                self._assignment.expecting(source.hotwords),
                self._ledger,
                self._store,
                ingest=self._ingest,
                planning=self._planning,
                stop=self._stop,
                progress=progress,
            )
        except MediaError as error:
            return error
        finally:
            coming.seconds = time.perf_counter() - started
