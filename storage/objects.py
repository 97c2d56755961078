"""The object store: bytes under keys. On one machine, a folder."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

ABANDONED_AFTER = 3600.0  # seconds


class FolderStore:
    """Objects as files below a folder. An object is there whole or not at all.

    A key is a path of plain names ("pcm/3f2a...").
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unfinished = root / "unfinished"
        self._unfinished.mkdir(parents=True, exist_ok=True)
        # What a killed process left behind: a draft that anybody still writes was touched a moment ago.
        for draft in self._unfinished.iterdir():
            if time.time() - draft.stat().st_mtime > ABANDONED_AFTER:
                draft.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        if not all(part.replace("-", "").replace("_", "").replace(".", "").isalnum() for part in key.split("/")):
            raise ValueError(f"not an object key: {key!r}")
        return self._root / key

    @contextlib.contextmanager
    def draft(self) -> Iterator[Draft]:
        """A new object whose key is known only once it is written; gone if it is never kept."""
        path = self._unfinished / uuid.uuid4().hex
        with path.open("wb") as file:
            try:
                yield Draft(self, file, path)
            finally:
                path.unlink(missing_ok=True)

    def read(self, key: str, start: int, end: int) -> bytes:
        """Bytes `[start, end)` of an object. Raises KeyError where there is none."""
        try:
            with self._path(key).open("rb") as file:
                file.seek(start)
                return file.read(end - start)
        except FileNotFoundError:
            raise KeyError(key) from None

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return self._path(key).exists()

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if there is none."""
        self._path(key).unlink(missing_ok=True)


class Draft:
    """An object that is being written."""

    def __init__(self, store: FolderStore, file: BinaryIO, path: Path) -> None:
        self._store = store
        self._file = file
        self._path = path

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        self._file.write(data)

    def keep(self, key: str) -> None:
        """Make it an object under that key, replacing what is there."""
        self._file.flush()
        os.fsync(self._file.fileno())
        target = self._store._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._path.replace(target)
