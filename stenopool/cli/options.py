"""The options of `stenopool.domain.Options` on the command line, in sections, for every command that transcribes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar, get_args, get_type_hints

import click

from stenopool.domain import Mode, Options, Task
from stenopool.options import DEFAULTS, options_of

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Section -> option -> what it does. The words are of the command line; the truth is in the domain.
HELP: dict[str, dict[str, str]] = {
    "Language": {
        "language": "Code or English name, or auto to detect it.",
        "languages": "Codes that detection may choose from, separated by commas.",
        "multilingual": "Detect the language of every chunk, for recordings that change it.",
        "task": "Write what is said, or its English translation.",
    },
    "Cutting": {
        "mode": "Chunks that know nothing of each other, or window after window.",
        "chunk_length": "Longest chunk, seconds.",
        "overlap": "Seconds that chunks share where speech has no pause to cut in.  [default: 3]",
        "vad": "Leave silence out, found by voice activity detection.",
    },
    "Decoding": {
        "beam_size": "Beams at temperature 0; 1 is greedy.",
        "patience": "End a beam search when this many times its beams have ended.",
        "best_of": "Samples at temperatures above 0.",
        "length_penalty": "Rank hypotheses by Wu et al.'s penalty with this alpha, not by their mean.",
        "temperature": "Tried in turn until a text is good enough.",
        "compression_ratio_threshold": "A text that compresses better is tried again; or none.",
        "log_prob_threshold": "A text less likely per token is tried again; or none.",
        "no_speech_threshold": "A text that is as unlikely is silence, if the model finds this likelier; or none.",
        "suppress_tokens": "Ids that are never written; -1 for the model's own, - for none.  [default: -1]",
        "suppress_blank": "A text may not begin with a space.",
        "max_new_tokens": "Tokens of a chunk's text.",
    },
    "Context": {
        "initial_prompt": "What may have been said before: names, spellings.",
        "hotwords": "Words to expect, in every chunk.",
        "prefix": "What the text of every chunk begins with.",
        "condition_on_previous_text": "Tell each window what was heard before.  [sequential mode: yes]",
        "prompt_reset_on_temperature": "Not what was heard above this temperature.  [default: 0.5]",
    },
    "Times": {
        "without_timestamps": "One segment for each chunk.",
        "max_initial_timestamp": "Latest beginning of a chunk's first segment, seconds; or none.",
        "word_timestamps": "Tell the time of every word.",
        "prepend_punctuations": "Marks that belong to the word after them.",
        "append_punctuations": "Marks that belong to the word before them.",
    },
    "Guards": {
        "loop_guard": "Stop a text that goes in circles.",
        "max_tokens_per_second": "Cut a text off that has more for its speech; or none.",
        "hallucination_silence_threshold": "Drop improbable words between silences of so many seconds.",
    },
}

_TYPES = get_type_hints(Options)
_SECTIONS = {f"--{name.replace('_', '-')}": section for section, names in HELP.items() for name in names}


def decoding_options(command: _Command) -> _Command:
    """All options that change a transcript's text; `taken` makes them `Options` again."""
    for names in reversed(HELP.values()):
        for name, text in reversed(names.items()):
            command = _option(name, text)(command)
    return command


def taken(arguments: dict[str, Any]) -> Options:
    """The options out of a command's arguments, which are then without them.

    Raises:
        UsageError: values that are out of range or contradict each other.
    """
    return options_of({field.name: arguments.pop(field.name) for field in fields(Options)})


class SectionedCommand(click.Command):
    """A command whose help lists its many options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections, its own options first."""
        rows: dict[str, list[tuple[str, str]]] = {"Options": [], **{section: [] for section in HELP}}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                rows[_SECTIONS.get(parameter.opts[-1], "Options")].append(record)
        for section, records in rows.items():
            with formatter.section(section):
                formatter.write_dl(records)


def _option(name: str, text: str) -> Callable[[_Command], _Command]:
    flag, default, kind = f"--{name.replace('_', '-')}", getattr(DEFAULTS, name), _TYPES[name]
    short = ("-l",) if name == "language" else ()
    if bool in (kind, *get_args(kind)):
        off = flag.replace("--", "--no-", 1)
        negative = name.startswith("without_")
        return click.option(flag if negative else f"{flag}/{off}", name, default=default, is_flag=True, help=text)
    if name in ("mode", "task"):
        choices = click.Choice(get_args(Mode if name == "mode" else Task))
        return click.option(flag, name, type=choices, default=default, show_default=True, help=text)
    if kind is str:
        return click.option(*short, flag, name, default=default, show_default=name == "language", help=text)
    kinds = get_args(kind)
    if name == "languages":
        return click.option(flag, name, metavar="CODES", callback=_several(str), help=text)
    if name == "suppress_tokens":
        return click.option(flag, name, metavar="IDS", callback=_several(int), help=text)
    if name == "temperature":
        shown = ",".join(f"{one:g}" for one in default)
        return click.option(flag, name, default=shown, show_default=True, callback=_several(float), help=text)
    if str in kinds:
        return click.option(flag, name, help=text)
    number = int if int in (kind, *kinds) else float
    if not kinds:
        return click.option(flag, name, type=number, default=default, show_default=True, help=text)
    return click.option(
        flag, name, metavar=number.__name__.upper(), default=None if default is None else f"{default:g}",
        show_default=default is not None, callback=_number_or_none(number), help=text,
    )  # fmt: skip


def _several(kind: type) -> Callable[[click.Context, click.Parameter, str | None], tuple[Any, ...] | None]:
    def read(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Any, ...] | None:
        if value is None:
            default: tuple[Any, ...] | None = getattr(DEFAULTS, parameter.name or "")
            return default
        try:
            several = tuple(kind(part.strip()) for part in value.split(",") if part.strip() not in ("", "-"))
        except ValueError:
            raise click.BadParameter(f"{value!r}: numbers, separated by commas") from None
        if not several and kind is str:
            raise click.BadParameter(f"{value!r} names none; leave it out for all")
        return several

    return read


def _number_or_none(kind: type) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    def read(_: click.Context, __: click.Parameter, value: str | None) -> Any:
        if value is None or value.lower() == "none":
            return None
        try:
            return kind(value)
        except ValueError:
            raise click.BadParameter(f"{value!r} is no number; or say none") from None

    return read
