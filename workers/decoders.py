"""Decoders: processes that ingest, one file each at a time. A file that kills its decoder kills nothing else.

They are commands of their own, told over a pipe what to do. `multiprocessing` would run the caller's main script again
in each, which scripts that do `import stenopool` are not written for; and a pool of `concurrent.futures` is broken as a
whole by one process that dies, without a word about whose file it was.

A decoder lives as long as its pipe: whoever holds the other end leaves by closing it, also where that is kill -9.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from stenopool.config import Limits
from stenopool.domain import MOST_DECODERS, SAMPLE_RATE
from stenopool.errors import MediaBeyondLimit, MediaUnreadable, OutOfRoom, StenopoolError, UsageError
from storage.objects import ObjectStore
from workers.ingest import Ingested, Stopped, ingest
from workers.limits import Headway, stalled

#: Fewer cores than this are left to the model, which a single thread can feed on such a machine.
CORES_FOR_DECODERS = 4
#: As many feed any device that a machine was built around; each takes 100 MB.
MOST_BY_DEFAULT = 16

#: Times that a file may be begun. The first decoder may have been killed for another reason than the file.
ATTEMPTS = 2

TELL_EVERY = 0.1  # seconds between two words about how far a file is, and between two looks whether to stop
GRACE = 1.0  # seconds that a decoder has to put its drafts away when it is no longer wanted

#: Bytes of memory that a decoder may take: a small file can claim to hold so much that its index takes all there is.
MOST_MEMORY = 2 << 30

# The parent's path, so that the same modules are found; -P, so that none is found in the current folder before them.
# NumPy's algebra, which is not used, would start a thread for every core.
_COMMAND = """
import json, os, sys
os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path[:] = json.loads(sys.argv[1])
from workers.decoders import serve
serve(int(sys.argv[2]), int(sys.argv[3]))
"""


def decoders_for(asked: int | None, *, sources: int, cores: int) -> int:
    """How many files are decoded at once; 1 is in a thread of this process, more are in processes of their own.

    Args:
        asked: what was asked for; None for what suits the machine.
        sources: files to come.
        cores: of the processor that may be used.

    Raises:
        UsageError: nobody can have so many.
    """
    if asked is not None:
        if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= MOST_DECODERS:
            raise UsageError(f"decoders must be a number from 1 to {MOST_DECODERS}, or None; is {asked!r}")
        return asked
    # A decoder takes half a second to start: more than a short file needs where it is the only one.
    if cores < CORES_FOR_DECODERS or sources < 2:
        return 1
    return min(cores // 2, sources, MOST_BY_DEFAULT)


def usable_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class _Job:
    """A file to ingest; the names are those of `ingest`."""

    path: Path
    store: ObjectStore
    split: bool
    vad: bool
    limits: Limits


class _DiedError(Exception):
    """The decoder has ended though nobody asked it to."""


@contextmanager
def _alive() -> Iterator[None]:
    """What a pipe says when nobody is at its other end."""
    try:
        yield
    except (EOFError, OSError) as error:
        raise _DiedError from error


class _Decoder:
    """One process, as the thread sees it that has work for it.

    Raises:
        OutOfRoom: no process can be started.
    """

    def __init__(self) -> None:
        jobs, self._jobs = Pipe(duplex=False)
        self._answers, answers = Pipe(duplex=False)
        path = json.dumps([os.path.abspath(folder) for folder in sys.path])  # noqa: PTH100 - "" is the current one
        handles = jobs.fileno(), answers.fileno()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND, path, *map(str, handles)],
                pass_fds=handles,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for us, who then tell it
            )
        except OSError as error:
            raise OutOfRoom(
                f"a process to decode in cannot be started ({error.strerror}); end something, or use fewer decoders"
            ) from error
        finally:  # the child has its own: with ours closed, each side sees the other go
            jobs.close()
            answers.close()

    def do(self, job: _Job, stop: threading.Event, progress: Callable[[int], None]) -> list[Ingested] | StenopoolError:
        """Have a file ingested; returns what `ingest` does, or the error that it raised.

        Raises:
            Stopped: `stop` was set; the decoder may still be at work.
            MediaBeyondLimit: it makes no headway; the decoder may still be at work.
            _DiedError: it died meanwhile.
        """
        with _alive():
            self._jobs.send(job)
        headway, decoded, looked = Headway(job.limits.stall), 0, time.monotonic()
        while not stop.is_set():
            answer: int | list[Ingested] | StenopoolError | None = None
            with _alive():
                if self._answers.poll(TELL_EVERY):
                    answer = self._answers.recv()
            if isinstance(answer, int):
                decoded = answer
                progress(decoded)
            elif answer is not None:
                return answer
            # A look that comes late is a pause of our own, as after Ctrl-Z: the decoder is not to blame.
            now = time.monotonic()
            passed, looked = min(now - looked, 10 * TELL_EVERY), now
            if headway.lost(passed, decoded / SAMPLE_RATE):
                raise MediaBeyondLimit(f"{job.path}: {stalled(job.limits)}")
        raise Stopped

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def leave(self) -> None:
        """Let it end; it gives up what it does."""
        self._jobs.close()
        self._answers.close()

    def close(self, grace: float = 2 * GRACE) -> str:
        """Let it end in so many seconds, and return how it has: "killed", "segmentation fault", "exit status 1"."""
        self.leave()
        try:
            code = self._process.wait(grace)
        except subprocess.TimeoutExpired:  # stopped by SIGSTOP, say
            self._process.kill()
            try:
                code = self._process.wait(2 * GRACE)
            except subprocess.TimeoutExpired:  # deep in the kernel, where a disk does not answer: nothing ends it
                return "it cannot be ended"
        return (signal.strsignal(-code) or f"signal {-code}").lower() if code < 0 else f"exit status {code}"


class Decoders:
    """As many decoders as there are threads that ask for one at the same time; each is started when it is needed.

    Args:
        limits: what files may be; None for what is set where nothing is.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._idle: list[_Decoder] = []

    def ingest(
        self,
        path: Path,
        store: ObjectStore,
        *,
        split: bool,
        vad: bool,
        stop: threading.Event,
        progress: Callable[[int], None] = lambda _: None,
    ) -> list[Ingested]:
        """As `workers.ingest.ingest`, in a process; `progress` is told ten times a second at most.

        Raises:
            MediaError: the file is no sound or beyond the limits, or decoding it ends the process, twice.
            OutOfRoom: there is no memory left, no disk, or no process can be started.
            StoreError: the object store cannot be written to.
            Stopped: `stop` was set.
        """
        died = ""
        for attempt in range(ATTEMPTS):
            decoder = self._rested() if attempt == 0 else _Decoder()
            drafts = store.for_child()
            try:
                answer = decoder.do(_Job(path, drafts, split, vad, self._limits), stop, progress)
            except _DiedError:
                died = decoder.close()
                drafts.discard_drafts()
            except MediaBeyondLimit:  # not its own word, which is an answer: it does not come back
                decoder.close(grace=0.0)
                drafts.discard_drafts()
                raise
            except BaseException:
                decoder.close()
                drafts.discard_drafts()
                raise
            else:
                self._idle.append(decoder)
                if isinstance(answer, StenopoolError):
                    raise answer
                return answer
        raise MediaUnreadable(f"{path}: the decoder died on it ({died}), {ATTEMPTS} times")

    def _rested(self) -> _Decoder:
        while True:
            try:  # asked from several threads
                decoder = self._idle.pop()
            except IndexError:
                return _Decoder()
            if decoder.alive:
                return decoder
            decoder.close()  # killed while it had nothing to do, which is no file's fault

    def close(self) -> None:
        """End them. Nobody may be ingesting."""
        for decoder in self._idle:  # all at once, then wait
            decoder.leave()
        while self._idle:
            self._idle.pop().close()


