"""What Redis and Postgres have in common: a folder, a password, a port, a guard, and an end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

from stenopool.errors import ServerError
from stenopool.servers import guard
from stenopool.servers.account import Account

GRACE = 30.0  # seconds that a server has to end before it is killed
BEFORE_US = 2 * GRACE  # seconds that one whose process was killed has to end
PATIENCE = 300.0  # seconds until it serves: after kill -9 it first reads what it had written
PORTS = 5  # that are tried: between choosing one and using it, another may take it
HOST = "127.0.0.1"


class Server(ABC):
    """A server of this process, in a `with` statement or between `start` and `stop`. It ends with this process.

    In its folder are its data, `password` and what it said: `server.log`, and that of the run before in
    `server.log.old`. It keeps its port from run to run, unless somebody else has it.
    """

    _name: ClassVar[str]
    #: What ends it in order.
    _stop: ClassVar[signal.Signals]
    #: Words that begin what matters in its log; where there are none, that is the last line.
    _telling: ClassVar[tuple[str, ...]] = ()

    def __init__(self, data: Path) -> None:
        self.data = data.absolute()
        self._port = 0
        self._password = ""
        self._pid = 0
        self._guard: subprocess.Popen[str] | None = None
        self._owned: int | None = None  # open files
        self._lock = -1

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it is, with the password; known once it was started, and the same after `kill` and `start`."""

    @property
    def pid(self) -> int | None:
        """Its process; None where it does not run."""
        return self._pid if self._guard is not None and self._guard.poll() is None else None

    def start(self) -> None:
        """Start it and wait until it serves, with the data that it had; nothing happens where it runs.

        Raises:
            ServerError: it does not start, another process has a server on this folder, or the folder is of no use.
        """
        if self.pid is not None:
            return
        try:
            self._end_guard()
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own()
            with self._locked() as self._lock:
                if self._log.exists():
                    self._log.replace(self.data / "server.log.old")
                self._prepare()
                self._serve()
        except OSError as error:
            self.stop()
            raise ServerError(
                f"{self.data}: cannot be used by {self._name} ({error.strerror or error}); "
                "make room, or choose another folder"
            ) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it in order; it is no error if it does not run."""
        self._end_guard()
        if self._owned is not None:
            fcntl.flock(self._owned, fcntl.LOCK_UN)  # a forked copy of this process may have it open, too
            os.close(self._owned)
            self._owned = None

    def kill(self) -> None:
        """kill -9, for drills: `start` has it recover."""
        self._signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Make what it needs in its folder."""

    @abstractmethod
    def _run(self) -> None:
        """Launch the server itself, on the port."""

    @abstractmethod
    def _ready(self) -> bool:
        """Whether the process that was started serves."""

    def _launch(self, command: list[str], *, cwd: Path, account: Account | None = None) -> None:
        """Start a program under guard; what it says is the log."""
        order = {
            "command": command,
            "cwd": str(cwd),
            "account": account and (account.uid, account.gid),
            "stop": self._stop,
            "grace": GRACE,
            "parent": os.getpid(),
            "lock": self._lock,
        }
        with private_file(self._log) as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=[self._lock],
                start_new_session=True,  # Ctrl-C and a terminal that closes are for us, who then tell it
            )
        assert self._guard.stdout is not None
        said = self._guard.stdout.readline().strip()
        if not said.isdecimal():
            raise ServerError(
                f"{command[0]}: cannot be run as {self._name} ({said or self._last_words()}); "
                "install it anew, or another one"
            )
        self._pid = int(said)

    def _finish(self) -> bool:
        """Wait for a program that ends by itself; whether it did what it was for."""
        assert self._guard is not None
        return self._guard.wait() == 0

    def _refused(self) -> ServerError:
        return ServerError(
            f"{self.data}: {self._name} does not start ({self._last_words()}); see {self._log.name} there"
        )

    @property
    def _log(self) -> Path:
        return self.data / "server.log"

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _last_words(self) -> str:
        lines = [" ".join(line.split()) for line in self._said().splitlines() if line.strip()]
        telling = [line[line.index(word) :] for line in lines for word in self._telling if word in line]
        return (telling or lines or ["it said nothing"])[-1]

    def _secret(self) -> str:
        """The password, made where there is none yet."""
        path = self.data / "password"
        if not path.exists():
            draft = path.with_suffix(".new")
            with private_file(draft) as file:
                file.write(secrets.token_hex(32).encode())
            draft.replace(path)
        return path.read_text()

    def _serve(self) -> None:
        kept = self.data / "port"
        self._port = int(kept.read_text()) if kept.exists() else _free_port()
        for _ in range(PORTS):
            if self._answers():
                kept.write_text(str(self._port))
                return
            if "Address already in use" not in self._said():
                break
            self._port = _free_port()
        raise self._refused()

    def _answers(self) -> bool:
        """Start it on the port; False where it has ended."""
        self._end_guard()
        self._run()
        until = time.monotonic() + PATIENCE
        while not self._ready():
            if self.pid is None:
                return False
            if time.monotonic() > until:
                raise self._refused()
            time.sleep(0.01)
        return True

    def _end_guard(self) -> None:
        if self._guard is not None:
            with self._guard as ending:
                assert ending.stdin is not None
                ending.stdin.close()
            self._guard = None

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):  # ended just now
                os.kill(self._pid, number)
            assert self._guard is not None
            self._guard.wait()

    def _own(self) -> None:
        """Be the one process that has a server on this folder."""
        if self._owned is None:
            self._owned = os.open(self.data / "owner", os.O_RDWR | os.O_CREAT, 0o600)
            if not _lock(self._owned):
                raise ServerError(
                    f"{self.data}: another process has its {self._name} there; end that one, or choose another folder"
                )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """A lock that the guard, the server and all its processes inherit; free once the last of them has ended."""
        file = os.open(self.data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            until = time.monotonic() + BEFORE_US
            while not _lock(file):  # its process was killed: it is ending
                if time.monotonic() > until:
                    raise ServerError(
                        f"{self.data}: the {self._name} of a process that was killed does not end; end it by hand"
                    )
                time.sleep(0.01)
            yield file
        finally:
            os.close(file)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def private_file(path: Path) -> IO[bytes]:
    """An empty file that only we can read."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _free_port() -> int:
    with socket.socket() as file:
        file.bind((HOST, 0))
        port: int = file.getsockname()[1]
        return port
