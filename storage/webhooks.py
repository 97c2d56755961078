"""Webhooks: endpoints, and the events that are on their way to them.

    waiting ──► delivered
       │ └────► refused: the endpoint wants no further attempt
       ▲──┘     given_up: it was tried for as long as anything is

Each endpoint has read the outbox up to a position of its own: what it was not told while it was paused is still there.
Only what is before it has rows here, and no more of them than it takes within a while.
"""

from __future__ import annotations

import base64
import secrets
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, delete, exists, func, literal, or_, select, update
from sqlalchemy.orm import Session

from stenopool.errors import Missing
from storage.conditions import now
from storage.database import database_clock
from storage.outbox import Event, event_of
from storage.tables import EventRow
from storage.transactions import Transactions
from storage.webhook_tables import DeliveryRow, DeliveryState, EndpointRow, EndpointState

#: Events that are looked at for an endpoint at a time.
WINDOW = 1000
#: Deliveries of an endpoint that wait, at which no more events are looked at for it.
MOST_WAITING = 1000

_DAY = 86_400.0
#: Seconds without a delivery that went well, after which an endpoint that fails is paused.
PATIENCE = 3 * _DAY
#: Seconds after which what was done is forgotten.
REMEMBERED = 30 * _DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A URL of a tenant that is told what became of his submissions; times are by the database's clock."""

    id: int
    tenant: str
    url: str
    #: Types of events that it is told of; None for all.
    types: tuple[str, ...] | None
    state: EndpointState
    #: How it failed the last time.
    reason: str | None
    failing_since: float | None
    #: Until when a second secret signs as well.
    former_until: float | None
    #: Events that it has still to be told of, as far as they have been looked at.
    waiting: int
    #: Events up to this one have been looked at.
    position: int
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """An event that is none: somebody tries whether an endpoint takes what it is sent."""

    tenant: str
    at: float
    position: int = 0
    type: str = "webhook.test"
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event that is to be sent to an endpoint now."""

    endpoint: int
    url: str
    #: The same at every attempt.
    id: str
    event: Event | Probe
    #: Times that it was sent before, as far as is known.
    attempts: int
    #: Times that the endpoint failed since it took something.
    failures: int
    #: Each signs it.
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of sending a delivery."""

    state: DeliveryState
    #: Of the answer; None where there was none.
    status: int | None = None
    error: str | None = None
    #: Seconds until it is tried again.
    pause: float | None = None
    #: Seconds in which nothing at all is sent to the endpoint.
    rest: float | None = None
    #: The endpoint says that it is gone.
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A delivery, as people ask for it."""

    endpoint: int
    position: int
    type: str
    submission: int
    state: DeliveryState
    attempts: int
    status: int | None
    error: str | None
    not_before: float | None
    at: float


class Webhooks(Transactions):
    """Queries and transitions of endpoints and deliveries."""

    # Endpoints

    def add(self, tenant: str, url: str, types: Sequence[str] | None = None) -> tuple[Endpoint, str]:
        """A new endpoint, told of what happens from now on; with its secret, which is shown this once."""
        with self._transaction() as session:
            row = EndpointRow(
                tenant=tenant,
                url=url,
                uid=uuid.uuid4().hex,
                types=None if types is None else list(types),
                secret=new_secret(),
                state=EndpointState.ENABLED,
                position=_last(session),
                failures=0,
                created_at=database_clock(),
            )
            session.add(row)
            session.flush()
            session.refresh(row)
            return _endpoint(row, 0), row.secret

    def remove(self, id: int) -> None:
        """Tell it nothing more, and forget what it was told. Raises Missing where there is none."""
        with self._transaction() as session:
            row = _row(session, id)
            session.execute(delete(DeliveryRow).where(DeliveryRow.endpoint_id == id))
            session.delete(row)

    def rotate(self, id: int, seconds: float) -> str:
        """A new secret, shown this once; the one before it signs as well for so many seconds, others no more."""
        with self._transaction() as session:
            row = _row(session, id)
            row.former_secret, row.former_until = row.secret, database_clock() + seconds
            row.secret = new_secret()
            session.flush()
            return row.secret

    def resume(self, id: int) -> bool:
        """Go on with an endpoint that was paused, or had said that it is gone; False where it was neither."""
        with self._transaction() as session:
            changed = session.execute(
                update(EndpointRow)
                .where(EndpointRow.id == id, EndpointRow.state != EndpointState.ENABLED)
                .values(state=EndpointState.ENABLED, **_WELL)
                .returning(EndpointRow.id)
                .execution_options(synchronize_session=False)
            )
            return bool(changed.all())

    def endpoints(self, *, tenant: str | None = None) -> list[Endpoint]:
        """All of them, or a tenant's."""
        mine = () if tenant is None else (EndpointRow.tenant == tenant,)
        with self._transaction() as session:
            return [_endpoint(row, waiting) for row, waiting in session.execute(_counted().where(*mine))]

    def endpoint(self, id: int) -> Endpoint:
        """One of them. Raises Missing where there is none."""
        with self._transaction() as session:
            _row(session, id)
            row, waiting = session.execute(_counted().where(EndpointRow.id == id)).one()
            return _endpoint(row, waiting)

    def probe(self, id: int) -> Delivery:
        """An event without a number, to be sent to an endpoint by hand. Raises Missing where there is none."""
        with self._transaction() as session:
            row = _row(session, id)
            event = Probe(tenant=row.tenant, at=session.scalar(select(database_clock())) or 0.0)
            return _delivery(row, event, f"test_{uuid.uuid4().hex}", 0, session)

    # Deliveries

    def spread(self) -> bool:
        """Look at further events for endpoints that are behind; whether there is more to look at."""
        with self._transaction() as session:
            last = _last(session)
            behind = session.scalars(
                select(EndpointRow.id).where(EndpointRow.state == EndpointState.ENABLED, EndpointRow.position < last)
            ).all()
        more = [self._spread(id, last) for id in behind]
        return any(more)

    def _spread(self, id: int, last: int) -> bool:
        """One endpoint's; whether it is behind still, and would take more."""
        with self._transaction() as session:
            row = session.scalar(select(EndpointRow).where(EndpointRow.id == id).with_for_update())
            if row is None or row.state != EndpointState.ENABLED or row.position >= last:
                return False
            waiting = session.scalar(
                select(func.count())
                .select_from(DeliveryRow)
                .where(DeliveryRow.endpoint_id == id, DeliveryRow.state == DeliveryState.WAITING)
            )
            if (waiting or 0) >= MOST_WAITING:
                return False
            until = min(last, row.position + WINDOW)
            found = session.scalars(
                select(EventRow).where(
                    EventRow.position > row.position, EventRow.position <= until, EventRow.tenant == row.tenant
                )
            )
            session.add_all(
                _new(id, event.position)
                for event in map(event_of, found)
                if row.types is None or event.type in row.types
            )
            row.position = until
            return until < last

    def due(self, limit: int, without: Collection[int] = ()) -> list[int]:
        """Endpoints that something is to be sent to now; who has waited for longest goes first."""
        waits = (
            DeliveryRow.endpoint_id == EndpointRow.id,
            DeliveryRow.state == DeliveryState.WAITING,
            _over(DeliveryRow.not_before),
        )
        with self._transaction() as session:
            return list(
                session.scalars(
                    select(EndpointRow.id)
                    .where(
                        EndpointRow.state == EndpointState.ENABLED,
                        _over(EndpointRow.not_before),
                        EndpointRow.id.not_in(list(without)),
                        exists(select(literal(1)).where(*waits)),
                    )
                    .order_by(EndpointRow.turn_at.asc().nulls_first(), EndpointRow.id)
                    .limit(limit)
                )
            )

    def turn(self, endpoint: int, limit: int) -> list[Delivery]:
        """What is to be sent to an endpoint now: what was never tried first, in the order of the events."""
        with self._transaction() as session:
            row = session.scalar(
                select(EndpointRow).where(EndpointRow.id == endpoint, EndpointRow.state == EndpointState.ENABLED)
            )
            if row is None:
                return []
            found = session.execute(
                select(DeliveryRow.attempts, EventRow)
                .join(EventRow, EventRow.position == DeliveryRow.position)
                .where(
                    DeliveryRow.endpoint_id == endpoint,
                    DeliveryRow.state == DeliveryState.WAITING,
                    _over(DeliveryRow.not_before),
                )
                .order_by(DeliveryRow.attempts, DeliveryRow.position)
                .limit(limit)
            ).all()
            deliveries = [
                _delivery(row, event_of(event), str(event.position), attempts, session) for attempts, event in found
            ]
            session.execute(update(EndpointRow).where(EndpointRow.id == endpoint).values(turn_at=database_clock()))
            return deliveries

    def record(self, delivery: Delivery, outcome: Outcome) -> EndpointState | None:
        """Keep what came of a delivery; what its endpoint is now. None where another has kept it, or it is removed."""
        with self._transaction() as session:
            kept = session.execute(
                update(DeliveryRow)
                .where(
                    DeliveryRow.endpoint_id == delivery.endpoint,
                    DeliveryRow.position == delivery.event.position,
                    DeliveryRow.state == DeliveryState.WAITING,
                    DeliveryRow.attempts == delivery.attempts,
                )
                .values(
                    state=outcome.state,
                    attempts=DeliveryRow.attempts + 1,
                    not_before=_in(outcome.pause),
                    status=outcome.status,
                    error=outcome.error,
                    at=database_clock(),
                )
                .returning(DeliveryRow.position)
                .execution_options(synchronize_session=False)
            ).all()
            if not kept:
                return None
            mine = EndpointRow.id == delivery.endpoint
            if outcome.state == DeliveryState.DELIVERED:
                session.execute(update(EndpointRow).where(mine, EndpointRow.failures > 0).values(**_WELL))
            else:
                since = func.coalesce(EndpointRow.failing_since, database_clock())
                still = case(
                    (
                        and_(EndpointRow.state == EndpointState.ENABLED, since < now() - PATIENCE),
                        EndpointState.PAUSED.value,
                    ),
                    else_=EndpointRow.state,
                )
                session.execute(
                    update(EndpointRow)
                    .where(mine)
                    .values(
                        state=EndpointState.DISABLED.value if outcome.gone else still,
                        failures=case((EndpointRow.failures < _MANY, EndpointRow.failures + 1), else_=_MANY),
                        failing_since=since,
                        not_before=_in(outcome.rest),
                        reason=outcome.error,
                    )
                    .execution_options(synchronize_session=False)
                )
            state = session.scalar(select(EndpointRow.state).where(mine))
            return None if state is None else EndpointState(state)

    def replay(self, id: int, after: int, to: int | None = None) -> int:
        """Send it once more what came behind one position, up to another one; returns how many.

        Raises:
            Missing: there is no such endpoint.
        """
        with self._transaction() as session:
            row = _row(session, id)
            until = row.position if to is None else min(to, row.position)  # what comes behind it, comes anyway
            wanted = [
                event.position
                for event in map(
                    event_of,
                    session.scalars(
                        select(EventRow).where(
                            EventRow.position > after, EventRow.position <= until, EventRow.tenant == row.tenant
                        )
                    ),
                )
                if row.types is None or event.type in row.types
            ]
            mine = (DeliveryRow.endpoint_id == id, DeliveryRow.position > after, DeliveryRow.position <= until)
            known = set(session.scalars(select(DeliveryRow.position).where(*mine)))
            session.execute(
                update(DeliveryRow)
                .where(*mine)
                .values(state=DeliveryState.WAITING, attempts=0, not_before=None, at=database_clock())
            )
            session.add_all(_new(id, position) for position in wanted if position not in known)
            return len(known | set(wanted))

    def sent(
        self, *, endpoint: int | None = None, failed: bool = False, before: int | None = None, limit: int = 100
    ) -> list[Sent]:
        """Deliveries, the last event first; those only that failed, or did the last time; of events before that one."""
        conditions: list[ColumnElement[bool]] = [] if before is None else [DeliveryRow.position < before]
        if endpoint is not None:
            conditions.append(DeliveryRow.endpoint_id == endpoint)
        if failed:
            conditions.append(and_(DeliveryRow.state != DeliveryState.DELIVERED, DeliveryRow.error.is_not(None)))
        with self._transaction() as session:
            rows = session.execute(
                select(DeliveryRow, EventRow)
                .join(EventRow, EventRow.position == DeliveryRow.position)
                .where(*conditions)
                .order_by(DeliveryRow.position.desc(), DeliveryRow.endpoint_id)
                .limit(limit)
            )
            return [
                Sent(
                    endpoint=row.endpoint_id,
                    position=row.position,
                    type=event_of(event).type,
                    submission=event.submission_id,
                    state=DeliveryState(row.state),
                    attempts=row.attempts,
                    status=row.status,
                    error=row.error,
                    not_before=row.not_before,
                    at=row.at,
                )
                for row, event in rows
            ]

    def forget(self, seconds: float = REMEMBERED, limit: int = 10_000) -> int:
        """Forget deliveries that were done so long ago; returns how many."""
        with self._transaction() as session:
            old = (
                select(DeliveryRow.endpoint_id, DeliveryRow.position)
                .where(DeliveryRow.state != DeliveryState.WAITING, DeliveryRow.at < now() - seconds)
                .limit(limit)
                .cte("old")
            )
            rows = session.execute(
                delete(DeliveryRow)
                .where(
                    exists(
                        select(literal(1)).where(
                            old.c.endpoint_id == DeliveryRow.endpoint_id, old.c.position == DeliveryRow.position
                        )
                    )
                )
                .returning(DeliveryRow.position)
                .execution_options(synchronize_session=False)
            )
            return len(rows.all())


