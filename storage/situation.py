"""What the ledger knows of a submission that does not end: the facts from which `scheduler.why` says why not."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Float, case, cast, func, or_, select
from sqlalchemy.orm import Session

from stenopool.domain import SAMPLE_RATE
from stenopool.errors import Missing
from storage.admin_tables import PauseRow
from storage.campaign_tables import ThroughputRow
from storage.database import database_clock
from storage.fleet import GONE_AFTER
from storage.keeping_tables import DeletionRow
from storage.tables import (
    MAKING,
    ChunkRow,
    ChunkState,
    EventRow,
    Lane,
    RecordingRow,
    SubmissionRow,
    SubmissionState,
    SubmissionTranscriptRow,
    TranscriptRow,
    TranscriptState,
    WorkerRow,
)
from storage.throughput import PIECE
from storage.transactions import Transactions
from storage.webhook_tables import DeliveryRow, DeliveryState, EndpointRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A transcript that a submission waits for."""

    id: int
    state: TranscriptState
    model: str
    paused: bool = False
    #: Its language is known.
    language: bool = True
    #: Somebody detects it, or merges the transcript.
    held: bool = False
    chunks: int
    open: int
    ready: int = 0
    leased: int = 0
    #: Of those that are not done: workers died with them.
    suspects: int = 0
    #: Workers that died with the worst of these.
    deaths: int = 0
    #: Engines that are alive, work, and can decode it; and those of its model that are still starting.
    engines: int = 0
    starting: int = 0
    #: Seconds of audio that its engines have before them in more urgent lanes, and in its own, without it.
    before: float = 0.0
    beside: float = 0.0
    #: Seconds of audio that engines of its model have transcribed in a second, lately.
    pace: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """An endpoint of a webhook that was not told of its last event yet."""

    endpoint: int
    state: str
    attempts: int = 0
    #: Seconds until it is tried again.
    again_in: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A submission, and all that it may wait for. Spans of time are in seconds."""

    id: int
    state: SubmissionState
    lane: Lane
    tenant: str
    model: str
    #: Since it was handed in.
    age: float = 0.0
    paused: bool = False
    #: Why its lane, its tenant is paused; None where it is not.
    lane_paused: str | None = None
    tenant_paused: str | None = None
    #: What the workers that are alive do: scheduler, ingest, merge, publish, engine.
    roles: frozenset[str] = frozenset()
    error: str | None = None
    #: Times that its stage was begun.
    attempt: int = 0
    #: Until it is tried again; None where it waits for no time.
    again_in: float | None = None
    worker: str | None = None
    #: Of that worker's lease; negative where it has run out.
    lease_left: float | None = None
    #: Until its deadline; negative where that has passed; None where there is none.
    due_in: float | None = None
    destination: bool = False
    #: Submissions that are decoded before it, and the seconds of audio that its lane has decoded and not transcribed.
    before: int = 0
    ahead: float = 0.0
    parts: tuple[Part, ...] = ()
    untold: tuple[Untold, ...] = ()
    #: What keeps its deletion from being completed.
    deletion: str | None = None


class Situations(Transactions):
    """Looks them up."""

    def of(self, id: int) -> Situation:
        """A submission's. Raises Missing where there is none."""
        with self._transaction() as session:
            row = session.get(SubmissionRow, id)
            if row is None:
                raise Missing(f"there is no submission {id}; `stenopool status` lists them")
            now = session.scalar(select(database_clock())) or 0.0
            workers = session.scalars(select(WorkerRow).where(WorkerRow.seen_at > now - GONE_AFTER)).all()
            pauses = session.scalars(
                select(PauseRow).where(or_(PauseRow.lane == row.lane, PauseRow.tenant == row.tenant))
            ).all()
            said = {one.tenant is None: one.reason or f"by {one.by}" for one in pauses}
            return Situation(
                id=id,
                state=SubmissionState(row.state),
                lane=Lane(row.lane),
                tenant=row.tenant,
                model=row.model,
                age=(row.ended_at or now) - row.created_at,
                paused=row.paused,
                lane_paused=said.get(True),
                tenant_paused=said.get(False),
                roles=frozenset(role for one in workers if one.state != "starting" for role in one.role.split("+")),
                error=row.error,
                attempt=row.attempt,
                again_in=None if row.not_before is None else row.not_before - now,
                worker=row.worker,
                lease_left=None if row.lease_until is None else row.lease_until - now,
                due_in=None if row.deadline_at is None else row.deadline_at - now,
                destination=row.destination is not None,
                before=_before(session, row),
                ahead=_ahead(session, row),
                parts=tuple(_part(session, one, workers, now) for one in _parts(session, id)),
                untold=_untold(session, row, now),
                deletion=session.scalar(
                    select(DeletionRow.error).where(DeletionRow.submission_id == id, DeletionRow.completed_at.is_(None))
                ),
            )


