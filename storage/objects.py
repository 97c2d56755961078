"""The object store: bytes under keys. On one machine a folder (storage/folder.py), on the farm S3 (storage/s3.py).

An object is there whole or not at all. A key is a path of plain names ("pcm/3f2a..."), and nothing lies below a key;
"unfinished" is taken, for drafts.
"""

from __future__ import annotations

import contextlib
import errno
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from stenopool.errors import DiskFull, MediaMissing, StoreError

ABANDONED_AFTER = 3600.0  # seconds

#: Where drafts lie until they are kept.
UNFINISHED = "unfinished"


class Listed(NamedTuple):
    """An object as a listing has it."""

    key: str
    #: Bytes.
    size: int
    #: Seconds since it was written.
    age: float


class Draft(Protocol):
    """An object that is being written."""

    def write(self, data: bytes | memoryview) -> None:
        """Append."""

    def keep(self, key: str) -> None:
        """Make it an object under that key, replacing what is there. Nothing is written after it."""


class ObjectStore(Protocol):
    """What every store does. It can be sent to another process, which then uses the same objects.

    Raises:
        StoreError: by every method, where the store cannot be reached or refuses.
        ValueError: what was given is no key.
    """

    @abstractmethod
    def read(self, key: str, start: int, end: int) -> bytes:
        """Bytes `[start, end)` of an object, fewer where it ends before. Raises KeyError where there is none."""

    @abstractmethod
    def look(self, key: str) -> Listed | None:
        """An object as a listing would have it now, None where there is none."""

    def size(self, key: str) -> int | None:
        """Bytes of an object, None where there is none."""
        found = self.look(key)
        return None if found is None else found.size

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return self.look(key) is not None

    @abstractmethod
    def draft(self) -> AbstractContextManager[Draft]:
        """A new object whose key is known only once it is written; gone if it is never kept. Memory stays flat."""

    def put(self, key: str, data: bytes, media_type: str | None = None) -> None:
        """A small object, replacing what is there.

        Args:
            media_type: as which whoever downloads it is given it, where the store tells such a thing.
        """
        del media_type
        with self.draft() as draft:
            draft.write(data)
            draft.keep(key)

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """A small object where there is none. Of many writers at once exactly one is told True."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; it is no error if there is none."""

    def copies(self, prefix: str) -> Iterator[Listed]:
        """All that is kept under a key, or below a prefix ("transcripts/7").

        Where the store keeps former versions, an object has an entry for each, also when it is removed.
        """
        if (found := self.look(prefix)) is not None:
            yield found
        yield from self.list(prefix)

    def erase(self, key: str) -> None:
        """Remove an object with all its former versions; nothing brings it back. It is no error if there is none."""
        self.delete(key)

    @abstractmethod
    def list(self, prefix: str = "", after: str = "") -> Iterator[Listed]:
        """All objects below a prefix ("pcm", or "" for all), at any depth, in an order that is always the same.

        Args:
            after: a key below the prefix; only those that come after it, whether it is still there or not.

        Drafts are none, nor is what others put there under names that are no keys.
        """

    def idle(self, prefix: str, seconds: float = ABANDONED_AFTER) -> Sequence[str]:
        """Keys below a prefix ("pcm") whose objects nobody wrote for so long."""
        return sorted(found.key for found in self.list(prefix) if found.age > seconds)

    @abstractmethod
    def presign(self, key: str, seconds: int, filename: str) -> str:
        """A URL under which anybody can download the object for that long: a secret, not for logs.

        Args:
            key: whether there is such an object is not looked at.
            seconds: 15 minutes at most.
            filename: what a browser saves it as.

        Raises:
            UsageError: this store gives no URLs.
        """

    @abstractmethod
    def presign_upload(self, key: str, seconds: int, size: int) -> str:
        """A URL to which anybody can put an object of exactly so many bytes for that long: a secret, not for logs.

        Args:
            seconds: 15 minutes at most.

        Raises:
            UsageError: this store gives no URLs.
        """

    @abstractmethod
    def download(self, key: str, path: Path) -> None:
        """Copy an object into a file, which is there whole or not at all. Raises KeyError where there is none."""

    @abstractmethod
    def upload(self, path: Path, key: str) -> None:
        """Copy a file into an object, replacing what is there. Raises MediaMissing where it cannot be read."""

    @abstractmethod
    def for_child(self) -> ObjectStore:
        """The same objects for another process; `discard_drafts` of it removes what that one left behind."""

    @abstractmethod
    def discard_drafts(self) -> None:
        """Remove all drafts that were begun here, also in a process that this was sent to. Nobody may write them."""

    @abstractmethod
    def collect_drafts(self, seconds: float = ABANDONED_AFTER) -> int:
        """Remove what killed writers left behind and nobody touched for so long; returns how many there were."""


def is_key(text: str) -> bool:
    """Whether an object can have this name: nothing in it leads out of a store, or into its drafts."""
    parts = text.split("/")
    plain = all(part.replace("-", "").replace("_", "").replace(".", "").isalnum() for part in parts)
    return plain and parts[0] != UNFINISHED


def check_key(key: str) -> str:
    """The key itself. Raises ValueError where it is none."""
    if not is_key(key):
        raise ValueError(f"not an object key: {key!r}")
    return key


def check_range(start: int, end: int) -> None:
    """Raises ValueError where `[start, end)` is no range."""
    if not 0 <= start <= end:
        raise ValueError(f"a range needs 0 <= start <= end, got [{start}, {end})")


def is_full(error: OSError) -> bool:
    """Whether that is what a disk says that has no room, for anybody, for this user, or for a file of that size."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def downloading(path: Path) -> Iterator[None]:
    """What the disk of a file that is downloaded refuses, as a StoreError that names the file."""
    try:
        yield
    except OSError as error:
        kind = DiskFull if is_full(error) else StoreError
        raise kind(f"{path}: cannot be written to ({error.strerror}); make room, or choose another") from error


@contextlib.contextmanager
def uploading(path: Path) -> Iterator[None]:
    """What the disk of a file that is uploaded refuses, as a MediaMissing that names the file."""
    try:
        yield
    except OSError as error:
        raise MediaMissing(f"{path}: cannot be read ({error.strerror})") from error
