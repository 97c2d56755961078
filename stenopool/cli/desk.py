"""The desk on the command line: see what becomes of what was handed in, change it, fetch the transcripts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import click

from stenopool.cli.actor import note
from stenopool.cli.channels import speakers_option
from stenopool.cli.transcribe import FAILED, INCOMPLETE, OK, clock, formats_option, output_stems
from stenopool.config import Config

if TYPE_CHECKING:
    from storage.desk import Submission
    from workers.farm import Farm

#: Seconds between two looks at what is waited for.
LOOK_EVERY = 0.5

publisher_option = click.option(
    "--publisher", is_flag=True, help="Also what the publisher offers itself, as it came: talk.publisher1.vtt."
)
_IDS = click.argument("ids", nargs=-1, required=True, type=click.IntRange(min=1), metavar="ID...")
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def _farm() -> Iterator[Farm]:
    from workers.farm import Farm

    farm = Farm.find(Config.from_env())
    try:
        yield farm
    finally:
        farm.close()


@click.command()
@click.option("--tenant", help="Of this tenant only.")
@click.option("--open", "open_only", is_flag=True, help="Those only that have not ended.")
@click.option("-n", "limit", type=click.IntRange(min=1), default=20, show_default=True, help="The latest so many.")
@_AS_JSON
def status(tenant: str | None, open_only: bool, limit: int, as_json: bool) -> None:
    """What was handed in lately, and who works.

    \b
    Example:
      stenopool status --open
    """
    with _farm() as farm:
        submissions = farm.desk.submissions(tenant=tenant, open_only=open_only, limit=limit)
        workers = farm.fleet.workers()
    if as_json:
        from workers.shown import record_of

        record = {"submissions": list(map(record_of, submissions)), "workers": [asdict(one) for one in workers]}
        click.echo(json.dumps(record, indent=2))
        return
    from stenopool.cli.models import table

    if submissions:
        head = ("ID", "STATE", "DONE", "LANE", "TENANT", "AUDIO", "NAME")
        for line in table([head, *map(_row, submissions)]):
            click.echo(line)
    else:
        click.echo("nothing was handed in" if not open_only else "nothing is open")
    click.echo()
    rows = [(one.role, one.state, one.model or "", str(one.slots or ""), one.host, str(one.pid)) for one in workers]
    for line in table([("WORKER", "STATE", "MODEL", "SLOTS", "HOST", "PROCESS"), *rows]):
        click.echo(line)


@click.command(no_args_is_help=True)
@click.argument("id", type=click.IntRange(min=1), metavar="ID")
@_AS_JSON
def show(id: int, as_json: bool) -> None:
    """All there is to know of a submission.

    \b
    Example:
      stenopool show 7
    """
    from storage.outcome import Outcomes
    from workers.shown import full_record_of, record_of, transcripts_of

    with _farm() as farm:
        outcome = Outcomes(farm.database).of(id)
        submission, record = outcome.submission, full_record_of(outcome)
        transcripts = transcripts_of(farm, submission)
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    for name, value in record_of(submission).items():
        if isinstance(value, dict):
            value = "; ".join(f"{key}: {said}" for key, said in value.items())
        if value not in (None, False, "", ()):
            click.echo(f"{name:<12}{', '.join(value) if isinstance(value, tuple) else value}")
    if hold := record["hold"]:
        click.echo(f"{'held':<12}by {hold['by']}{_because(hold['reason'])}")
    if deletion := record["deletion"]:
        why = _because(deletion["error"] or deletion["reason"])
        click.echo(f"{submission.state.value:<12}for {deletion['by']}{why}")
    for transcript in transcripts:
        channel = "" if transcript.channel is None else f", channel {transcript.channel}"
        click.echo(f"{'transcript':<12}{transcript.language}, {len(transcript.text.split())} words{channel}")
        for gap in transcript.coverage.gaps:
            click.echo(f"{'gap':<12}{clock(gap.span.start)}, {gap.span.seconds:.1f} s: {gap.reason}")
    for one in record["versions"]:
        channel = f", channel {one['channel']}" if one["channel"] else ""
        gaps = f", {one['gaps']:.1f} s of gaps" if one["gaps"] else ""
        click.echo(f"{'version':<12}{one['version']}{channel}: {one['state']}{gaps}{_STANDING[one['standing']]}")
    for one in record["publisher_transcripts"]:
        what = ", ".join(filter(None, (one["type"], one["language"], one["rel"]))) or "of no type"
        became = f"{one['bytes']} bytes" if one["error"] is None else one["error"]
        click.echo(f"{'publisher':<12}{one['n']}, {what}: {one['state']}, {became}")


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


#: What becomes of a version, as people are told.
_STANDING = {
    "shown": ", shown",
    "withheld": ", not shown: it has more gaps than one before it",
    "kept": "",
}


@click.command(no_args_is_help=True)
@_IDS
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path), default=".", help="Folder for the transcripts."
)
@formats_option
@speakers_option
@click.option("--version", type=click.IntRange(min=1), help="Not what is shown, but this version; show lists them.")
@publisher_option
def fetch(
    ids: Sequence[int],
    folder: Path,
    formats: tuple[str, ...],
    speakers: tuple[str, ...],
    version: int | None,
    publisher: bool,
) -> None:
    """Write the transcripts of submissions, named as their files, as transcribe does.

    \b
    Example:
      stenopool fetch 7 8 -o out/ --format txt,srt
    """
    from scheduler.channels import handed_out
    from workers.publish import open_folder, publish, write
    from workers.publisher import files_of
    from workers.shown import transcripts_of

    open_folder(folder)
    code = OK
    with _farm() as farm:
        submissions = [farm.desk.submission(id) for id in dict.fromkeys(ids)]
        stems = output_stems([one.name for one in submissions])
        for submission, stem in zip(submissions, stems, strict=True):
            transcripts = transcripts_of(farm, submission, version)
            given_up = submission.ended and not submission.published
            if not transcripts or len(transcripts) < len(submission.transcripts) or given_up:
                why = _why_not(submission, version)
                click.echo(f"stenopool: {submission.id} {submission.name}: {why}", err=True)
                code = FAILED
                continue
            if speakers and not submission.split:
                why = "its channels are mixed; --speakers names those of what was handed in with --channels split"
                click.echo(f"stenopool: {submission.id} {submission.name}: {why}", err=True)
                code = FAILED
                continue
            written = [
                path
                for transcript in handed_out(transcripts, speakers or submission.speakers)
                for path in publish(transcript, folder, stem, formats)
            ]
            for name, _, content in files_of(farm, submission, stem) if publisher else ():
                written += [folder / name] if write(folder / name, content) else []
            click.echo(f"{submission.name}: {' '.join(map(str, written)) or 'files are up to date'}")
            if any(transcript.coverage.gaps for transcript in transcripts):
                code = code or INCOMPLETE
    click.get_current_context().exit(code)


def _why_not(submission: Submission, version: int | None) -> str:
    """Why nothing can be fetched of it."""
    if version is not None and submission.published:
        return f"there is no version {version}; see: stenopool show {submission.id}"
    return f"{submission.state} ({submission.error})" if submission.error else str(submission.state)


@click.command(no_args_is_help=True)
@_IDS
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def wait(ids: Sequence[int], quiet: bool) -> None:
    """Wait until submissions have ended.

    \b
    Example:
      stenopool wait 7 8
    """
    with _farm() as farm:
        code = wait_until_ended(farm, list(dict.fromkeys(ids)), quiet=quiet)
    click.get_current_context().exit(code)


def wait_until_ended(farm: Farm, ids: Sequence[int], *, quiet: bool) -> int:
    """The exit code that says what became of them."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from storage.tables import GONE, SubmissionState

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    code = OK
    left = list(ids)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("waiting", total=None)
        while left:
            submissions = [farm.desk.submission(id) for id in left]
            total = sum(one.chunks_total for one in submissions)
            done = total - sum(one.chunks_open for one in submissions)
            bar.update(task, description=f"{len(ids) - len(left)}/{len(ids)} done", total=total or None, completed=done)
            for one in submissions:
                if not one.ended:
                    continue
                left.remove(one.id)
                if one.state in (SubmissionState.FAILED, SubmissionState.CANCELLED, *GONE):
                    code = FAILED
                    console.print(f"stenopool: {one.id} {one.name}: {one.state}: {one.error or ''}", markup=False)
                elif one.state == SubmissionState.COMPLETED_WITH_GAPS:
                    code = code or INCOMPLETE
                    console.print(f"stenopool: {one.id} {one.name}: has gaps: stenopool show {one.id}", markup=False)
            if left:
                time.sleep(LOOK_EVERY)
    return code


