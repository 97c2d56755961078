"""Where a submission's transcripts are sent, and in which formats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from stenopool.cli.transcribe import read_formats
from stenopool.errors import UsageError

_Command = TypeVar("_Command", bound=Callable[..., Any])

DEFAULT = ("txt", "srt", "json")


def delivery_options(command: _Command) -> _Command:
    """Where to send transcripts as well; `taken_delivery` takes both options out again."""
    to = click.option(
        "--to",
        metavar="PLACE",
        help="Send the transcripts to s3://bucket/prefix or a folder as well, with a manifest that is written last.",
    )
    formats = click.option(
        "-f",
        "--format",
        "formats",
        callback=lambda context, parameter, value: value and read_formats(context, parameter, value),
        help=f"What to send there, as of transcribe.  [default: {','.join(DEFAULT)}]",
    )
    return to(formats(command))


def taken_delivery(arguments: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """Where to send transcripts, as it was given, and in which formats; the arguments are then without both.

    Raises:
        UsageError: there are formats, and nowhere to send them.
    """
    to, formats = arguments.pop("to"), arguments.pop("formats")
    if formats and not to:
        raise UsageError("--format is what --to sends; say where, or name formats when you fetch")
    return to, (formats or DEFAULT) if to else ()
