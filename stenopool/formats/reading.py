"""The transcript's JSON read back, and a clear word about any other.

The domain's values are made from the samples; the seconds and the joined text beside them are not looked at.
"""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any, NoReturn, TypeVar

from stenopool.domain import (
    Channel,
    Coverage,
    CoverageKind,
    CoveragePiece,
    Options,
    Provenance,
    Segment,
    Span,
    Transcript,
    Word,
)
from stenopool.errors import UsageError
from stenopool.formats.document import SCHEMA, VERSION
from stenopool.options import options_of

_Value = TypeVar("_Value")
_JSON_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "an array",
    dict: "an object",
}


def parse_json(text: str) -> Transcript:
    """The transcript that `to_json` wrote; a segment's figure that was no finite number comes back as NaN.

    Raises UsageError, which names what is wrong, for any other text: not JSON, another kind of document, another
    version of the schema, a key missing or too many, a value that does not fit.
    """
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"not a Stenopool transcript: it is not JSON ({e})") from e
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UsageError(f'not a Stenopool transcript: it has no "schema": "{SCHEMA}"')
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise UsageError(
            f"transcript of schema version {version!r}, this Stenopool reads version {VERSION}: "
            "use the Stenopool that wrote it, or transcribe again"
        )
    return _Reader(document, "").transcript()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


class _Reader:
    """One object of the document: takes its keys, and complains with the path of what does not fit."""

    def __init__(self, value: dict[str, Any], path: str) -> None:
        self._value = value
        self._path = path
        self._unread = set(value)

    def transcript(self) -> Transcript:
        self._skip("schema", "version", "seconds", "text")
        return self._done(
            Transcript(
                source=self._get("source", str),
                recording=self._get("recording", str),
                duration=self._count("duration"),
                language=self._get_or_none("language", str),
                language_probability=self._figure("language_probability"),
                segments=tuple(reader.segment() for reader in self._objects("segments")),
                coverage=self._coverage(),
                provenance=self._object("provenance").provenance(),
                ended_early=self._get_or_none("ended_early", str),
                damaged=self._get("damaged", int),
                channel=self._get_or_none("channel", int),
                channels=tuple(reader.channel() for reader in self._objects("channels")),
            )
        )

    def channel(self) -> Channel:
        return self._done(
            Channel(
                channel=self._get("channel", int),
                speaker=self._get("speaker", str),
                recording=self._get("recording", str),
                language=self._get_or_none("language", str),
                language_probability=self._figure("language_probability"),
                coverage=self._coverage(),
                ended_early=self._get_or_none("ended_early", str),
                damaged=self._get("damaged", int),
            )
        )

    def _coverage(self) -> Coverage:
        pieces = tuple(reader.piece() for reader in self._objects("coverage"))
        try:
            return Coverage(pieces)
        except ValueError as e:
            raise UsageError(f"not a Stenopool transcript: {self._path}{e}") from e

    def segment(self) -> Segment:
        return self._done(
            Segment(
                span=self._span(),
                text=self._get("text", str),
                chunk=self._get("chunk", int),
                avg_logprob=self._figure_or_nan("avg_logprob"),
                compression_ratio=self._figure_or_nan("compression_ratio"),
                no_speech_prob=self._figure_or_nan("no_speech_prob"),
                temperature=self._figure_or_nan("temperature"),
                language=self._get_or_none("language", str),
                guards=tuple(self._strings("guards")),
                suspicion=self._number("suspicion"),
                speaker=self._get_or_none("speaker", str),
                words=tuple(reader.word() for reader in self._objects("words")),
            )
        )

    def word(self) -> Word:
        return self._done(Word(self._span(), self._get("text", str), self._figure("probability")))

    def piece(self) -> CoveragePiece:
        kind = self._get("kind", str)
        if kind not in list(CoverageKind):
            raise self._unfit("kind", f"must be one of {', '.join(CoverageKind)}, is {kind!r}")
        return self._done(
            CoveragePiece(
                span=self._span(),
                kind=CoverageKind(kind),
                score=self._figure("score"),
                reason=self._get_or_none("reason", str),
            )
        )

    def provenance(self) -> Provenance:
        return self._done(
            Provenance(
                model=self._get("model", str),
                model_digest=self._get("model_digest", str),
                assistant_digest=self._get_or_none("assistant_digest", str),
                dtype=self._get("dtype", str),
                options=self._object("options").options(),
                version=self._get("version", str),
            )
        )

    def options(self) -> Options:
        values = {field.name: self._take(field.name) for field in fields(Options)}
        try:
            return self._done(options_of(values))
        except UsageError as e:
            raise UsageError(f"not a Stenopool transcript: {self._path}{e}") from e

    def _span(self) -> Span:
        self._skip("start", "end")
        start, end = self._get("start_sample", int), self._get("end_sample", int)
        try:
            return Span(start, end)
        except ValueError as e:
            raise self._unfit("start_sample", f"and end_sample: {e}") from e

    def _count(self, key: str) -> int:
        count = self._get(key, int)
        if count < 0:
            raise self._unfit(key, f"must not be negative, is {count}")
        return count

    def _number(self, key: str) -> float:
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._mistyped(key, float, value)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._unfit(key, "is too large a number")
        return number

    def _figure(self, key: str) -> float | None:
        return None if self._take(key) is None else self._number(key)

    def _figure_or_nan(self, key: str) -> float:
        figure = self._figure(key)
        return math.nan if figure is None else figure

    def _get_or_none(self, key: str, kind: type[_Value]) -> _Value | None:
        return None if self._take(key) is None else self._get(key, kind)

    def _get(self, key: str, kind: type[_Value]) -> _Value:
        value = self._take(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._mistyped(key, kind, value)
        return value

    def _object(self, key: str) -> _Reader:
        return _Reader(self._get(key, dict), f"{self._path}{key}.")

    def _strings(self, key: str) -> list[str]:
        values = self._get(key, list)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise self._mistyped(f"{key}[{index}]", str, value)
        return values

    def _objects(self, key: str) -> list[_Reader]:
        readers = []
        for index, value in enumerate(self._get(key, list)):
            path = f"{key}[{index}]"
            if not isinstance(value, dict):
                raise self._mistyped(path, dict, value)
            readers.append(_Reader(value, f"{self._path}{path}."))
        return readers

    def _skip(self, *keys: str) -> None:
        for key in keys:
            self._take(key)

    def _take(self, key: str) -> Any:
        if key not in self._value:
            raise self._unfit(key, "is missing")
        self._unread.discard(key)
        return self._value[key]

    def _done(self, value: _Value) -> _Value:
        """The value, once nothing is left of the object that the schema does not know."""
        if self._unread:
            raise self._unfit(repr(min(self._unread)), "is not a key of the schema")
        return value

    def _mistyped(self, key: str, kind: type, value: object) -> UsageError:
        found = "null" if value is None else _JSON_NAMES[type(value)]
        return self._unfit(key, f"must be {_JSON_NAMES[kind]}, is {found}")

    def _unfit(self, key: str, why: str) -> UsageError:
        return UsageError(f"not a Stenopool transcript: {self._path}{key} {why}")
