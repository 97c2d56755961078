"""Prepare: from a file to chunks in the ledger; or to what the ledger has of it already."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from models.engine import REVISION
from scheduler.plan import Plan, SpeechRun, plan_recording, plan_without_vad
from stenopool.domain import SAMPLE_RATE, Provenance
from storage.ledger import Ledger, Source, Work
from storage.objects import FolderStore
from storage.records import record_of_provenance
from workers.ingest import Ingested, digest_file, ingest, pcm_key


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to transcribe, and the name that people know it by."""

    path: Path
    name: str


@dataclass(frozen=True)
class Assignment:
    """What is to be done with every source."""

    provenance: Provenance
    #: The only language of the checkpoint, where it has just one: nothing is to be detected.
    only_language: str | None
    #: A transcript per channel; else channels are mixed.
    split: bool
    #: Work that is done is done again.
    force: bool

    @property
    def language(self) -> str | None:
        """What is known of the language beforehand."""
        asked = self.provenance.options.language
        return self.only_language if asked == "auto" else asked

    @cached_property
    def digest(self) -> str:
        """A name for all that the text depends on besides the recording; anything else is other work."""
        parts = [
            self.provenance.model_digest,
            self.provenance.dtype,
            self.provenance.options.digest(),
            REVISION,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A source whose work is in the ledger: one transcript, or one per channel."""

    source: SourceFile
    sources: tuple[Source, ...]
    works: tuple[Work, ...]
    #: Nothing is left to do: the ledger had it all.
    known: bool


def prepare(
    source: SourceFile,
    assignment: Assignment,
    ledger: Ledger,
    store: FolderStore,
    *,
    stop: threading.Event,
    progress: Callable[[int], None],
) -> Prepared:
    """Look a file up in the ledger; decode and plan it if need be.

    Raises:
        MediaError: the file is no sound.
        Stopped: `stop` was set.
    """
    file_sha256 = digest_file(source.path)
    if not assignment.force:
        known = ledger.sources(file_sha256, split=assignment.split)
        works = [ledger.latest(one.recording, assignment.digest) for one in known]
        found = [work for work in works if work and (work.complete or store.exists(pcm_key(work.recording)))]
        if known and len(found) == len(known):
            return Prepared(source, tuple(known), tuple(found), known=all(work.complete for work in found))

    options = assignment.provenance.options
    heard = ingest(source.path, store, split=assignment.split, vad=options.vad, stop=stop, progress=progress)
    sources = tuple(
        Source(
            channel=one.channel,
            recording=one.recording,
            duration=one.duration,
            ended_early=one.ended_early,
            damaged=one.damaged,
        )
        for one in heard
    )
    ledger.add_sources(file_sha256, sources)
    works = []
    # Two channels with the same samples are one recording, and one piece of work.
    planned: dict[str, Work] = {}
    for one in heard:
        work = planned.get(one.recording)
        if work is None and not assignment.force:
            work = ledger.latest(one.recording, assignment.digest)
        planned[one.recording] = work or _plan(one, assignment, ledger)
    return Prepared(source, sources, tuple(planned[one.recording] for one in heard), known=False)


def _plan(one: Ingested, assignment: Assignment, ledger: Ledger) -> Work:
    plan = plan_ingested(one, assignment)
    return ledger.plan(
        one.recording,
        assignment.digest,
        provenance=record_of_provenance(assignment.provenance),
        language=assignment.language,
        chunks=[chunk.span for chunk in plan.chunks],
        silences=[(silence.span, silence.score) for silence in plan.silences],
    )


def plan_ingested(one: Ingested, assignment: Assignment) -> Plan:
    """Cut what was decoded into chunks and silences."""
    options = assignment.provenance.options
    window, overlap = round(options.chunk_length * SAMPLE_RATE), round(options.overlap * SAMPLE_RATE)
    if one.activity is None:
        return plan_without_vad(one.duration, window=window, overlap=overlap)
    runs = [SpeechRun(span, score) for span, score in one.activity.runs()]
    return plan_recording(one.duration, runs, peak=one.activity.peak, window=window, overlap=overlap)
