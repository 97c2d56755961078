"""The sound of a data set, decoded once: beside the training, a stretch of a file is a range of bytes."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from stenopool.domain import Span
from stenopool.errors import UsageError
from workers.media import Decoder

_BYTES = 2  # of a sample


class Sounds:
    """Files as int16 at 16 kHz, kept in a folder that may be deleted whenever nobody trains: 115 MB for an hour.

    A file that has changed since is decoded anew.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[Path, Path] = {}

    def decode(self, paths: Iterable[Path], decoded: Callable[[], None], *, threads: int) -> None:
        """Decode what is not here yet; `decoded` is called for each.

        Raises:
            MediaError: a file is no sound.
            UsageError: the folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{self._folder}: cannot be made ({error.strerror}); set STENOPOOL_CACHE elsewhere"
            ) from error
        with ThreadPoolExecutor(threads, thread_name_prefix="sounds") as pool:
            futures = [pool.submit(self._decode, path) for path in dict.fromkeys(paths)]
            try:
                for future in futures:
                    future.result()
                    decoded()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def length(self, path: Path) -> int:
        """Samples of a file that was decoded."""
        return self._kept[path].stat().st_size // _BYTES

    def read(self, path: Path, span: Span) -> np.ndarray:
        """A stretch of a file that was decoded, int16."""
        return np.fromfile(self._kept[path], np.int16, count=len(span), offset=span.start * _BYTES)

    def _decode(self, path: Path) -> None:
        status = path.stat()
        name = hashlib.sha256(f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}".encode()).hexdigest()
        kept = self._folder / f"{name}.pcm"
        if not kept.exists():
            new = kept.with_suffix(f".{uuid.uuid4().hex}")
            try:
                with Decoder(path) as decoder, new.open("wb") as file:
                    for block in decoder:
                        file.write(block[0].tobytes())
                new.replace(kept)
            except OSError as error:
                raise UsageError(
                    f"{kept}: cannot be written ({error.strerror}); set STENOPOOL_CACHE elsewhere"
                ) from error
            finally:
                new.unlink(missing_ok=True)
        self._kept[path] = kept
