"""The API on the command line: serve it, and make keys for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from stenopool.cli.actor import actor
from stenopool.cli.farm import SUPERVISED, supervise
from stenopool.config import Config

if TYPE_CHECKING:
    from storage.access import Access, Key

SCOPES = ("submit", "read", "admin")

#: Seconds for which a process of several may say nothing, until it is ended and another takes its place.
SILENT_FOR = 60

#: Hours that a key counts after the next one was made.
OVERLAP = 24.0


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 is all of them.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8_321, show_default=True, help="Port to listen at.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that answer.")
@SUPERVISED
def api(host: str, port: int, processes: int, supervised: bool) -> None:
    """Serve the HTTP API and the web page of a farm, until a signal ends it.

    The farm is that of STENOPOOL_DATABASE, STENOPOOL_BROKER and STENOPOOL_STORE, or of `stenopool up`. TLS is for a
    proxy before it.

    \b
    Example:
      stenopool api --host 0.0.0.0 --port 8321
    """
    import uvicorn

    from stenopool.local_farm import free_port
    from stenopool.web.site import from_env, make_site
    from workers.farm import Farm
    from workers.lifecycle import alive, new_worker

    supervise(supervised)
    free_port(host, port)
    config = Config.from_env()
    # Answers go by what is asked, not by who asks: no access log, in which secrets could stand.
    settings: dict[str, Any] = {"host": host, "port": port, "log_config": None, "access_log": False}
    # On a busy machine a process may take long until it says anything: not to be killed for that, over and over.
    settings["timeout_worker_healthcheck"] = SILENT_FOR
    farm = Farm.find(config)
    try:
        with alive(farm, new_worker("api")) as begin:
            begin()
            if processes > 1:
                uvicorn.run(f"{from_env.__module__}:{from_env.__name__}", factory=True, workers=processes, **settings)
            else:
                uvicorn.run(make_site(farm, config), **settings)
    finally:
        farm.close()


@contextmanager
def _access() -> Iterator[Access]:
    from storage.access import Access
    from workers.farm import Farm

    farm = Farm.find(Config.from_env())
    try:
        yield Access(farm.database)
    finally:
        farm.close()


@click.group()
def key() -> None:
    """Keys of the API: who may ask for what.

    \b
    Example:
      stenopool key create phone --tenant ada --scope submit --scope read
    """


@key.command(no_args_is_help=True)
@click.argument("name")
@click.option("--tenant", help="Whose work it may see.  [default: everybody's: an operator's key]")
@click.option(
    "--scope", "scopes", type=click.Choice(SCOPES), multiple=True, default=("submit", "read"), show_default=True
)
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="That it is good for.  [default: no end]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(name: str, tenant: str | None, scopes: tuple[str, ...], days: float | None, as_json: bool) -> None:
    """Make a key. Prints its secret, this once.

    \b
    Example:
      stenopool key create phone --tenant ada --scope submit --scope read --days 90
    """
    with _access() as access:
        made, secret = access.create(
            actor(), name, tenant=tenant, scopes=scopes, seconds=None if days is None else days * 86_400
        )
    _say_secret(made, secret, as_json=as_json)


@key.command("list")
@click.option("--tenant", help="Of this tenant only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(tenant: str | None, as_json: bool) -> None:
    """All keys, without their secrets.

    \b
    Example:
      stenopool key list
    """
    from stenopool.cli.models import table

    with _access() as access:
        keys = access.keys(tenant=tenant)
    if as_json:
        click.echo(json.dumps(list(map(_record, keys)), indent=2))
        return
    head = ("ID", "KEY", "NAME", "TENANT", "SCOPES", "EXPIRES", "USED")
    for line in table([head, *map(_row, keys)]):
        click.echo(line)


@key.command(no_args_is_help=True)
@click.argument("id", type=click.IntRange(min=1))
@click.option("--hours", type=click.FloatRange(min=0), default=OVERLAP, show_default=True, help="The old one counts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rotate(id: int, hours: float, as_json: bool) -> None:
    """Make another key in the place of this one, which counts for some hours more. Prints its secret, this once.

    \b
    Example:
      stenopool key rotate 3 --hours 48
    """
    with _access() as access:
        made, secret = access.rotate(actor(), id, hours * 3600)
    _say_secret(made, secret, as_json=as_json)


@key.command(no_args_is_help=True)
@click.argument("id", type=click.IntRange(min=1))
def revoke(id: int) -> None:
    """Let a key count no more, from now on.

    \b
    Example:
      stenopool key revoke 3
    """
    with _access() as access:
        access.revoke(actor(), id)
    click.echo(f"{id} is revoked")


def _say_secret(made: Key, secret: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_record(made) | {"secret": secret}, indent=2))
    else:
        click.echo(f"{made.id}\t{secret}")


def _record(one: Key) -> dict[str, Any]:
    return asdict(one) | {"scopes": sorted(one.scopes)}


def _row(one: Key) -> tuple[str, ...]:
    ends = "revoked" if one.revoked_at is not None else _day(one.expires_at) or "never"
    scopes = ",".join(sorted(one.scopes))
    return str(one.id), f"{one.prefix}…", one.name, one.tenant or "(all)", scopes, ends, _day(one.used_at)


def _day(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


COMMANDS: tuple[click.Command, ...] = (api, key)
