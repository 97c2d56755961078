"""Keeping: how long what is a tenant's is kept, and what is held whatever that says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, CompoundSelect, and_, exists, literal, null, or_, select, union, update
from sqlalchemy.orm import Session, aliased

from stenopool.errors import LedgerError, Missing
from storage.conditions import now
from storage.database import database_clock
from storage.keeping_tables import HoldRow, RetentionRow
from storage.keys import pcm_key
from storage.tables import (
    COMPLETED,
    ENDED,
    GONE,
    MAKING,
    RETRYABLE,
    ChunkRow,
    ChunkState,
    Lane,
    SourceRow,
    SubmissionRow,
    SubmissionTranscriptRow,
    TranscriptRow,
    TranscriptState,
)
from storage.transactions import Transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long what is a tenant's is kept, in seconds; None for what holds where nothing is set."""

    tenant: str
    #: Of a file that was handed in, after its submission has ended.
    source: float | None = None
    #: Of samples, after the transcript was completed.
    pcm: float | None = None
    #: Of what was heard in each chunk, after the transcript was completed.
    chunks: float | None = None
    #: Of a submission with its transcripts, after it has ended.
    transcript: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why nothing of a submission is removed."""

    submission: int
    reason: str | None
    by: str
    #: Seconds since 1970, by the database's clock.
    at: float


class Keeping(Transactions):
    """Queries and transitions of what is kept."""

    # Periods

    def set(self, retention: Retention) -> None:
        """Keep what is a tenant's for so long from now on, also what is there already."""
        with self._transaction() as session:
            session.merge(RetentionRow(**asdict(retention)))

    def retention(self, tenant: str) -> Retention:
        """A tenant's."""
        with self._transaction() as session:
            row = session.get(RetentionRow, tenant)
            return Retention(tenant=tenant) if row is None else _retention(row)

    def retentions(self) -> list[Retention]:
        """Of all tenants for whom something is set."""
        with self._transaction() as session:
            return [_retention(row) for row in session.scalars(select(RetentionRow).order_by(RetentionRow.tenant))]

    def expired(self, after: int, limit: int) -> list[tuple[int, float]]:
        """Submissions whose time is over, from behind that one on; with the seconds that they were to be kept."""
        with self._transaction() as session:
            rows = session.execute(
                select(SubmissionRow.id, RetentionRow.transcript)
                .join(RetentionRow, RetentionRow.tenant == SubmissionRow.tenant)
                .where(
                    SubmissionRow.id > after,
                    SubmissionRow.state.in_(set(ENDED) - set(GONE)),
                    SubmissionRow.ended_at < now() - RetentionRow.transcript,
                    SubmissionRow.id.not_in(select(HoldRow.submission_id)),
                )
                .order_by(SubmissionRow.id)
                .limit(limit)
            )
            return [(id, seconds or 0.0) for id, seconds in rows]

    def remembered(self, after: int, limit: int) -> list[int]:
        """Transcripts the results of whose chunks have been kept for long enough, from behind that one on."""
        with self._transaction() as session:
            return list(
                session.scalars(
                    select(TranscriptRow.id)
                    .where(TranscriptRow.id > after, _forgettable())
                    .order_by(TranscriptRow.id)
                    .limit(limit)
                )
            )

    def forget(self, transcript: int) -> bool:
        """Remove what was heard in each chunk of a transcript; its text stays. False where that is to be kept now."""
        with self._transaction() as session:
            recording = session.scalar(select(TranscriptRow.recording_id).where(TranscriptRow.id == transcript))
            if recording is None:
                return False
            self._alone(session, pcm_key(recording))  # or a version is made of them just now
            forgotten = session.execute(
                update(TranscriptRow)
                .where(TranscriptRow.id == transcript, _forgettable())
                .values(forgotten=True)
                .returning(TranscriptRow.id)
                .execution_options(synchronize_session=False)
            ).all()
            if forgotten:
                session.execute(
                    update(ChunkRow)
                    .where(ChunkRow.transcript_id == transcript)
                    .values(result=null(), carried=null())
                    .execution_options(synchronize_session=False)
                )
            return bool(forgotten)

    # Holds

    def hold(self, id: int, *, by: str, reason: str | None = None) -> None:
        """Remove nothing of a submission until it is released.

        Raises:
            LedgerError: there is none, or it is deleted.
        """
        with self._transaction() as session:
            row = locked(session, id)
            if row.state in GONE:
                raise LedgerError(f"{id} is {row.state}: there is nothing left to be held")
            self._alone(session, row.source, *map(pcm_key, recordings_of(session, row)))  # or one is removed just now
            session.merge(HoldRow(submission_id=id, reason=reason, by=by, at=database_clock()))

    def release(self, id: int) -> bool:
        """Hold it no more; False where it was not held. Raises LedgerError where there is none."""
        with self._transaction() as session:
            locked(session, id)
            held = session.get(HoldRow, id)
            if held is not None:
                session.delete(held)
            return held is not None

    def held(self, id: int) -> Hold | None:
        """Why it is held; None where it is not."""
        with self._transaction() as session:
            return hold_of(session, id)


