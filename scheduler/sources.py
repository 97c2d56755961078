"""Sources as people name them: what kind each is, what it is called, and what makes it the one it is; pure.

A path is of the machine where the command runs, and is uploaded. What is elsewhere is fetched by ingest: the command
hands in no more than its URL.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote, urlsplit

from stenopool.errors import UsageError
from storage.foreign import read_foreign

#: What a file in a folder, or an object below a prefix, must end with to be taken for a recording.
SUFFIXES = frozenset(
    {
        *(".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi", ".caf", ".dss"),
        *(".eac3", ".flac", ".flv", ".gsm", ".m2ts", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3"),
        *(".mp4", ".mpeg", ".mpg", ".mpga", ".mts", ".oga", ".ogg", ".ogv", ".opus", ".ra", ".rm", ".snd", ".spx"),
        *(".tta", ".voc", ".w64", ".wav", ".weba", ".webm", ".wma", ".wmv", ".wv"),
    }
)


class Kind(StrEnum):
    """What a source is, by how it is written."""

    #: A file, a folder or a pattern of this machine.
    PATH = "path"
    #: One recording somewhere on the web.
    URL = "url"
    #: An object in S3, or all below a prefix.
    OBJECT = "object"


def kind_of(source: str) -> Kind:
    """The kind of a source.

    Raises:
        UsageError: it is a URL of a kind that is not fetched, or has a form in which nothing can be fetched.
    """
    scheme, colon, _ = source.partition("://")
    if not colon or not scheme.isalnum():
        return Kind.PATH
    match scheme.lower():
        case "http" | "https":
            return Kind.URL
        case "s3":
            read_foreign(source)
            return Kind.OBJECT
        case "file":
            raise UsageError(f"{source}: name the path alone; file:// is not opened")
    raise UsageError(f"{source}: only http, https and s3 are fetched")


def is_recording(name: str) -> bool:
    """Whether a file's name in a folder, or an object's, is that of a recording; hidden ones are none."""
    path = PurePath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def name_of(source: str) -> str:
    """What a source is called, and its outputs are named after: a path as it is, the last part of a URL."""
    match kind_of(source):
        case Kind.PATH:
            return source
        case Kind.OBJECT:
            name = read_foreign(source).key
        case Kind.URL:
            parts = urlsplit(source)
            last = parts.path.rstrip("/").rpartition("/")[2]
            name = unquote(last) or parts.hostname or source
            name = name if "/" not in name else last
    return name if name.isprintable() and name not in (".", "..") else repr(name)


def key_of(identity: str, how: Mapping[str, Any]) -> str:
    """An idempotency key for content that is to be transcribed in a certain way: nothing is handed in twice under it.

    Args:
        identity: what the content is, such as its hash.
        how: what else would be other work, if it were different.
    """
    content = json.dumps([identity, how], sort_keys=True, default=list)
    return f"content:{hashlib.sha256(content.encode()).hexdigest()}"
