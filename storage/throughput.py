"""Throughput: what engines and ingest did lately, in pieces of five minutes, by which the next work is forecast."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from storage.campaign_tables import ThroughputRow
from storage.database import database_clock
from storage.transactions import Transactions

#: What ingest is kept under: the model of no engine.
INGEST = ""
#: Seconds of sound that could be ingested in the time that a file takes by itself, however short it is: to be fetched,
#: to have a decoder, to be planned. (A quarter of a second, and a thousand times real time: bench/README.md.)
A_FILE = 240.0
#: Seconds of a piece.
PIECE = 300
#: Seconds that a piece is kept.
KEPT = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker did in a piece of time."""

    #: Seconds of recordings that it has transcribed; or ingested, and `A_FILE` for each of them.
    audio: float
    #: Seconds in which it had work.
    busy: float
    #: Seconds since that piece of time ended; 0 where it goes on.
    age: float = 0.0


class Throughput(Transactions):
    """Queries of what engines did."""

    def add(self, worker: str, model: str, done: Done) -> None:
        """A worker has done something since it last said so."""
        with self._transaction() as session:
            now = session.scalar(select(database_clock())) or 0.0
            began = int(now // PIECE * PIECE)
            mine = (ThroughputRow.worker == worker, ThroughputRow.began == began)
            known = session.execute(
                update(ThroughputRow)
                .where(*mine)
                .values(audio=ThroughputRow.audio + done.audio, busy=ThroughputRow.busy + done.busy)
                .returning(ThroughputRow.began)
                .execution_options(synchronize_session=False)
            ).all()
            if not known:  # nobody else writes of this worker
                row = {"worker": worker, "began": began, "model": model, "audio": done.audio, "busy": done.busy}
                session.execute(insert(ThroughputRow).values(row))
                session.execute(delete(ThroughputRow).where(ThroughputRow.began < began - KEPT))

    def of(self, model: str, seconds: float = 86_400, most: int = 5000) -> list[Done]:
        """What engines of a model, or `INGEST`, did in the last so many seconds; where that is nothing, in all that is
        kept.
        """
        with self._transaction() as session:
            for since in (seconds, KEPT):
                now = select(database_clock()).scalar_subquery()
                rows = session.execute(
                    select(ThroughputRow.audio, ThroughputRow.busy, now - ThroughputRow.began - PIECE)
                    .where(
                        ThroughputRow.model == model,
                        ThroughputRow.busy > 0,
                        ThroughputRow.began > now - since,
                    )
                    .order_by(ThroughputRow.began.desc(), ThroughputRow.worker)
                    .limit(most)
                ).all()
                if rows:
                    return [Done(audio, busy, max(0.0, age)) for audio, busy, age in rows]
            return []
