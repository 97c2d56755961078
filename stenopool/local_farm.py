"""A whole farm on this machine: its own Redis and Postgres, and a process for each role, which are kept running."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stenopool.config import Config
from stenopool.errors import LedgerUnreachable, UsageError
from stenopool.servers import Postgres, Redis
from storage.access import Access, Actor, Scope
from storage.admin_role import harden
from storage.database import make_or_migrate
from workers.farm import Farm, Places, places_file
from workers.publish import write_atomically

#: What one process does of what needs no engine.
STAGES = "ingest+merge+publish"

#: The usual one of API and page.
PORT = 8321

#: Seconds that a process may take to end what it does when it is asked to end.
GRACE = 20.0
#: Seconds before a process that ended is started again; twice as many each time, up to the last.
BACK_OFF, LONGEST_BACK_OFF = 0.5, 30.0
#: A process that lived for so many seconds counts as healthy.
HEALTHY_AFTER = 60.0
#: Seconds that a process may take to end what it does when the farm's main process is gone, and the servers with it.
ORPHAN_GRACE = 5.0


@dataclass(slots=True)
class Member:
    """A process of the farm, through all its lives."""

    role: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    #: By the monotonic clock: when it may be started again.
    due: float = 0.0
    back_off: float = BACK_OFF
    restarts: int = 0

    @property
    def pid(self) -> int | None:
        """Of its present life; None between two."""
        return self.process.pid if self.process is not None and self.process.poll() is None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a farm consists of."""

    model: str = "pocket"
    dtype: str = "auto"
    #: Processes with an engine.
    workers: int = 1
    #: URL of an object store elsewhere; None for a folder below the farm's.
    store: str | None = None
    #: Where API and page are; port None: the usual one, or any that is free.
    host: str = "127.0.0.1"
    port: int | None = None


