"""Transcribe what `stenopool eval` has no transcript of: the same driver as `stenopool transcribe`, and a stopwatch."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import click

from stenopool.cli.loading import Loading
from stenopool.cli.transcribe import FAILED, INCOMPLETE, OK, error_line, flaws
from stenopool.domain import Options
from stenopool.errors import StenopoolError
from stenopool.evaluation.cases import Case
from stenopool.evaluation.evaluation import Timing
from stenopool.evaluation.texts import Text, text_of

if TYPE_CHECKING:
    from stenopool.cli.progress import Progress
    from workers.local import Outcome, Timings
    from workers.prepare import SourceFile

#: A recording in the language that it is to be transcribed in; one and the same may stand in a manifest several times.
Key = tuple[str | None, "SourceFile"]


@dataclass(slots=True)
class Heard:
    """What came of the recordings."""

    texts: dict[Key, Text] = field(default_factory=dict)
    #: By name: why a recording has no transcript.
    failed: dict[str, str] = field(default_factory=dict)
    #: None where nothing had to be done.
    timing: Timing | None = None
    #: The exit code.
    code: int = OK

    def text(self, case: Case) -> Text | None:
        """The transcript of a case; None where it failed."""
        return self.texts.get(_key(case))


def hear(
    cases: Sequence[Case],
    options: Options,
    loading: Loading,
    *,
    force: bool,
    quiet: bool,
    stop: threading.Event,
) -> Heard:
    """Transcribe; what cannot be transcribed is told, and the others go on.

    Raises:
        CheckpointError: there is no such model.
        UsageError: it does not know a language.
    """
    heard = Heard()
    groups = _playable(cases, heard)
    if not groups:
        return heard
    # Heavy imports stand here: where nothing is to be transcribed, none is made.
    from stenopool.cli.progress import Progress
    from workers.local import Timings

    started = time.perf_counter()
    # The language is an option of a whole driver; where there are several, they share what is loaded.
    engine = loading.engine() if len(groups) > 1 else None
    timings = Timings()
    done: list[Outcome] = []
    with Progress(enabled=not quiet, n_sources=sum(map(len, groups.values()))) as progress:
        for language, sources in groups.items():
            spoken = replace(options, language=language or "auto")
            with loading.driver(spoken, force=force, observer=progress, engine=engine, stop=stop) as driver:
                for outcome in driver.run(sources):
                    _keep(heard, (language, outcome.source), outcome, progress)
                    done.append(outcome)
            timings.prepare += driver.timings.prepare
            # Counted by the engine, over all drivers that it serves; nought from one that had no use for it.
            timings.compile = max(timings.compile, driver.timings.compile)
            timings.model = max(timings.model, driver.timings.model)
    heard.timing = _timing(done, timings, time.perf_counter() - started)
    return heard


def _key(case: Case) -> Key:
    from workers.prepare import SourceFile

    assert case.audio is not None, "a case has a transcript or a recording"
    return case.language, SourceFile(case.audio, case.name)


def _playable(cases: Sequence[Case], heard: Heard) -> dict[str | None, list[SourceFile]]:
    """The recordings by language, each once; what is no sound is told before any work is done."""
    if not cases:
        return {}
    from workers.media import probe

    groups: dict[str | None, list[SourceFile]] = defaultdict(list)
    for language, source in dict.fromkeys(map(_key, cases)):
        try:
            probe(source.path)
        except StenopoolError as error:
            click.echo(_failed(heard, source, error), err=True)
        else:
            groups[language].append(source)
    return groups


def _keep(heard: Heard, key: Key, outcome: Outcome, progress: Progress) -> None:
    if outcome.error is not None:
        progress.say(_failed(heard, outcome.source, outcome.error), always=True)
        return
    heard.texts[key] = text_of(outcome.transcripts[0])
    for line in flaws(outcome):
        progress.say(line, always=True)
        heard.code = heard.code or INCOMPLETE


def _failed(heard: Heard, source: SourceFile, error: StenopoolError) -> str:
    line = error_line(error, source.path, source.name)
    heard.failed[source.name] = line.removeprefix("stenopool: ").removeprefix(f"{source.name}: ")
    heard.code = FAILED
    return line


def _timing(done: Sequence[Outcome], timings: Timings, wall: float) -> Timing | None:
    """How long it took; None where all was known already, and the time would say nothing."""
    new = [outcome.transcripts[0] for outcome in done if outcome.transcripts and not outcome.known]
    samples = sum(transcript.duration for transcript in new)
    if not samples:
        return None
    return Timing(
        model=new[0].provenance.model,
        dtype=new[0].provenance.dtype,
        samples=samples,
        wall=wall,
        prepare=timings.prepare,
        compile=timings.compile,
        device=timings.model,
    )
