"""A Redis of our own."""

from __future__ import annotations

import signal
from pathlib import Path

from stenopool.servers.binaries import find_redis
from stenopool.servers.server import HOST, Server, private_file

# `dir` is the folder that it is started in, whatever characters its name has.
_SETTINGS = """
bind {host}
port {port}
protected-mode yes
requirepass {password}
dir .
maxmemory-policy noeviction
"""
_APPENDED = """
appendonly yes
appendfsync everysec
save ""
"""
_SAVED = """
appendonly no
save 3600 1
"""


class Redis(Server):
    """A Redis on a folder of its own; `Server` says how it begins and ends.

    Args:
        data: its folder; made where there is none.
        program: its `redis-server`; None for what `find_redis` finds.
        appendonly: write every change down: kill -9 costs the last second. Without, what it holds is written down when
            it is stopped, and once an hour.
    """

    _name = "Redis"
    _stop = signal.SIGTERM

    def __init__(self, data: Path, *, program: Path | None = None, appendonly: bool = True) -> None:
        super().__init__(data)
        self._program = program
        self._appendonly = appendonly

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{HOST}:{self._port}/0"

    def _prepare(self) -> None:
        self._program = self._program or find_redis()
        self._password = self._secret()

    def _run(self) -> None:
        # In a file: on a command line, everybody on the machine can read the password.
        with private_file(self.data / "redis.conf") as file:
            settings = _SETTINGS + (_APPENDED if self._appendonly else _SAVED)
            file.write(settings.format(host=HOST, port=self._port, password=self._password).encode())
        self._launch([str(self._program), "redis.conf"], cwd=self.data)

    def _ready(self) -> bool:
        # Its own word: whoever else answered on the port would be told the password.
        return "Ready to accept connections" in self._said()
