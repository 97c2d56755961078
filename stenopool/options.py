"""Options from whatever hands them over: types, ranges, and what contradicts what. None is accepted and ignored."""

from __future__ import annotations

import math
import reprlib
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from stenopool.domain import Options
from stenopool.errors import UsageError

DEFAULTS = Options()
_TYPES = get_type_hints(Options)

#: No number is larger, so that none overflows where it is counted in samples or tokens.
_MOST = 1e9

#: What most numbers have to be.
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "beam_size": (lambda x: 1 <= x <= 100, "between 1 and 100"),
    "best_of": (lambda x: 1 <= x <= 100, "between 1 and 100"),
    "patience": (lambda x: 0 < x <= 100, "above 0 and at most 100"),
    "length_penalty": (lambda x: 0 <= x <= 1, "between 0 and 1"),
    "compression_ratio_threshold": (lambda x: x > 0, "above 0"),
    "no_speech_threshold": (lambda x: 0 <= x <= 1, "between 0 and 1"),
    "prompt_reset_on_temperature": (lambda x: x >= 0, "0 or more"),
    "max_initial_timestamp": (lambda x: x >= 0, "0 or more"),
    "max_new_tokens": (lambda x: x >= 1, "at least 1"),
    "max_tokens_per_second": (lambda x: x > 0, "above 0"),
    "hallucination_silence_threshold": (lambda x: x > 0, "above 0"),
}


def options_of(values: Mapping[str, object]) -> Options:
    """Options from plain values: lists for tuples, whole numbers for fractions, one temperature for several.

    Raises:
        UsageError: a value is of another type, out of its range, or contradicts another.
        TypeError: there is no such option.
    """
    known = [field.name for field in fields(Options)]
    if unknown := [name for name in values if name not in known]:
        raise TypeError(f"no option {unknown[0]!r}; there are {', '.join(known)}")
    options = Options(**{name: _typed(name, value) for name, value in values.items()})
    _check_ranges(options)
    _check_company(options)
    return options


def resolved(options: Options) -> Options:
    """The options with what None stands for in their mode: so that the same work has the same digest."""
    sequential = options.mode == "sequential"
    if sequential and options.overlap:
        raise _refused("overlap", "is for chunked mode; leave it out")
    overlap = 0.0 if sequential else 3.0 if options.overlap is None else options.overlap
    carries = sequential if options.condition_on_previous_text is None else options.condition_on_previous_text
    reset = 0.5 if options.prompt_reset_on_temperature is None else options.prompt_reset_on_temperature
    return replace(
        options,
        overlap=overlap,
        condition_on_previous_text=carries,
        prompt_reset_on_temperature=reset if carries else None,
        suppress_tokens=None if options.suppress_tokens == (-1,) else options.suppress_tokens,
    )


def _typed(name: str, value: object) -> Any:
    if name == "language" and value is None:
        return "auto"
    if name == "temperature" and isinstance(value, int | float):
        value = (value,)
    try:
        return _as(_TYPES[name], value)
    except UnicodeEncodeError:
        raise UsageError(f"{name} must be text in UTF-8, is {value!r}") from None
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{name} must be {_spelled(_TYPES[name])}, is {reprlib.repr(value)}") from None


def _as(kind: Any, value: object) -> object:
    """The value as that type; TypeError if it is not."""
    origin = get_origin(kind)
    if origin is Literal:
        if value in get_args(kind):
            return value
    elif origin in (types.UnionType,):
        if value is None:
            return None
        return _as(get_args(kind)[0], value)
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(_as(get_args(kind)[0], one) for one in value)
    elif kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif kind is str:
        if isinstance(value, str):
            value.encode()  # a command line may hold bytes that are no text
            return value
    elif isinstance(value, kind):
        return value
    raise TypeError


def _spelled(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if origin is types.UnionType:
        return f"{_spelled(get_args(kind)[0])} or None"
    if origin is tuple:
        return f"a list, each {_spelled(get_args(kind)[0])}"
    return {str: "a string", bool: "True or False", int: "a whole number", float: "a finite number"}[kind]


def _check_ranges(options: Options) -> None:
    for field in fields(Options):
        value = getattr(options, field.name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, int | float) and abs(one) > _MOST:
                raise UsageError(f"{field.name} must be at most {_MOST:g}, is {reprlib.repr(one)}")
    for name, (fits, spelled) in _RANGES.items():
        value = getattr(options, name)
        if value is not None and not fits(value):
            raise UsageError(f"{name} must be {spelled}, is {value:g}")
    if not options.temperature or not all(0 <= one <= 2 for one in options.temperature):
        raise UsageError(f"temperature must be one or several of 0 to 2, is {list(options.temperature)}")
    if options.beam_size * options.patience < 1:
        raise UsageError(
            f"a patience of {options.patience:g} ends a search of {options.beam_size} beams before it begins"
        )


def _check_company(options: Options) -> None:
    """What has no effect beside the other options is refused, not ignored."""
    sampled = any(one > 0 for one in options.temperature)
    searched = options.beam_size > 1 and any(one == 0 for one in options.temperature)
    several = searched or (sampled and options.best_of > 1)
    refusals = [
        ("beam_size", options.beam_size > 1 and not searched, "needs a temperature of 0"),
        ("patience", options.patience != DEFAULTS.patience and not searched, "needs a beam_size above 1"),
        ("length_penalty", options.length_penalty is not None and not several, "needs several beams or samples"),
        ("best_of", options.best_of != DEFAULTS.best_of and not sampled, "needs a temperature above 0"),
        (
            "compression_ratio_threshold",
            options.compression_ratio_threshold not in (None, DEFAULTS.compression_ratio_threshold)
            and len(options.temperature) == 1,
            "needs another temperature to go on at",
        ),
        (
            "log_prob_threshold",
            options.log_prob_threshold not in (None, DEFAULTS.log_prob_threshold)
            and options.no_speech_threshold is None
            and len(options.temperature) == 1,
            "needs another temperature to go on at, or a no_speech_threshold",
        ),
        ("languages", bool(options.languages) and options.language != "auto", "needs language to be auto"),
        ("multilingual", options.multilingual and options.language != "auto", "needs language to be auto"),
        (
            "max_initial_timestamp",
            options.without_timestamps and options.max_initial_timestamp != DEFAULTS.max_initial_timestamp,
            "contradicts without_timestamps; leave one of them out",
        ),
        (
            "condition_on_previous_text",
            bool(options.condition_on_previous_text) and options.mode == "chunked",
            "needs the sequential mode: chunks know nothing of each other",
        ),
        (
            "prompt_reset_on_temperature",
            options.prompt_reset_on_temperature is not None
            and (options.mode == "chunked" or options.condition_on_previous_text is False),
            "needs condition_on_previous_text",
        ),
        (
            "without_timestamps",
            options.without_timestamps and options.mode == "sequential",
            "contradicts the sequential mode, which goes on where the last timestamp was; choose the chunked one",
        ),
        (
            "hallucination_silence_threshold",
            options.hallucination_silence_threshold is not None and not options.word_timestamps,
            "needs word_timestamps",
        ),
        *(
            (
                name,
                getattr(options, name) != getattr(DEFAULTS, name) and not options.word_timestamps,
                "needs word_timestamps",
            )
            for name in ("prepend_punctuations", "append_punctuations")
        ),
    ]
    for name, refused, why in refusals:
        if refused:
            raise _refused(name, why)


def _refused(name: str, why: str) -> UsageError:
    return UsageError(f"{name} {why}")