def new_secret() -> str:
    """256 bits that nobody guesses, as Standard Webhooks writes them."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


#: More failures in a row need not be told apart.
_MANY = 1000
#: What an endpoint is that took what it was sent.
_WELL: dict[str, Any] = {"failures": 0, "failing_since": None, "not_before": None, "reason": None}


def _last(session: Session) -> int:
    """The position of the last event that has one."""
    return session.scalar(select(func.max(EventRow.position))) or 0


def _row(session: Session, id: int) -> EndpointRow:
    row = session.scalar(select(EndpointRow).where(EndpointRow.id == id).with_for_update())
    if row is None:
        raise Missing(f"there is no webhook {id}; `stenopool webhook list` has them all")
    return row


def _over(moment: Any) -> ColumnElement[bool]:
    """That time has come, or there is none."""
    return or_(moment.is_(None), moment < now())


def _in(seconds: float | None) -> ColumnElement[float] | None:
    """So many seconds from now."""
    return None if seconds is None else database_clock() + seconds


def _counted() -> Select[EndpointRow, int]:
    """Endpoints, each with how many deliveries wait."""
    waiting = (
        select(func.count())
        .select_from(DeliveryRow)
        .where(DeliveryRow.endpoint_id == EndpointRow.id, DeliveryRow.state == DeliveryState.WAITING)
        .scalar_subquery()
    )
    return select(EndpointRow, waiting).order_by(EndpointRow.id)


def _endpoint(row: EndpointRow, waiting: int) -> Endpoint:
    return Endpoint(
        id=row.id,
        tenant=row.tenant,
        url=row.url,
        types=None if row.types is None else tuple(row.types),
        state=EndpointState(row.state),
        reason=row.reason,
        failing_since=row.failing_since,
        former_until=row.former_until,
        waiting=waiting,
        position=row.position,
        created_at=row.created_at,
    )


def _new(endpoint: int, position: int) -> DeliveryRow:
    return DeliveryRow(
        endpoint_id=endpoint, position=position, state=DeliveryState.WAITING, attempts=0, at=database_clock()
    )


def _delivery(row: EndpointRow, event: Event | Probe, name: str, attempts: int, session: Session) -> Delivery:
    live = [row.secret]
    if row.former_secret is not None and (row.former_until or 0) > (session.scalar(select(database_clock())) or 0):
        live.append(row.former_secret)
    return Delivery(
        endpoint=row.id,
        url=row.url,
        id=f"msg_{row.uid}_{name}",
        event=event,
        attempts=attempts,
        failures=row.failures,
        secrets=tuple(live),
    )
