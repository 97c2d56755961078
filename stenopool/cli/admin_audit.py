"""`stenopool admin audit`: who did what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from stenopool.cli.rows import format_options, say
from stenopool.cli.transcribe import FAILED
from stenopool.config import Config
from stenopool.errors import UsageError

if TYPE_CHECKING:
    from storage.access import Access, Entry

COLUMNS = ("id", "at", "who", "tenant", "action", "subject", "before", "after", "request")


@click.command()
@click.option("--tenant", help="What was done to this tenant's only.")
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), show_default="100", help="The last so many.")
@click.option("--verify", is_flag=True, help="Read all of it; exit code 1 where an entry was changed or taken out.")
@format_options
@click.pass_context
def audit(
    context: click.Context, tenant: str | None, limit: int | None, verify: bool, as_json: bool, as_csv: bool
) -> None:
    """Who did what, by commands and over HTTP, the last first.

    Each entry's digest has that of the one before it in it: --verify follows them. That the last ones are missing does
    not show.

    \b
    Examples:
      stenopool admin audit --tenant ada
      stenopool admin audit --verify
    """
    from storage.access import Access
    from storage.admin import Rows
    from storage.database import open_database
    from workers.farm import find_farm

    if verify and (tenant is not None or limit is not None or as_json or as_csv):
        raise UsageError("--verify reads all of it and says a line: leave every other option out")
    most = limit or 100
    engine = open_database(find_farm(Config.from_env()).database)
    try:
        access = Access(engine)
        if verify:
            _say_whole(context, access)
            return
        found = access.entries(tenant=tenant, limit=most + 1)
    finally:
        engine.dispose()
    rows = Rows(columns=COLUMNS, rows=[_row(one) for one in found[:most]], cut=len(found) > most)
    say(rows, as_json=as_json, as_csv=as_csv)


def _row(one: Entry) -> tuple[object, ...]:
    at = f"{datetime.fromtimestamp(one.at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return (one.id, at, one.who, one.tenant, one.action, one.subject, one.before, one.after, one.request)


def _say_whole(context: click.Context, access: Access) -> None:
    broken = access.broken()
    if broken is None:
        last = next(iter(access.entries(limit=1)), None)
        click.echo(f"all is as it was written, {f'up to entry {last.id}' if last else 'which is nothing'}")
        return
    click.echo(f"entry {broken} is not as it was written, or one before it is missing", err=True)
    context.exit(FAILED)
