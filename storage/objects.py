"""The object store: bytes under keys. On one machine, a folder."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stenopool.errors import LedgerError

ABANDONED_AFTER = 3600.0  # seconds


class FolderStore:
    """Objects as files below a folder. An object is there whole or not at all.

    A key is a path of plain names ("pcm/3f2a..."); "unfinished" is taken, for drafts.

    Raises:
        LedgerError: the folder cannot be written to; so do drafts, from the disk's refusal on.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unfinished = root / "unfinished"
        self._writer = uuid.uuid4().hex  # how drafts that were begun here are told from those of others
        with self._writing():
            self._unfinished.mkdir(parents=True, exist_ok=True)
            for draft in self._unfinished.iterdir():
                with contextlib.suppress(FileNotFoundError):  # just kept by its process
                    # What a killed process left behind: a draft that anybody still writes was touched a moment ago.
                    if time.time() - draft.stat().st_mtime > ABANDONED_AFTER:
                        draft.unlink()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LedgerError(
                f"{self._root}: cannot be written to ({error.strerror}); make room, or set STENOPOOL_HOME elsewhere"
            ) from error

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        plain = all(part.replace("-", "").replace("_", "").replace(".", "").isalnum() for part in parts)
        if not plain or parts[0] == self._unfinished.name:
            raise ValueError(f"not an object key: {key!r}")
        return self._root / key

    @contextlib.contextmanager
    def draft(self) -> Iterator[Draft]:
        """A new object whose key is known only once it is written; gone if it is never kept."""
        path = self._unfinished / f"{self._writer}-{uuid.uuid4().hex}"
        with self._writing():
            file = path.open("wb")
        try:
            yield Draft(self, file, path)
        finally:
            path.unlink(missing_ok=True)
            # What was kept was flushed before; the rest is not wanted, and a full disk refuses it a second time here.
            with contextlib.suppress(OSError):
                file.close()

    def for_child(self) -> FolderStore:
        """The same objects for another process; `discard_drafts` of it removes what that one left behind."""
        return FolderStore(self._root)

    def discard_drafts(self) -> None:
        """Remove all drafts that were begun here, also in a process that this was sent to. Nobody may write them."""
        for draft in self._unfinished.glob(f"{self._writer}-*"):
            draft.unlink(missing_ok=True)

    def read(self, key: str, start: int, end: int) -> bytes:
        """Bytes `[start, end)` of an object, fewer where it ends before. Raises KeyError where there is none."""
        if not 0 <= start <= end:
            raise ValueError(f"a range needs 0 <= start <= end, got [{start}, {end})")
        try:
            with self._path(key).open("rb") as file:
                file.seek(start)
                return file.read(end - start)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):  # a folder of objects is none itself
            raise KeyError(key) from None

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return self._path(key).is_file()

    def size(self, key: str) -> int | None:
        """Bytes of an object, None where there is none."""
        try:
            return self._path(key).stat().st_size if self.exists(key) else None
        except FileNotFoundError:
            return None

    def idle(self, prefix: str, seconds: float = ABANDONED_AFTER) -> list[str]:
        """Keys below a prefix ("pcm") whose objects nobody wrote for so long."""
        folder = self._path(prefix)
        found = []
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > seconds:
                    found.append(f"{prefix}/{path.name}")
        return found

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if there is none."""
        if self.exists(key):
            self._path(key).unlink(missing_ok=True)


class Draft:
    """An object that is being written."""

    def __init__(self, store: FolderStore, file: BinaryIO, path: Path) -> None:
        self._store = store
        self._file = file
        self._path = path

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        with self._store._writing():
            self._file.write(data)

    def keep(self, key: str) -> None:
        """Make it an object under that key, replacing what is there."""
        target = self._store._path(key)
        with self._store._writing():
            self._file.flush()
            os.fsync(self._file.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path.replace(target)
