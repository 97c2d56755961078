"""The ledger's tables. They hold what was decided and what is done; the queries stand in `ledger.py`."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    event,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

#: The last of `storage/migrations`: what a ledger made by this release is.
REVISION = "0015"


class Lane(IntEnum):
    """Who goes first: whatever is urgent before whatever is normal before whatever is bulk."""

    URGENT = 0
    NORMAL = 1
    BULK = 2


class SubmissionState(StrEnum):
    """The life of a submission, from the desk to publication."""

    ACCEPTED = "accepted"
    INGESTING = "ingesting"
    TRANSCRIBING = "transcribing"
    PUBLISHING = "publishing"
    COMPLETED = "completed"
    COMPLETED_WITH_GAPS = "completed_with_gaps"
    COMPLETED_EMPTY = "completed_empty"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: It is being removed, with all that was made of it; the collector goes on with that.
    DELETING = "deleting"
    #: Only that it was there is left.
    DELETED = "deleted"


#: These have transcripts that are shown, and lie in the object store.
PUBLISHED = (
    SubmissionState.COMPLETED,
    SubmissionState.COMPLETED_WITH_GAPS,
    SubmissionState.COMPLETED_EMPTY,
)

#: Something will happen to these by itself, unless they are paused.
OPEN = (
    SubmissionState.ACCEPTED,
    SubmissionState.INGESTING,
    SubmissionState.TRANSCRIBING,
    SubmissionState.PUBLISHING,
)

#: Nothing more will be made of these.
GONE = (SubmissionState.DELETING, SubmissionState.DELETED)

#: Nothing more will happen to these by itself.
ENDED = (*PUBLISHED, SubmissionState.FAILED, SubmissionState.CANCELLED, *GONE)

#: These can be done again, as far as their files are kept.
RETRYABLE = (SubmissionState.COMPLETED_WITH_GAPS, SubmissionState.FAILED, SubmissionState.CANCELLED)


class TranscriptState(StrEnum):
    """The life of a transcript, from plan to merge."""

    TRANSCRIBING = "transcribing"
    MERGING = "merging"
    COMPLETED = "completed"
    #: Some spans could not be transcribed; the coverage names them.
    COMPLETED_WITH_GAPS = "completed_with_gaps"
    #: No speech in the whole recording: a result, not a failure.
    COMPLETED_EMPTY = "completed_empty"
    #: Nobody wants it any more.
    CANCELLED = "cancelled"


#: Nothing more will happen to these, and they have a document.
COMPLETED = (TranscriptState.COMPLETED, TranscriptState.COMPLETED_WITH_GAPS, TranscriptState.COMPLETED_EMPTY)

#: These are being made.
MAKING = (TranscriptState.TRANSCRIBING, TranscriptState.MERGING)


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


class WorkerRow(Base):
    """A process that works, as it said of itself the last time; one that has not for long is gone."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    role: Mapped[str] = mapped_column(String(64), comment="engine, scheduler, api, or of ingest, merge, publish some")
    host: Mapped[str] = mapped_column(comment="of the machine it runs on")
    pid: Mapped[int]
    version: Mapped[str] = mapped_column(String(32), comment="of Stenopool")
    state: Mapped[str] = mapped_column(String(16), comment="starting, working or draining")
    model: Mapped[str | None] = mapped_column(comment="an engine's, as it was named")
    model_digest: Mapped[str | None] = mapped_column(String(64))
    dtype: Mapped[str | None] = mapped_column(String(16))
    engine_key: Mapped[str | None] = mapped_column(String(64), comment="of the chunks that it decodes")
    slots: Mapped[int] = mapped_column(server_default="0", comment="chunks that it decodes at once")
    speed: Mapped[float | None] = mapped_column(comment="times real time, alone with one chunk, as it was begun")
    drain: Mapped[bool] = mapped_column(
        server_default=false(), comment="it is to end once it has ended what it has begun"
    )
    started_at: Mapped[float] = mapped_column(comment="database clock")
    seen_at: Mapped[float] = mapped_column(comment="database clock")


