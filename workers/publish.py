"""Publish: transcripts into files. A file is there whole or not at all: temporary name first, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from stenopool.domain import Transcript
from stenopool.errors import UsageError
from stenopool.formats import render


def output_path(folder: Path, stem: str, transcript: Transcript, format: str) -> Path:
    """Where one format of a transcript goes: `talk.srt`, or `talk.channel2.srt` where channels were split."""
    channel = "" if transcript.channel is None else f".channel{transcript.channel}"
    return folder / f"{stem}{channel}.{format}"


def publish(transcript: Transcript, folder: Path, stem: str, formats: Iterable[str]) -> list[Path]:
    """Write a transcript in each format; returns the files that were not already there with the same content.

    Raises:
        UsageError: the folder cannot be written to.
    """
    written = []
    for format in formats:
        path = output_path(folder, stem, transcript, format)
        content = render(transcript, format).encode()
        try:
            if path.is_file() and path.read_bytes() == content:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written ({error.strerror}); choose another folder with -o") from error
        written.append(path)
    return written


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content so that no reader ever sees half of it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp's files are private; these are for others, too
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
