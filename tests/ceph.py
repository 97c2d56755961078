"""A real S3 server for the tests of the object store: Ceph and its gateway, from Debian's packages.

    python -m tests.ceph COMMAND...

fetches the packages, once; starts a monitor, a store in memory and the gateway, on free ports of 127.0.0.1; and runs
the command, which finds the gateway in STENOPOOL_TEST_S3, with its credentials. All of it ends with the command, with
Ctrl-C, and with this process however that ends. Nothing is installed, and nobody has to be root. Without a command it
only looks whether there is a Ceph to be had. Where there is none, one line says why, and the status is 1.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stenopool.config import Config
from stenopool.errors import ServerError
from tests.debian import PYTHON, needed, said_by, unpacked
from tests.servers import ACCOUNT, S3_SERVER, server_folder

PACKAGES = ("ceph-mon", "ceph-osd", "radosgw")

STARTS_WITHIN = 180.0  # seconds
GRACE = 10.0  # seconds

CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor},v1:127.0.0.1:{legacy}]
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/keyring
run dir = {folder}
admin socket =
log file = {folder}/$name.log
plugin dir = {plugins}
erasure code dir = {plugins}/erasure-code
osd class dir = {classes}
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
osd class update on start = false
mon data = {folder}/mon
osd data = {folder}/osd
[osd]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
[client.admin]
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw data = {folder}/rgw
"""


def free_ports(n: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has at the moment."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Ceph:
    """One of three processes, in a folder; `with` starts it, and ends it.

    Raises:
        ServerError: it does not start.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        libraries = next(root.glob("usr/lib/*-linux-gnu"))
        monitor, legacy, self._gateway = free_ports(3)
        self._folder = folder
        self._fsid = str(uuid.uuid4())
        self._monitors = f"[v2:127.0.0.1:{monitor},v1:127.0.0.1:{legacy}]"
        paths = {"folder": folder, "plugins": libraries / "ceph", "classes": libraries / "rados-classes"}
        ports = {"monitor": monitor, "legacy": legacy, "gateway": self._gateway}
        (folder / "ceph.conf").write_text(CONFIGURATION.format(fsid=self._fsid, **paths, **ports))
        self._ceph = root / "usr" / "bin" / "ceph"
        searched = [libraries, libraries / "ceph", root / "lib" / libraries.name]
        self._env = {
            "CEPH_CONF": str(folder / "ceph.conf"),
            "LD_LIBRARY_PATH": ":".join(map(str, searched)),
            "PATH": f"{root}/usr/bin:{root}/usr/sbin:{os.environ['PATH']}",
            "PYTHONPATH": str(root / "usr" / "lib" / "python3" / "dist-packages"),
        }
        self._daemons: list[tuple[str, subprocess.Popen[bytes]]] = []

    @property
    def address(self) -> str:
        """Of the gateway: "127.0.0.1:port"."""
        return f"127.0.0.1:{self._gateway}"

    def __enter__(self) -> Ceph:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        keyring, disk = str(self._folder / "keyring"), str(uuid.uuid4())
        everything = ["--cap", "mon", "allow *", "--cap", "osd", "allow *"]
        self._say("ceph-authtool", "-C", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name in ("client.admin", "osd.0"):
            self._say("ceph-authtool", keyring, "--gen-key", "-n", name, *everything)
        monitors = str(self._folder / "monmap")
        self._say("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", self._monitors, monitors)
        for data in ("mon", "osd"):
            (self._folder / data).mkdir()
        self._say("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors, "--keyring", keyring)
        self._daemon("ceph-mon", "-i", "a")
        self._say_to_monitor("osd", "new", disk, "0")
        self._say_to_monitor("osd", "crush", "add", "osd.0", "1", "root=default", "host=h")
        self._say("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._daemon("ceph-osd", "-i", "0")
        self._daemon("radosgw", "-n", "client.admin")
        self._wait()
        keys = ["--access-key", ACCOUNT["AWS_ACCESS_KEY_ID"], "--secret-key", ACCOUNT["AWS_SECRET_ACCESS_KEY"]]
        self._say("radosgw-admin", "-n", "client.admin", "user", "create", "--uid=t", "--display-name=t", *keys)

    def _say(self, *command: str) -> None:
        said_by(command, env=self._env)

    def _say_to_monitor(self, *order: str) -> None:
        self._say(str(PYTHON), str(self._ceph), "--connect-timeout", "60", *order)

    def _daemon(self, *command: str) -> None:
        with (self._folder / f"{command[0]}.out").open("wb") as out:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command, "-f"],  # also where we are killed
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for us
            )
        self._daemons.append((command[0], process))

    def _wait(self) -> None:
        """Until the gateway answers."""
        deadline = time.monotonic() + STARTS_WITHIN
        while not self._answers():
            for name, process in self._daemons:
                if process.poll() is not None or time.monotonic() > deadline:
                    said = (self._folder / f"{name}.out").read_text(errors="replace").strip().splitlines()
                    raise ServerError(f"{name} does not start ({said[-1] if said else 'it said nothing'})")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/", timeout=5):
                return True
        except urllib.error.HTTPError:  # it refuses: it is there
            return True
        except OSError:
            return False

    def _stop(self) -> None:
        for _, process in self._daemons:
            process.terminate()
        for _, process in self._daemons:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def running(command: Sequence[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A command that hears Ctrl-C as we do, and is told of every other end."""
    with subprocess.Popen(command, env={**os.environ, **env}) as process:
        try:
            yield process
        except KeyboardInterrupt:
            process.wait()
            raise
        except BaseException:
            process.terminate()
            raise


def main(command: Sequence[str]) -> int:
    """Run a command beside Ceph; returns its status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = Config.from_env().cache / "ceph"
    try:
        if not command:
            if not (folder / "root").exists():
                needed(folder, PACKAGES)
            return 0
        root = unpacked(folder, PACKAGES)
        with (
            server_folder() as data,
            Ceph(root, data) as ceph,
            running(command, {**ACCOUNT, S3_SERVER: ceph.address}) as process,
        ):
            return process.wait()
    except ServerError as error:
        sys.stderr.write(f"the object store is not tested against Ceph here: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
