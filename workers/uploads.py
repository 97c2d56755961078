"""Uploads: files that are being sent, piece by piece, and are not handed in yet.

They are files of this machine, in a folder each: `about.json`, and `data` with as many bytes as have come. How far one
is says the file itself, so that whoever is killed in the middle, here or there, goes on from where it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from io import BufferedRandom
from pathlib import Path

from stenopool.errors import DiskFull, FolderError, MediaBeyondLimit, Missing, QueueFull, UploadBusy
from storage.objects import is_full
from workers.publish import write_atomically

#: Seconds after its last byte at which an upload is forgotten.
FORGOTTEN_AFTER = 86_400.0
#: Those of one tenant.
MOST_OPEN = 1000
#: Seconds between two looks for such.
LOOK_EVERY = 600.0

_ID = re.compile(r"t-[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that is being sent."""

    id: str
    tenant: str
    #: Bytes that it will have.
    length: int
    #: Bytes that have come.
    offset: int
    #: What was said of it when it was begun.
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: Seconds since 1970, by this machine's clock.
    expires_at: float

    @property
    def complete(self) -> bool:
        """Whether all has come."""
        return self.offset == self.length


class Uploads:
    """Those of this machine; any number of processes may share the folder.

    Args:
        folder: where they are; made when the first one comes.
        most: bytes that one may have.
    """

    def __init__(self, folder: Path, *, most: int, seconds: float = FORGOTTEN_AFTER) -> None:
        self._folder = folder
        self._seconds = seconds
        self._looked = 0.0
        self.most = most

    def create(self, tenant: str, length: int, metadata: Mapping[str, str]) -> Upload:
        """Begin one.

        Raises:
            MediaBeyondLimit: it is larger than anything that is taken.
            DiskFull: there is no room for it.
            QueueFull: the tenant has many open, or half of the room: the rest is for others.
        """
        self.check(length)
        id = f"t-{uuid.uuid4().hex}"
        with self._writing():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._check_room(tenant, length)
            (self._folder / id).mkdir(mode=0o700)
            about = {"tenant": tenant, "length": length, "metadata": dict(metadata)}
            self._data(id).touch(mode=0o600)
            write_atomically(self._folder / id / "about.json", json.dumps(about).encode(), mode=0o600)
        return self.find(id)

    def _check_room(self, tenant: str, length: int) -> None:
        there = list(self._open())
        free = shutil.disk_usage(self._folder).free
        if free - sum(one.length - one.offset for one in there) < length:  # what is to come of others has its room
            raise DiskFull(f"{self._folder}: has no room for {length / 1e9:.3g} GB")
        mine = [one.length for one in there if one.tenant == tenant]
        most = (free + sum(one.offset for one in there)) / 2
        if len(mine) >= MOST_OPEN or (mine and sum(mine) + length > most):
            raise QueueFull(
                f"{tenant} has {len(mine)} uploads open, of {sum(mine) / 1e9:.3g} GB: hand them in first, or end them"
            )

    def _open(self) -> Iterator[Upload]:
        """Those that are being sent, of all tenants."""
        for folder in self._folder.glob("t-*"):
            with contextlib.suppress(Missing):
                yield self.find(folder.name)

    def check(self, size: int) -> None:
        """Raises MediaBeyondLimit where that is more bytes than are taken."""
        if size > self.most:
            raise MediaBeyondLimit(
                f"{size / 1e9:.6g} GB are more than the {self.most / 1e9:g} that are taken; raise STENOPOOL_MAX_GB"
            )

    def find(self, id: str) -> Upload:
        """One of them. Raises Missing where there is none, or no longer."""
        self._sweep()
        try:
            if not _ID.fullmatch(id):
                raise FileNotFoundError
            about = json.loads((self._folder / id / "about.json").read_text())
            there = self._data(id).stat()
        except (OSError, ValueError):
            raise Missing(f"there is no upload {id}; it may have expired: begin another one") from None
        expires = there.st_mtime + self._seconds
        if expires < time.time():
            raise Missing(f"upload {id} has expired; begin another one")
        return Upload(id=id, offset=there.st_size, expires_at=expires, **about)

    def path(self, id: str) -> Path:
        """Its file; that of one that was found."""
        return self._data(id)

    @contextlib.contextmanager
    def writing(self, id: str) -> Iterator[BufferedRandom]:
        """Its file, at its end; nobody else writes it meanwhile. Raises UploadBusy where somebody does."""
        with self._writing():
            try:
                file = self._data(id).open("r+b")
            except FileNotFoundError:
                raise Missing(f"there is no upload {id}; it may have expired: begin another one") from None
            with file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise UploadBusy(f"upload {id} is being sent just now; ask again for its offset") from None
                file.seek(0, os.SEEK_END)
                yield file
                file.flush()

    @contextlib.contextmanager
    def spooled(self, ending: str = "") -> Iterator[Path]:
        """A file of its own for what is sent in one go; gone afterwards."""
        folder = self._folder / f"s-{uuid.uuid4().hex}"
        with self._writing():
            folder.mkdir(mode=0o700, parents=True)
        try:
            with self._writing():
                yield folder / f"source{ending}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def remove(self, id: str) -> None:
        """It is no longer needed."""
        shutil.rmtree(self._folder / id, ignore_errors=True)

    def collect(self) -> int:
        """Forget those that have expired, and what killed processes left behind; returns how many there were."""
        n = 0
        with contextlib.suppress(FileNotFoundError):
            for folder in list(self._folder.iterdir()):
                with contextlib.suppress(OSError):
                    latest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
                    if latest + self._seconds < time.time():
                        shutil.rmtree(folder, ignore_errors=True)
                        n += 1
        return n

    def _sweep(self) -> None:
        if time.monotonic() - self._looked > LOOK_EVERY or not self._looked:
            self._looked = time.monotonic()
            self.collect()

    def _data(self, id: str) -> Path:
        return self._folder / id / "data"

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, ConnectionError):
                raise
            kind = DiskFull if is_full(error) else FolderError
            raise kind(f"{self._folder}: cannot be written to ({error.strerror}); make room, or mend it") from error


def record_of(upload: Upload) -> dict[str, object]:
    """An upload, for programs."""
    return asdict(upload)