class TenantRow(Base):
    """Whose work it is. One who was never described is made with what stands here as soon as they submit."""

    __tablename__ = "tenants"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    weight: Mapped[float] = mapped_column(default=1.0, comment="share of the farm beside the others'")
    max_queued: Mapped[int | None] = mapped_column(comment="submissions that may be open at once; null: any number")
    created_at: Mapped[float] = mapped_column(comment="database clock")


class ShareRow(Base):
    """What a tenant has had of a lane, for start-time fair queueing."""

    __tablename__ = "shares"

    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"), primary_key=True)
    lane: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    virtual_time: Mapped[float] = mapped_column(comment="seconds of audio admitted, over the tenant's weight")


class SubmissionRow(Base):
    """A file as somebody handed it in, with how it is to be transcribed and what became of it."""

    __tablename__ = "submissions"
    __table_args__ = (
        UniqueConstraint("tenant", "idempotency_key"),
        Index(None, "state", "lane", "id"),
        Index(None, "tenant", "state"),
        Index(None, "source"),
        Index(None, "campaign_id", "state"),
        Index(None, "file_sha256"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    campaign_id: Mapped[int | None] = mapped_column(comment="that it belongs to")
    name: Mapped[str] = mapped_column(comment="what people call it, and its outputs are named after")
    source: Mapped[str] = mapped_column(
        comment="key of the file in the object store, or the URL that it is fetched from"
    )
    file_sha256: Mapped[str | None] = mapped_column(String(64), comment="of the file's bytes; null until it is fetched")
    idempotency_key: Mapped[str | None] = mapped_column(String(200), comment="a second submission with it is the first")
    model: Mapped[str] = mapped_column(comment="as it was named")
    options: Mapped[dict[str, object]] = mapped_column(JSON, comment="what changes the text, besides the model")
    metadata_: Mapped[dict[str, str]] = mapped_column(
        "metadata", JSON, server_default=text("'{}'"), comment="what else was said of it by whoever handed it in"
    )
    split: Mapped[bool] = mapped_column(comment="a transcript per channel; else they are mixed")
    again: Mapped[bool] = mapped_column(comment="done again though it is done")
    speakers: Mapped[list[str] | None] = mapped_column(
        JSON(none_as_null=True), comment="who is heard in the first channel, the second, ..., where they are split"
    )
    destination: Mapped[str | None] = mapped_column(comment="URL or folder to which its transcripts are sent as well")
    formats: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True), comment="in which they are sent there")
    redact: Mapped[str | None] = mapped_column(comment="kinds to be redacted, separated by commas; null: it is not")
    lane: Mapped[int] = mapped_column(SmallInteger)
    priority: Mapped[int] = mapped_column(comment="within tenant and lane, the higher first")
    deadline_at: Mapped[float | None] = mapped_column(comment="database clock; the earlier first")
    paused: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(String(24))
    settled: Mapped[str | None] = mapped_column(
        String(24), comment="its state before its gaps were tried again; it is that again where nothing comes of it"
    )
    duration: Mapped[int | None] = mapped_column(BigInteger, comment="samples of all its transcripts, once decoded")
    error: Mapped[str | None] = mapped_column(comment="why it failed, in one line")
    attempt: Mapped[int] = mapped_column(SmallInteger, default=0, comment="times it was claimed for the present stage")
    fence: Mapped[int] = mapped_column(default=0, comment="raised at each claim; who comes with an older one is late")
    worker: Mapped[str | None] = mapped_column(String(80))
    lease_until: Mapped[float | None] = mapped_column(comment="database clock; after it, the claim is void")
    not_before: Mapped[float | None] = mapped_column(comment="database clock; it failed, and is tried again then")
    hinted_at: Mapped[float | None] = mapped_column(comment="database clock; when a worker was last told of it")
    created_at: Mapped[float] = mapped_column(comment="database clock")
    ended_at: Mapped[float | None] = mapped_column(comment="database clock")


#: Those that wait to be decoded, in the order of their turns.
Index(
    "ix_submissions_accepted",
    SubmissionRow.lane,
    SubmissionRow.tenant,
    SubmissionRow.deadline_at,
    SubmissionRow.priority.desc(),
    SubmissionRow.id,
    postgresql_where=text("state = 'accepted'"),
    sqlite_where=text("state = 'accepted'"),
)


