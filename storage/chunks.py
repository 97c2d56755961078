"""The chunks of the ledger: who does which, and what is done. See `ledger.py` for their life."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Engine, Float, Select, Update, bindparam, select, tuple_, update
from sqlalchemy.orm import Session

from stenopool.domain import Chunk, ChunkResult, Span
from storage.blame import DEATHS, MOST_DEATHS, SUSPECTS, ChunkKey, clear_deaths, machines_die, may_be_tried, note_deaths
from storage.conditions import lapsed
from storage.database import database_clock
from storage.holding import held_of, hold, is_held
from storage.pausing import Paused, paused_now
from storage.records import record_of_result
from storage.tables import CHUNK_KEY, ChunkRow, ChunkState, TranscriptRow
from storage.transactions import Transactions

#: Seconds that a claim is good for, unless it is renewed. A process that ends is known at once by its lock; this is for
#: one that hangs, and is longer than any turn of a slow model.
LEASE = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A chunk that a worker holds a lease on."""

    transcript: int
    chunk: Chunk
    fence: int
    #: What the chunk before it told, in a sequential transcript; None for the first.
    carried: dict[str, Any] | None = field(default=None, hash=False)

    @property
    def index(self) -> int:
        """Of the chunk."""
        return self.chunk.index

    @property
    def span(self) -> Span:
        """Of the chunk."""
        return self.chunk.span


@dataclass(frozen=True, slots=True)
class Swept:
    """What was found of workers that died."""

    #: Chunks that are ready again.
    ready: int
    #: Transcript and index of those that became gaps.
    quarantined: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Finished:
    """A chunk's result, to be kept."""

    claim: Claim
    result: Mapping[str, Any]
    #: What the next chunk is told, in a sequential transcript.
    carried: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """A transcript of which chunks were done."""

    open: int
    sequential: bool
    #: Nothing of it is made ready.
    held: bool


def _taking(ready: Select[int, int]) -> Update:
    """Leases those of the ready chunks that nobody else is about to take."""
    # A common table expression is evaluated once; a subquery, Postgres may run again for each row that it updates.
    chosen = ready.limit(bindparam("most")).with_for_update(skip_locked=True).cte("chosen")
    return (
        update(ChunkRow)
        # They are locked, and so still ready; to say it again has Postgres look through all that are.
        .where(tuple_(*CHUNK_KEY).in_(select(chosen)))
        .values(
            state=ChunkState.LEASED,
            worker=bindparam("by"),
            attempt=ChunkRow.attempt + 1,
            fence=ChunkRow.fence + 1,
            lease_until=database_clock() + bindparam("seconds", type_=Float),
        )
        .returning(*CHUNK_KEY, ChunkRow.start, ChunkRow.end, ChunkRow.fence, ChunkRow.speech, ChunkRow.carried)
    )


# Put together once: to do it for each claim takes longer than the claim.
_READY = select(*CHUNK_KEY).where(ChunkRow.state == ChunkState.READY)
_HERE = _READY.where(ChunkRow.engine_key == bindparam("engine"))
_NAMED = tuple_(*CHUNK_KEY).in_(bindparam("wanted", expanding=True))
_TURN = (ChunkRow.lane, ChunkRow.rank, *CHUNK_KEY)
_OF_TRANSCRIPTS = _taking(
    _READY.where(ChunkRow.transcript_id.in_(bindparam("transcripts", expanding=True))).order_by(*CHUNK_KEY)
)
_WANTED = _taking(_READY.where(_NAMED, ChunkRow.crashes == 0).order_by(*CHUNK_KEY))
_WANTED_HERE = _taking(_HERE.where(_NAMED, ChunkRow.crashes == 0).order_by(*CHUNK_KEY))
_IN_TURN = _taking(_HERE.where(ChunkRow.crashes == 0).order_by(*_TURN))
_SUSPECTS = _taking(_HERE.where(ChunkRow.crashes == 1).order_by(*_TURN))
_ALONE = _taking(_HERE.where(ChunkRow.crashes > 1, may_be_tried(bindparam("seconds", type_=Float))).order_by(*_TURN))

#: Those that are leased under these fences.
_MINE = (
    select(*CHUNK_KEY)
    .where(
        tuple_(*CHUNK_KEY, ChunkRow.fence).in_(bindparam("fences", expanding=True)),
        ChunkRow.state == ChunkState.LEASED,
    )
    .order_by(*CHUNK_KEY)
    .with_for_update()
)
#: Keeps a result. A list of values would be one statement, too, but one that is compiled anew each time.
_KEEP = (
    update(ChunkRow)
    .where(ChunkRow.transcript_id == bindparam("of"), ChunkRow.index == bindparam("at"))
    .values(state=ChunkState.DONE, result=bindparam("heard"), worker=None, lease_until=None)
)

