"""`stenopool watchlist`: phrases of which somebody wants to hear when they are said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from stenopool.cli.ledger import NOBODY, some_ledger
from stenopool.cli.search import hours
from stenopool.domain import SAMPLE_RATE

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.watching import Watching

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_TENANT = click.option("--tenant", help="Of this tenant only.")


@click.group()
def watchlist() -> None:
    """Phrases that raise an event when a transcript holds them.

    \b
    Example:
      stenopool watchlist add "project falcon" --backfill
    """


@watchlist.command(no_args_is_help=True)
@click.argument("phrases", nargs=-1, required=True, metavar="PHRASE...")
@click.option("--tenant", help="Whose.  [default: default on a farm, nobody's on one machine]")
@click.option("--backfill", is_flag=True, help="Look for it in what is transcribed already, too.")
def add(phrases: Sequence[str], tenant: str | None, backfill: bool) -> None:
    """Watch phrases: whole words, without case, punctuation and accents.

    \b
    Example:
      stenopool watchlist add "project falcon" merger
    """
    from storage.watching import Watching

    with some_ledger() as engine:
        watching = Watching(engine)
        whose = _whose(engine) if tenant is None else tenant
        watches = [watching.add(whose, phrase) for phrase in phrases]
        for watch in watches:
            found = f"\theard {sum(_backfill(watching, watch.id))} times" if backfill else ""
            click.echo(f"{watch.id}\t{watch.phrase}{found}")


def _backfill(watching: Watching, id: int) -> list[int]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.completed} transcripts"))
    found = []
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)
        for n in watching.backfill(id):
            found.append(n)
            bar.update(task, completed=len(found))
    return found


@watchlist.command("list")
@_TENANT
@_AS_JSON
def list_(tenant: str | None, as_json: bool) -> None:
    """What is watched.

    \b
    Example:
      stenopool watchlist list
    """
    from storage.watching import Watching

    with some_ledger() as engine:
        watches = Watching(engine).watches(tenant)
    if as_json:
        click.echo(json.dumps([asdict(watch) for watch in watches], indent=2))
        return
    for watch in watches:
        click.echo(f"{watch.id}\t{watch.tenant}\t{watch.phrase}")
    if not watches:
        click.echo("nothing is watched", err=True)


@watchlist.command(no_args_is_help=True)
@click.argument("ids", nargs=-1, required=True, type=click.IntRange(min=1), metavar="ID...")
def remove(ids: Sequence[int]) -> None:
    """Watch phrases no more; where they were heard is forgotten.

    \b
    Example:
      stenopool watchlist remove 3
    """
    from storage.watching import Watching

    with some_ledger() as engine:
        watching = Watching(engine)
        for id in dict.fromkeys(ids):
            watching.remove(id)
            click.echo(f"{id} is watched no more")


@watchlist.command()
@_TENANT
@click.option("--watch", type=click.IntRange(min=1), metavar="ID", help="Of this phrase only.")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="The latest.")
@_AS_JSON
def hits(tenant: str | None, watch: int | None, limit: int, as_json: bool) -> None:
    """Where watched phrases were heard.

    \b
    Example:
      stenopool watchlist hits --watch 3 --json
    """
    from storage.search import Search
    from storage.watching import Watching

    with some_ledger() as engine:
        found = Watching(engine).hits(tenant=tenant, watch=watch, limit=limit)
        names = Search(engine).names({hit.transcript for hit in found})
    if as_json:
        records = [
            asdict(hit)
            | {"name": names[hit.transcript], "start": hit.start / SAMPLE_RATE, "end": hit.end / SAMPLE_RATE}
            for hit in found
        ]
        click.echo(json.dumps(records, indent=2))
        return
    for hit in found:
        click.echo(f"{hit.phrase}\t{names[hit.transcript]}\t{hours(hit.start)}\t{hit.text}")
    if not found:
        click.echo("nothing was heard", err=True)


def _whose(engine: Engine) -> str:
    return "default" if engine.dialect.name == "postgresql" else NOBODY


COMMANDS: tuple[click.Command, ...] = (watchlist,)
