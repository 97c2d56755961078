"""The ledger's table of publishers' own transcripts: what became of each that a feed names."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ForeignKey, SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables import Base


class KeptState(StrEnum):
    """What became of a publisher's transcript."""

    KEPT = "kept"
    #: It cannot be had.
    REFUSED = "refused"
    #: It could not be had for the moment; the next stage of its submission tries again.
    LATER = "later"


class PublisherTranscriptRow(Base):
    """A transcript of the publisher's own, as it was fetched, or why it was not."""

    __tablename__ = "publisher_transcripts"

    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    place: Mapped[int] = mapped_column(
        SmallInteger, primary_key=True, autoincrement=False, comment="among those that its feed names, from 1"
    )
    url: Mapped[str] = mapped_column(comment="as the feed has it")
    media_type: Mapped[str | None] = mapped_column(String(100), comment="as the feed has it, else as it was sent")
    language: Mapped[str | None] = mapped_column(String(40), comment="as the feed has it")
    rel: Mapped[str | None] = mapped_column(String(40), comment="as the feed has it")
    state: Mapped[str] = mapped_column(String(8))
    sha256: Mapped[str | None] = mapped_column(String(64), comment="of its bytes; null: it is not kept")
    size: Mapped[int | None] = mapped_column(comment="bytes")
    error: Mapped[str | None] = mapped_column(comment="why it is not kept, in one line")
    at: Mapped[float] = mapped_column(comment="database clock; when it was asked for")
