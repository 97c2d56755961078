"""What `stenopool campaign` tells: problems, forecast, status, manifest."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

from stenopool.cli.campaigning import counting, farm_at_hand, fetcher_of, of_campaign
from stenopool.cli.transcribe import FAILED, INCOMPLETE, OK
from stenopool.config import Config
from stenopool.errors import UsageError

if TYPE_CHECKING:
    from scheduler.forecast import Band, Forecast
    from storage.campaigns import Campaign
    from workers.farm import Farm
    from workers.outlook import Outlook

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

#: Problems and reasons that are shown; the manifest has all of them.
SHOWN = 20


@click.command(no_args_is_help=True)
@of_campaign
@_AS_JSON
def validate(name: str, tenant: str, as_json: bool) -> None:
    """Look whether what belongs to a campaign can be had and is sound, and what is there twice; no engine is needed.

    Exit code 1 where something has a problem: that is left out. Once more, only what is new and what had a problem is
    looked at.

    \b
    Example:
      stenopool campaign validate talks
    """
    from storage.campaign_progress import DUPLICATE
    from workers.validate import Validator
    from workers.validate import validate as look

    config = Config.from_env()
    fetcher = fetcher_of(config, size=config.limits.size, seconds=60.0)
    with farm_at_hand() as farm:
        found = farm.campaigns.find(tenant, name)
        n = sum(farm.progress.of(found.id, 0).states.values())
        with counting("looking", n) as progress:
            look(farm.campaigns, found.id, Validator(fetcher, config.limits, split=found.split), progress)
        progressed = farm.progress.of(found.id, 0)
        problems = list(_problems(farm, found))
    lengths = progressed.lengths
    if as_json:
        record = {
            "recordings": n,
            "problems": problems,
            "duplicates": progressed.states.get(DUPLICATE, 0),
            "known_seconds": lengths.total,
            "unknown_lengths": lengths.n_unknown,
        }
        click.echo(json.dumps(record, indent=2))
    else:
        _say_problems(problems)
        unknown = f", and {lengths.n_unknown} of unknown length" if lengths.n_unknown else ""
        click.echo(
            f"{name}: {n} recordings, {len(problems)} with problems, {progressed.states.get(DUPLICATE, 0)} duplicates; "
            f"{span(lengths.total)} of audio{unknown}"
        )
    click.get_current_context().exit(FAILED if problems else OK)


def _problems(farm: Farm, found: Campaign) -> Iterator[dict[str, Any]]:
    after = 0
    while page := farm.campaigns.items(found.id, after):
        for item in page:
            after = item.id
            if item.problem is not None and item.submission_id is None:
                yield {"name": item.name, "location": item.location, "problem": item.problem}


def _say_problems(problems: list[dict[str, Any]]) -> None:
    from stenopool.cli.models import table

    if problems:
        rows = [(PurePath(one["name"]).name, one["problem"]) for one in problems[:SHOWN]]
        for line in table([("NAME", "PROBLEM"), *rows]):
            click.echo(line)
        if (more := len(problems) - SHOWN) > 0:
            click.echo(f"and {more} more; --json has all of them")


def _more_workers(_: click.Context, __: click.Parameter, value: str) -> int:
    if not re.fullmatch(r"\+\d{1,5}", value):
        raise click.BadParameter(f"{value!r}: say how many more, such as +4")
    return int(value)


@click.command(no_args_is_help=True)
@of_campaign
@click.option("--workers", default="+0", metavar="+N", callback=_more_workers, help="With so many engines more.")
@click.option("--price", type=click.FloatRange(min=0), metavar="PER_HOUR", help="Of an engine's hour, in your money.")
@_AS_JSON
def forecast(name: str, tenant: str, workers: int, price: float | None, as_json: bool) -> None:
    """What the rest of a campaign will take, by what engines of its model did lately; bands hold in nine of ten cases.

    \b
    Example:
      stenopool campaign forecast talks --workers +4 --price 2.50
    """
    from workers.outlook import forecast_now, record_of

    with farm_at_hand() as farm:
        found = farm.campaigns.find(tenant, name)
        expected = forecast_now(farm, found, workers)
    if as_json:
        cost = None if price is None else asdict(_cost(expected, price))
        click.echo(json.dumps(record_of(expected) | {"cost": cost}, indent=2))
        return
    for line in _forecast_lines(expected, found.now, price):
        click.echo(line)


def _forecast_lines(expected: Forecast, now: float, price: float | None) -> Iterator[str]:
    unknown = f"; {expected.n_unknown} of unknown length count as the mean" if expected.n_unknown else ""
    yield f"audio     {_band(expected.audio, span)}{unknown}"
    yield f"speed     {expected.speed.rate:.1f} times real time per engine, {expected.speed.basis}"
    yield f"engines   {_band(expected.engine, span)} of engine time"
    if expected.ingest is not None:
        slower = expected.engines and expected.ingest.mid > expected.engine.mid / expected.engines
        also = "; it is slower than the engines, more of which do not help" if slower else ""
        yield f"ingest    {_band(expected.ingest, span)}{also}"
    if expected.finish is None:
        yield "finish    never: no engine of this model works now; see with: --workers +1"
    else:
        when = at(now + expected.finish.mid)
        yield f"finish    {_band(expected.finish, span)} from now, with engines: {expected.engines}; {when}"
    if price is not None:
        yield f"cost      {_band(_cost(expected, price), lambda one: f'{one:.2f}')}"


def _cost(expected: Forecast, price: float) -> Band:
    return expected.engine / 3600 * price


@click.command(no_args_is_help=True)
@of_campaign
@_AS_JSON
def status(name: str, tenant: str, as_json: bool) -> None:
    """How far a campaign is, when it will be done, what failed, and how good the first forecast was.

    \b
    Example:
      stenopool campaign status talks
    """
    from workers.outlook import outlook

    with farm_at_hand() as farm:
        found = farm.campaigns.find(tenant, name)
        seen = outlook(farm, found)
    if as_json:
        click.echo(json.dumps(_status_record(found, seen), indent=2))
        return
    for line in _status_lines(found, seen):
        click.echo(line)


def _status_record(found: Campaign, seen: Outlook) -> dict[str, Any]:
    return {
        "name": found.name,
        "tenant": found.tenant,
        "state": state_of(found, seen),
        "model": found.model,
        "states": seen.progress.states,
        "audio_seconds_done": seen.progress.done,
        "audio_seconds_known": seen.progress.lengths.total,
        "unknown_lengths": seen.progress.lengths.n_unknown,
        "eta_seconds": None if seen.eta is None else asdict(seen.eta),
        "took_seconds": seen.took,
        "forecast": found.forecast,
        "forecast_error": seen.error,
        "reasons": [{"reason": reason, "recordings": n} for reason, n in seen.progress.reasons],
    }


def _status_lines(found: Campaign, seen: Outlook) -> Iterator[str]:
    lengths = seen.progress.lengths
    yield f"campaign    {found.name}, {state_of(found, seen)}, {found.model}, tenant {found.tenant}"
    states = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in seen.progress.states.items())
    yield f"recordings  {sum(seen.progress.states.values())}" + (f": {states}" if states else "")
    unknown = f", and {lengths.n_unknown} of unknown length" if lengths.n_unknown else ""
    yield f"audio       {span(seen.progress.done)} of {span(lengths.total)}{unknown}"
    if seen.eta is not None:
        yield f"finish      {at(found.now + seen.eta.mid)}, in {_band(seen.eta, span)}, {seen.basis}"
    if seen.took is not None:
        yield f"took        {span(seen.took)}"
    first = found.forecast and found.forecast["finish"]
    if first:
        given = f"forecast    {span(first['mid'])} ({span(first['low'])} to {span(first['high'])}) at its start"
        if seen.error is None:
            yield given
        else:
            yield f"{given}; {share(seen.error)}{'' if seen.ended else ', as it looks now'}"
    for reason, n in seen.progress.reasons[:SHOWN]:
        yield f"failed      {n}: {reason}"


def share(error: float) -> str:
    """In: 0.25; -0.1. Out: 25% longer; 10% shorter"""
    return f"{abs(error):.0%} {'longer' if error > 0 else 'shorter'}"


def state_of(found: Campaign, seen: Outlook) -> str:
    """What a campaign is, for people: one that runs, and of which nothing is left, has ended."""
    return "ended" if seen.ended and found.state.value == "running" else found.state.value


@click.command(no_args_is_help=True)
@of_campaign
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File for it.  [default: standard output]")
@click.option("--csv", "short", is_flag=True, help="The short form, a line for each transcript.")
def manifest(name: str, tenant: str, output: Path | None, short: bool) -> None:
    """What became of every recording, with the keys and SHA-256 digests of its files in the object store.

    \b
    Example:
      stenopool campaign manifest talks -o talks.json
    """
    from workers.manifest import as_csv, as_json, records

    with farm_at_hand() as farm, _writing(output) as write:
        found = farm.campaigns.find(tenant, name)
        n = sum(farm.progress.of(found.id, 0).states.values())
        with counting("reading", n) as progress:
            items = records(farm, found, progress)
            for piece in as_csv(items) if short else as_json(farm, found, items):
                write(piece)


@contextlib.contextmanager
def _writing(output: Path | None) -> Iterator[Callable[[str], object]]:
    """A file is there whole or not at all."""
    if output is None:
        yield sys.stdout.write
        return
    part = output.with_name(f".{output.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file.write
        part.replace(output)
    except OSError as error:
        raise UsageError(f"{output}: cannot be written ({error.strerror}); choose another with -o") from error
    finally:
        part.unlink(missing_ok=True)


def code_of(states: Mapping[str, int]) -> int:
    """The exit code that says what became of a campaign."""
    if any(states.get(state) for state in ("failed", "cancelled", "problem")):
        return FAILED
    return INCOMPLETE if states.get("completed_with_gaps") else OK


def span(seconds: float) -> str:
    """In: 30; 4000; 500000. Out: 30 s; 1.1 h; 5.8 days"""
    for unit, name in ((86_400 * 2, "days"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / min(unit, 86_400):.1f} {name}"
    return f"{seconds:.0f} s"


def at(when: float) -> str:
    """A moment, as clocks here have it."""
    return datetime.fromtimestamp(when).astimezone().isoformat(sep=" ", timespec="minutes")


def _band(band: Band, shown: Callable[[float], str]) -> str:
    return f"{shown(band.mid)} ({shown(band.low)} to {shown(band.high)})"


REPORTS: tuple[click.Command, ...] = (validate, forecast, status, manifest)
