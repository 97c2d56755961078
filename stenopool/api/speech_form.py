"""What OpenAI's clients send: a form whose file goes to disk as it comes, and parameters of which none is ignored."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal, get_args

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from stenopool.api.speech_errors import SpeechError
from stenopool.domain import Options, Task
from stenopool.options import options_of

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]
FORMATS: tuple[str, ...] = get_args(Format)
GRANULARITIES = ("word", "segment")

_BOTH = frozenset({"file", "model", "prompt", "response_format", "temperature", "language"})
_KNOWN: Mapping[Task, frozenset[str]] = {
    "translate": _BOTH,
    "transcribe": _BOTH
    | {"languages", "keywords", "timestamp_granularities", "stream", "chunking_strategy", "include"},
}
#: Why what OpenAI has is not here.
_UNSUPPORTED = {
    "include": "log probabilities of tokens are not given; verbose_json has avg_logprob for each segment",
    "known_speaker_names": "speakers are not told apart",
    "known_speaker_references": "speakers are not told apart",
}
#: Fields of a form beside its file, and bytes of each: they are in memory before anything is judged.
_FIELDS, _FIELD = 200, 64 << 10
#: Letters that a name may have.
_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a request asks for."""

    model: str
    options: Options
    format: Format
    stream: bool = False
    granularities: tuple[str, ...] = field(default=("segment",))


async def read_form(request: Request, most: float) -> FormData:
    """A form; close it. What is large in it is on disk.

    Args:
        most: bytes that the body may have.

    Raises:
        SpeechError: it is none, or too large.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise SpeechError(400, "send a form: Content-Type: multipart/form-data, with file and model")
    too_large = SpeechError(
        413, f"the file is more than {most / 1e9:g} GB; STENOPOOL_MAX_GB of the server says what may be", param="file"
    )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise too_large

    async def bounded() -> AsyncGenerator[bytes, None]:
        n = 0
        async for piece in request.stream():
            n += len(piece)
            if n > most:
                raise too_large
            yield piece

    try:
        return await MultiPartParser(
            request.headers, bounded(), max_files=1, max_fields=_FIELDS, max_part_size=_FIELD
        ).parse()
    except MultiPartException as error:
        raise SpeechError(400, f"the form cannot be read: {error.message}") from error


def file_of(form: FormData) -> tuple[UploadFile, str]:
    """The file of a form, and what it is called. Raises SpeechError where there is none."""
    given = form.get("file")
    if not isinstance(given, UploadFile):
        raise SpeechError(400, "there is no file; send one, with its name", param="file")
    name = PurePath((given.filename or "").replace("\\", "/")).name[-_LONGEST:]
    return given, "".join(letter for letter in name if letter.isprintable()) or "audio"


def read_wanted(form: FormData, task: Task) -> Wanted:
    """What a form asks for.

    Raises:
        SpeechError: a parameter is not known, not supported, out of range, or does not fit the others.
        UsageError: an option cannot be.
    """
    given: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        plain = name.removesuffix("[]")
        if plain != "file":
            if not isinstance(value, str):
                raise SpeechError(400, f"{name} is a file; send text", param=plain)
            if "\0" in value:  # no database has it
                raise SpeechError(400, f"{name} has a NUL in it; leave that out", param=plain)
            given.setdefault(plain, []).append(value)
    for name in given:
        if name in _UNSUPPORTED or name.partition("[")[0] == "chunking_strategy" != name:
            raise SpeechError(400, f"{name}: {_UNSUPPORTED.get(name, _CHUNKING)}", param=name, code=_NO)
        if name not in _KNOWN[task]:
            raise SpeechError(400, f"there is no parameter {name}", param=name, code="unknown_parameter")
    one = {name: _one(name, values) for name, values in given.items() if name not in _LISTS}
    if not (model := one.get("model")):
        raise SpeechError(400, "say which model; GET /v1/models lists them", param="model")
    if one.get("chunking_strategy", "auto") != "auto":
        raise SpeechError(400, f"chunking_strategy: {_CHUNKING}", param="chunking_strategy", code=_NO)
    format = one.get("response_format") or "json"
    if format not in FORMATS:
        raise SpeechError(400, f"response_format is one of {', '.join(FORMATS)}", param="response_format")
    granularities = tuple(dict.fromkeys(given.get("timestamp_granularities", [])))
    if unknown := set(granularities) - set(GRANULARITIES):
        raise SpeechError(
            400, f"there is no granularity {min(unknown)}; there are word and segment", param="timestamp_granularities"
        )
    if granularities and format != "verbose_json":
        raise SpeechError(
            400, "timestamp_granularities are for response_format verbose_json", param="timestamp_granularities"
        )
    stream = _flag("stream", one.get("stream", "false"))
    if stream and format not in ("json", "text"):
        raise SpeechError(400, "what is streamed is text; ask for response_format json", param="response_format")
    return Wanted(
        model=model,
        options=_options(one, given, task, words="word" in granularities),
        format=format,  # type: ignore[arg-type]
        stream=stream,
        granularities=granularities or ("segment",),
    )


_LISTS = frozenset({"languages", "keywords", "timestamp_granularities"})
_NO = "unsupported_parameter"
_CHUNKING = "auto is what there is; chunks are cut at pauses"


def _options(one: Mapping[str, str], given: Mapping[str, Sequence[str]], task: Task, *, words: bool) -> Options:
    values: dict[str, Any] = {"task": task}
    languages = list(dict.fromkeys(filter(None, given.get("languages", ()))))
    if (language := one.get("language")) and languages:
        raise SpeechError(400, "give either language or languages", param="languages")
    if language:
        values["language"] = language
    if languages:
        values["languages"] = languages
    if prompt := one.get("prompt"):
        values["initial_prompt"] = prompt
    if keywords := [word for word in given.get("keywords", ()) if word.strip()]:
        values["hotwords"] = ", ".join(keywords)
    # At 0, as at OpenAI, the temperature rises by itself where a text is not good enough.
    if temperature := _temperature(one.get("temperature") or "0"):
        values["temperature"] = temperature
    if words:
        values["word_timestamps"] = True
    return options_of(values)


def _temperature(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise SpeechError(400, "temperature is a number from 0 to 1", param="temperature")
    return number


def _flag(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", ""):
        raise SpeechError(400, f"{name} is true or false", param=name)
    return text.lower() in ("true", "1")


def _one(name: str, values: Sequence[str]) -> str:
    if len(values) > 1:
        raise SpeechError(400, f"{name} is given {len(values)} times; once is enough", param=name)
    return values[0]
