"""A manifest: recordings to hand in, a line for each, as a table or as JSON lines; pure.

    source,name,language,lane,vocabulary,key,show            {"source": "b.mp3", "language": "en", "show": "Waves"}
    talks/a.mp3,Opening,en,urgent,"Zoë, Kubernetes",a1,Waves

Only `source` is needed. Columns that are not known here are metadata: kept with the submission, and given back.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from scheduler.items import Item
from scheduler.sources import Kind, kind_of, name_of
from stenopool.errors import StenopoolError, UsageError

LANES = ("urgent", "normal", "bulk")
LONGEST_KEY = 200


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest names."""

    items: tuple[Item, ...]
    #: A line for each of its lines that is wrong, with its number as an editor counts.
    problems: tuple[str, ...]


def read_manifest(text: str, name: str, check: Callable[[Item], None]) -> Manifest:
    """All lines of a manifest; empty ones are passed over.

    Args:
        name: its own; paths are found from where it is. Its suffix says how it is written: .csv, .jsonl or .ndjson.
        check: raises a StenopoolError where an item cannot be handed in.

    Raises:
        UsageError: it has no header, names nothing, or is of another kind.
    """
    items: list[Item] = []
    problems: list[str] = []
    first: dict[str, int] = {}
    for number, values in _rows(text, name):
        try:
            if isinstance(values, UsageError):
                raise values
            item = _item(values, PurePath(name).parent)
            check(item)
            if item.key is not None and (before := first.setdefault(item.key, number)) != number:
                raise UsageError(f"has the key of line {before}; a key is for one recording")
        except StenopoolError as error:
            problems.append(f"{name} line {number}: {error}")
        else:
            items.append(item)
    if not items and not problems:
        raise UsageError(f"{name}: names no recording; it needs a line for each, with its source")
    return Manifest(tuple(items), tuple(problems))


def _rows(text: str, name: str) -> Iterator[tuple[int, dict[str, Any] | UsageError]]:
    """Number and values of each line, or what is wrong with it."""
    match PurePath(name).suffix.lower():
        case ".csv":
            return _table(text, name)
        case ".jsonl" | ".ndjson":
            return _json_lines(text)
    raise UsageError(f"{name}: is it a table or JSON lines? Let its name end in .csv or .jsonl")


def _json_lines(text: str) -> Iterator[tuple[int, dict[str, Any] | UsageError]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, UsageError(f"is not JSON ({error}); each line is an object of its own")
            continue
        if isinstance(values, dict):
            yield number, values
        else:
            yield number, UsageError('is not an object, as in {"source": "talk.mp3"}')


def _table(text: str, name: str) -> Iterator[tuple[int, dict[str, Any] | UsageError]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        if "source" not in header:
            raise UsageError(f"{name} line 1: is no header with a column source, as in: source,name,language")
        if len(set(header)) < len(header):
            raise UsageError(f"{name} line 1: names a column twice")
        end = reader.line_num
        for cells in reader:
            number, end = end + 1, reader.line_num  # a quoted cell may go over several lines: the first is named
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) == len(header):
                yield number, dict(zip(header, cells, strict=True))
            else:
                cure = "put quotation marks around a text with commas"
                yield number, UsageError(f"has {len(cells)} cells, its header {len(header)}; {cure}")
    except csv.Error as error:
        yield reader.line_num, UsageError(f"is not a line of a table ({error}); what comes after it was not read")


def _item(values: dict[str, Any], folder: PurePath) -> Item:
    given = {name.strip(): _text(name, value) for name, value in values.items() if value not in (None, "")}
    source = given.pop("source", "").strip()
    if not source:
        raise UsageError("has no source; give a path, an s3:// or an http(s) URL")
    kind = kind_of(source)
    name = given.pop("name", name_of(source))
    lane = given.pop("lane", None)
    if lane is not None and lane not in LANES:
        raise UsageError(f"its lane is {lane!r}; choose from {', '.join(LANES)}")
    key = given.pop("key", None)
    if key is not None and len(key) > LONGEST_KEY:
        raise UsageError(f"its key has {len(key)} letters, and {LONGEST_KEY} are the most")
    renamed = {"language": "language", "vocabulary": "hotwords"}
    options = {option: given.pop(column) for column, option in renamed.items() if column in given}
    location = str(folder / source) if kind is Kind.PATH else source
    return Item(location=location, name=name, options=options, lane=lane, key=key, metadata=given)


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise UsageError(f"its {name} must be text or a number, is {json.dumps(value)[:40]}")
