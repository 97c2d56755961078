"""`stenopool eval`: how far transcripts are from what was said."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stenopool.cli.loading import NAMES, Loading, loading_options, taken_loading
from stenopool.cli.options import SectionedCommand, decoding_options, taken
from stenopool.domain import Options
from stenopool.errors import StenopoolError, UsageError

if TYPE_CHECKING:
    from stenopool.evaluation.cases import Case
    from stenopool.evaluation.evaluation import Evaluation, Timing
    from stenopool.evaluation.page import Sound

PATH = click.Path(path_type=Path)

#: Options that mean something only where there is something to transcribe.
_OF_TRANSCRIBING = ("force", *NAMES, *(field.name for field in fields(Options) if field.name != "language"))


@click.command("eval", cls=SectionedCommand, no_args_is_help=True)
@click.argument("file", required=False, type=PATH)
@click.option(
    "-r",
    "--reference",
    required=True,
    type=PATH,
    help="What was said: txt, srt, vtt, tsv or json; or a manifest of many: jsonl, csv or tsv.",
)
@click.option("--audio", type=PATH, help="The recording that FILE is a transcript of, for the page to play.")
@click.option(
    "--normalizer",
    type=click.Choice(["auto", "english", "basic", "none"]),
    default="auto",
    show_default=True,
    help="Form in which words are compared; auto: Whisper's for the language.",
)
@click.option("--force", is_flag=True, help="Transcribe again, and take the time, what is transcribed already.")
@click.option(
    "--json", "json_file", type=PATH, metavar="FILE", help="Write the figures; - writes them instead of the table."
)
@click.option(
    "--html", "html_file", type=PATH, metavar="FILE", help="Write a page that shows every error and plays the sound."
)
@click.option("--embed-audio", is_flag=True, help="Put the sound into the page.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@loading_options
@decoding_options
def evaluate(file: Path | None, reference: Path, audio: Path | None, **arguments: Any) -> None:
    """Compare transcripts with references.

    Counts errors in words and characters, what a model says over and over, and what became of every second. FILE is a
    transcript, or a recording, which is transcribed first. A manifest has a line for each recording with audio,
    reference (a file or the text), and perhaps hypothesis and language; then FILE may be a folder of transcripts.

    \b
    Examples:
      stenopool eval talk.json --reference talk.txt --html talk.html
      stenopool eval talk.mp3 --reference talk.srt --model openai/whisper-small
      stenopool eval out/ --reference talks.jsonl --json figures.json
    """
    # Heavy imports stand here: `stenopool --help` and wrong arguments answer at once.
    from models.accuracy import language_code
    from stenopool.evaluation.cases import gather

    context = click.get_current_context()
    options, loading = taken(arguments), taken_loading(arguments)
    code = None if options.language == "auto" else language_code(options.language)
    command = _Command(options=options, loading=loading, stop=context.obj, **arguments)
    command.check_outputs(audio)
    cases = gather(file, reference, audio=audio, language=code)
    if all(case.hypothesis for case in cases):
        given = click.core.ParameterSource.COMMANDLINE
        for name in _OF_TRANSCRIBING:
            if context.get_parameter_source(name) is given:
                raise UsageError(f"--{name.replace('_', '-')}: nothing is to be transcribed; leave it out")
    context.exit(command.run(cases))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """The command's options; the names are theirs."""

    options: Options
    loading: Loading
    normalizer: str
    force: bool
    json_file: Path | None
    html_file: Path | None
    embed_audio: bool
    quiet: bool
    #: Set by an interrupt.
    stop: threading.Event

    def check_outputs(self, audio: Path | None) -> None:
        """What cannot be written is said before any work is done."""
        if self.html_file is None and (audio is not None or self.embed_audio):
            option = "--embed-audio" if self.embed_audio else f"--audio {audio}"
            raise UsageError(f"{option}: there is no page to play the sound; name one with --html")
        if self.html_file == Path("-"):
            raise UsageError("--html -: a page is a file; name it")
        for path in (self.json_file, self.html_file):
            if path is None or path == Path("-"):
                continue
            if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
                raise UsageError(
                    f"{path}: cannot be written; name a file in a folder that is there and yours to write in"
                )

    def run(self, cases: Sequence[Case]) -> int:
        """Transcribe what has no transcript, compare, show; returns the exit code."""
        from stenopool.cli.hearing import hear
        from stenopool.evaluation.cases import form_of
        from stenopool.evaluation.evaluation import evaluate as compare

        for case in cases:  # before the hours of work
            if case.hypothesis is not None:
                form_of(case, case.hypothesis, self.normalizer)
        heard = hear(
            [case for case in cases if case.hypothesis is None],
            self.options,
            self.loading,
            force=self.force,
            quiet=self.quiet,
            stop=self.stop,
        )
        evaluations = []
        for case in cases:
            hypothesis = case.hypothesis or heard.text(case)
            if hypothesis is not None:
                evaluations.append(compare(case, hypothesis, self.normalizer))
        self._show(evaluations, heard.timing, heard.failed)
        return heard.code

    def _show(self, evaluations: Sequence[Evaluation], timing: Timing | None, failed: dict[str, str]) -> None:
        from stenopool.evaluation.page import to_html
        from stenopool.evaluation.report import to_json
        from stenopool.evaluation.table import print_table

        if self.json_file == Path("-"):
            click.echo(to_json(evaluations, timing, failed), nl=False)
        else:
            print_table(evaluations, timing, failed)
            if self.json_file is not None:
                _write(self.json_file, to_json(evaluations, timing, failed))
        if self.html_file is not None and evaluations:
            sounds = {
                index: sound
                for index, one in enumerate(evaluations)
                if one.case.audio is not None and (sound := self._sound(one.case.audio, self.html_file.parent))
            }
            _write(self.html_file, to_html(evaluations, timing, failed, sounds))

    def _sound(self, audio: Path, folder: Path) -> Sound | None:
        """Where the page finds the sound; None, and a word about it, where there is none."""
        from stenopool.evaluation.page import Sound
        from workers.media import probe

        try:
            probe(audio)  # a transcript may name any file as its source: only sound is shown, or put into a page
            return Sound.inside(audio) if self.embed_audio else Sound.beside(audio, folder)
        except StenopoolError as error:
            click.echo(f"stenopool: the page does not play it: {error}", err=True)
            return None


def _write(path: Path, content: str) -> None:
    from workers.publish import write_atomically

    try:
        write_atomically(path, content.encode())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from error
