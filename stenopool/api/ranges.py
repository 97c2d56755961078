"""Which bytes of a file are asked for (RFC 9110, 14). Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

_RANGE = re.compile(r"bytes=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.IGNORECASE)


class Bytes(NamedTuple):
    """Bytes `[start, end)`."""

    start: int
    end: int


class Unsatisfiable(Exception):  # noqa: N818 - read as a statement
    """None of the bytes that are asked for are there."""


def asked(header: str | None, size: int, *, if_range: str | None = None, tag: str = "") -> Bytes | None:
    """What a Range header asks for; None where all is to be sent.

    That is also where several ranges are asked for, or what is no range of bytes: a server may always send all.

    Args:
        header: "bytes=0-99", "bytes=100-", "bytes=-100".
        size: bytes of the file.
        if_range: the tag of what the caller has a part of; of other bytes it gets all.
        tag: the file's, in quotes.

    Raises:
        Unsatisfiable: it begins behind the end, or is the last none.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or (if_range is not None and if_range.strip() != tag):
        return None
    first, last = found.groups()
    if not first:
        if not last:
            return None
        if not (length := int(last)) or not size:
            raise Unsatisfiable
        return Bytes(max(0, size - length), size)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return Bytes(start, min(size, int(last) + 1) if last else size)