# In the child


def serve(jobs: int, answers: int) -> None:
    """Ingest what is asked for until nobody is there to ask; `jobs` and `answers` are our ends of the pipes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bound_memory()
    todo: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(Connection(jobs, writable=False), todo, stop), daemon=True).start()
    out = Connection(answers, readable=False)
    with suppress(Stopped, BrokenPipeError):  # nobody wants to know any more
        while (job := todo.get()) is not None:
            out.send(_answer(job, stop, out))


def bound_memory() -> None:
    """Let this process take no more memory than a decoder may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY or soft > MOST_MEMORY:
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, hard))


def _listen(jobs: Connection, todo: queue.SimpleQueue[_Job | None], stop: threading.Event) -> None:
    with suppress(EOFError, OSError):
        while True:
            todo.put(jobs.recv())
    # Between two blocks of samples the work is given up, and its drafts are removed; if that takes too long, they stay.
    stop.set()
    todo.put(None)
    time.sleep(GRACE)
    os._exit(1)


def _answer(job: _Job, stop: threading.Event, out: Connection) -> list[Ingested] | StenopoolError:
    told = 0.0

    def tell(samples: int) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_EVERY:
            told = time.monotonic()
            out.send(samples)

    try:
        return ingest(job.path, job.store, split=job.split, vad=job.vad, stop=stop, progress=tell, limits=job.limits)
    except StenopoolError as error:
        return error  # of any other, the process dies, with its traceback
