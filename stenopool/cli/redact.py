"""`stenopool redact`: a transcript without what is not for everybody, and its sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stenopool.cli.transcribe import FAILED, OK, formats_option, output_stems
from stenopool.config import Config
from stenopool.errors import MediaError, UsageError

if TYPE_CHECKING:
    from scheduler.redaction import Rules

#: What is redacted where nobody says what.
EVERYTHING = "card,email,phone,iban"


@click.command(no_args_is_help=True)
@click.argument("ids", nargs=-1, required=True, type=click.IntRange(min=1), metavar="ID...")
@click.option("--patterns", default=EVERYTHING, show_default=True, help="Kinds, separated by commas; '' for none.")
@click.option(
    "--list", "listed", type=click.Path(path_type=Path), help="A text file of names and terms as well, one a line."
)
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path), default=".", help="Folder for the redacted files."
)
@formats_option
@click.option("--map", "with_map", is_flag=True, help="Write the map that leads back, too: it says all that is gone.")
@click.option("--mute-audio", is_flag=True, help="Write the sound, too, as WAV, with silence where it was said.")
@click.option(
    "--source", type=click.Path(path_type=Path), help="For --mute-audio: the file, where the farm has it no more."
)
def redact(
    ids: Sequence[int],
    patterns: str,
    listed: Path | None,
    folder: Path,
    formats: tuple[str, ...],
    with_map: bool,
    mute_audio: bool,
    source: Path | None,
) -> None:
    """Write transcripts of a farm without card numbers, addresses, names: talk.redacted.txt beside talk.txt.

    From then on, `search --redacted` finds what is left of them.

    \b
    Example:
      stenopool redact 7 --patterns card,email --list names.txt -o out/ --mute-audio
    """
    rules = _rules(patterns, listed)
    if source is not None and (len(ids) > 1 or not mute_audio):
        raise UsageError("--source is the file of one submission, for --mute-audio")
    from scheduler.redacted import redaction_map
    from storage.redactions import Redactions
    from workers.farm import Farm
    from workers.publish import named, open_folder, publish, write_atomically
    from workers.redact import redact as redacted_of
    from workers.redact import write_muted_from
    from workers.shown import shown_of

    open_folder(folder)
    config = Config.from_env()
    farm = Farm.find(config)
    code = OK
    try:
        redactions = Redactions(farm.database)
        submissions = [farm.desk.submission(id) for id in dict.fromkeys(ids)]
        stems = output_stems([one.name for one in submissions])
        for submission, stem in zip(submissions, stems, strict=True):
            shown = shown_of(farm, submission)
            if not submission.published or len(shown) < len(submission.transcripts):
                click.echo(f"stenopool: {submission.id} {submission.name}: {submission.state}", err=True)
                code = FAILED
                continue
            paths, n = [], 0
            for work, transcript in shown:
                done = redacted_of(redactions, work.id, transcript, rules)
                n += len(done.masks)
                paths += publish(done.transcript, folder, f"{stem}.redacted", formats)
                if with_map:
                    path = folder / named(f"{stem}.redacted", transcript.channel, "map.json")
                    write_atomically(path, redaction_map(transcript, done.masks).encode())
                    paths.append(path)
                if mute_audio:
                    path = folder / named(f"{stem}.redacted", transcript.channel, "wav")
                    try:
                        write_muted_from(
                            path,
                            farm.store,
                            transcript,
                            done.masks,
                            kept_as=submission.source,
                            source=source,
                            limits=config.limits,
                        )
                    except MediaError as error:
                        click.echo(f"stenopool: {error}", err=True)
                        code = FAILED
                        continue
                    paths.append(path)
            written = " ".join(map(str, paths)) or "files are up to date"
            click.echo(f"{submission.name}: {n} redacted: {written}")
    finally:
        farm.close()
    click.get_current_context().exit(code)


def _rules(patterns: str, listed: Path | None) -> Rules:
    from scheduler.redaction import read_rules

    terms: Sequence[str] = ()
    if listed is not None:
        try:
            terms = listed.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"{listed}: cannot be read ({reason}); --list names a text file, a term a line") from error
    return read_rules(patterns, terms)


COMMANDS: tuple[click.Command, ...] = (redact,)
