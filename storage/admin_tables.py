"""The ledger's table of lanes and tenants that an operator has paused."""

from __future__ import annotations

from sqlalchemy import SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables import Base


class PauseRow(Base):
    """A lane or a tenant of which nothing more is begun until it is resumed: one of the two is named."""

    __tablename__ = "pauses"

    id: Mapped[int] = mapped_column(primary_key=True)
    lane: Mapped[int | None] = mapped_column(SmallInteger, unique=True)
    tenant: Mapped[str | None] = mapped_column(String(64), unique=True)
    reason: Mapped[str | None]
    by: Mapped[str] = mapped_column(comment="who asked for it")
    at: Mapped[float] = mapped_column(comment="database clock")
