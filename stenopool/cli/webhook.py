"""`stenopool webhook`: who is told what became of submissions, and whether it arrived."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import click

from stenopool.cli.transcribe import FAILED
from stenopool.config import Config
from stenopool.errors import UsageError

if TYPE_CHECKING:
    from storage.webhooks import Endpoint, Webhooks
    from workers.post import Post

_ID = click.argument("id", type=click.IntRange(min=1), metavar="ID")
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

#: Hours that a secret signs after the next one was made.
OVERLAP = 24.0


@contextmanager
def _webhooks() -> Iterator[Webhooks]:
    from storage.webhooks import Webhooks
    from workers.farm import Farm

    farm = Farm.find(Config.from_env())
    try:
        yield Webhooks(farm.database)
    finally:
        farm.close()


def _post() -> Post:
    """How an endpoint is sent something."""
    from workers.addresses import may_ask
    from workers.post import Post

    return Post(partial(may_ask, allowed=Config.from_env().fetch_allow))


@click.group()
def webhook() -> None:
    """Tell other programs what became of submissions.

    \b
    Example:
      stenopool webhook add https://example.org/hook --states completed,failed
    """


@webhook.command(no_args_is_help=True)
@click.argument("url")
@click.option("--tenant", default="default", show_default=True, help="Whose submissions.")
@click.option("--states", help="Tell of these only, separated by commas; completed stands for all that have a text.")
@_AS_JSON
def add(url: str, tenant: str, states: str | None, as_json: bool) -> None:
    """Tell a URL of all that happens from now on. Prints its secret, this once.

    \b
    Example:
      stenopool webhook add https://example.org/hook --tenant ada --states completed,failed
    """
    from workers.post import literal, target

    if (address := literal(target(url))) is not None and not _post().permitted(address):
        raise UsageError(f"{url}: {address} is not on the public internet, and is never posted to")
    types = types_of(states)
    with _webhooks() as webhooks:
        endpoint, secret = webhooks.add(tenant, url, types)
    if as_json:
        click.echo(json.dumps(asdict(endpoint) | {"secret": secret}, indent=2))
        return
    click.echo(f"{endpoint.id}\t{secret}")
    click.echo("stenopool: keep the secret now: it is not shown again", err=True)


def types_of(states: str | None) -> list[str] | None:
    """The types of events that are meant: states of submissions, or types in full; None for all.

    Raises:
        UsageError: there is none of that name.
    """
    from storage.tables import PUBLISHED, SubmissionState

    if states is None:
        return None
    types: list[str] = []
    for name in filter(None, map(str.strip, states.split(","))):
        if name == SubmissionState.COMPLETED:
            types += [f"submission.{state}" for state in PUBLISHED]
        elif name in set(SubmissionState):
            types.append(f"submission.{name}")
        elif re.fullmatch(r"[a-z_]+\.[a-z_]+", name):
            types.append(name)
        else:
            raise UsageError(f"{name}: there is no such state; there are {', '.join(SubmissionState)}")
    if not types:
        raise UsageError("--states names none; leave it out for all")
    return list(dict.fromkeys(types))


@webhook.command("list")
@click.option("--tenant", help="Of this tenant only.")
@_AS_JSON
def list_(tenant: str | None, as_json: bool) -> None:
    """All endpoints, and whether they take what they are sent.

    \b
    Example:
      stenopool webhook list
    """
    with _webhooks() as webhooks:
        endpoints = webhooks.endpoints(tenant=tenant)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in endpoints], indent=2))
        return
    if not endpoints:
        click.echo("there are no webhooks")
        return
    _table(
        ("ID", "TENANT", "STATE", "WAITING", "TELLS OF", "URL", ""),
        [
            (
                str(one.id),
                one.tenant,
                one.state.value,
                str(one.waiting),
                "all" if one.types is None else ",".join(type.removeprefix("submission.") for type in one.types),
                one.url,
                _trouble(one),
            )
            for one in endpoints
        ],
    )


def _trouble(one: Endpoint) -> str:
    if one.failing_since is None:
        return ""
    again = "" if one.state == "enabled" else f"; when it is mended: stenopool webhook test {one.id}"
    return f"fails since {_when(one.failing_since)}: {one.reason}{again}"


@webhook.command(no_args_is_help=True)
@_ID
def remove(id: int) -> None:
    """Tell an endpoint nothing more.

    \b
    Example:
      stenopool webhook remove 3
    """
    with _webhooks() as webhooks:
        webhooks.remove(id)
    click.echo(f"{id} is removed")


@webhook.command(no_args_is_help=True)
@_ID
@click.option(
    "--overlap",
    type=click.FloatRange(0, 720),
    default=OVERLAP,
    show_default=True,
    metavar="HOURS",
    help="The secret before it signs as well for so long.",
)
@_AS_JSON
def rotate(id: int, overlap: float, as_json: bool) -> None:
    """Give an endpoint a new secret. Prints it, this once.

    \b
    Example:
      stenopool webhook rotate 3
    """
    with _webhooks() as webhooks:
        secret = webhooks.rotate(id, overlap * 3600)
    click.echo(json.dumps({"id": id, "secret": secret}, indent=2) if as_json else f"{id}\t{secret}")


@webhook.command(no_args_is_help=True)
@_ID
@_AS_JSON
def test(id: int, as_json: bool) -> None:
    """Send an endpoint an event that is none, from this machine; where it takes it, a paused one goes on.

    \b
    Example:
      stenopool webhook test 3
    """
    from storage.webhook_tables import DeliveryState
    from workers.webhooks import send

    with _webhooks() as webhooks:
        outcome = send(_post(), webhooks.probe(id))
        taken = outcome.state == DeliveryState.DELIVERED
        resumed = taken and webhooks.resume(id)
    if as_json:
        record = {"id": id, "taken": taken, "status": outcome.status, "error": outcome.error, "resumed": resumed}
        click.echo(json.dumps(record, indent=2))
    elif taken:
        click.echo(f"{id} took it: {outcome.status}{'; it goes on' if resumed else ''}")
    else:
        click.echo(f"stenopool: {id} did not take it: {outcome.error}", err=True)
    click.get_current_context().exit(0 if taken else FAILED)


@webhook.command(no_args_is_help=True)
@_ID
@click.option("--after", type=click.IntRange(min=0), required=True, help="Events behind that number.")
@click.option("--to", type=click.IntRange(min=1), help="Up to that one; else all that it has been told of.")
@_AS_JSON
def replay(id: int, after: int, to: int | None, as_json: bool) -> None:
    """Send an endpoint once more what it was told before, under the same ids.

    \b
    Example:
      stenopool webhook replay 3 --after 1200 --to 1300
    """
    with _webhooks() as webhooks:
        n = webhooks.replay(id, after, to)
    click.echo(json.dumps({"id": id, "events": n}) if as_json else f"{n} events are sent again")


@webhook.command()
@click.option("--webhook", "endpoint", type=click.IntRange(min=1), metavar="ID", help="Of this one only.")
@click.option("--failed", is_flag=True, help="Those only that failed, or did the last time.")
@click.option("-n", "limit", type=click.IntRange(min=1), default=50, show_default=True, help="The latest so many.")
@_AS_JSON
def deliveries(endpoint: int | None, failed: bool, limit: int, as_json: bool) -> None:
    """What was sent to whom, and what came of it; for a month.

    \b
    Example:
      stenopool webhook deliveries --failed
    """
    with _webhooks() as webhooks:
        sent = webhooks.sent(endpoint=endpoint, failed=failed, limit=limit)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in sent], indent=2))
        return
    if not sent:
        click.echo("nothing failed" if failed else "nothing was sent")
        return
    _table(
        ("WEBHOOK", "EVENT", "TYPE", "SUBMISSION", "STATE", "ATTEMPTS", "AT", ""),
        [
            (
                str(one.endpoint),
                str(one.position),
                one.type,
                str(one.submission),
                one.state.value,
                str(one.attempts),
                _when(one.at),
                one.error or str(one.status or ""),
            )
            for one in sent
        ],
    )


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from stenopool.cli.models import table

    for line in table([head, *rows]):
        click.echo(line)


COMMANDS: tuple[click.Command, ...] = (webhook,)
