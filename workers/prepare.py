"""Prepare: from a file to chunks in the ledger; or to what the ledger has of it already."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from scheduler.plan import Plan, SpeechRun, plan_islands, plan_recording, plan_whole, plan_without_vad
from stenopool.domain import SAMPLE_RATE, Chunk, Span
from stenopool.errors import MediaUnreadable
from stenopool.tracing import span
from storage.ledger import Ledger, Queued, Source, Work
from storage.objects import ObjectStore
from storage.records import record_of_provenance
from storage.tables import TranscriptState
from workers.assignment import Assignment
from workers.ingest import Ingest, Ingested, digest_file, has_pcm
from workers.source import open_source


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to transcribe, and the name that people know it by."""

    path: Path
    name: str
    #: Words to expect in this one, besides those of the options.
    hotwords: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A source whose work is in the ledger: one transcript, or one per channel."""

    source: SourceFile
    sources: tuple[Source, ...]
    works: tuple[Work, ...]
    #: SHA-256 of the file's bytes.
    file_sha256: str

    @property
    def known(self) -> bool:
        """Nothing is left to do: the ledger had it all."""
        return all(work.complete for work in self.works)


def prepare(
    source: SourceFile,
    assignment: Assignment,
    ledger: Ledger,
    store: ObjectStore,
    *,
    ingest: Ingest,
    planning: threading.Lock,
    stop: threading.Event,
    progress: Callable[[int], None],
    queued: Queued | None = None,
) -> Prepared:
    """Look a file up in the ledger; decode and plan it if need be.

    Args:
        ingest: how it is decoded.
        planning: held while the ledger is asked or told.
        stop: set it to give up.
        progress: told how many samples were decoded so far.
        queued: whose it is on a farm, and where it stands in the queue.

    Raises:
        MediaError: the file is no sound.
        Stopped: `stop` was set.
    """
    # What its first bytes say to be no sound is refused before all of it is read. Nothing more of it is looked at here:
    # whoever decodes it may die of it.
    open_source(source.path).close()
    file_sha256 = digest_file(source.path)
    with planning:
        known = _known(source, file_sha256, assignment, ledger, store, queued)
    # By force, what is complete is done again; what a killed process began by force is gone on with.
    if known and not (assignment.force and known.known):
        return known

    def decode() -> list[Ingested]:
        vad = assignment.options.vad
        return ingest(source.path, store, split=assignment.split, vad=vad, stop=stop, progress=progress)

    heard = decode()
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
    # Two channels with the same samples are one recording, and one piece of work.
    recordings = {one.recording: one for one in heard}
    with planning:
        ledger.add_sources(file_sha256, sources)
        works = {recording: _plan(one, assignment, ledger, queued) for recording, one in recordings.items()}
    # Another process may have finished these samples, and removed them, just before they were planned here.
    if not all(work.complete or has_pcm(store, recording, work.duration) for recording, work in works.items()):
        decode()
    return Prepared(source, sources, tuple(works[one.recording] for one in heard), file_sha256)


def mend(
    source: SourceFile,
    transcripts: Sequence[int],
    ledger: Ledger,
    store: ObjectStore,
    *,
    split: bool,
    queued: Callable[[Work], Queued],
    ingest: Ingest,
    stop: threading.Event,
) -> list[Work]:
    """Begin new versions of a file's transcripts, in which only the gaps are transcribed; what has none is as it was.

    Args:
        split: each channel is a recording of its own.
        queued: where each stands in the queue.
        ingest: how the file is decoded, if its samples are gone.
        stop: set it to give up.

    Raises:
        MediaError: the file is no sound, or does not decode to the samples that it did.
        LedgerError: one of them is complete in no version.
        Stopped: `stop` was set.
    """
    works = [ledger.shown(transcript) or ledger.work(transcript) for transcript in transcripts]
    _have_samples(source, works, store, split=split, ingest=ingest, stop=stop)
    mended = [ledger.mend(work.id, queued(work)) for work in works]
    # What nobody needed until just now may have been removed meanwhile.
    _have_samples(source, mended, store, split=split, ingest=ingest, stop=stop)
    return mended


def _have_samples(
    source: SourceFile, works: Sequence[Work], store: ObjectStore, *, split: bool, ingest: Ingest, stop: threading.Event
) -> None:
    """See that the samples are there of what has gaps, or is being made."""
    needed = [work for work in works if work.state not in (TranscriptState.COMPLETED, TranscriptState.COMPLETED_EMPTY)]

    def there() -> bool:
        return all(has_pcm(store, work.recording, work.duration) for work in needed)

    if not there():
        ingest(source.path, store, split=split, vad=False, stop=stop, progress=lambda _: None)
        if not there():
            raise MediaUnreadable(f"{source.path}: decodes to other samples than before; submit it again")


def _known(
    source: SourceFile,
    file_sha256: str,
    assignment: Assignment,
    ledger: Ledger,
    store: ObjectStore,
    queued: Queued | None,
) -> Prepared | None:
    """What the ledger has of a file, if it can be gone on with without decoding the file."""
    sources = ledger.sources(file_sha256, split=assignment.split)
    tenant = queued.tenant if queued else ""
    works = [ledger.latest(one.recording, assignment.digest, tenant) for one in sources]
    usable = [
        work
        for work in works
        if work
        and work.state != TranscriptState.CANCELLED
        and (work.complete or has_pcm(store, work.recording, work.duration))
    ]
    if not sources or len(usable) < len(sources):
        return None
    return Prepared(source, tuple(sources), tuple(usable), file_sha256)


def _plan(one: Ingested, assignment: Assignment, ledger: Ledger, queued: Queued | None) -> Work:
    with span("plan"):
        plan = plan_ingested(one, assignment)
        return ledger.plan(
            one.recording,
            assignment.digest,
            provenance=record_of_provenance(assignment.provenance),
            language=assignment.language,
            chunks=plan.chunks,
            silences=[(silence.span, silence.score) for silence in plan.silences],
            sequential=assignment.options.mode == "sequential",
            again=assignment.force,
            queued=queued,
        )


def plan_ingested(one: Ingested, assignment: Assignment) -> Plan:
    """Cut what was decoded into chunks and silences."""
    options = assignment.options
    window, overlap = round(options.chunk_length * SAMPLE_RATE), round((options.overlap or 0) * SAMPLE_RATE)
    sequential = options.mode == "sequential"
    if one.activity is None:
        return (
            plan_whole(one.duration) if sequential else plan_without_vad(one.duration, window=window, overlap=overlap)
        )
    runs, peak = [SpeechRun(span, score) for span, score in one.activity.runs()], one.activity.peak
    if sequential:
        plan = plan_islands(one.duration, runs, peak=peak, window=window)
    else:
        plan = plan_recording(one.duration, runs, peak=peak, window=window, overlap=overlap)
    return replace(plan, chunks=tuple(with_speech(plan.chunks, [run.span for run in runs])))


def with_speech(chunks: Iterable[Chunk], runs: Sequence[Span]) -> Iterator[Chunk]:
    """The chunks, each with the runs of speech in it; both are in order of time."""
    ends = [run.end for run in runs]
    for chunk in chunks:
        first = bisect_right(ends, chunk.span.start)
        inside = takewhile(lambda run, end=chunk.span.end: run.start < end, runs[first:])  # type: ignore[misc]
        yield replace(chunk, speech=tuple(both for run in inside if (both := run.intersection(chunk.span))))
