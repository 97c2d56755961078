"""What the API answers with, as its description has it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from stenopool.domain import SAMPLE_RATE
from storage.desk import Submission
from storage.search import Hit
from workers.shown import record_of


class Shape(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="One line: what is wrong, and what to do.")


class Recording(Shape):
    """A recording that was handed in."""

    id: int
    name: str
    tenant: str
    campaign: int | None
    lane: str
    priority: int
    deadline_at: float | None
    state: str
    paused: bool
    error: str | None
    source: str
    metadata: dict[str, str]
    model: str
    redact: str | None
    seconds: float | None
    speakers: list[str]
    sent_to: str | None
    formats: list[str]
    chunks: int
    chunks_open: int
    created_at: float
    ended_at: float | None


class Gap(Shape):
    """What could not be transcribed; seconds."""

    start: float
    end: float
    reason: str | None


class Heard(Shape):
    """A transcript of a recording, and what became of each of its seconds."""

    channel: int | None
    language: str | None
    words: int
    seconds: dict[str, float]
    gaps: list[Gap]


class Version(Shape):
    """A version of a transcript."""

    channel: int | None
    version: int
    state: str
    standing: str
    gaps: float


class PublisherTranscript(Shape):
    """A transcript that the recording's publisher offers itself, and what became of it."""

    n: int = Field(description="Its bytes are at /v1/recordings/{id}/publisher-transcripts/{n}.")
    url: str
    type: str | None
    language: str | None
    rel: str | None
    state: str = Field(description="kept, refused, or later: it could not be had for the moment.")
    error: str | None
    bytes: int | None
    sha256: str | None


class HoldRecord(Shape):
    """Why nothing of a recording is removed."""

    submission: int
    reason: str | None
    by: str
    at: float


class Receipt(Shape):
    """What became of a deletion."""

    submission: int
    tenant: str
    state: str
    by: str
    reason: str | None
    asked_at: float
    erased_at: float | None
    completed_at: float | None
    rows: dict[str, int]
    objects: list[dict[str, Any]]
    kept: list[Any]
    error: str | None


class FullRecording(Recording):
    """All there is to know of a recording."""

    transcripts: list[Heard]
    versions: list[Version]
    publisher_transcripts: list[PublisherTranscript]
    hold: HoldRecord | None
    deletion: Receipt | None


class RecordingPage(Shape):
    """Some recordings, the last one first."""

    recordings: list[Recording]
    cursor: str | None = Field(description="What the next page is asked for with; null: this is the last one.")


class SearchHit(Shape):
    """Where something was said; times in seconds."""

    transcript: int
    tenant: str
    name: str
    recording: int | None
    channel: int | None
    speaker: str | None
    language: str
    start: float
    end: float
    at: float
    text: str
    found: list[tuple[int, int]]
    rank: float


class SearchPage(Shape):
    """Some hits, the best first."""

    hits: list[SearchHit]
    cursor: str | None


def recording(one: Submission) -> dict[str, Any]:
    """A submission as the API shows it."""
    return record_of(one) | more(one)


def more(one: Submission) -> dict[str, Any]:
    """What the API tells beside that."""
    return {"campaign": one.campaign_id, "priority": one.priority, "deadline_at": one.deadline_at}


def hit(one: Hit) -> dict[str, Any]:
    """A hit as the API shows it."""
    record = {name: getattr(one, name) for name in SearchHit.model_fields if name != "recording"}
    seconds = {name: getattr(one, name) / SAMPLE_RATE for name in ("start", "end", "at")}
    return record | seconds | {"recording": one.submission}
