"""What is kept, for how long, and what is deleted: `stenopool delete`, `hold`, `release`, `retention`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stenopool.cli.actor import actor, note
from stenopool.cli.transcribe import FAILED, OK
from stenopool.config import Config
from stenopool.errors import LegalHold, StenopoolError, UsageError

if TYPE_CHECKING:
    from storage.keeping import Retention
    from workers.farm import Farm

#: Seconds between two looks whether a worker is done with what is to go.
LOOK_EVERY = 0.5

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_FOREVER, _CENTURY = "forever", 36_500 * _UNITS["d"]
_CLASSES = ("source", "pcm", "chunks", "transcript")

_IDS = click.argument("ids", nargs=-1, required=True, type=click.IntRange(min=1), metavar="ID...")
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def _farm(config: Config) -> Iterator[Farm]:
    from workers.farm import Farm

    farm = Farm.find(config)
    try:
        yield farm
    finally:
        farm.close()


@click.command(no_args_is_help=True)
@_IDS
@click.option("--reason", help="Kept with the receipt.")
@click.option("--receipt", type=click.Path(path_type=Path), help="File for the receipts: a JSON list.")
@_AS_JSON
def delete(ids: Sequence[int], reason: str | None, receipt: Path | None, as_json: bool) -> None:
    """Remove all that there is of submissions: texts, files, samples, every version. It cannot be undone.

    What another submission has as well stays for that one. Ctrl-C ends the waiting only: the scheduler goes on.

    \b
    Example:
      stenopool delete 7 --reason "asked for by the speaker" --receipt 7.json
    """
    from workers.erase import Eraser, receipt_of
    from workers.publish import open_folder, write_atomically

    if receipt is not None:
        open_folder(receipt.absolute().parent)  # before anything is gone of which it would tell
    config = Config.from_env()
    code, records = OK, []
    with _farm(config) as farm:
        eraser = Eraser(farm, keep=config.keep, sound=config.keep_sound)
        begun = []
        for id in dict.fromkeys(ids):
            try:
                eraser.erasing.begin(id, by=actor().who, reason=reason)
                note(farm, "submission.delete", id, {"reason": reason})
                begun.append(id)
            except StenopoolError as error:
                if not isinstance(error, LegalHold) and error.retryable:
                    raise
                click.echo(f"stenopool: {error}", err=True)
                code = FAILED
        for id in begun:
            try:
                if not (done := eraser.go_on(id)):
                    click.echo(f"stenopool: {id} goes as soon as the worker that is at it ends", err=True)
                while not done:
                    time.sleep(LOOK_EVERY)
                    done = eraser.go_on(id)
            except StenopoolError as error:
                click.echo(f"stenopool: {id} is not deleted yet: {error}; the scheduler goes on with it", err=True)
                code = FAILED
            deletion = eraser.erasing.deletion(id)
            assert deletion is not None, id
            records.append(receipt_of(deletion))
            if not as_json and deletion.completed_at is not None:
                click.echo(f"{id} is deleted{_summary(records[-1])}")
    if receipt is not None:
        write_atomically(receipt, f"{json.dumps(records, indent=2)}\n".encode(), mode=0o600)
    if as_json:
        click.echo(json.dumps(records, indent=2))
    click.get_current_context().exit(code)


def _summary(record: dict[str, Any]) -> str:
    gone = [one for one in record["objects"] if one["removed"]]
    kept = len(record["kept"]) + len(record["objects"]) - len(gone)
    said = f": {sum(record['rows'].values())} rows, {len(gone)} objects"
    return f"{said}; {kept} kept, as others have them" if kept else said


@click.command(no_args_is_help=True)
@_IDS
@click.option("--reason", help="Shown to whoever would delete it.")
def hold(ids: Sequence[int], reason: str | None) -> None:
    """Remove nothing of submissions until they are released, whatever else says so.

    \b
    Example:
      stenopool hold 7 --reason "case 12/2026"
    """
    from storage.keeping import Keeping

    code = OK
    with _farm(Config.from_env()) as farm:
        keeping = Keeping(farm.database)
        for id in dict.fromkeys(ids):
            try:
                keeping.hold(id, by=actor().who, reason=reason)
                note(farm, "submission.hold", id, {"reason": reason})
                click.echo(f"{id} is held")
            except StenopoolError as error:
                click.echo(f"stenopool: {error}", err=True)
                code = FAILED
    click.get_current_context().exit(code)


@click.command(no_args_is_help=True)
@_IDS
def release(ids: Sequence[int]) -> None:
    """Hold submissions no more.

    \b
    Example:
      stenopool release 7
    """
    from storage.keeping import Keeping

    code = OK
    with _farm(Config.from_env()) as farm:
        keeping = Keeping(farm.database)
        for id in dict.fromkeys(ids):
            if keeping.release(id):
                note(farm, "submission.release", id)
                click.echo(f"{id} is released")
            else:
                click.echo(f"stenopool: {id} is not held", err=True)
                code = FAILED
    click.get_current_context().exit(code)


@click.group()
def retention() -> None:
    """How long a tenant's files, samples, results and transcripts are kept.

    \b
    Example:
      stenopool retention set --tenant ada --source 7d --transcript 400d
    """


@retention.command("set", no_args_is_help=True)
@click.option("--tenant", required=True, help="Whose.")
@click.option("--source", metavar="PERIOD", help="Files that were handed in, after the submission's end.")
@click.option("--pcm", metavar="PERIOD", help="Decoded samples, after the transcript's completion.")
@click.option("--chunks", metavar="PERIOD", help="What was heard in each chunk, after the transcript's completion.")
@click.option("--transcript", metavar="PERIOD", help="The submission with its transcripts, after its end.")
def set_(tenant: str, **periods: str | None) -> None:
    """Keep them for so long: 30d, 12h, 90m, 0, or forever; "default" for what holds where nothing is set.

    What is not named stays as it is. It holds for what is there already, too.

    \b
    Example:
      stenopool retention set --tenant ada --source 7d --pcm 0 --chunks 30d --transcript 400d
    """
    from storage.access import Access
    from storage.keeping import Keeping

    given: dict[str, Any] = {name: period_of(text, name) for name, text in periods.items() if text is not None}
    if not given:
        raise UsageError(f"nothing is to be set; name one of --{', --'.join(_CLASSES)}")
    with _farm(Config.from_env()) as farm:
        keeping = Keeping(farm.database)
        kept = replace(keeping.retention(tenant), **given)
        keeping.set(kept)
        Access(farm.database).note(actor(), "retention.set", f"tenant {tenant}", tenant=tenant, after=given)
    _show([kept])


@retention.command()
@click.option("--tenant", help="Of this tenant only.")
@_AS_JSON
def show(tenant: str | None, as_json: bool) -> None:
    """What is set, by tenant.

    \b
    Example:
      stenopool retention show --tenant ada
    """
    from storage.keeping import Keeping

    with _farm(Config.from_env()) as farm:
        keeping = Keeping(farm.database)
        found = keeping.retentions() if tenant is None else [keeping.retention(tenant)]
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
    elif found:
        _show(found)
    else:
        click.echo("nothing is set")


def period_of(text: str, name: str) -> float | None:
    """Seconds of a period as people write it; None for "default".

    Raises:
        UsageError: it is none.
    """
    if text == "default":
        return None
    if text == _FOREVER:
        return _CENTURY
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", text)
    if found is None or (not found[2] and float(found[1])):
        raise UsageError(f"--{name} {text}: a period is 30d, 12h, 90m, 45s, 0, forever or default")
    seconds = float(found[1]) * _UNITS[found[2] or "s"]
    if seconds > _CENTURY:
        raise UsageError(f"--{name} {text}: a century at most")
    return seconds


def _show(found: Sequence[Retention]) -> None:
    from stenopool.cli.models import table

    rows = [(one.tenant, *(_written(getattr(one, name)) for name in _CLASSES)) for one in found]
    for line in table([("TENANT", *map(str.upper, _CLASSES)), *rows]):
        click.echo(line)


def _written(seconds: float | None) -> str:
    """A period as `period_of` reads it."""
    if seconds is None:
        return "default"
    if seconds == _CENTURY:
        return _FOREVER
    unit = next((unit for unit in "dhm" if seconds and seconds % _UNITS[unit] == 0), "s")
    return f"{seconds / _UNITS[unit]:g}{unit}" if seconds else "0"


COMMANDS: tuple[click.Command, ...] = (delete, hold, release, retention)
