"""What the commands of campaigns share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stenopool.config import Config

if TYPE_CHECKING:
    from workers.farm import Farm
    from workers.fetch import Fetcher

_Command = TypeVar("_Command", bound=Callable[..., Any])

tenant_option = click.option("--tenant", default="default", show_default=True, help="Whose campaign it is.")


@contextmanager
def farm_at_hand() -> Iterator[Farm]:
    """The farm that the settings name."""
    from workers.farm import Farm

    farm = Farm.find(Config.from_env())
    try:
        yield farm
    finally:
        farm.close()


def of_campaign(command: _Command) -> _Command:
    """What every command has that is about one campaign."""
    return click.argument("name")(tenant_option(command))


def fetcher_of(config: Config, *, size: float, seconds: float) -> Fetcher:
    """One that takes no more than so many bytes, for so long."""
    from workers.fetch import Bounds, Fetcher

    return Fetcher(Bounds(size=size, seconds=seconds), allowed=config.fetch_allow)


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal; hands out what tells it how many more are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda n: bar.advance(task, n)
