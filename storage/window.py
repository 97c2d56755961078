"""The window: which of all that is waiting is ready now, and of what workers are told. Used by the dispatcher alone.

Lanes go before each other; within a lane tenants take turns by start-time fair queueing (Goyal et al. 1996) in seconds
of audio; within a tenant the earliest deadline goes first, then the highest priority, then who came first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, func, select, tuple_, update
from sqlalchemy.orm import Session

from stenopool.domain import SAMPLE_RATE
from storage.conditions import lapsed, untold
from storage.database import database_clock
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
    """What the dispatcher asks and decides."""

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
            .where(ChunkRow.engine_key == engine_key, ChunkRow.lane == lane, ChunkRow.state == ChunkState.READY)
        )
        return n or 0

    def admit(self, engine_key: str, lane: int, room: int) -> int:
        """Make chunks ready until that many are, tenant after tenant; returns how many were made so."""
        with self._transaction() as session:
            free = room - self._ready(session, engine_key, lane)  # counted once: meanwhile workers only take some away
        admitted = 0
        while admitted < free:
            with self._transaction() as session:  # one slice each: nobody waits long for its locks
                if (turn := self._turn(session, engine_key, lane)) is None:
                    break
                admitted += self._admit(session, *turn, min(SLICE, free - admitted))
        return admitted

    def _turn(self, session: Session, engine_key: str, lane: int) -> tuple[int, ShareRow, float] | None:
        """The transcript whose turn it is, its tenant's share, and the lane's virtual time; None where none waits."""
        now = self._virtual_time(session, lane)
        paused = unpaused(paused_now(session), TranscriptRow)
        mine = (*_ADMISSIBLE, *paused, TranscriptRow.engine_key == engine_key, TranscriptRow.lane == lane)
        tenants = select(TranscriptRow.tenant).where(*mine).distinct()
        for tenant in session.scalars(
            select(TenantRow.name)
            .outerjoin(ShareRow, (ShareRow.tenant == TenantRow.name) & (ShareRow.lane == lane))
            .where(TenantRow.name.in_(tenants))
            # Of those who are behind the present, who waits for longest: else the same few would always go first.
            .order_by(_at_least(ShareRow.virtual_time, now), ShareRow.virtual_time.asc().nulls_first(), TenantRow.name)
        ):
            transcript = session.scalar(
                select(TranscriptRow.id)
                .where(*mine, TranscriptRow.tenant == tenant)
                .order_by(TranscriptRow.deadline_at.asc().nulls_last(), TranscriptRow.priority.desc(), TranscriptRow.id)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            if transcript is None:  # another dispatcher has it
                continue
            share = session.get(ShareRow, (tenant, lane))
            if share is None:
                share = ShareRow(tenant=tenant, lane=lane, virtual_time=now)
                session.add(share)
            return transcript, share, max(share.virtual_time, now)
        return None

    @staticmethod
    def _virtual_time(session: Session, lane: int) -> float:
        """The start tag of what is served now: who was away gets no credit for that time."""
        rank = session.scalar(
            select(func.min(ChunkRow.rank)).where(ChunkRow.lane == lane, ChunkRow.state == ChunkState.READY)
        )
        if rank is not None:
            return rank / _RANKS
        return session.scalar(select(func.max(ShareRow.virtual_time)).where(ShareRow.lane == lane)) or 0.0

    @staticmethod
    def _admit(session: Session, transcript: int, share: ShareRow, start: float, limit: int) -> int:
        """Make the next chunks of a transcript, which is locked, ready, and charge the tenant for them."""
        sequential = session.scalar(select(TranscriptRow.sequential).where(TranscriptRow.id == transcript))
        chosen = (
            select(*CHUNK_KEY)
            .where(ChunkRow.transcript_id == transcript, ChunkRow.state == ChunkState.WAITING)
            .order_by(ChunkRow.index)
            .limit(1 if sequential else limit)
            .cte("chosen")
        )
        spans = session.execute(
            update(ChunkRow)
            # Nobody else changes what waits; to say the state again has Postgres look through all that are in it.
            .where(tuple_(*CHUNK_KEY).in_(select(chosen)))
            .values(state=ChunkState.READY, rank=round(start * _RANKS), hinted_at=None)
            .returning(ChunkRow.start, ChunkRow.end)
            .execution_options(synchronize_session=False)
        ).all()
        session.execute(
            update(TranscriptRow)
            .where(TranscriptRow.id == transcript)
            .values(chunks_waiting=TranscriptRow.chunks_waiting - len(spans) if spans else 0)
            .execution_options(synchronize_session=False)
        )
        weight = session.scalar(select(TenantRow.weight).where(TenantRow.name == share.tenant)) or 1.0
        share.virtual_time = start + sum(end - begin for begin, end in spans) / SAMPLE_RATE / weight
        return len(spans)

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


def _at_least(value: Any, floor: float) -> ColumnElement[float]:
    """The greater one of both; the floor where there is no value."""
    return case((value > floor, value), else_=floor)
