"""Whose the servers are that refuse to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from stenopool.errors import ServerError

NAMES = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """A user without rights, as root may become one."""

    uid: int
    gid: int

    @classmethod
    def for_data(cls, folder: Path) -> Account | None:
        """Who serves the data in that folder, which may not be there yet; None for whoever we are.

        Raises:
            ServerError: we are root, and there is nobody else.
        """
        if os.geteuid() != 0:
            return None
        if folder.exists() and folder.stat().st_uid != 0:  # made by whom, served by them
            return cls(folder.stat().st_uid, folder.stat().st_gid)
        for name in NAMES:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        raise ServerError(f"Postgres does not run as root, and there is no user {' or '.join(NAMES)}; add one")

    def reaches(self, path: Path) -> bool:
        """Whether they may enter that folder, or run that program, and every folder on the way.

        Raises:
            ServerError: we are a root that may not become somebody else.
        """
        command = ["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)]
        try:
            asked = subprocess.run(
                command, cwd="/", user=self.uid, group=self.gid, extra_groups=[], check=False, capture_output=True
            )
        except OSError as error:
            raise ServerError(
                f"Postgres does not run as root, and this root may not become user {self.uid} ({error.strerror}); "
                "run it as another user"
            ) from error
        return asked.returncode == 0

    def own(self, path: Path) -> None:
        """Make a file or folder theirs."""
        os.chown(path, self.uid, self.gid)

    def admit(self, folder: Path) -> None:
        """Let them, and nobody else, pass through a folder of ours."""
        os.chown(folder, -1, self.gid)
        folder.chmod(0o710)
