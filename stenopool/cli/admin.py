"""`stenopool admin`: what operators look at, and what they do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from stenopool.cli.admin_actions import ACTIONS
from stenopool.cli.admin_audit import audit
from stenopool.cli.rows import format_options, say
from stenopool.cli.transcribe import FAILED
from stenopool.config import Config
from stenopool.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.admin import Rows

#: Seconds between two looks of --watch.
LOOK_EVERY = 2.0

#: The views, which `storage.views` has with their columns: to import them for --help would take too long.
VIEWS = {
    "attempts": "What was begun more than once, or failed, and is not done yet.",
    "backlog": "What there is still to do, by lane, tenant and model.",
    "bloat": "The ledger's tables: sizes, dead rows, and when they were last cleaned.",
    "campaigns": "Archives that were handed in as one.",
    "invariants": "Promises that are broken: rows here are bugs. Exit code 1 where there are some.",
    "leases": "Who holds what, and for how long.",
    "outbox": "Who is still to be told what: events without a number, and the endpoints of webhooks.",
    "pauses": "Lanes and tenants of which nothing more is begun.",
    "quarantine": "Chunks that were given up, and why: the gaps of transcripts.",
    "recordings": "Decoded sound, whatever it was wrapped in, by tenant.",
    "sla": "How long it takes, and whether deadlines are kept, by lane.",
    "stuck": "What does not go on by itself, or goes on too late, and why.",
    "submissions": "What was handed in, and how far it is.",
    "tenant_usage": "What ended, by day (UTC) and tenant.",
    "transcripts": "Versions of texts: those that are made, and those that are being made.",
    "workers": "Processes that work, and what they do.",
}
#: Those whose rows are no tenant's.
OF_ALL = ("bloat", "invariants", "sla", "workers")


@click.group(no_args_is_help=True)
def admin() -> None:
    """Look into a farm, and steer it. The views are those of the schema admin in its Postgres.

    Each view's columns are told by its --help, and by docs/admin.md. With STENOPOOL_ADMIN_DATABASE, views and sql are
    read by that login.

    \b
    Examples:
      stenopool admin backlog --watch
      stenopool admin stuck --tenant ada --json
      stenopool admin why 7
      stenopool admin sql "SELECT tenant, sum(audio_s) FROM tenant_usage GROUP BY tenant"
    """


@contextmanager
def _looking() -> Iterator[Engine]:
    """The database as who may look has it."""
    from storage.database import engine_of, open_database
    from workers.farm import find_farm

    config = Config.from_env()
    reader = config.admin_database
    engine = engine_of(reader) if reader else open_database(find_farm(config).database)
    try:
        yield engine
    finally:
        engine.dispose()


class _ViewCommand(click.Command):
    """A view's command; its columns are looked up for --help only."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from storage.views import view_named

        view = view_named(ctx.command.name or "")
        assert view is not None, ctx.command.name
        with formatter.section("Columns"):
            formatter.write_dl(list(view.columns))


def _view_command(name: str, help: str) -> click.Command:
    def run(
        context: click.Context, limit: int, watch: bool, as_json: bool, as_csv: bool, tenant: str | None = None
    ) -> None:
        from storage.admin import Administration

        if watch and (as_json or as_csv):
            raise UsageError("--watch shows a table again and again: leave --json and --csv out")
        with _looking() as engine:
            administration = Administration(engine)
            if watch:
                _watch(lambda: administration.view(name, tenant=tenant, limit=limit), context.obj)
                return
            found = administration.view(name, tenant=tenant, limit=limit)
        say(found, as_json=as_json, as_csv=as_csv)
        if name == "invariants" and found.rows:
            context.exit(FAILED)

    run.__doc__ = f"{help}\n\n\b\nExample:\n  stenopool admin {name} --json"
    decorated = click.pass_context(run)
    if name not in OF_ALL:
        decorated = click.option("--tenant", help="Of this tenant only.")(decorated)
    for option in (
        click.option("--watch", is_flag=True, help=f"Show it again every {LOOK_EVERY:g} s, until Ctrl-C."),
        click.option(
            "-n", "--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="The first so many."
        ),
    ):
        decorated = option(decorated)
    return click.command(name, cls=_ViewCommand)(format_options(decorated))


for _name, _help in VIEWS.items():
    admin.add_command(_view_command(_name, _help))


def _watch(look: Callable[[], Rows], stop: threading.Event) -> None:
    while True:
        found = look()
        click.clear()
        say(found, as_json=False, as_csv=False)
        if stop.wait(LOOK_EVERY):
            return


@admin.command(no_args_is_help=True)
@click.argument("id", type=click.IntRange(min=1), metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of objects.")
def why(id: int, as_json: bool) -> None:
    """Say why a submission has not ended: what it waits for, and what would help.

    \b
    Example:
      stenopool admin why 7
    """
    from scheduler.why import why as reasons_of
    from storage.database import open_database
    from storage.situation import Situations
    from workers.farm import find_farm

    engine = open_database(find_farm(Config.from_env()).database)
    try:
        reasons = reasons_of(Situations(engine).of(id))
    finally:
        engine.dispose()
    if as_json:
        click.echo(json.dumps([{"reason": one.code, "text": one.text} for one in reasons], indent=2))
        return
    for one in reasons:
        click.echo(one.text)


@admin.command(no_args_is_help=True)
@click.argument("statement", metavar="SELECT")
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Rows at most.")
@click.option(
    "--timeout", type=click.FloatRange(0, 300, min_open=True), default=15.0, show_default=True, help="Seconds at most."
)
@format_options
def sql(statement: str, limit: int, timeout: float, as_json: bool, as_csv: bool) -> None:
    """Ask the views in SQL: one SELECT, with the rights of a role that may read them and nothing else.

    \b
    Example:
      stenopool admin sql "SELECT lane, sum(audio_s) FROM backlog GROUP BY lane" --csv
    """
    from storage.admin_sql import Bounds, run_statement
    from storage.database import open_database
    from workers.farm import find_farm

    config = Config.from_env()
    bounds = Bounds(rows=limit, seconds=timeout)
    if config.admin_database:
        found = run_statement(statement, bounds, reader=config.admin_database)
    else:
        engine = open_database(find_farm(config).database)
        try:
            found = run_statement(statement, bounds, ledger=engine)
        finally:
            engine.dispose()
    say(found, as_json=as_json, as_csv=as_csv)


@admin.command()
def role() -> None:
    """Print the SQL that makes the role for `admin sql`, for a database whose user may make none.

    What follows after the last comment only a superuser may do.

    \b
    Example:
      stenopool admin role | psql "$SUPERUSERS_URL"
    """
    from sqlalchemy import make_url

    from storage.admin_role import closing, hardening, statements
    from workers.farm import find_farm

    url = make_url(find_farm(Config.from_env()).database)
    database, user = url.database or "", url.username or ""
    _say_sql("-- The role: it may read the views, and nothing else.", statements(database))
    _say_sql("-- What everybody may by default in this database, and nobody needs.", closing(database))
    _say_sql("-- The locks by which the farm goes on, for the farm alone.", hardening(user))


def _say_sql(comment: str, statements: Sequence[str]) -> None:
    click.echo(comment)
    for statement in statements:
        click.echo(f"{statement};")


for _action in (*ACTIONS, audit):
    admin.add_command(_action)

COMMANDS: tuple[click.Command, ...] = (admin,)
