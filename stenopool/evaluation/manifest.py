"""A manifest: recordings and what is said in them, a line for each, as JSON lines or a table.

    {"audio": "a.mp3", "reference": "a.txt", "language": "en"}         audio,reference,hypothesis
    {"audio": "b.mp3", "reference": "what is said in b"}               a.mp3,a.txt,a.json

NeMo's manifests can be read as they are: their names for the columns are known here.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stenopool.errors import UsageError
from stenopool.evaluation.texts import TEXT_SUFFIXES, is_table, read_utf8

_JSON_LINES = (".jsonl", ".ndjson")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}

#: What a column says; `..._text` is never a file. All other columns are somebody else's.
_COLUMNS = {
    "audio": "audio",
    "audio_filepath": "audio",  # NeMo
    "reference": "reference",
    "text": "reference_text",  # NeMo
    "hypothesis": "hypothesis",
    "pred_text": "hypothesis_text",  # NeMo
    "language": "language",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line."""

    #: Where it stands, for messages: "talks.jsonl line 3".
    place: str
    #: What the recording is called there.
    name: str
    #: Files are found from where the manifest is.
    audio: Path | None
    #: A file, or the text itself.
    reference: Path | str
    hypothesis: Path | str | None
    language: str | None


def is_manifest(path: Path) -> bool:
    """Whether a reference is a manifest, by its suffix; a table may also be a transcript with times."""
    suffix = path.suffix.lower()
    if suffix == ".tsv":
        return not is_table(read_utf8(path, str(path)))
    return suffix in (*_JSON_LINES, *_DELIMITERS)


def read_manifest(path: Path) -> list[Entry]:
    """The manifest's lines; empty ones are passed over.

    Raises:
        UsageError: the first line that is wrong, and how.
    """
    content = read_utf8(path, str(path))
    delimiter = _DELIMITERS.get(path.suffix.lower())
    lines = _json_lines(content, path) if delimiter is None else _table(content, path, delimiter)
    entries = [_entry(values, f"{path} line {number}", path.parent) for number, values in lines]
    if not entries:
        raise UsageError(f"{path}: names no recording; it needs a line for each, with audio and reference")
    return entries


def _json_lines(content: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{path} line {number}: is not JSON ({error}); each line is an object of its own"
            ) from error
        if not isinstance(values, dict):
            raise UsageError(f'{path} line {number}: is not an object, as in {{"audio": "...", "reference": "..."}}')
        yield number, values


def _table(content: str, path: Path, delimiter: str) -> Iterator[tuple[int, dict[str, Any]]]:
    stream = io.StringIO(content, newline="")
    # Tables with tabs have no quoting: what a person says may begin with a quotation mark.
    reader = csv.reader(stream) if delimiter == "," else csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_header(header, path)
        end = reader.line_num
        for cells in reader:
            number, end = end + 1, reader.line_num  # a quoted cell may go over several lines: the first is named
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise UsageError(
                    f"{path} line {number}: has {len(cells)} cells, its header {len(header)}"
                    + ("; put quotation marks around a text with commas" if delimiter == "," else "")
                )
            yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise UsageError(
            f"{path} line {reader.line_num}: is not a line of a table ({error}); keep long texts in files"
        ) from error


def _check_header(header: Iterable[str], path: Path) -> None:
    if not {_COLUMNS.get(name) for name in header} & {"reference", "reference_text"}:
        raise UsageError(f"{path} line 1: is no header with a column reference; known are {', '.join(_COLUMNS)}")


def _entry(values: dict[str, Any], place: str, folder: Path) -> Entry:
    known: dict[str, str] = {}
    for name, value in values.items():
        column = _COLUMNS.get(name)
        if column is None or value is None or value == "":
            continue
        if not isinstance(value, str):
            raise UsageError(f"{place}: its {name} must be text, is {json.dumps(value)[:40]}")
        if (base := column.removesuffix("_text")) in {key.removesuffix("_text") for key in known}:
            raise UsageError(f"{place}: says its {base} twice; leave one column out")
        known[column] = value
    hypothesis = _file_or_text(known, "hypothesis", folder)
    # An empty reference is one, if the manifest says so: nobody speaks.
    reference = _file_or_text(known, "reference", folder)
    if reference is None:
        if not any(values.get(name) == "" for name in ("reference", "text")):
            raise UsageError(f"{place}: has no reference; give a file, or what is said")
        reference = ""
    if "audio" not in known and hypothesis is None:
        raise UsageError(f"{place}: has neither audio nor hypothesis; give one of them")
    return Entry(
        place=place,
        name=known.get("audio") or (known["hypothesis"] if isinstance(hypothesis, Path) else place),
        audio=folder / known["audio"] if "audio" in known else None,
        reference=reference,
        hypothesis=hypothesis,
        language=known.get("language"),
    )


def _file_or_text(known: dict[str, str], column: str, folder: Path) -> Path | str | None:
    """A column's file, if its value ends as one does; the value itself, if not."""
    value = known.get(column)
    if value is None:
        return known.get(f"{column}_text")
    return folder / value if value.lower().endswith(TEXT_SUFFIXES) else value
