"""What becomes of a file's channels, for every command that transcribes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from scheduler.channels import check_speakers
from stenopool.errors import UsageError

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: For every command that writes transcripts.
speakers_option = click.option(
    "--speakers",
    metavar="NAMES",
    callback=lambda _, __, value: () if value is None else read_speakers(value),
    help="Who is heard in the first channel, the second, ...: names, separated by commas.  [default: Channel 1, ...]",
)


def channels_options(command: _Command) -> _Command:
    """Whether channels are mixed or split, and who speaks in them; `taken_channels` takes both out again."""
    channels = click.option(
        "--channels",
        type=click.Choice(["mix", "split"]),
        default="mix",
        show_default=True,
        help="Mix all channels; or make a transcript of each, and one of all that says who speaks.",
    )
    return channels(speakers_option(command))


def taken_channels(arguments: dict[str, Any]) -> tuple[bool, tuple[str, ...]]:
    """Whether channels are split, and who speaks in them; the arguments are then without both.

    Raises:
        UsageError: there are names, and channels are mixed.
    """
    split, speakers = arguments.pop("channels") == "split", arguments.pop("speakers")
    if speakers and not split:
        raise UsageError("--speakers names channels, which are mixed; say --channels split as well")
    return split, speakers


def read_speakers(text: str) -> tuple[str, ...]:
    """Names that are separated by commas.

    Raises:
        UsageError: see `scheduler.channels.check_speakers`.
    """
    return check_speakers([name.strip() for name in text.split(",")])
