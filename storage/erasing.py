"""Erasing: what is left of a submission that somebody wants deleted: that it was there, and a receipt.

    any state ──► deleting ──► deleted
                  1. its rows go, in one transaction, once nobody works at them
                  2. the objects that they led to go, all their versions
                  3. the receipt is complete

Whoever is killed in between leaves a submission that is `deleting`: the collector goes on with it. What another
submission of the same tenant has as well survives for that one; tenants share no rows, and of the objects that they
share those stay that somebody needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, literal, null, or_, select, update
from sqlalchemy.orm import Session, aliased

from stenopool.errors import LegalHold
from storage.campaign_tables import CampaignItemRow
from storage.conditions import lapsed
from storage.database import database_clock
from storage.holding import abandon
from storage.keeping import hold_of, linked, locked, recordings_of
from storage.keeping_tables import DeletionRow, HoldRow
from storage.keys import FILES, PUBLISHER, is_elsewhere, pcm_key, waveform_key
from storage.outbox import note
from storage.publisher_tables import PublisherTranscriptRow
from storage.tables import (
    COMPLETED,
    GONE,
    ChunkRow,
    ChunkState,
    EventRow,
    PassageRow,
    RecordingRow,
    RedactionRow,
    SilenceRow,
    SourceRow,
    SubmissionRow,
    SubmissionState,
    SubmissionTranscriptRow,
    TranscriptRow,
    TranscriptState,
    WatchHitRow,
)
from storage.transactions import Transactions

#: Why something is kept.
SHARED, LEGAL_HOLD, SENT = "shared", "legal hold", "they belong to whoever they were sent to"


def _silences(session: Session, _: int | None, transcripts: Sequence[int]) -> Mapping[str, int]:
    return {"silences": _delete(session, SilenceRow, SilenceRow.transcript_id.in_(transcripts))}


def _chunks(session: Session, _: int | None, transcripts: Sequence[int]) -> Mapping[str, int]:
    return {"chunks": _delete(session, ChunkRow, ChunkRow.transcript_id.in_(transcripts))}


def _searched(session: Session, _: int | None, transcripts: Sequence[int]) -> Mapping[str, int]:
    tables = (WatchHitRow, RedactionRow, PassageRow)
    return {table.__tablename__: _delete(session, table, table.transcript_id.in_(transcripts)) for table in tables}


def _listed(session: Session, submission: int | None, _: Sequence[int]) -> Mapping[str, int]:
    """A campaign's list keeps the place, without what it says of it."""
    if submission is None:
        return {}
    blank: dict[str, Any] = {
        "location": "",
        "name": f"deleted-{submission}",
        "options": {},
        "metadata_": {},
        "source": None,
    }
    found = session.execute(
        update(CampaignItemRow)
        .where(CampaignItemRow.submission_id == submission)
        .values(**blank, file_sha256=None)
        .execution_options(synchronize_session=False)
    )
    return {"campaign_items": int(found.rowcount)}  # type: ignore[attr-defined]


def _published(session: Session, submission: int | None, _: Sequence[int]) -> Mapping[str, int]:
    """What the publisher offers itself; of a submission that is gone, nothing is left of it."""
    mine = PublisherTranscriptRow.submission_id == submission
    return {} if submission is None else {"publisher_transcripts": _delete(session, PublisherTranscriptRow, mine)}


