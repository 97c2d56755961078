"""The ledger's table of sessions: who has signed in on the web page."""

from __future__ import annotations

from sqlalchemy import Boolean, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables import Base


class SessionRow(Base):
    """A key in use by a browser, or a link with which a browser may begin to use it, once."""

    __tablename__ = "sessions"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True, comment="SHA-256 of the token: 32 random bytes")
    key_id: Mapped[int] = mapped_column(ForeignKey("api_keys.id"), comment="which it counts for, as long as that does")
    once: Mapped[bool] = mapped_column(Boolean, comment="a link, which becomes a session and is gone then")
    created_at: Mapped[float] = mapped_column(comment="database clock")
    expires_at: Mapped[float] = mapped_column(index=True, comment="database clock")
