"""Objects in a folder: the store of one machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stenopool.errors import DiskFull, FolderError, UsageError
from storage.objects import (
    ABANDONED_AFTER,
    UNFINISHED,
    Draft,
    Listed,
    ObjectStore,
    check_key,
    check_range,
    downloading,
    is_full,
    is_key,
    uploading,
)

PIECE = 1 << 20  # bytes of a file that are in memory at a time


class FolderStore(ObjectStore):
    """Objects as files below a folder.

    Raises:
        FolderError: the folder cannot be written to (DiskFull: there is no room); so do drafts, from the refusal on.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unfinished = root / UNFINISHED
        self._writer = uuid.uuid4().hex  # how drafts that were begun here are told from those of others
        with self._writing():
            self._unfinished.mkdir(parents=True, exist_ok=True)
        self.collect_drafts()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = DiskFull if is_full(error) else FolderError
            raise kind(
                f"{self._root}: cannot be written to ({error.strerror}); make room, or set STENOPOOL_HOME elsewhere"
            ) from error

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):  # a folder of objects is none itself
            raise KeyError(key) from None
        except OSError as error:
            raise FolderError(f"{self._root}: {key} cannot be read ({error.strerror}); mend the disk") from error

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    @contextlib.contextmanager
    def draft(self) -> Iterator[_FolderDraft]:
        """See `ObjectStore`."""
        path = self._unfinished / f"{self._writer}-{uuid.uuid4().hex}"
        with self._writing():
            file = path.open("wb")
        try:
            yield _FolderDraft(self, file, path)
        finally:
            path.unlink(missing_ok=True)
            # What was kept was flushed before; the rest is not wanted, and a full disk refuses it a second time here.
            with contextlib.suppress(OSError):
                file.close()

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `ObjectStore`."""
        with self.draft() as draft:
            draft.write(data)
            return draft.keep_if_absent(key)

    def for_child(self) -> FolderStore:
        """See `ObjectStore`."""
        return FolderStore(self._root)

    def discard_drafts(self) -> None:
        """See `ObjectStore`."""
        for draft in self._unfinished.glob(f"{self._writer}-*"):
            draft.unlink(missing_ok=True)

    def collect_drafts(self, seconds: float = ABANDONED_AFTER) -> int:
        """See `ObjectStore`; done when a store is opened. A draft that is written was touched a moment ago."""
        removed = 0
        with self._writing():
            for draft in self._unfinished.iterdir():
                with contextlib.suppress(FileNotFoundError):  # just kept by its process
                    if time.time() - draft.stat().st_mtime > seconds:
                        draft.unlink()
                        removed += 1
        return removed

    def read(self, key: str, start: int, end: int) -> bytes:
        """See `ObjectStore`."""
        check_range(start, end)
        with self._reading(key), self._path(key).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def look(self, key: str) -> Listed | None:
        """See `ObjectStore`."""
        path = self._path(key)
        try:
            return _listed(key, path.stat()) if path.is_file() else None
        except FileNotFoundError:
            return None

    def list(self, prefix: str = "", after: str = "") -> Iterator[Listed]:
        """See `ObjectStore`."""
        above = self._path(prefix) if prefix else self._root
        done = self._path(after).relative_to(above).parts if after else ()
        for path in _files(above, done):
            key = path.relative_to(self._root).as_posix()
            if is_key(key):
                with contextlib.suppress(FileNotFoundError):
                    yield _listed(key, path.stat())

    def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        path = self._path(key)
        with self._writing():
            if path.is_file():
                path.unlink(missing_ok=True)

    def presign(self, key: str, seconds: int, filename: str) -> str:  # noqa: ARG002 - they are the contract's
        """Raises UsageError: a file's URL never ends, and nobody on another machine can follow it."""
        raise UsageError(f"{self._root}: a folder gives no URLs; read the object and send it, or keep objects in S3")

    def presign_upload(self, key: str, seconds: int, size: int) -> str:  # noqa: ARG002 - they are the contract's
        """Raises UsageError: as `presign`."""
        raise UsageError(f"{self._root}: a folder takes nothing by a URL; send it to the API, or keep objects in S3")

    def download(self, key: str, path: Path) -> None:
        """See `ObjectStore`."""
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        with self._reading(key), self._path(key).open("rb") as source, downloading(path):
            try:
                with part.open("wb") as target:
                    shutil.copyfileobj(source, target, PIECE)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    def upload(self, path: Path, key: str) -> None:
        """See `ObjectStore`."""
        with uploading(path), path.open("rb") as source, self.draft() as draft:
            while piece := source.read(PIECE):
                draft.write(piece)
            draft.keep(key)


class _FolderDraft(Draft):
    def __init__(self, store: FolderStore, file: BinaryIO, path: Path) -> None:
        self._store = store
        self._file = file
        self._path = path

    def write(self, data: bytes | memoryview) -> None:
        with self._store._writing():
            self._file.write(data)

    def keep(self, key: str) -> None:
        target = self._finish(key)
        with self._store._writing():
            self._path.replace(target)

    def keep_if_absent(self, key: str) -> bool:
        """Make it an object if there is none; says whether it was."""
        target = self._finish(key)
        with self._store._writing():
            try:
                target.hardlink_to(self._path)  # unlike a rename, refused where there is something
            except FileExistsError:
                if target.is_dir():
                    raise
                return False
        return True

    def _finish(self, key: str) -> Path:
        target = self._store._path(key)
        with self._store._writing():
            self._file.flush()
            os.fsync(self._file.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
        return target


def _listed(key: str, status: os.stat_result) -> Listed:
    return Listed(key, status.st_size, time.time() - status.st_mtime)


def _files(folder: Path, done: tuple[str, ...]) -> Iterator[Path]:
    """All files below a folder by their names, folder by folder; only those behind a path that is `done`."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    first = done[0] if done else ""
    for entry in entries:
        if entry.is_dir():
            if entry.name >= first and not entry.is_symlink():
                yield from _files(Path(entry.path), done[1:] if entry.name == first else ())
        elif entry.name > first:
            yield Path(entry.path)
