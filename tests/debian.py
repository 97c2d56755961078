"""Programs of Debian's packages for tests: fetched once, unpacked into a folder, not installed. Nobody must be root."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

from stenopool.errors import ServerError

#: Of Debian, for which its Python programs were made.
PYTHON = Path("/usr/bin/python3")

#: Seconds that a command may take.
WITHIN = 180.0


def apt(folder: Path, *arguments: str, where: Path | None = None) -> str:
    """What apt-get says, with lists and a cache of its own: the system's stay as they are."""
    options = {"Dir::State::Lists": f"{folder}/lists", "Dir::Cache": f"{folder}/cache", "APT::Sandbox::User": "root"}
    for path in ("lists/partial", "cache/archives/partial"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    return said_by(["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items()), *arguments], where)


def said_by(command: Sequence[str], where: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What a command says that succeeds within its time.

    Raises:
        ServerError: it does not, or is not there.
    """
    try:
        done = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, check=False, timeout=WITHIN)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerError(f"{command[0]} cannot be used ({error})") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise ServerError(f"{Path(command[0]).name} fails ({lines[-1] if lines else done.returncode})")
    return done.stdout


def needed(folder: Path, packages: Sequence[str]) -> list[str]:
    """Of these packages and those that they need, which are to be had, and are not installed.

    Raises:
        ServerError: they are not to be had here.
    """
    if shutil.which("dpkg") is None or not PYTHON.exists():
        raise ServerError("this is no Debian, whose packages are used")
    apt(folder, "update", "-oAcquire::Retries=1")
    asked = apt(folder, "install", "--print-uris", "--yes", "--no-install-recommends", *packages)
    return [line.split()[1].partition("_")[0] for line in asked.splitlines() if line.startswith("'")]


def unpacked(folder: Path, packages: Sequence[str]) -> Path:
    """Where the packages are unpacked; they are fetched where they are not.

    Raises:
        ServerError: they are not to be had here.
    """
    root = folder / "root"
    if not root.exists():
        work = folder / uuid.uuid4().hex
        (work / "packages").mkdir(parents=True)
        try:
            apt(folder, "download", *needed(folder, packages), where=work / "packages")
            for package in sorted((work / "packages").glob("*.deb")):
                said_by(["dpkg", "-x", str(package), str(work / "root")])
            (work / "root").rename(root)
        finally:
            for rest in (work, folder / "lists", folder / "cache"):
                shutil.rmtree(rest, ignore_errors=True)
    return root
