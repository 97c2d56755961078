"""Aggregate: the results of all chunks become one transcript with its coverage."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from scheduler.coverage import coverage_of
from scheduler.merge import merge_chunks
from scheduler.plan import Silence
from stenopool.domain import MULTIPLE, Segment, Transcript
from storage.ledger import Ledger, Source, Work
from storage.records import document_of, provenance_of_record, read_document, result_of_record
from storage.tables import TranscriptState

_log = logging.getLogger(__name__)


def aggregate(ledger: Ledger, transcript: int) -> None:
    """Merge a transcript whose chunks are all done. Harmless when called twice, or by two at once."""
    fence = ledger.begin_merge(transcript)
    if fence is None:
        return
    parts = ledger.parts(transcript)
    duration = parts.work.duration
    results = [result_of_record(record) for record in parts.results]
    silences = [Silence(span=span, score=score) for span, score in parts.silences]
    merged = merge_chunks(duration, results)
    coverage = coverage_of(duration, silences, results)
    if coverage.gaps:
        state = TranscriptState.COMPLETED_WITH_GAPS
    elif merged.segments:
        state = TranscriptState.COMPLETED
    else:
        state = TranscriptState.COMPLETED_EMPTY
    # How the seams were resolved goes into no file; it is kept for whoever asks the ledger why a word is missing.
    document = document_of(merged.segments, coverage) | {"seams": [asdict(seam) for seam in merged.seams]}
    if not ledger.complete(transcript, fence, state, document):
        return
    _log.info("transcript %d: merged, %s", transcript, state.value)
    if state == TranscriptState.COMPLETED_WITH_GAPS and (done := ledger.work(transcript)).withheld:
        _log.warning(
            "transcript %d: version %d has more gaps than the one that is shown, and is kept beside it",
            transcript,
            done.version,
        )


def transcript_of(work: Work, source: Source, name: str) -> Transcript:
    """A completed transcript, as it is handed out for one channel of one source."""
    document: Mapping[str, Any] | None = work.document
    if document is None:
        raise ValueError(f"transcript {work.id} is not merged yet")
    segments, coverage = read_document(document)
    return Transcript(
        source=name,
        recording=work.recording,
        duration=work.duration,
        language=spoken_most(segments) if work.language == MULTIPLE else work.language,
        language_probability=work.language_probability,
        segments=segments,
        coverage=coverage,
        provenance=provenance_of_record(work.provenance),
        ended_early=source.ended_early,
        damaged=source.damaged,
        channel=source.channel or None,
    )


def spoken_most(segments: Iterable[Segment]) -> str | None:
    """The language of most of the time, where each segment has its own; None where nothing was said."""
    spoken: Counter[str] = Counter()
    for segment in segments:
        spoken[segment.language or ""] += len(segment.span)
    return max(spoken, key=spoken.__getitem__) if spoken else None