class SubmissionTranscriptRow(Base):
    """A transcript that a submission waits for: one, or one per channel. Equal work of a tenant is done once."""

    __tablename__ = "submission_transcripts"
    __table_args__ = (Index(None, "transcript_id"),)

    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    channel: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, comment="from 1; 0: all mixed")
    transcript_id: Mapped[int] = mapped_column(ForeignKey("transcripts.id"))
    speaker: Mapped[str | None] = mapped_column(comment="who is heard in it, as far as that was said")


class EventRow(Base):
    """Something became of a submission: written with it, numbered once it is there, and never changed again."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int | None] = mapped_column(unique=True, comment="from 1, without gaps; null until it is numbered")
    tenant: Mapped[str] = mapped_column(String(64))
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"))
    state: Mapped[str] = mapped_column(String(24), comment="what it has become")
    error: Mapped[str | None] = mapped_column(comment="why, in one line")
    detail: Mapped[dict[str, object] | None] = mapped_column(JSON(none_as_null=True), comment="what was heard, where")
    at: Mapped[float] = mapped_column(comment="database clock")


#: Those that are to be numbered.
Index(
    "ix_events_new",
    EventRow.id,
    postgresql_where=text("position IS NULL"),
    sqlite_where=text("position IS NULL"),
)


class RecordingRow(Base):
    """A recording: decoded samples, whatever they were wrapped in."""

    __tablename__ = "recordings"

    id: Mapped[str] = mapped_column(String(64), primary_key=True, comment="SHA-256 of the decoded samples")
    duration: Mapped[int] = mapped_column(comment="samples at 16 kHz")
    name: Mapped[str | None] = mapped_column(comment="on one machine: the file that it was decoded from the last time")
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
    __table_args__ = (
        UniqueConstraint("tenant", "recording_id", "work_digest", "generation"),
        Index(None, "state", "lane", "engine_key"),
        Index(None, "recording_id", "state"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), server_default="", comment="empty on one machine")
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id"))
    work_digest: Mapped[str] = mapped_column(String(64), comment="model, options and engine: what else is other work")
    generation: Mapped[int] = mapped_column(comment="from 1; a forced re-run makes the next")
    provenance: Mapped[dict[str, object]] = mapped_column(JSON, comment="model, digest, dtype, options, version")
    state: Mapped[str] = mapped_column(String(24))
    sequential: Mapped[bool] = mapped_column(comment="each chunk is told what was heard in the one before")
    engine_key: Mapped[str] = mapped_column(String(64), server_default="", comment="which engines can decode it")
    lane: Mapped[int | None] = mapped_column(
        SmallInteger, comment="null on one machine: its chunks are ready without being admitted"
    )
    priority: Mapped[int] = mapped_column(server_default="0", comment="within tenant and lane, the higher first")
    deadline_at: Mapped[float | None] = mapped_column(comment="database clock; the earlier first")
    paused: Mapped[bool] = mapped_column(server_default=false(), comment="none of its chunks is admitted")
    language: Mapped[str | None] = mapped_column(String(16), comment="null until it is detected")
    language_probability: Mapped[float | None] = mapped_column(comment="null where it was given")
    chunks_total: Mapped[int]
    chunks_open: Mapped[int] = mapped_column(comment="counts down in the transaction that finishes a chunk; 0: merge")
    chunks_waiting: Mapped[int] = mapped_column(server_default="0", comment="not admitted yet")
    fence: Mapped[int] = mapped_column(default=0, comment="raised by whoever begins the merge")
    elector: Mapped[str | None] = mapped_column(String(80), comment="worker that detects its language")
    lease_until: Mapped[float | None] = mapped_column(comment="database clock; after it, another may detect or merge")
    hinted_at: Mapped[float | None] = mapped_column(comment="database clock; when a worker was last told of it")
    document: Mapped[dict[str, object] | None] = mapped_column(JSON, comment="segments and coverage, once merged")
    withheld: Mapped[bool] = mapped_column(
        server_default=false(), comment="it has more gaps than the version that was shown when it was completed"
    )
    forgotten: Mapped[bool] = mapped_column(
        server_default=false(), comment="what was heard in its chunks is no longer kept"
    )
    created_at: Mapped[float] = mapped_column(comment="database clock")
    completed_at: Mapped[float | None] = mapped_column(comment="database clock")


class DeathRow(Base):
    """A worker that died, and what it had: by what became of that, others that die meanwhile are judged."""

    __tablename__ = "deaths"
    __table_args__ = (Index(None, "at"),)

    worker: Mapped[str] = mapped_column(String(80), primary_key=True)
    at: Mapped[float] = mapped_column(comment="database clock; when the first of its leases was found to have run out")
    chunks: Mapped[list[list[int]]] = mapped_column(JSON, comment="[transcript, index] of each")
    cleared: Mapped[bool] = mapped_column(
        default=False, server_default=false(), comment="others have heard all of that since: it died of nothing of it"
    )


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
        Index(
            "ix_chunks_leased",
            "lease_until",
            postgresql_where=text("state = 'leased'"),
            sqlite_where=text("state = 'leased'"),
        ),
        Index(
            "ix_chunks_ready",
            "engine_key",
            "lane",
            "rank",
            "transcript_id",
            "index",
            postgresql_where=text("state = 'ready'"),
            sqlite_where=text("state = 'ready'"),
        ),
        Index(
            "ix_chunks_blamed",
            "blamed_at",
            postgresql_where=text("blamed_at IS NOT NULL"),
            sqlite_where=text("blamed_at IS NOT NULL"),
        ),
        # For operators, who look at gaps among millions of chunks; it has no more entries than there are gaps.
        Index(
            "ix_chunks_failed",
            "transcript_id",
            "index",
            postgresql_where=text("(result ->> 'failed') IS NOT NULL"),
        ).ddl_if(dialect="postgresql"),
        ForeignKeyConstraint(["transcript_id"], ["transcripts.id"]),
        # Rows change their state again and again: there is room for it in their own page.
        {"postgresql_with": {"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.01}},
    )

    transcript_id: Mapped[int] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[int] = mapped_column(comment="samples")
    end: Mapped[int] = mapped_column(comment="samples")
    speech: Mapped[list[list[int]] | None] = mapped_column(JSON, comment="[start, end] of each run; null without VAD")
    state: Mapped[str] = mapped_column(String(8))
    engine_key: Mapped[str] = mapped_column(String(64), server_default="", comment="as its transcript's")
    lane: Mapped[int | None] = mapped_column(SmallInteger, comment="as its transcript's")
    rank: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="within the lane, the lower first")
    carried: Mapped[dict[str, object] | None] = mapped_column(JSON, comment="what the chunk before it tells")
    attempt: Mapped[int] = mapped_column(default=0, comment="times it was claimed")
    crashes: Mapped[int] = mapped_column(
        SmallInteger, server_default="0", comment="leases of it that ran out; from 1 on it is decoded apart"
    )
    blamed_at: Mapped[float | None] = mapped_column(comment="database clock; when its lease ran out the last time")
    hinted_at: Mapped[float | None] = mapped_column(comment="database clock; when a worker was last told of it")
    fence: Mapped[int] = mapped_column(
        default=0, comment="raised at each claim; a result under an older one is refused"
    )
    worker: Mapped[str | None] = mapped_column(String(80))
    lease_until: Mapped[float | None] = mapped_column(comment="database clock; after it, the claim is void")
    result: Mapped[dict[str, object] | None] = mapped_column(JSON, comment="what the engine heard")


#: What a chunk is found by.
CHUNK_KEY = (ChunkRow.transcript_id, ChunkRow.index)


class Heard(StrEnum):
    """What an event tells besides the states of submissions."""

    PHRASE = "phrase_heard"


class View(IntEnum):
    """Who finds a passage."""

    #: Nothing of it is redacted, and its transcript was: everybody.
    ALL = 0
    #: As it was said: who may see all.
    FULL = 1
    #: What is left of such a one.
    REDACTED = 2


class PassageRow(Base):
    """A few segments of a transcript that is shown, to be searched: one that is not shown has none."""

    __tablename__ = "passages"
    __table_args__ = (
        Index(None, "transcript_id"),
        Index(None, "config"),
        Index("ix_passages_words", "words", postgresql_using="gin").ddl_if(dialect="postgresql"),
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    transcript_id: Mapped[int] = mapped_column(ForeignKey("transcripts.id", ondelete="CASCADE"))
    tenant: Mapped[str] = mapped_column(String(64), comment="as its transcript's")
    language: Mapped[str] = mapped_column(String(16), comment="empty where it is not known")
    config: Mapped[str] = mapped_column(String(32), comment="Postgres' text search configuration for it")
    completed_at: Mapped[float] = mapped_column(comment="as its transcript's")
    view: Mapped[int] = mapped_column(SmallInteger, comment="0: all find it, 1: who may see all, 2: who may not")
    start: Mapped[int] = mapped_column(comment="samples")
    end: Mapped[int] = mapped_column(comment="samples")
    text: Mapped[str] = mapped_column(Text)
    marks: Mapped[list[list[int]]] = mapped_column(JSON, comment="[character, sample] at which each segment begins")
    words: Mapped[str] = mapped_column(
        TSVECTOR().with_variant(Text(), "sqlite"), comment="as they are compared (stenopool.wording)"
    )


#: SQLite's index of them, kept by triggers, so that a row that goes with its transcript goes here, too.
FULL_TEXT = (
    "CREATE VIRTUAL TABLE passages_words USING fts5(words, content='passages', content_rowid='id', "
    "tokenize=\"unicode61 remove_diacritics 0 categories 'L* N* Co M*'\")",
    "CREATE VIRTUAL TABLE passages_vocabulary USING fts5vocab(passages_words, row)",
    "CREATE TRIGGER passages_added AFTER INSERT ON passages BEGIN "
    "INSERT INTO passages_words (rowid, words) VALUES (new.id, new.words); END",
    "CREATE TRIGGER passages_removed AFTER DELETE ON passages BEGIN "
    "INSERT INTO passages_words (passages_words, rowid, words) VALUES ('delete', old.id, old.words); END",
)


@event.listens_for(PassageRow.__table__, "after_create")
def _full_text(_: object, connection: Connection, **__: object) -> None:
    if connection.dialect.name == "sqlite":
        for statement in FULL_TEXT:
            connection.exec_driver_sql(statement)


class RedactionRow(Base):
    """What of a transcript is not for everybody: the map from its text to the redacted one."""

    __tablename__ = "redactions"

    transcript_id: Mapped[int] = mapped_column(ForeignKey("transcripts.id", ondelete="CASCADE"), primary_key=True)
    masks: Mapped[list[list[object]]] = mapped_column(JSON, comment="[segment, first character, last + 1, kind]")
    at: Mapped[float] = mapped_column(comment="database clock")


class WatchRow(Base):
    """A phrase that a tenant wants to hear of."""

    __tablename__ = "watches"
    __table_args__ = (UniqueConstraint("tenant", "words"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), comment="empty on one machine")
    phrase: Mapped[str] = mapped_column(comment="as it was given")
    words: Mapped[str] = mapped_column(comment="as they are compared, with spaces between them")
    created_at: Mapped[float] = mapped_column(comment="database clock")


class WatchHitRow(Base):
    """Where a watched phrase was heard: once for each version of a transcript."""

    __tablename__ = "watch_hits"
    __table_args__ = (Index(None, "transcript_id"),)

    watch_id: Mapped[int] = mapped_column(ForeignKey("watches.id", ondelete="CASCADE"), primary_key=True)
    transcript_id: Mapped[int] = mapped_column(ForeignKey("transcripts.id", ondelete="CASCADE"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, comment="its first word, from 0")
    start: Mapped[int] = mapped_column(comment="samples; of the segment where there are no times of words")
    end: Mapped[int] = mapped_column(comment="samples")
    text: Mapped[str] = mapped_column(Text, comment="what was heard, with the segments around")
    at: Mapped[float] = mapped_column(comment="database clock")
