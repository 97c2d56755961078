"""What is shown of a submission: its transcripts, and their files in the object store."""

from __future__ import annotations

from collections.abc import Container

from stenopool.domain import Transcript
from stenopool.formats import KEPT, render
from storage.desk import Submission
from storage.keys import transcript_key
from storage.ledger import Work
from workers.aggregate import transcript_of
from workers.farm import Farm
from workers.publish import output_name


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


def file_keys(submission: int, transcript: int, channel: int | None) -> dict[str, str]:
    """Where the files of a submission's transcript are in the object store, and the format of each.

    Args:
        channel: from 1; None where they were mixed.
    """
    return {
        transcript_key(submission, transcript, output_name("transcript", channel, format)): format for format in KEPT
    }


def put_files(farm: Farm, submission: Submission, there: Container[str] = ()) -> tuple[list[Transcript], list[str]]:
    """Put the files of what is shown that are not `there` into the object store; the transcripts, and those keys."""
    shown = shown_of(farm, submission)
    put = []
    for work, transcript in shown:
        for key, format in file_keys(submission.id, work.id, transcript.channel).items():
            if key not in there:
                farm.store.put(key, render(transcript, format).encode())
                put.append(key)
    return [transcript for _, transcript in shown], put
