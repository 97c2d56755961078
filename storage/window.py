"""The window: which of all that is waiting is ready now, and of what workers are told. Used by the dispatcher alone.

Lanes go before each other; within a lane tenants take turns by start-time fair queueing (Goyal et al. 1996) in seconds
of audio; within a tenant the earliest deadline goes first, then the highest priority, then who came first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from math import inf

from sqlalchemy import ColumnElement, Engine, bindparam, case, func, select, text, tuple_, update
from sqlalchemy.orm import Session

from stenopool.domain import SAMPLE_RATE
from storage.blame import DEATHS, may_be_tried
from storage.conditions import lapsed, untold
from storage.database import database_clock
from storage.desk import LEASE
from storage.holding import hold_paused
from storage.pausing import paused_now, unpaused
from storage.tables import CHUNK_KEY, ChunkRow, ChunkState, ShareRow, TenantRow, TranscriptRow, TranscriptState
from storage.transactions import Transactions

#: Chunks of one transcript that are made ready before another tenant's turn comes.
SLICE = 32

#: Ranks count virtual time in thousandths of a second.
_RANKS = 1000


@dataclass(frozen=True, slots=True)
class Hint:
    """A chunk of which a worker is to be told."""

    transcript: int
    index: int
    #: A worker died with it: it is to be decoded apart.
    suspect: bool


class Window(Transactions):
    """What the dispatcher asks and decides.

    Args:
        lease: seconds that the workers' claims are good for.
    """

    def __init__(self, engine: Engine, *, lease: float = LEASE) -> None:
        super().__init__(engine)
        self._lease = lease

    def waiting(self) -> list[tuple[str, int]]:
        """Engine key and lane of all that waits to be made ready."""
        with self._transaction() as session:
            which = (*_ADMISSIBLE, *unpaused(paused_now(session), TranscriptRow))
            rows = session.execute(select(TranscriptRow.engine_key, TranscriptRow.lane).where(*which).distinct())
            return sorted((key, lane) for key, lane in rows if lane is not None)

    def ready(self) -> dict[tuple[str, int], int]:
        """By engine key and lane: chunks that are ready, and that nobody does yet."""
        with self._transaction() as session:
            rows = session.execute(
                select(ChunkRow.engine_key, ChunkRow.lane, func.count())
                .where(ChunkRow.state == ChunkState.READY, ChunkRow.lane.is_not(None))
                .group_by(ChunkRow.engine_key, ChunkRow.lane)
            )
            return {(key, lane): n for key, lane, n in rows if lane is not None}

    def hold_back(self) -> None:
        """What became ready of paused lanes and tenants, as its worker died or gave it back, waits again."""
        with self._transaction() as session:
            hold_paused(session)

    @staticmethod
    def _ready(session: Session, engine_key: str, lane: int) -> int:
        n = session.scalar(
            select(func.count())
            .select_from(ChunkRow)
            .where(
                ChunkRow.engine_key == engine_key,
                ChunkRow.lane == lane,
                ChunkRow.state == ChunkState.READY,
                _GOING,
            )
        )
        return n or 0

    def admit(self, engine_key: str, lane: int, room: int) -> int:
        """Make chunks ready until that many are, tenant after tenant; returns how many were made so."""
        with self._transaction() as session:
            # Looked at once: meanwhile workers only take some away, and the present only goes on.
            free = room - self._ready(session, engine_key, lane)
            turns = self._turns(session, engine_key, lane) if free > 0 else []
        admitted = 0
        while turns and admitted < free:
            start, _, tenant, weight = turns[0]
            with self._transaction_soon() as session:  # one slice each: nobody waits long for its locks
                spans = self._admit(session, (engine_key, lane, tenant), start, min(SLICE, free - admitted))
                if spans is None:  # nothing of theirs waits any more, or another dispatcher has it
                    heappop(turns)
                    continue
                had = start + sum(end - begin for begin, end in spans) / SAMPLE_RATE / weight
                self._charge(session, tenant, lane, had)
            heapreplace(turns, (had, had, tenant, weight))
            admitted += len(spans)
        return admitted

    def _turns(self, session: Session, engine_key: str, lane: int) -> list[tuple[float, float, str, float]]:
        """Tenants of whom something waits, as a heap: start tag, virtual time so far, name, weight.

        Of those who are behind the present, who waits for longest goes first: else the same few always would.
        """
        now = self._virtual_time(session, lane)
        free = unpaused(paused_now(session), TranscriptRow)
        mine = (*_ADMISSIBLE, *free, TranscriptRow.engine_key == engine_key, TranscriptRow.lane == lane)
        rows = session.execute(
            select(TenantRow.name, TenantRow.weight, ShareRow.virtual_time)
            .outerjoin(ShareRow, (ShareRow.tenant == TenantRow.name) & (ShareRow.lane == lane))
            .where(TenantRow.name.in_(select(TranscriptRow.tenant).where(*mine).distinct()))
        )
        turns = [
            (now, -inf, tenant, weight) if had is None else (max(had, now), had, tenant, weight)
            for tenant, weight, had in rows
        ]
        heapify(turns)
        return turns

    @staticmethod
    def _virtual_time(session: Session, lane: int) -> float:
        """The start tag of what is served now: who was away gets no credit for that time."""
        rank = session.scalar(
            select(func.min(ChunkRow.rank)).where(ChunkRow.lane == lane, ChunkRow.state == ChunkState.READY, _GOING)
        )
        if rank is not None:
            return rank / _RANKS
        return session.scalar(select(func.max(ShareRow.virtual_time)).where(ShareRow.lane == lane)) or 0.0

    @staticmethod
    def _admit(
        session: Session, whose: tuple[str, int, str], start: float, limit: int
    ) -> Sequence[tuple[int, int]] | None:
        """Make the next chunks of a tenant ready, by engine key, lane and name; their spans. None where none waits."""
        asked = dict(zip(("engine", "lane", "tenant"), whose, strict=True))
        connection = session.connection()
        if (transcript := connection.execute(_NEXT, asked).one_or_none()) is None:
            return None
        asked = {"of": transcript.id, "most": 1 if transcript.sequential else limit, "at": round(start * _RANKS)}
        spans = [(begin, end) for begin, end in connection.execute(_ADMIT, asked)]
        connection.execute(_ADMITTED, {"of": transcript.id, "n": len(spans)})
        return spans

    @staticmethod
    def _charge(session: Session, tenant: str, lane: int, virtual_time: float) -> None:
        """A tenant has had so much of a lane."""
        session.connection().execute(_CHARGE, {"whose": tenant, "where": lane, "had": virtual_time})

    def hints(self, engine_key: str, lane: int, limit: int, again_after: float) -> list[Hint]:
        """Ready chunks of which no worker was told, or not for so many seconds, in their order; they count as told."""
        with self._transaction() as session:
            chosen = (
                select(*CHUNK_KEY)
                .where(
                    ChunkRow.engine_key == engine_key,
                    ChunkRow.lane == lane,
                    ChunkRow.state == ChunkState.READY,
                    untold(ChunkRow, again_after),
                    may_be_tried(self._lease),
                )
                .order_by(ChunkRow.rank, *CHUNK_KEY)
                .limit(limit)
                .with_for_update(skip_locked=True)
                .cte("chosen")
            )
            rows = session.execute(
                update(ChunkRow)
                .where(tuple_(*CHUNK_KEY).in_(select(chosen)))
                .values(hinted_at=database_clock())
                .returning(*CHUNK_KEY, ChunkRow.rank, ChunkRow.crashes)
                .execution_options(synchronize_session=False)
            ).all()
        rows = sorted(rows, key=lambda row: (row.rank, row.transcript_id, row.index))
        return [Hint(row[0], row[1], row.crashes > 0) for row in rows]

    def elections(self, limit: int, again_after: float) -> list[tuple[int, str, int]]:
        """Transcripts whose language is to be detected, with engine key and lane; they count as told."""
        with self._transaction() as session:
            paused = unpaused(paused_now(session), TranscriptRow)
        return self._tell(
            (
                *_ALIVE,
                *paused,
                TranscriptRow.language.is_(None),
                TranscriptRow.chunks_open > 0,  # where all is silence, nobody can be asked
                TranscriptRow.paused.is_(False),
                lapsed(TranscriptRow),
            ),
            limit,
            again_after,
        )

    def merges(self, limit: int, again_after: float) -> list[int]:
        """Transcripts whose chunks are all done, and that nobody merges; they count as told."""
        states = TranscriptRow.state.in_([TranscriptState.TRANSCRIBING, TranscriptState.MERGING])
        ended = (TranscriptRow.lane.is_not(None), states, TranscriptRow.chunks_open == 0, lapsed(TranscriptRow))
        return [id for id, _, _ in self._tell(ended, limit, again_after)]

    def _tell(
        self, conditions: Sequence[ColumnElement[bool]], limit: int, again_after: float
    ) -> list[tuple[int, str, int]]:
        with self._transaction() as session:
            chosen = (
                select(TranscriptRow.id)
                .where(*conditions, untold(TranscriptRow, again_after))
                .order_by(TranscriptRow.lane, TranscriptRow.id)
                .limit(limit)
                .with_for_update(skip_locked=True)
                .cte("chosen")
            )
            rows = session.execute(
                update(TranscriptRow)
                .where(TranscriptRow.id.in_(select(chosen)))
                .values(hinted_at=database_clock())
                .returning(TranscriptRow.id, TranscriptRow.engine_key, TranscriptRow.lane)
                .execution_options(synchronize_session=False)
            ).all()
            return sorted(((id, key, lane or 0) for id, key, lane in rows), key=lambda row: (row[2], row[0]))


_ALIVE = (TranscriptRow.state == TranscriptState.TRANSCRIBING, TranscriptRow.lane.is_not(None))
_ADMISSIBLE = (
    *_ALIVE,
    TranscriptRow.language.is_not(None),
    TranscriptRow.paused.is_(False),
    TranscriptRow.chunks_waiting > 0,
)


#: One that waits until nobody dies may wait long: others do not wait with it, and what is served now is not it.
_GOING = ChunkRow.crashes < DEATHS - 1


# Put together once: a slice's statements take no longer than that.
#: A tenant's next transcript.
_NEXT = (
    select(TranscriptRow.id, TranscriptRow.sequential)
    .where(
        *_ADMISSIBLE,
        TranscriptRow.engine_key == bindparam("engine"),
        TranscriptRow.lane == bindparam("lane"),
        TranscriptRow.tenant == bindparam("tenant"),
    )
    .order_by(TranscriptRow.deadline_at.asc().nulls_last(), TranscriptRow.priority.desc(), TranscriptRow.id)
    .limit(1)
    .with_for_update(skip_locked=True)
)
#: Its next chunks. Nobody else changes what waits; to say the state again has Postgres look through all that are in it.
_ADMIT = (
    update(ChunkRow)
    .where(
        tuple_(*CHUNK_KEY).in_(
            select(
                select(*CHUNK_KEY)
                .where(ChunkRow.transcript_id == bindparam("of"), ChunkRow.state == ChunkState.WAITING)
                .order_by(ChunkRow.index)
                .limit(bindparam("most"))
                .cte("chosen")
            )
        )
    )
    .values(state=ChunkState.READY, rank=bindparam("at"), hinted_at=None)
    .returning(ChunkRow.start, ChunkRow.end)
)
#: So many fewer of its chunks wait; none where none was found.
_ADMITTED = (
    update(TranscriptRow)
    .where(TranscriptRow.id == bindparam("of"))
    .values(chunks_waiting=case((bindparam("n") > 0, TranscriptRow.chunks_waiting - bindparam("n")), else_=0))
)
#: In words that both databases know: two dispatchers may serve a tenant for the first time at once.
_CHARGE = text(
    f"INSERT INTO {ShareRow.__tablename__} (tenant, lane, virtual_time) VALUES (:whose, :where, :had)"
    " ON CONFLICT (tenant, lane) DO UPDATE SET virtual_time = excluded.virtual_time"
)
