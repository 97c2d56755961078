"""`stenopool search`: where something was said, in all transcripts that are shown."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from stenopool.cli.ledger import some_ledger
from stenopool.domain import SAMPLE_RATE
from stenopool.errors import UsageError

if TYPE_CHECKING:
    from storage.search import Hit, Search

#: Characters around what was found.
AROUND = 70

_DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.command(no_args_is_help=True)
@click.argument("query", nargs=-1)
@click.option("--tenant", help="Of this tenant only.")
@click.option("--campaign", help="Of this campaign only; its name.")
@click.option("--speaker", help="Where this one speaks only: as named with --speakers when it was handed in to a farm.")
@click.option("--from", "since", type=_DAY, help="Transcribed on this day or later: 2026-11-22.")
@click.option("--to", "until", type=_DAY, help="Transcribed on this day or sooner.")
@click.option("-l", "--language", help="In this language only: its code.")
@click.option("--fuzzy", is_flag=True, help="Also words that are spelled alike.")
@click.option("--redacted", is_flag=True, help="Only what is left of redacted transcripts, and nothing of any other.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Hits at once.")
@click.option("--cursor", help="Go on behind another page: what that one ended with.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--reindex", is_flag=True, help="Search nothing: make the index anew from the transcripts.")
def search(query: tuple[str, ...], as_json: bool, reindex: bool, **arguments: Any) -> None:
    """Find where something was said: all words, "a phrase", one OR another, -without, beginn*.

    \b
    Example:
      stenopool search 'budget "next year" -draft' --from 2026-01-01
    """
    from storage.search import Search

    if reindex == bool(query):
        raise UsageError("--reindex takes no query" if reindex else 'there is no query; an example: budget "next year"')
    with some_ledger() as engine:
        looking = Search(engine)
        if reindex:
            _reindex(looking)
        else:
            _find(looking, " ".join(query), as_json=as_json, **arguments)


def _find(
    looking: Search,
    query: str,
    *,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
    **arguments: Any,
) -> None:
    from storage.search import Wanted

    wanted = Wanted(
        query=query,
        since=None if since is None else since.astimezone().timestamp(),
        until=None if until is None else (until + timedelta(days=1)).astimezone().timestamp(),
        **arguments,
    )
    page = looking.find(wanted, limit=limit, cursor=cursor)
    if as_json:
        click.echo(json.dumps({"hits": list(map(_record, page.hits)), "cursor": page.cursor}, indent=2))
        return
    for hit in page.hits:
        which = "" if hit.submission is None else f"{hit.submission}\t"
        channel = "" if hit.channel is None else f" {hit.speaker or f'channel {hit.channel}'}"
        click.echo(f"{which}{hit.name}{channel}\t{hours(hit.at)}\t{_context(hit)}")
    if not page.hits:
        click.echo("nothing was found", err=True)
    if page.cursor:
        click.echo(f"there is more: --cursor {page.cursor}", err=True)


def _reindex(looking: Search) -> None:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True)
    n = 0
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.completed} transcripts"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None)
        for n in looking.reindex():
            bar.update(task, completed=n)
    click.echo(f"{n} transcripts were looked through")


def _record(hit: Hit) -> dict[str, Any]:
    seconds = {name: getattr(hit, name) / SAMPLE_RATE for name in ("start", "end", "at")}
    return asdict(hit) | seconds | {"found": [list(one) for one in hit.found]}


def hours(samples: int) -> str:
    """Samples as 1:02:03."""
    minutes, seconds = divmod(samples // SAMPLE_RATE, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _context(hit: Hit) -> str:
    """What was found, with some of what is around it."""
    first = hit.found[0][0] if hit.found else 0
    last = max((end for _, end in hit.found if end <= first + AROUND), default=first)
    start = hit.text.rfind(" ", 0, max(0, first - AROUND) + 1) + 1 if first > AROUND else 0
    end = hit.text.find(" ", last + AROUND)
    end = len(hit.text) if end < 0 else end
    parts, at = [], start
    for begins, ends in hit.found:
        if start <= begins and ends <= end:
            parts += [hit.text[at:begins], click.style(hit.text[begins:ends], bold=True)]
            at = ends
    whole = "".join([*parts, hit.text[at:end]])
    return f"{'... ' if start else ''}{whole}{' ...' if end < len(hit.text) else ''}"


COMMANDS: tuple[click.Command, ...] = (search,)
