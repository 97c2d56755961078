"""The ledger's tables of what is kept for how long, what is held, and what was deleted."""

from __future__ import annotations

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables import Base


class RetentionRow(Base):
    """How long what is a tenant's is kept, in seconds; null: as where nothing is set."""

    __tablename__ = "retention"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    source: Mapped[float | None] = mapped_column(comment="seconds after the submission's end")
    pcm: Mapped[float | None] = mapped_column(comment="seconds after the transcript's completion")
    chunks: Mapped[float | None] = mapped_column(comment="seconds after the transcript's completion")
    transcript: Mapped[float | None] = mapped_column(comment="seconds after the submission's end: then it is deleted")


class HoldRow(Base):
    """A submission of which nothing is removed until it is released."""

    __tablename__ = "holds"

    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    reason: Mapped[str | None]
    by: Mapped[str] = mapped_column(comment="who asked for it")
    at: Mapped[float] = mapped_column(comment="database clock")


class DeletionRow(Base):
    """What was, or is being, removed of a submission: the proof that is left of it."""

    __tablename__ = "deletions"

    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    reason: Mapped[str | None]
    by: Mapped[str] = mapped_column(comment="who asked for it")
    asked_at: Mapped[float] = mapped_column(comment="database clock")
    erased_at: Mapped[float | None] = mapped_column(comment="database clock; when its rows went")
    completed_at: Mapped[float | None] = mapped_column(comment="database clock; when all was gone")
    error: Mapped[str | None] = mapped_column(comment="what keeps it from being completed, in one line")
    keys: Mapped[list[str]] = mapped_column(JSON, comment="of objects, and what they lie below: to be removed still")
    receipt: Mapped[dict[str, object]] = mapped_column(JSON, comment="what was removed, and what was kept, and why")
