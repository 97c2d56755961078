"""`stenopool transcribe`: files in, transcripts beside each other in a folder."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stenopool.cli.channels import channels_options, taken_channels
from stenopool.cli.loading import Loading, loading_options, taken_loading
from stenopool.cli.options import SectionedCommand, decoding_options, taken
from stenopool.cli.vocabulary import read_vocabulary
from stenopool.config import Config
from stenopool.domain import SAMPLE_RATE, CoverageKind, Options, Transcript
from stenopool.errors import StenopoolError, UsageError
from stenopool.formats import FORMATS

if TYPE_CHECKING:
    from workers.local import Outcome
    from workers.prepare import SourceFile

OK, FAILED, INCOMPLETE = 0, 1, 3


def read_formats(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    """Names of formats that are separated by commas, each once. Raises BadParameter for any other."""
    formats = tuple(dict.fromkeys(part.strip().lower() for part in value.split(",") if part.strip()))
    if not formats or (unknown := [name for name in formats if name not in FORMATS]):
        wrong = ", ".join(unknown) if formats else "nothing"
        raise click.BadParameter(f"{wrong}; choose from {', '.join(FORMATS)}")
    return formats


#: What to write, for every command that writes transcripts.
formats_option = click.option(
    "-f",
    "--format",
    "formats",
    default="txt,srt,json",
    show_default=True,
    callback=read_formats,
    help=f"What to write, separated by commas: {', '.join(FORMATS)}.",
)


def _kinds(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    from scheduler.redaction import read_rules

    return ",".join(read_rules(value).kinds)


#: What is to be redacted, for every command that has something transcribed.
redact_option = click.option(
    "--redact",
    metavar="KINDS",
    callback=_kinds,
    help="Write transcripts without these, too: card, email, phone, iban, separated by commas.",
)


@click.command(cls=SectionedCommand, no_args_is_help=True)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    default=".",
    help="Folder for the transcripts, named as the files.",
)
@formats_option
@channels_options
@click.option(
    "--vocabulary",
    type=click.Path(path_type=Path),
    help="Words to expect: a text file for all recordings, or a folder with talk.txt for talk.mp3.",
)
@redact_option
@click.option("--force", is_flag=True, help="Do again what is done already.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@loading_options
@decoding_options
def transcribe(files: Sequence[str], **arguments: Any) -> None:
    """Transcribe audio and video files; - reads one from standard input.

    Interrupt or kill it at any time: the same command goes on where it was, and files that are done are not done again.

    \b
    Example:
      stenopool transcribe talk.mp3 lecture.mkv call.wav -o out/ --format txt,srt,vtt,json,tsv
    """
    stems = output_stems(files)
    options, loading = taken(arguments), taken_loading(arguments)
    split, speakers = taken_channels(arguments)
    context = click.get_current_context()
    with spooled_stdin(files) as paths:
        code = _Command(
            options=options, loading=loading, split=split, speakers=speakers, stop=context.obj, **arguments
        ).run(files, paths, stems)
    context.exit(code)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """The command's options; the names are theirs."""

    options: Options
    loading: Loading
    folder: Path
    formats: tuple[str, ...]
    split: bool
    speakers: tuple[str, ...]
    vocabulary: Path | None
    redact: str | None
    force: bool
    quiet: bool
    #: Set by an interrupt.
    stop: threading.Event

    def run(self, files: Sequence[str], paths: Sequence[Path], stems: Sequence[str]) -> int:
        """Transcribe; returns the exit code."""
        # Heavy imports stand here: `stenopool --help` and wrong arguments answer at once.
        from scheduler.channels import check_channels
        from stenopool.cli.progress import Progress
        from workers.media import probe
        from workers.prepare import SourceFile

        sources: dict[SourceFile, str] = {}
        limits = Config.from_env().limits
        worst = OK
        for name, path, stem in zip(files, paths, stems, strict=True):
            try:
                check_channels(self.speakers, probe(path, limits).channels, path)
            except StenopoolError as error:
                click.echo(error_line(error, path, name), err=True)
                worst = FAILED
            else:
                sources[SourceFile(path, name, read_vocabulary(self.vocabulary, name))] = stem
        if not sources:
            return worst

        from scheduler.channels import handed_out
        from scheduler.redaction import read_rules
        from workers.publish import open_folder, publish

        open_folder(self.folder)

        with (
            Progress(enabled=not self.quiet, n_sources=len(sources)) as progress,
            self.loading.driver(
                self.options,
                split=self.split,
                force=self.force,
                rules=None if self.redact is None else read_rules(self.redact),
                observer=progress,
                stop=self.stop,
            ) as driver,
        ):
            for outcome in driver.run(list(sources)):
                if outcome.error is not None:
                    progress.say(error_line(outcome.error, outcome.source.path, outcome.source.name), always=True)
                    worst = FAILED
                    continue
                # What is wrong with a result is said even to those who asked for quiet.
                for line in flaws(outcome):
                    progress.say(line, always=True)
                    worst = worst or INCOMPLETE
                try:
                    written = [
                        path
                        for transcript in handed_out(outcome.transcripts, self.speakers)
                        for path in publish(transcript, self.folder, sources[outcome.source], self.formats)
                    ]
                    stem = f"{sources[outcome.source]}.redacted"
                    for transcript in outcome.redacted:
                        written += publish(transcript, self.folder, stem, self.formats)
                except UsageError as error:
                    progress.say(f"stenopool: {error}", always=True)
                    worst = FAILED
                    continue
                for line in describe(outcome, written):
                    progress.say(line)
        return worst