#: Counts so many chunks of each of these transcripts down.
_COUNT_DOWN = (
    update(TranscriptRow)
    .where(TranscriptRow.id.in_(bindparam("of", expanding=True)))
    .values(chunks_open=TranscriptRow.chunks_open - bindparam("n"))
    .returning(
        TranscriptRow.id,
        TranscriptRow.chunks_open,
        TranscriptRow.sequential,
        TranscriptRow.paused,
        TranscriptRow.state,
        TranscriptRow.tenant,
        TranscriptRow.lane,
    )
)


class Chunks(Transactions):
    """Queries and transitions of chunks."""

    def __init__(self, engine: Engine, *, lease: float = LEASE) -> None:
        super().__init__(engine)
        self.lease = lease

    def claim(self, worker: str, transcripts: Sequence[int], limit: int) -> list[Claim]:
        """Lease up to `limit` ready chunks of those transcripts: of those planned first, in order of time."""
        with self._transaction() as session:
            return self._take(session, _OF_TRANSCRIPTS, worker, limit, transcripts=transcripts)

    def claim_queued(
        self, worker: str, engine_key: str, limit: int, wanted: Sequence[tuple[int, int]] = ()
    ) -> list[Claim]:
        """Lease up to `limit` ready chunks that this engine can decode: those `wanted`, then those whose turn it is.

        Args:
            wanted: transcript and index of each.

        Those that a worker died with are left for `claim_suspects`.
        """
        claims: list[Claim] = []
        # A claim that is undone, as the database's machine failed, does no harm: whoever has the chunk next has it by
        # the same fence, and the first result of either is kept.
        with self._transaction_soon() as session:
            if wanted:
                claims = self._take(session, _WANTED_HERE, worker, limit, engine=engine_key, wanted=wanted)
            if len(claims) < limit:
                claims += self._take(session, _IN_TURN, worker, limit - len(claims), engine=engine_key)
        return claims

    def claim_these(self, worker: str, chunks: Sequence[tuple[int, int]]) -> list[Claim]:
        """Lease those of the chunks that are ready, transcript and index of each."""
        with self._transaction() as session:
            return self._take(session, _WANTED, worker, len(chunks), wanted=chunks)

    def claim_suspects(self, worker: str, engine_key: str) -> list[Claim]:
        """Lease chunks that a worker died with, to be decoded with nothing else beside them: a few, or one alone.

        One whose next death may be taken for proof is left until no worker dies.
        """
        with self._transaction() as session:
            return self._take(session, _SUSPECTS, worker, SUSPECTS, engine=engine_key) or self._take(
                session, _ALONE, worker, 1, engine=engine_key
            )

    def _take(self, session: Session, taking: Update, worker: str, limit: int, **which: Any) -> list[Claim]:
        given = {"by": worker, "seconds": self.lease, "most": max(0, limit), **which}
        # By the connection: the session itself looks at each statement for twice as long as all of this takes.
        rows = session.connection().execute(taking, given)
        return [
            Claim(transcript=transcript, chunk=_chunk(index, start, end, speech), fence=fence, carried=carried)
            for transcript, index, start, end, fence, speech, carried in sorted(rows, key=itemgetter(0, 1))
        ]

    def renew(self, worker: str, held: Iterable[Claim] | None = None) -> None:
        """Prolong all leases of a worker that makes progress; or of these claims alone, if it tells which it has.

        A claim of which it never heard, as the answer was lost, or which it has given up, must run out: nobody else
        would ever be given that chunk.
        """
        mine: tuple[ColumnElement[bool], ...] = (ChunkRow.worker == worker, ChunkRow.state == ChunkState.LEASED)
        if held is not None:
            if not (fences := [(claim.transcript, claim.index, claim.fence) for claim in held]):
                return
            mine += (tuple_(*CHUNK_KEY, ChunkRow.fence).in_(fences),)
        with self._transaction() as session:
            session.execute(update(ChunkRow).where(*mine).values(lease_until=database_clock() + self.lease))

    def release(self, workers: Iterable[str]) -> None:
        """Give back what these workers hold: they stop, or are known to be dead."""
        if not (holding := list(workers)):
            return
        with self._transaction() as session:
            self._free(session, ChunkRow.worker.in_(holding), ChunkRow.state == ChunkState.LEASED)

    def give_back(self, claims: Iterable[Claim]) -> None:
        """These chunks could not be done now, and nobody is to blame: they are ready again.

        Workers were told of them; they are told again as if that hint had been lost, so that nobody runs against a
        closed door many times a second.
        """
        fences = [(claim.transcript, claim.index, claim.fence) for claim in claims]
        with self._transaction() as session:
            mine = tuple_(*CHUNK_KEY, ChunkRow.fence).in_(fences)
            self._free(session, mine, ChunkRow.state == ChunkState.LEASED)

    def holders(self) -> set[str]:
        """Workers that hold a lease."""
        with self._transaction() as session:
            rows = session.scalars(select(ChunkRow.worker).where(ChunkRow.state == ChunkState.LEASED).distinct())
            return {worker for worker in rows if worker is not None}

    def sweep(self) -> int:
        """Make chunks ready again whose lease ran out; returns how many."""
        with self._transaction() as session:
            return self._free(session, ChunkRow.state == ChunkState.LEASED, lapsed(ChunkRow))

    @staticmethod
    def _free(session: Session, *which: ColumnElement[bool], **changes: Any) -> int:
        """Nobody holds these chunks any more: they are ready, or wait where their transcript is held; how many."""
        transcripts = session.scalars(
            update(ChunkRow)
            .where(*which)
            .values(state=ChunkState.READY, worker=None, lease_until=None, **changes)
            .returning(ChunkRow.transcript_id)
            .execution_options(synchronize_session=False)
        ).all()
        if transcripts:
            for transcript in held_of(session, transcripts):
                hold(session, transcript)
        return len(transcripts)

    def sweep_crashed(self, limit: int = 5000) -> Swept:
        """Blame chunks whose lease ran out: their worker died with them, or with one of them.

        They are ready again, to be decoded apart from all others; one that is alone to blame is quarantined: a gap. It
        is not where machines die of something else: then it is tried again (storage/blame.py).
        """
        with self._transaction() as session:
            clear_deaths(session, self.lease)
            expired = session.execute(
                select(*CHUNK_KEY, ChunkRow.start, ChunkRow.end, ChunkRow.crashes, ChunkRow.carried, ChunkRow.worker)
                .where(
                    ChunkRow.state == ChunkState.LEASED,
                    lapsed(ChunkRow),
                )
                .order_by(*CHUNK_KEY)
                .limit(limit)
                .with_for_update(skip_locked=True)
            ).all()
            if not expired:
                return Swept(ready=0, quarantined=())
            held = held_of(session, {row.transcript_id for row in expired})
            blamed = self._blamed(session, expired)
            suspects = [(row[0], row[1]) for row in expired if row not in blamed]
            if suspects:
                session.execute(
                    update(ChunkRow)
                    .where(tuple_(*CHUNK_KEY).in_(suspects))
                    .values(
                        state=ChunkState.READY,
                        worker=None,
                        lease_until=None,
                        hinted_at=None,
                        crashes=ChunkRow.crashes + 1,
                        blamed_at=database_clock(),
                    )
                )
            for row in blamed:
                transcript, index, start, end, crashes, carried, _ = row
                self._quarantine(session, (transcript, index), Span(start, end), crashes + 1, carried)
            for transcript in held:
                hold(session, transcript)
            return Swept(ready=len(suspects), quarantined=[(row[0], row[1]) for row in blamed])

    def _blamed(self, session: Session, expired: Sequence[Any]) -> list[Any]:
        """Those of the chunks whose lease ran out that are to blame for it."""
        had: dict[str, list[ChunkKey]] = defaultdict(list)
        for row in expired:
            had[row.worker].append((row[0], row[1]))
        self._alone(session, "deaths")
        note_deaths(session, had)
        blamed = [row for row in expired if row.crashes + 1 >= DEATHS]
        if blamed and session.scalar(select(machines_die(2 * self.lease))):  # also what was known as it was tried
            return [row for row in blamed if row.crashes + 1 >= MOST_DEATHS]
        return blamed

    def _quarantine(
        self, session: Session, key: ChunkKey, span: Span, deaths: int, carried: dict[str, Any] | None
    ) -> None:
        transcript, index = key
        reason = f"{deaths} workers died with it"
        result = ChunkResult(index=index, span=span, language="", segments=(), failed=reason)
        session.execute(
            update(ChunkRow)
            .where(ChunkRow.transcript_id == transcript, ChunkRow.index == index)
            .values(
                state=ChunkState.DONE,
                result=record_of_result(result),
                crashes=deaths,
                blamed_at=database_clock(),
                worker=None,
                lease_until=None,
            )
        )
        counted = self._count_down(session, {transcript: 1})[transcript]
        if counted.sequential:
            self._next(session, transcript, index, carried, held=counted.held)

    def finish(self, claim: Claim, result: Mapping[str, Any], carried: Mapping[str, Any] | None = None) -> int | None:
        """Keep a chunk's result; returns how many chunks are still open, None if the lease was lost meanwhile.

        In a sequential transcript the next chunk is ready from now on, and told what is `carried`.
        """
        return self.finish_all([Finished(claim, result, carried)]).get(claim)

    def finish_all(self, finished: Sequence[Finished]) -> dict[Claim, int]:
        """Keep the results of chunks; for each that was kept, how many chunks of its transcript are still open then.

        Those whose lease was lost meanwhile are left out, and nothing of them is kept.
        """
        if not finished:
            return {}
        with self._transaction() as session:
            claims = {(one.claim.transcript, one.claim.index): one for one in finished}
            kept = [claims[key] for key in self._finish(session, claims)]
            counted = self._count_down(session, Counter(one.claim.transcript for one in kept))
            for one in kept:
                if (its := counted[one.claim.transcript]).sequential:
                    self._next(session, one.claim.transcript, one.claim.index, one.carried, held=its.held)
            return {one.claim: counted[one.claim.transcript].open for one in kept}

    @staticmethod
    def _finish(session: Session, finished: Mapping[tuple[int, int], Finished]) -> list[tuple[int, int]]:
        """Keep results by transcript and index; returns those that were leased under these fences, in their order."""
        connection = session.connection()
        fences = [(*key, one.claim.fence) for key, one in finished.items()]
        kept = [(transcript, index) for transcript, index in connection.execute(_MINE, {"fences": fences})]
        if kept:
            results = [{"of": key[0], "at": key[1], "heard": dict(finished[key].result)} for key in kept]
            connection.execute(_KEEP, results)
        return kept

    @staticmethod
    def _count_down(session: Session, done: Mapping[int, int]) -> dict[int, _Counted]:
        """So many chunks of each transcript are done."""
        connection = session.connection()
        if len(done) > 1:  # locked in order: two who keep chunks of the same transcripts never wait for each other
            connection.execute(
                select(TranscriptRow.id).where(TranscriptRow.id.in_(done)).order_by(TranscriptRow.id).with_for_update()
            )
        by_number = defaultdict(list)
        for transcript, n in done.items():
            by_number[n].append(transcript)
        rows = [
            row
            for n, transcripts in by_number.items()
            for row in connection.execute(_COUNT_DOWN, {"n": n, "of": transcripts})
        ]
        # Asked only where a next chunk would be ready by it.
        paused = paused_now(session) if any(row.sequential for row in rows) else Paused()
        return {
            row.id: _Counted(
                open=row.chunks_open,
                sequential=row.sequential,
                held=is_held(paused=row.paused or paused.has(row.tenant, row.lane), state=row.state),
            )
            for row in rows
        }

    @staticmethod
    def _next(session: Session, transcript: int, index: int, carried: Mapping[str, Any] | None, *, held: bool) -> None:
        """The chunk after it is ready, in a sequential transcript; it waits for admission where that is held."""
        told = None if carried is None else dict(carried)
        following = session.execute(
            update(ChunkRow)
            .where(
                ChunkRow.transcript_id == transcript,
                ChunkRow.index == index + 1,
                ChunkRow.state == ChunkState.WAITING,
            )
            .values(state=ChunkState.WAITING if held else ChunkState.READY, carried=told)
            .returning(ChunkRow.index)
            .execution_options(synchronize_session=False)
        ).all()
        if held and following:
            session.execute(
                update(TranscriptRow)
                .where(TranscriptRow.id == transcript)
                .values(chunks_waiting=TranscriptRow.chunks_waiting + 1)
                .execution_options(synchronize_session=False)
            )


def _chunk(index: int, start: int, end: int, speech: list[list[int]] | None) -> Chunk:
    runs = None if speech is None else tuple(Span(*run) for run in speech)
    return Chunk(index=index, span=Span(start, end), speech=runs)
