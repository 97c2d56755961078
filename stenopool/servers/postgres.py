"""A Postgres of our own."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from stenopool.errors import ServerError
from stenopool.servers.account import Account
from stenopool.servers.binaries import CURE, find_postgres
from stenopool.servers.server import HOST, Server, private_file

USER = "stenopool"

#: For root, whose own folders nobody else may enter: where the data is then.
ELSEWHERE = Path("/var/lib/stenopool")


class Postgres(Server):
    """A Postgres on a folder of its own; `Server` says how it begins and ends.

    Its data are in `cluster` there. Postgres refuses to run as root: started by root, it runs as the user `postgres`,
    else `nobody`. Where that user cannot come to the folder, as below /root, `cluster` is a link to a folder in
    /var/lib/stenopool; where it cannot come to the programs of a wheel, it is given a copy of them beside its data.

    Args:
        data: its folder; made where there is none.
        programs: the folder of `postgres` and `initdb`; None for what `find_postgres` finds.
        fsync: whether what is committed survives the machine's end; without, only its own.
        max_connections: as many clients at once.
    """

    _name = "Postgres"
    _stop = signal.SIGINT  # "fast": clients are sent away, what they had not committed is undone
    _telling = ("FATAL:", "PANIC:", "error:")

    def __init__(
        self, data: Path, *, programs: Path | None = None, fsync: bool = True, max_connections: int = 100
    ) -> None:
        super().__init__(data)
        self._given = programs
        self._programs = Path()
        self._fsync = fsync
        self._max_connections = max_connections
        self._account: Account | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://{USER}:{self._password}@{HOST}:{self._port}/postgres"

    def crash(self) -> None:
        """End it at once ("immediate"), as when the machine fails, for drills: `start` has it recover."""
        self._signal(signal.SIGQUIT)

    @property
    def _cluster(self) -> Path:
        return self.data / "cluster"

    def _prepare(self) -> None:
        self._account = Account.for_data(self._cluster)
        if self._account is not None:
            self._account.admit(self.data)
        made = self._cluster / "PG_VERSION"
        home = self._cluster.resolve().parent if made.exists() else self._home()
        self._programs = self._given or find_postgres(made.read_text().strip() if made.exists() else None)
        initdb = self._programs / "initdb"
        if self._account is not None and initdb.exists() and not self._account.reaches(initdb):
            self._programs = _copied(self._programs, home / "programs")
        if not made.exists():
            self._make(home)
        elif not (self.data / "password").exists():
            raise ServerError(f"{self.data}: the file password is missing; put it back, or choose another folder")
        self._password = self._secret()
        self._forget_the_dead()

    def _home(self) -> Path:
        """Where the data will be: our folder, or one that the account can reach."""
        if self._account is None or self._account.reaches(self.data):
            return self.data
        ELSEWHERE.mkdir(mode=0o755, parents=True, exist_ok=True)
        home = Path(tempfile.mkdtemp(prefix="postgres-", dir=ELSEWHERE))
        self._account.admit(home)
        return home

    def _make(self, home: Path) -> None:
        """initdb; what it makes has its name only once it is whole."""
        draft, password = home / "cluster.new", home / "password.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        secret = self._secret().encode()
        with private_file(password) as file:
            file.write(secret)
        if self._account is not None:
            self._account.own(draft)
            self._account.own(password)
        command = [str(self._programs / "initdb"), "-D", str(draft), "-U", USER, f"--pwfile={password}"]
        command += ["--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--no-instructions"]
        # Texts are sorted by their bytes, the same on every machine; what a letter is, Unicode says where it can.
        command += ["--encoding=UTF8", "--locale=C"]
        command += ["--lc-ctype=C.UTF-8"] if sys.platform.startswith("linux") else []
        command += [] if self._fsync else ["--no-sync"]
        try:
            self._launch(command, cwd=home, account=self._account)
            if not self._finish():
                raise self._refused()
        finally:
            password.unlink(missing_ok=True)
        draft.rename(home / "cluster")
        if home != self.data:
            self._cluster.unlink(missing_ok=True)
            self._cluster.symlink_to(home / "cluster")

    def _forget_the_dead(self) -> None:
        """Remove the note of a server that was killed, where its process number is by now somebody else's.

        Postgres would take that process for its server, and refuse. No other server of ours is on the folder: we have
        the lock. Numbers repeat soon in containers, which begin anew at 1.
        """
        note = self._cluster / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError):  # no note, no such process, or a system without /proc
            number = note.read_text().split("\n")[0]
            if not Path(f"/proc/{number}/comm").read_text().startswith("postgres"):
                note.unlink()

    def _run(self) -> None:
        settings = {
            "listen_addresses": HOST,
            "port": self._port,
            "unix_socket_directories": "",  # their paths may be too long
            "max_connections": self._max_connections,
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self._fsync:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        command = [str(self._programs / "postgres"), "-D", str(self._cluster.resolve())]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._launch(command, cwd=self._cluster.resolve(), account=self._account)

    def _ready(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            note = (self._cluster / "postmaster.pid").read_text().split("\n")
            return note[0] == str(self._pid) and len(note) > 7 and note[7].strip() == "ready"
        return False


def _copied(programs: Path, folder: Path) -> Path:
    """A copy of what a wheel carries that everybody can read; its folder of programs."""
    installed = programs.parent
    if not installed.name.startswith("pginstall"):  # what else is below that folder, nobody knows
        raise ServerError(
            f"{programs}: only root can run these programs, and Postgres does not run as root; "
            f"install Postgres for all users, or {CURE}"
        )
    shutil.rmtree(folder, ignore_errors=True)
    copy = folder / installed.parent.name / installed.name
    shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("include", "*.a"))
    # Wheels carry their libraries beside the package.
    libraries = installed.parent.with_name(f"{installed.parent.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
    return copy / programs.name
