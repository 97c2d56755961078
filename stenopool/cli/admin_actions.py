"""What operators do with `stenopool admin`: each is written to the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from stenopool.cli.actor import actor
from stenopool.cli.transcribe import FAILED, OK
from stenopool.config import Config
from stenopool.errors import StenopoolError, UsageError

if TYPE_CHECKING:
    from storage.steering import Steering

_LANES = ("urgent", "normal", "bulk")
_LANE = click.option("--lane", type=click.Choice(_LANES), help="Of this lane.")
_TENANT = click.option("--tenant", help="Of this tenant.")
_ID = click.argument("id", type=click.IntRange(min=1), metavar="ID")
_IDS = click.argument("ids", nargs=-1, required=True, type=click.IntRange(min=1), metavar="ID...")


@contextmanager
def _steering() -> Iterator[Steering]:
    from storage.steering import Steering
    from workers.farm import Farm

    farm = Farm.find(Config.from_env())
    try:
        yield Steering(farm.database, lease=farm.lease)
    finally:
        farm.close()


def _which(lane: str | None, tenant: str | None) -> tuple[dict[str, Any], str]:
    """What is named: as an argument, and in words."""
    from storage.tables import Lane

    if (lane is None) == (tenant is None):
        raise UsageError("name one of --lane and --tenant")
    if lane is not None:
        return {"lane": Lane[lane.upper()]}, f"the lane {lane}"
    return {"tenant": tenant}, f"the tenant {tenant}"


@click.command(no_args_is_help=True)
@_LANE
@_TENANT
@click.option("--reason", help="Shown to whoever asks why nothing goes on.")
def pause(lane: str | None, tenant: str | None, reason: str | None) -> None:
    """Begin nothing more of a lane, or of a tenant, until it is resumed; what is begun ends as ever.

    \b
    Example:
      stenopool admin pause --lane bulk --reason "the office works"
    """
    which, words = _which(lane, tenant)
    with _steering() as steering:
        done = steering.pause_of(actor(), **which, reason=reason)
    click.echo(f"{words} is paused" if done else f"{words} is paused already")


@click.command(no_args_is_help=True)
@_LANE
@_TENANT
def resume(lane: str | None, tenant: str | None) -> None:
    """Go on with a lane, or a tenant, that was paused.

    \b
    Example:
      stenopool admin resume --lane bulk
    """
    which, words = _which(lane, tenant)
    with _steering() as steering:
        if not steering.resume_of(actor(), **which):
            click.echo(f"stenopool: {words} is not paused", err=True)
            click.get_current_context().exit(FAILED)
    click.echo(f"{words} goes on")


@click.command(no_args_is_help=True)
@_ID
@click.option("--lane", type=click.Choice(_LANES), help="Into this lane.")
@click.option("--priority", type=int, help="Within tenant and lane, the higher first.")
@click.option("--deadline", metavar="SECONDS", help="From now; none: it has none any more.")
def reprioritise(id: int, lane: str | None, priority: int | None, deadline: str | None) -> None:
    """Give a submission another place in the queue, at any moment before it has ended.

    \b
    Example:
      stenopool admin reprioritise 7 --lane urgent --deadline 600
    """
    from storage.steering import KEEP
    from storage.tables import Lane

    if lane is None and priority is None and deadline is None:
        raise UsageError("name what is to be changed: --lane, --priority, --deadline")
    due = KEEP if deadline is None else None if deadline == "none" else _seconds(deadline)
    with _steering() as steering:
        before, after = steering.reprioritise(
            actor(), id, lane=None if lane is None else Lane[lane.upper()], priority=priority, deadline=due
        )
    changes = []
    if before.lane != after.lane:
        changes.append(f"lane {before.lane} -> {after.lane}")
    if before.priority != after.priority:
        changes.append(f"priority {before.priority} -> {after.priority}")
    if before.deadline_at != after.deadline_at:
        changes.append("no deadline" if after.deadline_at is None else f"due in {deadline} s")
    click.echo(f"{id}: {', '.join(changes) or 'nothing is changed'}")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e10:
        raise UsageError(f"--deadline {text}: name seconds from now, or none")
    return seconds


@click.command(no_args_is_help=True)
@_IDS
def requeue(ids: Sequence[int]) -> None:
    """Do again what failed or was cancelled, and chunks that were given up: as `stenopool retry`.

    \b
    Example:
      stenopool admin requeue 7 8
    """
    code = OK
    with _steering() as steering:
        for id in dict.fromkeys(ids):
            try:
                done = steering.requeue(actor(), id)
            except StenopoolError as error:
                if error.retryable:
                    raise
                click.echo(f"stenopool: {error}", err=True)
                code = FAILED
                continue
            if done:
                click.echo(f"{id} is done again")
            else:
                click.echo(f"stenopool: {id} has neither failed nor gaps, nor was it cancelled", err=True)
                code = FAILED
    click.get_current_context().exit(code)


@click.command(no_args_is_help=True)
@_ID
def remerge(id: int) -> None:
    """Merge the transcripts of a published submission anew, of what was heard; nothing is transcribed.

    \b
    Example:
      stenopool admin remerge 7
    """
    with _steering() as steering:
        transcripts = steering.remerge(actor(), id)
    click.echo(f"{id} is merged anew: transcript {', '.join(map(str, transcripts))}")


@click.command(no_args_is_help=True)
@click.argument("worker")
def drain(worker: str) -> None:
    """Have a worker end once it has ended what it has begun; `admin workers` lists them.

    What supervises it may start another in its place, as `stenopool up` does.

    \b
    Example:
      stenopool admin drain gpu7-4711-1a2b3c4d
    """
    with _steering() as steering:
        done = steering.drain(actor(), worker)
    click.echo(f"{worker} is to end" if done else f"{worker} is to end already")


ACTIONS: tuple[click.Command, ...] = (pause, resume, reprioritise, requeue, remerge, drain)
