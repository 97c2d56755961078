"""The fleet: which processes work, as they say of themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import delete, select, update

from storage.database import database_clock
from storage.tables import ChunkRow, ChunkState, SubmissionRow, TranscriptRow, WorkerRow
from storage.transactions import Transactions

#: Seconds after which a worker that was not seen counts as gone.
GONE_AFTER = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process that works."""

    id: str
    role: str
    host: str
    pid: int
    version: str
    state: str = "starting"
    model: str | None = None
    model_digest: str | None = None
    dtype: str | None = None
    engine_key: str | None = None
    slots: int = 0
    #: Times real time, alone with one chunk, as it was begun; None where it has no engine.
    speed: float | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a worker is asked by whoever runs the farm."""

    #: To end once it has ended what it has begun.
    drain: bool


class Fleet(Transactions):
    """Queries and transitions of workers."""

    def join(self, worker: Worker) -> None:
        """It works from now on, or is another than before."""
        with self._transaction() as session:
            row = session.get(WorkerRow, worker.id)
            if row is None:
                session.add(WorkerRow(**asdict(worker), started_at=database_clock(), seen_at=database_clock()))
                return
            for name, value in asdict(worker).items():
                setattr(row, name, value)
            row.seen_at = database_clock()

    def seen(self, id: str) -> Asked | None:
        """It is alive; what it is asked, or None where it counts as gone already, and has to join again."""
        with self._transaction() as session:
            drain = session.scalar(
                update(WorkerRow)
                .where(WorkerRow.id == id)
                .values(seen_at=database_clock())
                .returning(WorkerRow.drain)
                .execution_options(synchronize_session=False)
            )
            return None if drain is None else Asked(drain=drain)

    def leave(self, id: str) -> None:
        """It has ended."""
        with self._transaction() as session:
            session.execute(delete(WorkerRow).where(WorkerRow.id == id))

    def died(self, host: str, pid: int) -> list[str]:
        """A process of that machine has ended, who knows how: who it was.

        What it held is swept at once, as if its lease had run out: a chunk that kills its workers is still to blame.
        """
        with self._transaction() as session:
            ids = session.scalars(
                delete(WorkerRow).where(WorkerRow.host == host, WorkerRow.pid == pid).returning(WorkerRow.id)
            ).all()
            for held in (
                update(ChunkRow).where(ChunkRow.worker.in_(ids), ChunkRow.state == ChunkState.LEASED),
                update(SubmissionRow).where(SubmissionRow.worker.in_(ids)),
                update(TranscriptRow).where(TranscriptRow.elector.in_(ids)),
            ):
                session.execute(held.values(lease_until=database_clock()))
            return list(ids)

    def workers(self) -> list[Worker]:
        """Those that were seen lately."""
        with self._transaction() as session:
            rows = session.scalars(
                select(WorkerRow)
                .where(WorkerRow.seen_at > database_clock() - GONE_AFTER)
                .order_by(WorkerRow.role, WorkerRow.id)
            )
            return [Worker(**{name: getattr(row, name) for name in Worker.__dataclass_fields__}) for row in rows]

    def sweep(self) -> list[str]:
        """Forget workers that were not seen for long; returns who they were."""
        with self._transaction() as session:
            rows = session.execute(
                delete(WorkerRow).where(WorkerRow.seen_at < database_clock() - GONE_AFTER).returning(WorkerRow.id)
            )
            return [id for (id,) in rows]
