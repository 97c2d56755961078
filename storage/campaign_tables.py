"""The ledger's tables of campaigns: many recordings that are handed in as one, and what engines do in five minutes."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, SmallInteger, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables import Base


class CampaignState(StrEnum):
    """The life of a campaign; that it has ended shows in its submissions."""

    #: What belongs to it is still being listed, or the listing was killed.
    LISTING = "listing"
    READY = "ready"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class CampaignRow(Base):
    """Many recordings that are handed in as one, and how."""

    __tablename__ = "campaigns"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(100))
    model: Mapped[str] = mapped_column(comment="as of its submissions, as is what follows")
    options: Mapped[dict[str, object]] = mapped_column(JSON)
    split: Mapped[bool]
    speakers: Mapped[list[str]] = mapped_column(JSON)
    destination: Mapped[str | None]
    formats: Mapped[list[str]] = mapped_column(JSON)
    redact: Mapped[str | None]
    lane: Mapped[int] = mapped_column(SmallInteger)
    priority: Mapped[int]
    deadline: Mapped[float | None] = mapped_column(comment="seconds from its start in which it is due")
    deadline_at: Mapped[float | None] = mapped_column(comment="database clock")
    budget: Mapped[float | None] = mapped_column(comment="engine-hours; what would take more is not handed in")
    state: Mapped[str] = mapped_column(String(12))
    forecast: Mapped[dict[str, object] | None] = mapped_column(JSON, comment="the first one, made as it was started")
    created_at: Mapped[float] = mapped_column(comment="database clock")
    started_at: Mapped[float | None] = mapped_column(comment="database clock")


class CampaignItemRow(Base):
    """A recording of a campaign: before it is a submission, and the list of what became one."""

    __tablename__ = "campaign_items"
    __table_args__ = (
        UniqueConstraint("campaign_id", "key"),
        Index(None, "campaign_id", "file_sha256"),
        Index(None, "campaign_id", "location"),
        Index(None, "source"),
        Index(
            "ix_campaign_items_left",
            "campaign_id",
            "id",
            postgresql_where=text("submission_id IS NULL"),
            sqlite_where=text("submission_id IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    key: Mapped[str] = mapped_column(String(64), comment="digest of what makes it another one than the others")
    location: Mapped[str] = mapped_column(comment="path, s3:// or http(s) URL, as it was listed")
    name: Mapped[str]
    options: Mapped[dict[str, object]] = mapped_column(JSON, comment="those that are its own")
    lane: Mapped[int | None] = mapped_column(SmallInteger, comment="null: its campaign's")
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", JSON, comment="what else its list says of it")
    source: Mapped[str | None] = mapped_column(comment="as of a submission; null: a file that is not uploaded yet")
    file_sha256: Mapped[str | None] = mapped_column(String(64), comment="of the file's bytes, as far as they were seen")
    size: Mapped[int | None] = mapped_column(BigInteger, comment="bytes")
    duration: Mapped[int | None] = mapped_column(BigInteger, comment="samples, as its container or its list says")
    problem: Mapped[str | None] = mapped_column(comment="why it cannot be transcribed, in one line")
    checked_at: Mapped[float | None] = mapped_column(comment="database clock; when it was last looked at")
    duplicate_of: Mapped[int | None] = mapped_column(ForeignKey("campaign_items.id"), comment="that is done instead")
    submission_id: Mapped[int | None] = mapped_column(ForeignKey("submissions.id"))


class FeedPageRow(Base):
    """A page of a campaign's feed as it was last read, so that it is fetched again only if it has changed."""

    __tablename__ = "feed_pages"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    url: Mapped[str] = mapped_column(primary_key=True)
    etag: Mapped[str | None]
    last_modified: Mapped[str | None]
    following: Mapped[str | None] = mapped_column(comment="URL of the next page")


class ThroughputRow(Base):
    """What an engine did in five minutes."""

    __tablename__ = "throughput"
    __table_args__ = (Index(None, "model", "began"),)

    worker: Mapped[str] = mapped_column(String(80), primary_key=True)
    began: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, comment="seconds since 1970")
    model: Mapped[str]
    audio: Mapped[float] = mapped_column(comment="seconds of recordings that it has transcribed")
    busy: Mapped[float] = mapped_column(comment="seconds in which it had work")
