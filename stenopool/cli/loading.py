"""The options that say which model transcribes, on what, and what feeds it, for every command that transcribes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stenopool.config import Config
from stenopool.domain import DTYPES, MOST_DECODERS, Options

if TYPE_CHECKING:
    from models.engine import Engine
    from workers.local import Driver

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Which model, on what, and what feeds it. Nothing of it changes what a transcript is about."""

    model: str
    dtype: Any
    batch_size: int | None
    assistant: str | None
    mesh: str | None
    decoders: int | None

    def engine(self) -> Engine:
        """The model, loaded."""
        from models.checkpoint import find_checkpoint
        from models.engine import Engine
        from models.sizes import Remembered

        return Engine(
            find_checkpoint(self.model),
            dtype=self.dtype,
            batch_size=self.batch_size,
            assistant=find_checkpoint(self.assistant) if self.assistant else None,
            mesh=self.mesh,
            remembered=Remembered(Config.from_env().sizes),
        )

    def driver(self, options: Options, **others: Any) -> Driver:
        """A driver that loads the model when it is needed; `others` are its further arguments."""
        from models.checkpoint import find_checkpoint
        from workers.local import Driver

        return Driver(
            Config.from_env(),
            find_checkpoint(self.model),
            options,
            dtype=self.dtype,
            batch_size=self.batch_size,
            assistant=find_checkpoint(self.assistant) if self.assistant else None,
            mesh=self.mesh,
            decoders=self.decoders,
            **others,
        )


#: Names of the options.
NAMES = tuple(field.name for field in fields(Loading))


def taken_loading(arguments: dict[str, Any]) -> Loading:
    """It, out of a command's arguments, which are then without."""
    return Loading(**{name: arguments.pop(name) for name in NAMES})


def _batch_size(_: click.Context, __: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if (number := _number(value)) < 1:
        raise click.BadParameter(f"{value}; a positive number, or auto")
    return number


def _decoders(_: click.Context, __: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not 1 <= (number := _number(value)) <= MOST_DECODERS:
        raise click.BadParameter(f"{value}; a number from 1 to {MOST_DECODERS}, or auto")
    return number


def _number(value: str) -> int:
    """0 for what is none, or has more digits than anybody means."""
    return int(value) if value.isdecimal() and len(value) < 10 else 0


def loading_options(command: _Command) -> _Command:
    """All of them; `taken_loading` reads them."""
    options = (
        click.option(
            "-m",
            "--model",
            default="pocket",
            show_default=True,
            help="pocket (bundled, small), a folder, or a Hugging Face repository, pinned or not "
            "(openai/whisper-large-v3-turbo@main).",
        ),
        click.option("--dtype", type=click.Choice(DTYPES), default="auto", show_default=True, help="Precision."),
        click.option(
            "--batch-size",
            default="auto",
            show_default=True,
            callback=_batch_size,
            help="Chunks decoded together, at most; fewer where the device has no room.",
        ),
        click.option(
            "--assistant",
            metavar="MODEL",
            help="A smaller model that drafts greedy text for it: the same text, sooner.",
        ),
        click.option(
            "--mesh",
            metavar="DATAxMODEL",
            help="Devices, such as 2x4: batches over 2, models over 4.  [default: one]",
        ),
        click.option(
            "--decoders",
            default="auto",
            show_default=True,
            callback=_decoders,
            help="Files decoded at once, each by a process; 1 is a thread.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
