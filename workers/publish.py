"""Publish: transcripts into files. A file is there whole or not at all: temporary name first, then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from stenopool.domain import Transcript
from stenopool.errors import UsageError
from stenopool.formats import format_of, render

#: How files are called while they are written.
TEMPORARY = ".stenopool-"


def output_name(stem: str, channel: int | None, format: str) -> str:
    """What one format of a transcript is called: `talk.srt`, or `talk.channel2.srt` where channels were split.

    Raises UsageError for a format that there is not.
    """
    return named(stem, channel, format_of(format).ending)


def named(stem: str, channel: int | None, ending: str) -> str:
    """What any other file of a transcript is called."""
    split = "" if channel is None else f".channel{channel}"
    return f"{stem}{split}.{ending}"


def open_folder(folder: Path) -> None:
    """Make the folder, and see that it can be written to, before any work is done.

    Raises:
        UsageError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / (probe := f"{TEMPORARY}{uuid.uuid4().hex}"), b"")
        (folder / probe).unlink()
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written to ({error.strerror}); choose another folder with -o") from error


def publish(transcript: Transcript, folder: Path, stem: str, formats: Iterable[str]) -> list[Path]:
    """Write a transcript in each format; returns the files that were not already there with the same content.

    Raises:
        UsageError: the folder cannot be written to.
    """
    written = []
    for format in formats:
        path = folder / output_name(stem, transcript.channel, format)
        if write(path, render(transcript, format).encode()):
            written.append(path)
    return written


def write(path: Path, content: bytes) -> bool:
    """Write a file; False where it was there with the same content.

    Raises:
        UsageError: its folder cannot be written to.
    """
    try:
        if path.is_file() and path.read_bytes() == content:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); choose another folder with -o") from error
    return True


def write_atomically(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Replace a file's content so that no reader ever sees half of it; `mode` is cut by the umask."""
    # Not tempfile's: its files are private, and reading the umask to mend that opens it to all threads for a moment.
    # Not the file's own name with something added: that may already be as long as a name can be.
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