def locked(session: Session, id: int) -> SubmissionRow:
    """A submission that nobody else changes now. Raises LedgerError where there is none."""
    row = session.scalar(select(SubmissionRow).where(SubmissionRow.id == id).with_for_update())
    if row is None:
        raise Missing(f"there is no submission {id}; `stenopool status` lists them")
    return row


def hold_of(session: Session, id: int) -> Hold | None:
    """Why a submission is held; None where it is not."""
    row = session.get(HoldRow, id)
    return None if row is None else hold_from(row)


def hold_from(row: HoldRow) -> Hold:
    """A hold from its row."""
    return Hold(submission=row.submission_id, reason=row.reason, by=row.by, at=row.at)


def source_kept(seconds: float) -> ColumnElement[bool]:
    """Submissions whose files are kept: open ones, held ones, and others for a while after their end.

    Args:
        seconds: for how long, where the tenant has no period, and of what can be done again only.
    """
    period = select(RetentionRow.source).where(RetentionRow.tenant == SubmissionRow.tenant).scalar_subquery()
    since = SubmissionRow.ended_at
    return or_(
        SubmissionRow.state.not_in(ENDED),
        SubmissionRow.id.in_(select(HoldRow.submission_id)),
        and_(SubmissionRow.state.not_in(GONE), since > database_clock() - period),
        and_(SubmissionRow.state.in_(RETRYABLE), period.is_(None), since > database_clock() - seconds),
    )


#: What is done in these lanes is listened to; who works through an archive would need a hundred times its room.
LISTENED_TO = (Lane.URGENT, Lane.NORMAL)


def pcm_kept(recordings: Collection[str], sound: float) -> CompoundSelect[str]:
    """Those of these recordings whose samples are kept: for what is being made, or to be listened to; or they are held.

    Args:
        sound: seconds for which they are listened to, where the tenant has no period.
    """
    here = TranscriptRow.recording_id.in_(recordings)
    within = TranscriptRow.completed_at > database_clock() - RetentionRow.pcm
    period = select(RetentionRow.pcm).where(RetentionRow.tenant == TranscriptRow.tenant).scalar_subquery()
    lately = and_(period.is_(None), TranscriptRow.completed_at > database_clock() - sound)
    held = select(SubmissionRow.file_sha256).join(HoldRow, HoldRow.submission_id == SubmissionRow.id)
    return union(
        select(TranscriptRow.recording_id).where(here, TranscriptRow.state.in_(MAKING)),
        select(TranscriptRow.recording_id)
        .join(RetentionRow, RetentionRow.tenant == TranscriptRow.tenant)
        .where(here, TranscriptRow.state.in_(COMPLETED), within),
        select(TranscriptRow.recording_id).where(
            here, TranscriptRow.state.in_(COMPLETED), TranscriptRow.lane.in_(LISTENED_TO), lately
        ),
        select(SourceRow.recording_id).where(SourceRow.recording_id.in_(recordings), SourceRow.file_sha256.in_(held)),
    )


def linked(*which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a submission has any version of a transcript; `which` says of which submissions."""
    version = aliased(TranscriptRow)
    return exists(
        select(literal(1))
        .select_from(SubmissionTranscriptRow)
        .join(version, version.id == SubmissionTranscriptRow.transcript_id)
        .where(
            version.tenant == TranscriptRow.tenant,
            version.recording_id == TranscriptRow.recording_id,
            version.work_digest == TranscriptRow.work_digest,
            *which,
        )
    )


def _forgettable() -> ColumnElement[bool]:
    """The results of whose chunks have been kept for long enough."""
    period = select(RetentionRow.chunks).where(RetentionRow.tenant == TranscriptRow.tenant).scalar_subquery()
    busy = exists(
        select(literal(1)).where(ChunkRow.transcript_id == TranscriptRow.id, ChunkRow.state == ChunkState.LEASED)
    )
    given_up = and_(TranscriptRow.state == TranscriptState.CANCELLED, TranscriptRow.created_at < now() - period, ~busy)
    done = and_(TranscriptRow.state.in_(COMPLETED), TranscriptRow.completed_at < now() - period)
    held = linked(SubmissionTranscriptRow.submission_id.in_(select(HoldRow.submission_id)))
    return and_(TranscriptRow.forgotten.is_(False), or_(done, given_up), ~held)


def recordings_of(session: Session, row: SubmissionRow) -> list[str]:
    """What a submission's file was decoded to, as far as it was."""
    files = select(SourceRow.recording_id).where(SourceRow.file_sha256 == row.file_sha256)
    texts = (
        select(TranscriptRow.recording_id)
        .join(SubmissionTranscriptRow, SubmissionTranscriptRow.transcript_id == TranscriptRow.id)
        .where(SubmissionTranscriptRow.submission_id == row.id)
    )
    return sorted(session.scalars(union(files, texts)))


def _retention(row: RetentionRow) -> Retention:
    return Retention(**{name: getattr(row, name) for name in Retention.__dataclass_fields__})