def error_line(error: StenopoolError, path: Path, name: str) -> str:
    """An error as it is printed: about the name that the user gave, not about where standard input was kept."""
    message = str(error)
    rest = message.removeprefix(f"{path}: ")
    given = "standard input" if name == "-" else name
    return f"stenopool: {message if rest == message else f'{given}: {rest}'}"


def output_stems(files: Sequence[str]) -> list[str]:
    """Names of the outputs without their suffix: the file's stem; its whole name where two stems are the same.

    Raises:
        UsageError: two files would write the same outputs.
    """
    if "" in files:
        raise UsageError("a file's name is empty")
    names = ["stdin" if file == "-" else Path(file).name for file in files]
    stems = ["stdin" if file == "-" else Path(file).stem for file in files]
    counts = Counter(stems)
    chosen = [name if counts[stem] > 1 else stem for name, stem in zip(names, stems, strict=True)]
    first: dict[str, str] = {}
    for file, stem in zip(files, chosen, strict=True):
        if first.get(stem) == file:
            raise UsageError(f"{file} is named twice")
        if stem in first:
            raise UsageError(f"{first[stem]} and {file} would both write {stem}.*; use two commands with another -o")
        first[stem] = file
    return chosen


@contextlib.contextmanager
def spooled_stdin(files: Sequence[str]) -> Iterator[list[Path]]:
    """Paths of the files; standard input is kept in one first, because most containers must be sought in."""
    with contextlib.ExitStack() as stack:
        paths = []
        for file in files:
            if file == "-":
                if sys.stdin is None or sys.stdin.closed:
                    raise UsageError("standard input is closed; name a file, or pipe one in")
                if sys.stdin.isatty():
                    raise UsageError("standard input is a terminal; pipe a recording in, as in: cat talk.mp3 | ...")
                spool = stack.enter_context(tempfile.NamedTemporaryFile(prefix="stenopool-stdin-"))
                try:
                    shutil.copyfileobj(sys.stdin.buffer, spool)
                    spool.flush()
                except OSError as error:
                    raise UsageError(f"standard input cannot be kept in {spool.name} ({error.strerror})") from error
                paths.append(Path(spool.name))
            else:
                paths.append(Path(file))
        yield paths


def describe(outcome: Outcome, written: Sequence[Path]) -> Iterator[str]:
    """What became of a source, in a line per transcript, and its files."""
    known = "already transcribed (--force does it again), " if outcome.known else ""
    for transcript in outcome.transcripts:
        yield f"{_name(transcript)}: {known}{_summary(transcript)}"
    yield f"{outcome.source.name}: {' '.join(map(str, written)) or 'files are up to date'}"


def flaws(outcome: Outcome) -> Iterator[str]:
    """Why a source's transcripts are not all of it."""
    for transcript in outcome.transcripts:
        if transcript.ended_early:
            yield f"{_name(transcript)}: ended early: {transcript.ended_early}"
        if transcript.damaged:
            yield f"{_name(transcript)}: damaged: {transcript.damaged} packets became silence"
        for gap in transcript.coverage.gaps:
            yield f"{_name(transcript)}: gap at {clock(gap.span.start)}, {gap.span.seconds:.1f} s: {gap.reason}"


def _name(transcript: Transcript) -> str:
    name = "standard input" if transcript.source == "-" else transcript.source
    return name if transcript.channel is None else f"{name} channel {transcript.channel}"


def _summary(transcript: Transcript) -> str:
    silence = transcript.coverage.samples(CoverageKind.SILENCE) / SAMPLE_RATE
    words = len(transcript.text.split())
    spoken = f"{transcript.language}, {words} words" if words else "no speech"
    return f"{clock(transcript.duration)}, {spoken}, {silence:.0f} s of silence"


def clock(samples: int) -> str:
    """Samples as people read a time: 4:05, 1:02:03."""
    minutes, seconds = divmod(samples // SAMPLE_RATE, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