def _before(session: Session, row: SubmissionRow) -> int:
    """Submissions that go before it while it waits to be decoded, by lane and by turn within its tenant."""
    if row.state != SubmissionState.ACCEPTED:
        return 0
    first = or_(
        SubmissionRow.lane < row.lane,
        (SubmissionRow.lane == row.lane) & (SubmissionRow.tenant == row.tenant) & (SubmissionRow.id < row.id),
    )
    n = session.scalar(
        select(func.count())
        .select_from(SubmissionRow)
        .where(SubmissionRow.state == SubmissionState.ACCEPTED, SubmissionRow.paused.is_(False), first)
    )
    return n or 0


def _ahead(session: Session, row: SubmissionRow) -> float:
    samples = session.scalar(
        select(func.sum(SubmissionRow.duration)).where(
            SubmissionRow.state == SubmissionState.TRANSCRIBING, SubmissionRow.lane == row.lane
        )
    )
    return float(samples or 0) / SAMPLE_RATE


def _parts(session: Session, submission: int) -> list[TranscriptRow]:
    return list(
        session.scalars(
            select(TranscriptRow)
            .join(SubmissionTranscriptRow, SubmissionTranscriptRow.transcript_id == TranscriptRow.id)
            .where(SubmissionTranscriptRow.submission_id == submission)
            .order_by(SubmissionTranscriptRow.channel)
        )
    )


def _part(session: Session, row: TranscriptRow, workers: object, now: float) -> Part:
    assert isinstance(workers, list)
    mine = ChunkRow.transcript_id == row.id
    counted = session.execute(
        select(
            func.count(case((ChunkRow.state == ChunkState.READY, 1))),
            func.count(case((ChunkRow.state == ChunkState.LEASED, 1))),
            func.count(case((ChunkRow.crashes > 0, 1))),
            func.max(ChunkRow.crashes),
        ).where(mine, ChunkRow.state != ChunkState.DONE)
    ).one()
    ready, leased, suspects, deaths = counted
    model = str(row.provenance.get("model", ""))
    engines = [one for one in workers if one.role == "engine"]
    before, beside = _audio_before(session, row)
    return Part(
        id=row.id,
        state=TranscriptState(row.state),
        model=model,
        paused=row.paused,
        language=row.language is not None,
        held=row.lease_until is not None and row.lease_until > now,
        chunks=row.chunks_total,
        open=row.chunks_open,
        ready=ready,
        leased=leased,
        suspects=suspects,
        deaths=deaths or 0,
        engines=sum(one.engine_key == row.engine_key and one.state == "working" for one in engines),
        starting=sum(one.state == "starting" for one in engines),
        before=before,
        beside=beside,
        pace=_pace(session, model, now),
    )


def _audio_before(session: Session, row: TranscriptRow) -> tuple[float, float]:
    """Seconds of audio for the same engines in more urgent lanes, and in its own, without it."""
    if row.state not in MAKING or row.lane is None:
        return 0.0, 0.0
    left = cast(RecordingRow.duration, Float) * TranscriptRow.chunks_open / TranscriptRow.chunks_total / SAMPLE_RATE
    rows = session.execute(
        select(TranscriptRow.lane, func.sum(left))
        .join(RecordingRow, RecordingRow.id == TranscriptRow.recording_id)
        .where(
            TranscriptRow.state == TranscriptState.TRANSCRIBING,
            TranscriptRow.engine_key == row.engine_key,
            TranscriptRow.lane <= row.lane,
            TranscriptRow.id != row.id,
            TranscriptRow.chunks_open > 0,
            TranscriptRow.paused.is_(False),
        )
        .group_by(TranscriptRow.lane)
    ).all()
    seconds = {lane: float(value or 0) for lane, value in rows}
    return sum(value for lane, value in seconds.items() if lane != row.lane), seconds.get(row.lane, 0.0)


def _pace(session: Session, model: str, now: float) -> float:
    began = now // PIECE * PIECE - 3 * PIECE
    audio = session.scalar(
        select(func.sum(ThroughputRow.audio)).where(ThroughputRow.model == model, ThroughputRow.began >= began)
    )
    return float(audio or 0.0) / (now - began)


def _untold(session: Session, row: SubmissionRow, now: float) -> tuple[Untold, ...]:
    """Who was not told yet of the last that became of it."""
    last = session.scalar(select(func.max(EventRow.position)).where(EventRow.submission_id == row.id))
    if last is None:
        return ()
    found = session.execute(
        select(EndpointRow, DeliveryRow)
        .outerjoin(DeliveryRow, (DeliveryRow.endpoint_id == EndpointRow.id) & (DeliveryRow.position == last))
        .where(EndpointRow.tenant == row.tenant)
        .order_by(EndpointRow.id)
    ).all()
    return tuple(
        Untold(
            endpoint=endpoint.id,
            state=endpoint.state,
            attempts=0 if delivery is None else delivery.attempts,
            again_in=max(0.0, ((delivery and delivery.not_before) or endpoint.not_before or now) - now),
            error=endpoint.reason if delivery is None else delivery.error or endpoint.reason,
        )
        for endpoint, delivery in found
        if (endpoint.position < last if delivery is None else delivery.state == DeliveryState.WAITING)
    )
