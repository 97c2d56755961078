"""The manifest of a campaign: what became of every recording, and the digests of all that was made of it.

Whoever has the files can say by it whether they are whole and all there. The same ledger and the same objects give
the same manifest, byte for byte.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stenopool.domain import SAMPLE_RATE, CoverageKind, Transcript
from storage.campaign_progress import DUPLICATE, HERE, LEFT, PROBLEM
from storage.campaigns import Campaign, CampaignItem
from storage.desk import Submission
from storage.keys import publisher_key
from storage.ledger import Work
from storage.publisher import PublisherTranscripts
from workers.farm import Farm
from workers.outlook import outlook
from workers.publisher import record_of_transcript
from workers.shown import file_keys, shown_of

#: Items that are read at once, and objects.
PAGE, AT_ONCE = 200, 8
#: Bytes that are read of an object at a time.
PIECE = 1 << 22

#: The columns of the short form: a line for each transcript, and for each recording that has none.
COLUMNS = (
    *("name", "location", "state", "reason", "submission", "file_sha256", "seconds", "channel", "recording", "version"),
    *("language", "model_digest", "transcribed", "silence", "failed", "skipped", "gaps", "json_key", "json_sha256"),
)


def records(
    farm: Farm, campaign: Campaign, progress: Callable[[int], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """What became of every recording, in the order in which they were listed."""
    after = 0
    with ThreadPoolExecutor(AT_ONCE, "manifest") as pool:
        while page := farm.campaigns.items(campaign.id, after, PAGE):
            yield from pool.map(lambda item: _record(farm, item), page)
            after = page[-1].id
            progress(len(page))


def as_json(farm: Farm, campaign: Campaign, items: Iterator[dict[str, Any]]) -> Iterator[str]:
    """The whole manifest, in pieces."""
    head = json.dumps({"campaign": _campaign(farm, campaign)}, indent=2)
    yield head[:-2] + ',\n  "items": ['
    for place, item in enumerate(items):
        yield ("," if place else "") + "\n    " + json.dumps(item, indent=2).replace("\n", "\n    ")
    yield "\n  ]\n}\n"


def as_csv(items: Iterator[dict[str, Any]]) -> Iterator[str]:
    """The short form, in pieces."""
    yield _line(COLUMNS)
    for item in items:
        for one in item["transcripts"] or [{}]:
            coverage = one.get("coverage", {})
            [file] = [file for file in one.get("files", ()) if file["format"] == "json"] or [{}]
            row = item | one | coverage | {"gaps": len(one["gaps"]) if one else None}
            row |= {"json_key": file.get("key"), "json_sha256": file.get("sha256")}
            yield _line(["" if row.get(name) is None else str(row[name]) for name in COLUMNS])


def _line(cells: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _campaign(farm: Farm, campaign: Campaign) -> dict[str, Any]:
    found = outlook(farm, campaign)
    return {
        "name": campaign.name,
        "tenant": campaign.tenant,
        "state": "ended" if found.ended else campaign.state.value,
        "model": campaign.model,
        "options": campaign.options,
        "states": found.progress.states,
        "audio_seconds": found.progress.done,
        "forecast": campaign.forecast,
        "took_seconds": found.took,
        "forecast_error": found.error if found.ended else None,
    }


def _record(farm: Farm, item: CampaignItem) -> dict[str, Any]:
    doer = item
    while doer.submission_id is None and doer.duplicate_of is not None:
        doer = farm.campaigns.item(doer.duplicate_of)
    submission = None if doer.submission_id is None else farm.desk.submission(doer.submission_id)
    shown = shown_of(farm, submission) if submission is not None else []
    samples = item.duration if submission is None or submission.duration is None else submission.duration
    return {
        "name": item.name,
        "location": item.location,
        "metadata": dict(item.metadata),
        "options": dict(item.options),
        "state": _state(item, submission),
        "reason": item.problem if submission is None else submission.error,
        "submission": doer.submission_id,
        "file_sha256": (submission.file_sha256 if submission else None) or item.file_sha256,
        "seconds": None if samples is None else samples / SAMPLE_RATE,
        "transcripts": [] if submission is None else [_transcript(farm, submission, *one) for one in shown],
        "publisher_transcripts": [] if submission is None else _publishers(farm, submission),
    }


def _state(item: CampaignItem, submission: Submission | None) -> str:
    if item.submission_id is not None and submission is not None:
        return submission.state.value
    if item.problem is not None:
        return PROBLEM
    if item.duplicate_of is not None:
        return DUPLICATE
    return HERE if item.source is None else LEFT


def _transcript(farm: Farm, submission: Submission, work: Work, transcript: Transcript) -> dict[str, Any]:
    keys = file_keys(submission.id, work.id, transcript.channel)
    return {
        "channel": transcript.channel,
        "recording": transcript.recording,
        "version": work.version,
        "language": transcript.language,
        "model_digest": transcript.provenance.model_digest,
        "coverage": {kind.value: transcript.coverage.samples(kind) / SAMPLE_RATE for kind in CoverageKind},
        "gaps": [
            {"start": gap.span.start / SAMPLE_RATE, "end": gap.span.end / SAMPLE_RATE, "reason": gap.reason}
            for gap in transcript.coverage.gaps
        ],
        "files": [{"key": key, "format": format, "sha256": _digest(farm, key)} for key, format in keys.items()],
    }


def _publishers(farm: Farm, submission: Submission) -> list[dict[str, Any]]:
    """What the publisher offers itself: as it was fetched, where it lies, and the digest of what lies there."""
    found = []
    for one in PublisherTranscripts(farm.database).of(submission.id):
        key = None if one.sha256 is None else publisher_key(submission.id, one.sha256)
        here = None if key is None else _digest(farm, key)
        found.append(record_of_transcript(one) | {"key": key, "sha256": here})
    return found


def _digest(farm: Farm, key: str) -> str | None:
    """Of an object's bytes as they are in the store; None where it is gone."""
    size = farm.store.size(key)
    if size is None:
        return None
    digest = hashlib.sha256()
    for at in range(0, size, PIECE):
        try:
            digest.update(farm.store.read(key, at, min(at + PIECE, size)))
        except KeyError:  # just now
            return None
    return digest.hexdigest()