@dataclass(slots=True)
class LocalFarm:
    """The farm of `stenopool up`: a context manager, in which `watch` is to be called now and then.

    Raises:
        ServerError: Redis or Postgres cannot be started.
        UsageError: there is a farm on this machine already, or none can be made in the home.
    """

    config: Config
    layout: Layout
    members: list[Member] = field(default_factory=list)
    #: Of the API, an operator's.
    key: str = ""
    _opened: ExitStack = field(default_factory=ExitStack)
    _port: int = 0
    _farm: Farm | None = None

    @property
    def places(self) -> Places:
        """Where it is."""
        return self.farm.places

    @property
    def farm(self) -> Farm:
        """Its ledger and objects."""
        assert self._farm is not None
        return self._farm

    @property
    def url(self) -> str:
        """Of API and page."""
        host = f"[{self.layout.host}]" if ":" in self.layout.host else self.layout.host
        return f"http://{host}:{self._port}"

    def _operators_key(self) -> str:
        """With all rights; made the first time, and again where it no longer counts."""
        file = self.config.farm / "admin.key"
        access = Access(self.farm.database)
        with suppress(FileNotFoundError):
            if access.key_of(secret := file.read_text().strip()) is not None:
                return secret
        _, secret = access.create(Actor("stenopool up"), "stenopool up", tenant=None, scopes=Scope)
        write_atomically(file, secret.encode(), mode=0o600)
        return secret

    def __enter__(self) -> LocalFarm:
        folder = self.config.farm
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(f"{folder}: cannot be made ({error.strerror}); set STENOPOOL_HOME elsewhere") from error
        with ExitStack() as opened:
            redis = opened.enter_context(Redis(folder / "redis"))
            postgres = opened.enter_context(Postgres(folder / "postgres"))
            store = self.layout.store or str(folder / "objects")
            places = Places(database=postgres.url, broker=redis.url, store=store)
            make_or_migrate(places.database)
            self._farm = Farm(places, lease=self.config.lease)
            with self._farm.database.begin() as connection:
                harden(connection)  # the server is ours alone
            self._port = self._find_port()
            self.key = self._operators_key()
            opened.callback(self._farm.close)
            opened.callback(self._end)
            file = places_file(self.config)
            write_atomically(file, json.dumps(asdict(places)).encode(), mode=0o600)  # the passwords are in it
            opened.callback(file.unlink, missing_ok=True)
            self.members = [Member(role, self._command(role)) for role in self._roles()]
            for member in self.members:
                self._start(member)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _find_port(self) -> int:
        if self.layout.port is not None:
            return free_port(self.layout.host, self.layout.port)
        with suppress(UsageError):
            return free_port(self.layout.host, PORT)
        return free_port(self.layout.host, 0)

    def _roles(self) -> list[str]:
        return ["scheduler", STAGES, "api", *["engine"] * self.layout.workers]

    def _command(self, role: str) -> list[str]:
        command = [sys.executable, "-m", "stenopool"]
        if role == "scheduler":
            return [*command, "scheduler", "--supervised"]
        if role == "api":
            return [*command, "api", "--host", self.layout.host, "--port", str(self._port), "--supervised"]
        if role == "engine":
            engine = ["--model", self.layout.model, "--dtype", self.layout.dtype]
            return [*command, "worker", "--role", role, *engine, "--supervised"]
        return [*command, "worker", *(f"--role={one}" for one in role.split("+")), "--supervised"]

    def ready(self, timeout: float, stop: threading.Event) -> None:
        """Wait until every process is at work.

        Raises:
            UsageError: one of them does not begin in time; the line says where its log is.
        """
        deadline = time.monotonic() + timeout
        while not stop.is_set():
            self.watch()
            working = {worker.pid for worker in self.farm.fleet.workers() if worker.state == "working"}
            missing = [member.role for member in self.members if member.pid not in working]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise UsageError(f"{missing[0]} does not begin to work: see {log_of(self.config, missing[0])}")
            stop.wait(0.2)

    def watch(self) -> None:
        """Start again whoever has ended."""
        now = time.monotonic()
        for member in self.members:
            if member.pid is not None:
                continue
            if member.process is not None:
                with suppress(LedgerUnreachable):  # then its leases run out by themselves
                    self.farm.fleet.died(socket.gethostname(), member.process.pid)
                member.process = None
                if now - member.started > HEALTHY_AFTER:
                    member.back_off = BACK_OFF
                member.due = now + member.back_off
                member.back_off = min(2 * member.back_off, LONGEST_BACK_OFF)
                member.restarts += 1
            elif now >= member.due:
                self._start(member)

    def _environment(self, member: Member) -> dict[str, str]:
        """The farm's places; and each shows its metrics at a port of its own, the first at the one that is set.

        The API shows them where it answers.
        """
        settings = self.places.environment()
        if self.config.metrics is not None and member.role != "api":
            host, port = self.config.metrics
            showing = [one for one in self.members if one.role != "api"]
            place = next(place for place, one in enumerate(showing) if one is member)
            settings["STENOPOOL_METRICS"] = f"{host}:{port + place}"
        return {**os.environ, **settings}

    def _start(self, member: Member) -> None:
        path = log_of(self.config, member.role)
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as log:
            # Its standard input is open as long as we live: when it ends, so does the process.
            member.process = subprocess.Popen(
                member.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment(member),
                start_new_session=True,  # Ctrl-C is for us: we tell them to end
            )
        member.started = time.monotonic()

    def _end(self) -> None:
        processes = [member.process for member in self.members if member.process is not None]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + GRACE
        for process in processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()  # its leases run out
                process.wait()
            if process.stdin is not None:
                process.stdin.close()


def free_port(host: str, port: int) -> int:
    """This port, or for 0 one that nobody listens at.

    Raises:
        UsageError: somebody does.
    """
    try:
        with socket.create_server((host, port)) as server:
            found: int = server.getsockname()[1]
            return found
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # Python repeats the address
        raise UsageError(
            f"{host}:{port}: cannot be listened at ({reason}); name another with --host or --port"
        ) from None


def pids(members: Sequence[Member]) -> dict[str, list[int]]:
    """The processes by role."""
    found: dict[str, list[int]] = {}
    for member in members:
        found.setdefault(member.role, [])
        if member.pid is not None:
            found[member.role].append(member.pid)
    return found


def end_with_parent(grace: float = ORPHAN_GRACE) -> None:
    """End this process when its standard input does, for then its parent has ended: in order, or else after `grace`."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        os._exit(1)  # it waits for a database that nobody will start again; its leases run out

    threading.Thread(target=wait, name="parent", daemon=True).start()


def log_of(config: Config, role: str) -> Path:
    """What the processes of a role say."""
    return config.farm / "logs" / f"{role}.log"
