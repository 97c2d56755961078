"""The ledger's tables of webhooks: who is told, and what he was told of."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import JSON, ForeignKey, Index, SmallInteger, String, text
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables import Base


class EndpointState(StrEnum):
    """Whether an endpoint is sent anything."""

    ENABLED = "enabled"
    #: It failed for days; what it was not told waits.
    PAUSED = "paused"
    #: It said that it is gone.
    DISABLED = "disabled"


class DeliveryState(StrEnum):
    """The life of an event on its way to an endpoint."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    #: The endpoint wants no further attempt.
    REFUSED = "refused"
    #: It was tried for as long as anything is.
    GIVEN_UP = "given_up"


class EndpointRow(Base):
    """A URL of a tenant that is told what became of his submissions."""

    __tablename__ = "endpoints"

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    url: Mapped[str]
    uid: Mapped[str] = mapped_column(String(32), comment="in the ids of what is sent to it: no other endpoint's")
    types: Mapped[list[str] | None] = mapped_column(JSON, comment="of events; null: all")
    secret: Mapped[str] = mapped_column(comment="signs; as it was shown once")
    former_secret: Mapped[str | None] = mapped_column(comment="signs as well, while receivers change to the other")
    former_until: Mapped[float | None] = mapped_column(comment="database clock; until then")
    state: Mapped[str] = mapped_column(String(8))
    reason: Mapped[str | None] = mapped_column(comment="how it failed the last time, in one line")
    position: Mapped[int] = mapped_column(comment="events up to this one have their deliveries")
    failures: Mapped[int] = mapped_column(SmallInteger, comment="one after the other, without a delivery in between")
    failing_since: Mapped[float | None] = mapped_column(comment="database clock; null where the last one went well")
    not_before: Mapped[float | None] = mapped_column(comment="database clock; until then it is left alone")
    turn_at: Mapped[float | None] = mapped_column(comment="database clock; when it had its last turn")
    created_at: Mapped[float] = mapped_column(comment="database clock")


class DeliveryRow(Base):
    """An event on its way to an endpoint."""

    __tablename__ = "deliveries"

    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoints.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, comment="of the event")
    state: Mapped[str] = mapped_column(String(9))
    attempts: Mapped[int] = mapped_column(SmallInteger, comment="times it was sent, as far as is known")
    not_before: Mapped[float | None] = mapped_column(comment="database clock; it is tried again then")
    status: Mapped[int | None] = mapped_column(SmallInteger, comment="of the last answer")
    error: Mapped[str | None] = mapped_column(comment="why the last attempt failed, in one line")
    at: Mapped[float] = mapped_column(comment="database clock; of its last change")


#: What is to be sent: what was never tried goes first.
Index(
    "ix_deliveries_waiting",
    DeliveryRow.endpoint_id,
    DeliveryRow.attempts,
    DeliveryRow.position,
    postgresql_where=text("state = 'waiting'"),
    sqlite_where=text("state = 'waiting'"),
)
#: What was done long ago.
Index(
    "ix_deliveries_done",
    DeliveryRow.at,
    postgresql_where=text("state <> 'waiting'"),
    sqlite_where=text("state <> 'waiting'"),
)
