"""What is shown of a submission: its transcripts, and their files in the object store."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from scheduler.redacted import redacted, redaction_map
from scheduler.redaction import KINDS, Rules, read_rules
from stenopool.domain import MULTIPLE, SAMPLE_RATE, Coverage, CoverageKind, Transcript, join_text
from stenopool.formats import KEPT, render
from storage.desk import Submission
from storage.keys import MAPS, REDACTED, TRANSCRIPTS, transcript_key
from storage.ledger import Work
from storage.outcome import Outcome, Version
from storage.records import gap_samples, read_coverage, read_document
from storage.redactions import Redactions
from workers.aggregate import spoken_most, transcript_of
from workers.erase import receipt_of
from workers.export import folder_of
from workers.farm import Farm
from workers.publish import named, output_name
from workers.publisher import record_of_transcript
from workers.redact import redact


def record_of(one: Submission) -> dict[str, Any]:
    """A submission, for programs."""
    return {
        "id": one.id,
        "name": one.name,
        "tenant": one.tenant,
        "lane": one.lane.name.lower(),
        "state": one.state.value,
        "paused": one.paused,
        "error": one.error,
        "source": one.source,
        "metadata": dict(one.metadata),
        "model": one.model,
        "redact": one.redact,
        "seconds": None if one.duration is None else one.duration / 16_000,
        "speakers": one.speakers,
        "sent_to": folder_of(one),
        "formats": one.formats,
        "chunks": one.chunks_total,
        "chunks_open": one.chunks_open,
        "created_at": one.created_at,
        "ended_at": one.ended_at,
    }


def full_record_of(outcome: Outcome) -> dict[str, Any]:
    """All there is to know of a submission, for programs: its transcripts, their versions, holds, its deletion."""
    hold, deletion = outcome.hold, outcome.deletion
    return record_of(outcome.submission) | {
        "transcripts": [_coverage_record(one, one.document) for one in outcome.versions if one.shown and one.document],
        "versions": list(map(_version_record, outcome.versions)),
        "publisher_transcripts": list(map(record_of_transcript, outcome.publisher_transcripts)),
        "hold": None if hold is None else asdict(hold),
        "deletion": None if deletion is None else receipt_of(deletion),
    }


def _coverage_record(version: Version, document: Mapping[str, Any]) -> dict[str, Any]:
    coverage = Coverage(read_coverage(document["coverage"]))
    return {
        "channel": version.channel or None,
        "language": spoken_most(read_document(document)[0]) if version.language == MULTIPLE else version.language,
        # Of each word only that it is there: to make what a transcript has of it would take most of the time.
        "words": len(join_text(segment["text"] for segment in document["segments"]).split()),
        "seconds": {kind.value: coverage.samples(kind) / SAMPLE_RATE for kind in CoverageKind},
        "gaps": [
            {"start": gap.span.start / SAMPLE_RATE, "end": gap.span.end / SAMPLE_RATE, "reason": gap.reason}
            for gap in coverage.gaps
        ],
    }


def _version_record(version: Version) -> dict[str, Any]:
    return {
        "channel": version.channel or None,
        "version": version.number,
        "state": version.state.value,
        "standing": "withheld" if version.withheld else "shown" if version.shown else "kept",
        "gaps": gap_samples(version.document or {}) / SAMPLE_RATE,
    }


def shown_of(farm: Farm, submission: Submission, version: int | None = None) -> list[tuple[Work, Transcript]]:
    """A submission's transcripts, by channel, as far as they are complete; in another version, if one is named."""
    known = farm.ledger.sources(submission.file_sha256, split=submission.split) if submission.file_sha256 else []
    sources = {source.channel: source for source in known}
    found = []
    for channel, transcript in submission.transcripts:
        work = farm.ledger.shown(transcript) if version is None else _version(farm, transcript, version)
        if work is not None and work.complete:
            found.append((work, transcript_of(work, sources[channel], submission.name)))
    return found


def _version(farm: Farm, transcript: int, version: int) -> Work | None:
    return next((work for work in farm.ledger.versions(transcript) if work.version == version), None)


def transcripts_of(farm: Farm, submission: Submission, version: int | None = None) -> list[Transcript]:
    """The same without what the ledger knows besides."""
    return [transcript for _, transcript in shown_of(farm, submission, version)]


def is_redacted(farm: Farm, submission: Submission) -> bool:
    """Whether there is something in a submission's transcripts that is not for everybody."""
    if submission.redact is not None:
        return True
    versions = {work.id for _, transcript in submission.transcripts for work in farm.ledger.versions(transcript)}
    return bool(Redactions(farm.database).known(versions))


def veiled_of(farm: Farm, submission: Submission, version: int | None = None) -> list[Transcript]:
    """A submission's transcripts for those who may not see what was redacted of them, by whomever."""
    redactions = Redactions(farm.database)
    found = []
    for work, transcript in shown_of(farm, submission, version):
        if submission.redact is not None:
            found.append(redact(redactions, work.id, transcript, read_rules(submission.redact)).transcript)
        elif (masks := redactions.masks(work.id)) is not None:
            found.append(redacted(transcript, masks, Rules(kinds=tuple(KINDS))))
        else:
            found.append(transcript)
    return found


def sent_of(farm: Farm, submission: Submission) -> list[Transcript]:
    """A submission's transcripts as they leave the farm: where they are to be redacted, without what was."""
    shown = shown_of(farm, submission)
    if submission.redact is None:
        return [transcript for _, transcript in shown]
    redactions, rules = Redactions(farm.database), read_rules(submission.redact)
    return [redact(redactions, work.id, transcript, rules).transcript for work, transcript in shown]


#: How the name of a map ends.
MAP = "map.json"


def file_keys(submission: int, transcript: int, channel: int | None, kind: str = TRANSCRIPTS) -> dict[str, str]:
    """Where the files of a submission's transcript are in the object store, and the format of each.

    Args:
        channel: from 1; None where they were mixed.
        kind: in full, redacted, or the map between them (storage/keys.py).
    """
    names = {named("transcript", channel, MAP): MAP}
    if kind != MAPS:
        names = {output_name("transcript", channel, format): format for format in KEPT}
    return {transcript_key(submission, transcript, name, kind): format for name, format in names.items()}


def put_files(farm: Farm, submission: Submission, there: Container[str] = ()) -> tuple[list[Transcript], list[str]]:
    """Put the files of what is shown that are not `there` into the object store; the transcripts, and those keys."""
    shown = shown_of(farm, submission)
    put = []
    for work, transcript in shown:
        for key, text in _files(farm, submission, work, transcript, there):
            farm.store.put(key, text.encode())
            put.append(key)
    return [transcript for _, transcript in shown], put


def _files(
    farm: Farm, submission: Submission, work: Work, transcript: Transcript, there: Container[str]
) -> Iterator[tuple[str, str]]:
    """What is to be put, and where; it is rendered only where it is."""

    def missing(kind: str) -> list[tuple[str, str]]:
        keys = file_keys(submission.id, work.id, transcript.channel, kind)
        return [(key, format) for key, format in keys.items() if key not in there]

    for key, format in missing(TRANSCRIPTS):
        yield key, render(transcript, format)
    if submission.redact is not None and (missing(REDACTED) or missing(MAPS)):
        done = redact(Redactions(farm.database), work.id, transcript, read_rules(submission.redact))
        for key, format in missing(REDACTED):
            yield key, render(done.transcript, format)
        for key, _ in missing(MAPS):
            yield key, redaction_map(transcript, done.masks)
