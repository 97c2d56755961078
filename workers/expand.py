"""Expanding: folders, patterns and prefixes become the recordings in them, one by one."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from scheduler.items import Item
from scheduler.sources import Kind, is_recording, kind_of, name_of
from stenopool.errors import UsageError
from storage.foreign import Found, objects_below, read_foreign


def names_many(source: str) -> bool:
    """Whether a source is expanded: a folder, a pattern, a prefix.

    Raises:
        UsageError: nothing of that kind can be handed in.
    """
    match kind_of(source):
        case Kind.PATH:
            return os.path.isdir(source) or (glob.has_magic(source) and not os.path.lexists(source))  # noqa: PTH112
        case Kind.OBJECT:
            return read_foreign(source).is_prefix
        case Kind.URL:
            return False


def expand(source: str) -> Iterator[Item]:
    """The recordings that a source names: files and objects by what their names end in, in order of their names.

    A prefix is listed as it is gone through.

    Raises:
        UsageError: there are none.
        StoreError: S3 cannot be reached, or refuses.
    """
    if not names_many(source):
        yield Item(location=source, name=name_of(source))
        return
    found = 0
    if kind_of(source) is Kind.OBJECT:
        for one in recordings_below(source):
            found += 1
            yield Item(location=one.place.url, name=name_of(one.place.url))
    else:
        for path in files_of(source):
            found += 1
            yield Item(location=path, name=path)
    if not found:
        raise UsageError(f"{source}: nothing in it is named as audio or video; name the files themselves")


def files_of(source: str) -> list[str]:
    """The recordings in a folder, or that fit a pattern or are in a folder that does.

    Raises:
        UsageError: a folder cannot be read.
    """
    if os.path.isdir(source):  # noqa: PTH112 - a name as it was given, also with a slash at its end
        return sorted(_below(source))
    found = set[str]()
    for path in glob.iglob(source, recursive=True):  # noqa: PTH207 - relative or absolute, as it was given
        if Path(path).is_dir():
            found.update(_below(path))
        elif is_recording(path):
            found.add(path)
    return sorted(found)


def recordings_below(prefix: str) -> Iterator[Found]:
    """Objects below a prefix that are named as recordings.

    Raises:
        StoreError: S3 cannot be reached, or refuses.
    """
    return (one for one in objects_below(read_foreign(prefix)) if is_recording(one.place.key) and one.size)


def _below(folder: str) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        raise UsageError(f"{error.filename}: cannot be read ({error.strerror}); let this user read it") from error

    for at, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(at, name) for name in files if is_recording(name))  # noqa: PTH118