def _change(name: str, done: str, not_done: str, help: str) -> click.Command:
    """A command that changes the state of submissions by the desk's method of that name."""

    def run(ids: Sequence[int]) -> None:
        code = OK
        with _farm() as farm:
            method: Callable[[int], bool] = getattr(farm.desk, name)
            for id in dict.fromkeys(ids):
                if method(id):
                    note(farm, f"submission.{name}", id)
                    click.echo(f"{id} {done}")
                else:
                    click.echo(f"stenopool: {id} {not_done}", err=True)
                    code = FAILED
        click.get_current_context().exit(code)

    run.__doc__ = f"{help}\n\n\b\nExample:\n  stenopool {name} 7 8"
    return click.command(name, no_args_is_help=True)(_IDS(run))


cancel = _change("cancel", "is cancelled", "has ended already", "Give submissions up; what is begun ends as it will.")
pause = _change("pause", "is paused", "has ended already", "Begin nothing more of submissions until they are resumed.")
resume = _change("resume", "goes on", "has ended already", "Go on with what was paused.")
retry = _change(
    "retry",
    "is done again",
    "has neither failed nor gaps, nor was it cancelled",
    "Do again what failed or was cancelled; of what has gaps, only these.",
)

COMMANDS: tuple[click.Command, ...] = (status, show, fetch, wait, cancel, pause, resume, retry)


def _row(one: Submission) -> tuple[str, ...]:
    done = f"{(one.chunks_total - one.chunks_open) / one.chunks_total:.0%}" if one.chunks_total else ""
    state = f"{one.state} (paused)" if one.paused and not one.ended else str(one.state)
    audio = "" if one.duration is None else clock(one.duration)
    return str(one.id), state, done, one.lane.name.lower(), one.tenant, audio, PurePath(one.name).name