#: Who removes rows that belong to a submission (None: to none that is left) and to transcripts that go, within the
#: transaction in which they go; each says how many, by table. A table of such rows has its entry here.
REMOVERS: list[Callable[[Session, int | None, Sequence[int]], Mapping[str, int]]] = [
    _silences,
    _chunks,
    _searched,
    _listed,
    _published,
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What is known of a submission that is deleted, or is being."""

    submission: int
    tenant: str
    state: SubmissionState
    reason: str | None
    by: str
    #: Seconds since 1970, by the database's clock.
    asked_at: float
    erased_at: float | None
    completed_at: float | None
    #: What keeps it from being completed.
    error: str | None
    #: What is to be removed from the object store still: keys, and what keys lie below.
    keys: tuple[str, ...]
    #: What was removed, and what was kept, and why.
    receipt: Mapping[str, Any]


class Erasing(Transactions):
    """Queries and transitions of deletions."""

    def begin(self, id: int, *, by: str, reason: str | None = None) -> bool:
        """Delete a submission, whatever state it is in; False where that was begun before.

        Raises:
            LegalHold: it is held.
            LedgerError: there is none.
        """
        with self._transaction() as session:
            row = locked(session, id)
            if row.state in GONE:
                return False
            if hold := hold_of(session, id):
                why = f" ({hold.reason})" if hold.reason else ""
                raise LegalHold(f"{id} is held{why} and is not deleted; if it may be: stenopool release {id}")
            session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == id)
                .values(
                    state=SubmissionState.DELETING,
                    settled=None,
                    paused=False,
                    ended_at=func.coalesce(SubmissionRow.ended_at, database_clock()),
                )
            )
            abandon(session, id)
            session.add(
                DeletionRow(
                    submission_id=id, reason=reason, by=by, asked_at=database_clock(), keys=[], receipt={"kept": []}
                )
            )
            return True

    def open(self, after: int, limit: int) -> list[int]:
        """Submissions that are being deleted, from behind that one on."""
        with self._transaction() as session:
            return list(
                session.scalars(
                    select(DeletionRow.submission_id)
                    .where(DeletionRow.submission_id > after, DeletionRow.completed_at.is_(None))
                    .order_by(DeletionRow.submission_id)
                    .limit(limit)
                )
            )

    def deletion(self, id: int) -> Deletion | None:
        """What is known of it; None where it was never to be deleted."""
        with self._transaction() as session:
            row = session.get(DeletionRow, id)
            submission = session.get(SubmissionRow, id)
            return None if row is None or submission is None else deletion_from(row, submission)

    def erase(self, id: int) -> bool:
        """Remove its rows, and blank what names it; True once they are. False while somebody works at them."""
        with self._transaction() as session:
            row = locked(session, id)
            deletion = session.get_one(DeletionRow, id)
            if deletion.erased_at is not None:
                return True
            recordings = recordings_of(session, row)
            self._alone(session, row.source, *map(pcm_key, recordings))
            doomed = self._doomed(session, row, recordings)
            if self._busy(session, id, doomed):
                return False
            receipt: dict[str, Any] = {"rows": {}, "kept": self._shared(session, row)}
            if row.destination is not None:
                receipt["kept"].append({"what": "files that were sent away", "why": SENT, "where": row.destination})
            links = _delete(session, SubmissionTranscriptRow, SubmissionTranscriptRow.submission_id == id)
            counts = {"links": links, **_remove(session, id, doomed)}
            counts |= self._leftovers(session, row, recordings)
            receipt["rows"] = {name: n for name, n in sorted(counts.items()) if n}
            file = [] if is_elsewhere(row.source) else [row.source]
            samples = [key(one) for one in recordings for key in (pcm_key, waveform_key)]
            deletion.keys = [*file, *samples, *(f"{kind}/{id}" for kind in (*FILES, PUBLISHER))]
            deletion.receipt = receipt
            deletion.erased_at = database_clock()
            row.name, row.source, row.file_sha256 = f"deleted-{id}", "", None
            row.metadata_, row.speakers, row.destination = {}, None, None
            row.options, row.idempotency_key, row.error, row.worker, row.lease_until = {}, None, None, None, None
            session.execute(update(EventRow).where(EventRow.submission_id == id).values(error=None, detail=null()))
            return True

    def listed(self, id: int, objects: Sequence[Mapping[str, Any]]) -> None:
        """Keep what was found in the object store, before any of it is removed; a second finding has no effect."""
        with self._transaction() as session:
            locked(session, id)
            deletion = session.get_one(DeletionRow, id)
            if "objects" not in deletion.receipt:
                deletion.receipt = {**deletion.receipt, "objects": [dict(one) for one in objects]}

    def complete(self, id: int, receipt: Mapping[str, Any]) -> bool:
        """All is gone. False where another has said so before."""
        with self._transaction() as session:
            locked(session, id)
            ended = session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == id, SubmissionRow.state == SubmissionState.DELETING)
                .values(state=SubmissionState.DELETED)
                .returning(SubmissionRow.id)
                .execution_options(synchronize_session=False)
            ).all()
            if not ended:
                return False
            session.execute(
                update(DeletionRow)
                .where(DeletionRow.submission_id == id)
                .values(completed_at=database_clock(), error=None, keys=[], receipt=dict(receipt))
            )
            note(session, [id])
            return True

    def hindered(self, id: int, error: str) -> None:
        """It cannot be completed now, and why."""
        with self._transaction() as session:
            session.execute(update(DeletionRow).where(DeletionRow.submission_id == id).values(error=error))

    def is_held(self, key: str) -> bool:
        """Whether one who has a file or samples as well has them held."""
        files = select(SourceRow.file_sha256).where(SourceRow.recording_id == key.partition("/")[2])
        has = or_(SubmissionRow.source == key, SubmissionRow.file_sha256.in_(files))
        with self._transaction() as session:
            held = select(SubmissionRow.id).join(HoldRow, HoldRow.submission_id == SubmissionRow.id)
            return session.scalar(held.where(has).limit(1)) is not None

    def forsaken(self, limit: int) -> int:
        """Remove what was given up of submissions that are gone: a worker planned it too late; returns how many."""
        with self._transaction() as session:
            ids = session.scalars(
                select(TranscriptRow.id)
                .where(
                    TranscriptRow.state == TranscriptState.CANCELLED,
                    TranscriptRow.lane.is_not(None),
                    ~linked(),
                    ~_alive(),
                    ~exists(select(literal(1)).where(ChunkRow.transcript_id == TranscriptRow.id, _leased())),
                )
                .limit(limit)
                .with_for_update(skip_locked=True)
            ).all()
            recordings = session.scalars(
                select(TranscriptRow.recording_id).where(TranscriptRow.id.in_(ids)).distinct()
            ).all()
            _remove(session, None, ids)
            _delete(session, SourceRow, SourceRow.recording_id.in_(recordings), ~_handed_in())
            self._strays(session, recordings)
            return len(ids)

    @staticmethod
    def _doomed(session: Session, row: SubmissionRow, recordings: Sequence[str]) -> list[int]:
        """Transcripts that go with it: nobody else has them. They are locked."""
        others = linked(SubmissionTranscriptRow.submission_id != row.id)
        mine = linked(SubmissionTranscriptRow.submission_id == row.id)
        return list(
            session.scalars(
                select(TranscriptRow.id)
                .where(
                    TranscriptRow.tenant == row.tenant,
                    TranscriptRow.recording_id.in_(recordings),
                    ~others,
                    or_(mine, ~_alive()),
                )
                .order_by(TranscriptRow.id)
                .with_for_update()
            )
        )

    @staticmethod
    def _busy(session: Session, id: int, doomed: Sequence[int]) -> bool:
        """Somebody works at it, and would be surprised."""
        questions = (
            select(SubmissionRow.id).where(SubmissionRow.id == id, ~lapsed(SubmissionRow)),
            select(TranscriptRow.id).where(
                TranscriptRow.id.in_(doomed), TranscriptRow.state.not_in(COMPLETED), ~lapsed(TranscriptRow)
            ),
            select(ChunkRow.index).where(ChunkRow.transcript_id.in_(doomed), _leased()),
        )
        return any(session.scalar(question.limit(1)) is not None for question in questions)

    @staticmethod
    def _shared(session: Session, row: SubmissionRow) -> list[dict[str, Any]]:
        """What stays of its transcripts, as others have them."""
        mine, version, other = aliased(TranscriptRow), aliased(TranscriptRow), aliased(SubmissionTranscriptRow)
        sharers = session.execute(
            select(other.submission_id, HoldRow.submission_id)
            .select_from(SubmissionTranscriptRow)
            .join(mine, mine.id == SubmissionTranscriptRow.transcript_id)
            .join(
                version,
                and_(
                    version.tenant == mine.tenant,
                    version.recording_id == mine.recording_id,
                    version.work_digest == mine.work_digest,
                ),
            )
            .join(other, other.transcript_id == version.id)
            .outerjoin(HoldRow, HoldRow.submission_id == other.submission_id)
            .where(SubmissionTranscriptRow.submission_id == row.id, other.submission_id != row.id)
            .order_by(other.submission_id)
            .distinct()
        ).all()
        return [
            {"what": "transcript", "why": LEGAL_HOLD if held is not None else SHARED, "submission": submission}
            for submission, held in sharers
        ]

    @staticmethod
    def _strays(session: Session, recordings: Sequence[str]) -> int:
        """Recordings of which nothing else is known."""
        named = exists(select(literal(1)).where(SourceRow.recording_id == RecordingRow.id))
        heard = exists(select(literal(1)).where(TranscriptRow.recording_id == RecordingRow.id))
        return _delete(session, RecordingRow, RecordingRow.id.in_(recordings), ~named, ~heard)

    def _leftovers(self, session: Session, row: SubmissionRow, recordings: Sequence[str]) -> dict[str, int]:
        """Remove what is known of its file, if nobody else handed that in; how many rows, by table."""
        files = _delete(session, SourceRow, SourceRow.file_sha256 == row.file_sha256, ~_handed_in(row.id))
        return {"sources": files, "recordings": self._strays(session, recordings)}


def deletion_from(row: DeletionRow, submission: SubmissionRow) -> Deletion:
    """A deletion from its row, and that of its submission."""
    kept = {name: getattr(row, name) for name in Deletion.__dataclass_fields__ if hasattr(DeletionRow, name)}
    return Deletion(
        **{**kept, "keys": tuple(row.keys)},
        submission=submission.id,
        tenant=submission.tenant,
        state=SubmissionState(submission.state),
    )


def _alive() -> ColumnElement[bool]:
    """Whether the tenant has a submission of the transcript's recording that is not gone."""
    files = select(SourceRow.file_sha256).where(SourceRow.recording_id == TranscriptRow.recording_id)
    return exists(
        select(literal(1)).where(
            SubmissionRow.tenant == TranscriptRow.tenant,
            SubmissionRow.state.not_in(GONE),
            SubmissionRow.file_sha256.in_(files),
        )
    )


def _handed_in(besides: int = 0) -> ColumnElement[bool]:
    """Whether somebody handed the file of a source in, besides that submission."""
    return exists(
        select(literal(1)).where(
            SubmissionRow.file_sha256 == SourceRow.file_sha256,
            SubmissionRow.id != besides,
            SubmissionRow.state != SubmissionState.DELETED,
        )
    )


def _leased() -> ColumnElement[bool]:
    """Somebody decodes it."""
    return and_(ChunkRow.state == ChunkState.LEASED, ~lapsed(ChunkRow))


def _remove(session: Session, submission: int | None, transcripts: Sequence[int]) -> dict[str, int]:
    """Remove transcripts, and what belongs to them; how many rows, by table."""
    counts: dict[str, int] = {}
    for remove in REMOVERS:
        counts |= remove(session, submission, transcripts)
    return counts | {"transcripts": _delete(session, TranscriptRow, TranscriptRow.id.in_(transcripts))}


def _delete(session: Session, table: Any, *which: ColumnElement[bool]) -> int:
    found = session.execute(delete(table).where(*which).execution_options(synchronize_session=False))
    return int(found.rowcount)  # type: ignore[attr-defined]
