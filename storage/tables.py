"""The ledger's tables. They hold what was decided and what is done; the queries stand in `ledger.py`."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import JSON, ForeignKey, ForeignKeyConstraint, Index, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

#: Written into every ledger; another number means another release made it.
SCHEMA_VERSION = 3


class TranscriptState(StrEnum):
    """The life of a transcript, from plan to publication."""

    TRANSCRIBING = "transcribing"
    MERGING = "merging"
    COMPLETED = "completed"
    #: Some spans could not be transcribed; the coverage names them.
    COMPLETED_WITH_GAPS = "completed_with_gaps"
    #: No speech in the whole recording: a result, not a failure.
    COMPLETED_EMPTY = "completed_empty"


#: Nothing more will happen to these.
COMPLETED = (TranscriptState.COMPLETED, TranscriptState.COMPLETED_WITH_GAPS, TranscriptState.COMPLETED_EMPTY)


class ChunkState(StrEnum):
    """The life of a chunk."""

    #: The recording's language is not known yet, or the chunk before it is not done in a sequential transcript.
    WAITING = "waiting"
    READY = "ready"
    LEASED = "leased"
    DONE = "done"


class Base(DeclarativeBase):
    """All tables of the ledger."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Meta(Base):
    """One row: which release's schema this is."""

    __tablename__ = "meta"

    schema_version: Mapped[int] = mapped_column(primary_key=True)


class RecordingRow(Base):
    """A recording: decoded samples, whatever they were wrapped in."""

    __tablename__ = "recordings"

    id: Mapped[str] = mapped_column(String(64), primary_key=True, comment="SHA-256 of the decoded samples")
    duration: Mapped[int] = mapped_column(comment="samples at 16 kHz")
    created_at: Mapped[float] = mapped_column(comment="database clock, seconds since 1970")


class SourceRow(Base):
    """A file that was decoded before: its bytes need no second decoding to know the recording."""

    __tablename__ = "sources"

    file_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    channel: Mapped[int] = mapped_column(primary_key=True, comment="from 1; 0: all channels mixed")
    channels: Mapped[int] = mapped_column(comment="how many rows of this file belong together")
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id"))
    ended_early: Mapped[str | None] = mapped_column(comment="why the file ended before its own end")
    damaged: Mapped[int] = mapped_column(comment="packets that did not decode and became silence")


class TranscriptRow(Base):
    """A version of a recording's text, from plan to publication."""

    __tablename__ = "transcripts"
    __table_args__ = (UniqueConstraint("recording_id", "work_digest", "generation"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id"))
    work_digest: Mapped[str] = mapped_column(String(64), comment="model, options and engine: what else is other work")
    generation: Mapped[int] = mapped_column(comment="from 1; a forced re-run makes the next")
    provenance: Mapped[dict[str, object]] = mapped_column(JSON, comment="model, digest, dtype, options, version")
    state: Mapped[str] = mapped_column(String(24))
    sequential: Mapped[bool] = mapped_column(comment="each chunk is told what was heard in the one before")
    language: Mapped[str | None] = mapped_column(String(16), comment="null until it is detected")
    language_probability: Mapped[float | None] = mapped_column(comment="null where it was given")
    chunks_total: Mapped[int]
    chunks_open: Mapped[int] = mapped_column(comment="counts down in the transaction that finishes a chunk; 0: merge")
    fence: Mapped[int] = mapped_column(default=0, comment="raised by whoever begins the merge")
    document: Mapped[dict[str, object] | None] = mapped_column(JSON, comment="segments and coverage, once merged")
    created_at: Mapped[float] = mapped_column(comment="database clock")
    completed_at: Mapped[float | None] = mapped_column(comment="database clock")


class SilenceRow(Base):
    """A span without speech, as planned: part of the coverage."""

    __tablename__ = "silences"

    transcript_id: Mapped[int] = mapped_column(ForeignKey("transcripts.id"), primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True, comment="samples")
    end: Mapped[int] = mapped_column(comment="samples")
    score: Mapped[float] = mapped_column(comment="highest speech probability inside")


class ChunkRow(Base):
    """A unit of work and its result."""

    __tablename__ = "chunks"
    __table_args__ = (
        Index(None, "transcript_id", "state"),
        Index(None, "state", "lease_until"),
        ForeignKeyConstraint(["transcript_id"], ["transcripts.id"]),
    )

    transcript_id: Mapped[int] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[int] = mapped_column(comment="samples")
    end: Mapped[int] = mapped_column(comment="samples")
    speech: Mapped[list[list[int]] | None] = mapped_column(JSON, comment="[start, end] of each run; null without VAD")
    state: Mapped[str] = mapped_column(String(8))
    carried: Mapped[dict[str, object] | None] = mapped_column(JSON, comment="what the chunk before it tells")
    attempt: Mapped[int] = mapped_column(default=0, comment="times it was claimed")
    fence: Mapped[int] = mapped_column(
        default=0, comment="raised at each claim; a result under an older one is refused"
    )
    worker: Mapped[str | None] = mapped_column(String(80))
    lease_until: Mapped[float | None] = mapped_column(comment="database clock; after it, the claim is void")
    result: Mapped[dict[str, object] | None] = mapped_column(JSON, comment="what the engine heard")
