"""The desk: what was handed in, by whom, and what became of it.

    accepted ──► ingesting ──► transcribing ──► publishing ──► completed | completed_with_gaps | completed_empty
        ▲____________│  it failed, but may not the next time; or its worker died
    any of these ──► failed | cancelled ──► accepted, if somebody asks for it
    any of all   ──► deleting ──► deleted (storage/erasing.py)
    completed_with_gaps ──► accepted, if somebody asks for its gaps; where nothing comes of that, back again

Every transition is one guarded UPDATE. Who ingests or publishes holds a lease, and a fence that makes him harmless when
he comes late.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Engine, bindparam, case, delete, func, null, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from stenopool.errors import KeyTaken, Missing, QueueFull
from storage.database import database_clock
from storage.holding import abandon, give_up, hold, pause_unwanted, transcripts_of
from storage.keys import is_elsewhere
from storage.outbox import note
from storage.pausing import paused_now, unpaused
from storage.search_index import index_shown
from storage.tables import (
    ENDED,
    PUBLISHED,
    RETRYABLE,
    Lane,
    SourceRow,
    SubmissionRow,
    SubmissionState,
    SubmissionTranscriptRow,
    TenantRow,
    TranscriptRow,
    TranscriptState,
)
from storage.waiting import BEFORE, FREE, WaitingRoom, ended_without

LEASE = 60.0  # seconds
#: Seconds after which it is looked again whether somebody has done what a submission needs as well.
ITS_TURN = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody hands in."""

    tenant: str
    name: str
    #: Key of the file in the object store, or the URL that it is to be fetched from.
    source: str
    #: None where it is to be fetched.
    file_sha256: str | None = None
    model: str
    options: Mapping[str, Any]
    #: What else is said of it.
    metadata: Mapping[str, str] = field(default_factory=dict)
    split: bool = False
    #: Of the channels, if they are split.
    speakers: tuple[str, ...] = ()
    again: bool = False
    #: Where the transcripts are sent as well, in which formats.
    destination: str | None = None
    formats: tuple[str, ...] = ()
    #: Kinds of what is to be redacted, separated by commas; None: nothing is.
    redact: str | None = None
    lane: Lane = Lane.NORMAL
    priority: int = 0
    #: Seconds from now.
    deadline: float | None = None
    idempotency_key: str | None = None
    #: That it belongs to.
    campaign_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was handed in, as the ledger has it; times are in seconds since 1970, by the database's clock."""

    id: int
    tenant: str
    #: That it belongs to; None where it was handed in by itself.
    campaign_id: int | None
    name: str
    source: str
    #: None until it is fetched.
    file_sha256: str | None
    model: str
    options: Mapping[str, Any]
    metadata: Mapping[str, str]
    split: bool
    #: Of the channels, if they are split and have names.
    speakers: tuple[str, ...]
    again: bool
    #: Where the transcripts are sent as well, in which formats.
    destination: str | None
    formats: tuple[str, ...]
    redact: str | None
    lane: Lane
    priority: int
    deadline_at: float | None
    #: By which its tenant knows it.
    idempotency_key: str | None
    paused: bool
    state: SubmissionState
    #: Its state before its gaps were tried again; None where they are not.
    settled: SubmissionState | None
    #: Samples; None until it is decoded.
    duration: int | None
    error: str | None
    #: Times that its present stage was begun.
    attempt: int
    fence: int
    created_at: float
    ended_at: float | None
    #: Channel and id of its transcripts.
    transcripts: tuple[tuple[int, int], ...]
    chunks_total: int
    chunks_open: int

    @property
    def ended(self) -> bool:
        """Nothing more will happen to it by itself."""
        return self.state in ENDED

    @property
    def published(self) -> bool:
        """It has transcripts to show, though its gaps may be tried again just now."""
        return (self.settled or self.state) in PUBLISHED


class Desk(WaitingRoom):
    """Queries and transitions of submissions; a claim is good for `lease` seconds, unless it is renewed."""

    def __init__(self, engine: Engine, *, lease: float = LEASE) -> None:
        super().__init__(engine)
        self.lease = lease

    # Handing in

    def accept(self, order: Order, *, there: Callable[[str], bool] = lambda _: True) -> Submission:
        """Take an order; one with an idempotency key that this tenant used before is that earlier one.

        Args:
            there: whether the object store has the file, which is kept from then on; not asked of what is fetched.

        Raises:
            KeyError: it has not.
            KeyTaken: the earlier one is another recording, or is to be transcribed in another way.
            QueueFull: the tenant has as many open submissions as are allowed.
        """
        try:
            with self._transaction() as session:
                return self._accept(session, order, there)
        except IntegrityError:  # the same key, or the first of a tenant, twice at the same moment
            with self._transaction() as session:
                return self._accept(session, order, there)

    def _accept(self, session: Session, order: Order, there: Callable[[str], bool]) -> Submission:
        known = order.idempotency_key and session.scalar(
            select(SubmissionRow).where(
                SubmissionRow.tenant == order.tenant, SubmissionRow.idempotency_key == order.idempotency_key
            )
        )
        if known:
            _check_same(known, order)
            return self._submission(session, known)
        tenant = session.get(TenantRow, order.tenant)
        if tenant is None:
            tenant = TenantRow(name=order.tenant, created_at=database_clock())
            session.add(tenant)
            session.flush()
        if tenant.max_queued is not None:
            n = session.scalar(
                select(func.count())
                .select_from(SubmissionRow)
                .where(SubmissionRow.tenant == order.tenant, SubmissionRow.state.not_in(ENDED))
            )
            if (n or 0) >= tenant.max_queued:
                raise QueueFull(
                    f"{order.tenant}: {n} submissions are open, and no more than {tenant.max_queued} may be; "
                    "wait until some have ended"
                )
        if not is_elsewhere(order.source):
            self._alone(session, order.source)  # or it is removed between the look and the row
            if not there(order.source):
                raise KeyError(order.source)
        given = asdict(order)
        deadline, metadata = given.pop("deadline"), given.pop("metadata")
        row = SubmissionRow(
            **given,
            metadata_=metadata,
            deadline_at=None if deadline is None else database_clock() + deadline,
            state=SubmissionState.ACCEPTED,
            created_at=database_clock(),
        )
        session.add(row)
        session.flush()
        note(session, [row.id])
        return self._submission(session, row)

    def set_tenant(self, name: str, *, weight: float = 1.0, max_queued: int | None = None) -> None:
        """Describe a tenant: his share beside the others, and how many submissions he may have open."""
        with self._transaction() as session:
            row = session.get(TenantRow, name)
            if row is None:
                session.add(TenantRow(name=name, weight=weight, max_queued=max_queued, created_at=database_clock()))
            else:
                row.weight, row.max_queued = weight, max_queued

    # Looking

    def submission(self, id: int) -> Submission:
        """One of them. Raises Missing where there is none."""
        with self._transaction() as session:
            [found] = self.read(session, [self._row(session, id)])
            return found

    def first_of(self, transcript: int) -> tuple[int, float] | None:
        """Who first waited for a transcript, and when that was handed in; None where nobody does."""
        with self._transaction() as session:
            row = session.execute(
                select(SubmissionRow.id, SubmissionRow.created_at)
                .join(SubmissionTranscriptRow, SubmissionTranscriptRow.submission_id == SubmissionRow.id)
                .where(SubmissionTranscriptRow.transcript_id == transcript)
                .order_by(SubmissionRow.id)
                .limit(1)
            ).first()
            return None if row is None else (row.id, row.created_at)

    def with_key(self, tenant: str, key: str) -> Submission | None:
        """That which a tenant handed in under this idempotency key; None where there is none."""
        with self._transaction() as session:
            row = session.scalar(
                select(SubmissionRow).where(SubmissionRow.tenant == tenant, SubmissionRow.idempotency_key == key)
            )
            return None if row is None else self._submission(session, row)

    def submissions(self, *, tenant: str | None = None, open_only: bool = False, limit: int = 100) -> list[Submission]:
        """The latest, the last one first."""
        conditions: list[ColumnElement[bool]] = []
        if tenant is not None:
            conditions.append(SubmissionRow.tenant == tenant)
        if open_only:
            conditions.append(SubmissionRow.state.not_in(ENDED))
        with self._transaction() as session:
            rows = session.scalars(
                select(SubmissionRow).where(*conditions).order_by(SubmissionRow.id.desc()).limit(limit)
            ).all()
            return self.read(session, rows)

    def counts(self) -> dict[tuple[int, str], int]:
        """How many submissions there are, by lane and state."""
        with self._transaction() as session:
            rows = session.execute(
                select(SubmissionRow.lane, SubmissionRow.state, func.count()).group_by(
                    SubmissionRow.lane, SubmissionRow.state
                )
            )
            return {(lane, state): n for lane, state, n in rows}

    # A worker's

    def claim(self, worker: str, id: int, stage: SubmissionState, *, apart: bool = False) -> Submission | None:
        """Begin to ingest or to publish a submission; None where it is not, or no longer, to be.

        Args:
            apart: not while another one is ingested that is the same work; it is told of again a little later.
        """
        with self._transaction() as session:
            if apart and self._is_under_way(session, id):
                session.execute(
                    update(SubmissionRow)
                    .where(SubmissionRow.id == id, SubmissionRow.state == BEFORE[stage])
                    .values(not_before=database_clock() + ITS_TURN, hinted_at=None)
                )
                return None
            claimed = session.execute(
                update(SubmissionRow)
                .where(
                    SubmissionRow.id == id,
                    SubmissionRow.state == BEFORE[stage],
                    SubmissionRow.worker.is_(None),
                    SubmissionRow.paused.is_(False),
                    *unpaused(paused_now(session), SubmissionRow),
                )
                .values(
                    state=stage,
                    worker=worker,
                    attempt=SubmissionRow.attempt + 1,
                    fence=SubmissionRow.fence + 1,
                    lease_until=database_clock() + self.lease,
                )
                .returning(SubmissionRow.id)
                .execution_options(synchronize_session=False)
            ).all()
            return self._submission(session, self._row(session, id)) if claimed else None

    def _is_under_way(self, session: Session, id: int) -> bool:
        """Whether the same file is being ingested for the same work, of which nothing is known yet.

        Whoever comes second would decode it as well, and find in the end that it is there. Who comes after the first
        has only to look it up; so do those who come after a death, as soon as its lease has run out.
        """
        row = session.get(SubmissionRow, id)
        if row is None or row.again or row.settled is not None:
            return False
        self._alone(session, f"ingest {row.source}")  # two that come at once do not see each other's claims
        if row.file_sha256 and session.scalar(
            select(SourceRow.file_sha256).where(SourceRow.file_sha256 == row.file_sha256).limit(1)
        ):
            return False
        others = session.scalars(
            select(SubmissionRow.options).where(
                SubmissionRow.source == row.source,
                SubmissionRow.state == SubmissionState.INGESTING,
                SubmissionRow.settled.is_(None),
                SubmissionRow.tenant == row.tenant,
                SubmissionRow.model == row.model,
                SubmissionRow.split == row.split,
                SubmissionRow.id != id,
            )
        )
        return row.options in others.all()

    def renew(self, submission: Submission) -> bool:
        """Prolong the lease of a claim; False where it was lost, or the submission was cancelled."""
        return self._end(submission, lease_until=database_clock() + self.lease)

    def transcribing(
        self,
        submission: Submission,
        transcripts: Iterable[tuple[int, int]],
        duration: int,
        *,
        file_sha256: str | None = None,
    ) -> bool:
        """It is ingested: these are its transcripts, channel and id, of so many samples. False if the claim is void.

        Args:
            file_sha256: of the bytes that were ingested; None where they are those that it had before.

        If it has ended meanwhile, those that nobody else waits for are given up. Where one of them was given up or
        removed by others just before, it is ingested anew.
        """
        links = list(transcripts)
        ids = {transcript for _, transcript in links}
        with self._transaction() as session:
            if not self._held(
                session,
                submission,
                state=SubmissionState.TRANSCRIBING,
                duration=duration,
                file_sha256=file_sha256 or submission.file_sha256,
                error=None,
                attempt=0,
                **FREE,
            ):
                if self._row(session, submission.id).state in ENDED:
                    give_up(session, ids)
                return False
            states = session.scalars(
                select(TranscriptRow.state)
                .where(TranscriptRow.id.in_(ids))
                .order_by(TranscriptRow.id)
                .with_for_update(key_share=True)
            ).all()
            mine = SubmissionRow.id == submission.id
            if TranscriptState.CANCELLED in states or len(states) < len(ids):
                session.execute(update(SubmissionRow).where(mine).values(state=SubmissionState.ACCEPTED))
                return True
            self._unlink(session, submission.id)
            session.add_all(
                SubmissionTranscriptRow(
                    submission_id=submission.id,
                    channel=channel,
                    transcript_id=transcript,
                    speaker=dict(enumerate(submission.speakers, start=1)).get(channel),
                )
                for channel, transcript in links
            )
            session.flush()
            if session.scalar(select(SubmissionRow.paused).where(mine)):
                pause_unwanted(session, submission.id)
            else:
                session.execute(update(TranscriptRow).where(TranscriptRow.id.in_(ids)).values(paused=False))
            note(session, [submission.id])
            index_shown(session, ids)
            return True

    def published(self, submission: Submission, state: SubmissionState) -> bool:
        """It is published, and that is its end. False if the claim is void."""
        with self._transaction() as session:
            end = {"state": state, "settled": None, "error": None, "ended_at": database_clock()}
            if not self._held(session, submission, **end, **FREE):
                return False
            note(session, [submission.id])
            return True

    def failed(self, submission: Submission, error: str) -> bool:
        """It cannot be done; one whose gaps were tried again is as it was before. False if the claim is void."""
        with self._transaction() as session:
            if not self._held(session, submission, **ended_without(SubmissionState.FAILED), error=error):
                return False
            note(session, [submission.id])
            abandon(session, submission.id)
            index_shown(session, session.scalars(transcripts_of(submission.id)))
            return True

    def postponed(self, submission: Submission, error: str, seconds: float, *, counts: bool = False) -> bool:
        """It failed, and is tried again in so many seconds. False if the claim is void.

        Args:
            counts: as one of the times that a stage may be begun; else it is waited for what did not answer.
        """
        return self._end(
            submission,
            state=BEFORE[submission.state],
            error=error,
            not_before=database_clock() + seconds,
            attempt=SubmissionRow.attempt - (0 if counts else 1),
            **FREE,
        )

    def _end(self, submission: Submission, **changes: Any) -> bool:
        with self._transaction() as session:
            return self._held(session, submission, **changes)

    @staticmethod
    def _held(session: Session, submission: Submission, **changes: Any) -> bool:
        """Change it as long as its claim is good."""
        changed = session.execute(
            update(SubmissionRow)
            .where(
                SubmissionRow.id == submission.id,
                SubmissionRow.fence == submission.fence,
                SubmissionRow.state == submission.state,
            )
            .values(**changes)
            .returning(SubmissionRow.id)
            .execution_options(synchronize_session=False)
        )
        return bool(changed.all())

    # Whoever handed it in

    def cancel(self, id: int) -> bool:
        """Give it up: nothing of it is begun any more. False where it has ended already."""
        with self._transaction() as session:
            self._row(session, id)
            given_up = session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == id, SubmissionRow.state.not_in(ENDED))
                .values(**ended_without(SubmissionState.CANCELLED))
                .returning(SubmissionRow.id)
                .execution_options(synchronize_session=False)
            ).all()
            if given_up:
                note(session, [id])
                abandon(session, id)
                index_shown(session, session.scalars(transcripts_of(id)))
            return bool(given_up)

    def pause(self, id: int) -> bool:
        """Begin nothing more of it until it is resumed. False where it has ended."""
        with self._transaction() as session:
            if not self._set_paused(session, id, paused=True):
                return False
            pause_unwanted(session, id)
            return True

    def resume(self, id: int) -> bool:
        """Go on with what was paused. False where it has ended."""
        with self._transaction() as session:
            if not self._set_paused(session, id, paused=False):
                return False
            session.execute(update(TranscriptRow).where(TranscriptRow.id.in_(transcripts_of(id))).values(paused=False))
            return True

    def retry(self, id: int) -> bool:
        """Do again what failed or was cancelled, or the gaps of what has some. False where it is none of these."""
        with self._transaction() as session:
            return self._retry(session, id)

    def _retry(self, session: Session, id: int) -> bool:
        self._row(session, id)
        has_gaps = SubmissionRow.state == SubmissionState.COMPLETED_WITH_GAPS
        again = session.execute(
            update(SubmissionRow)
            .where(SubmissionRow.id == id, SubmissionRow.state.in_(RETRYABLE))
            .values(
                state=SubmissionState.ACCEPTED,
                paused=False,  # it may have been given up while it was
                settled=case((has_gaps, SubmissionRow.state), else_=null()),
                attempt=0,
                error=None,
                ended_at=None,
                not_before=None,
                **FREE,
            )
            .returning(SubmissionRow.settled)
            .execution_options(synchronize_session=False)
        ).all()
        if again:
            note(session, [id])
        if again == [(None,)]:  # what it waited for was given up
            self._unlink(session, id)
        return bool(again)

    def _set_paused(self, session: Session, id: int, *, paused: bool) -> bool:
        self._row(session, id)
        changed = session.execute(
            update(SubmissionRow)
            .where(SubmissionRow.id == id, SubmissionRow.state.not_in(ENDED))
            .values(paused=paused, hinted_at=None)
            .returning(SubmissionRow.id)
            .execution_options(synchronize_session=False)
        )
        return bool(changed.all())

    @staticmethod
    def _unlink(session: Session, id: int) -> None:
        """It waits for no transcript."""
        session.execute(delete(SubmissionTranscriptRow).where(SubmissionTranscriptRow.submission_id == id))

    # What is missing, or for nobody

    def lost(self, transcript: int) -> list[int]:
        """Its samples are gone: none of its chunks goes until the files of who waits for it are ingested again.

        Returns their ids.
        """
        with self._transaction() as session:
            waiting = session.scalars(
                select(SubmissionRow.id)
                .join(SubmissionTranscriptRow, SubmissionTranscriptRow.submission_id == SubmissionRow.id)
                .where(
                    SubmissionTranscriptRow.transcript_id == transcript,
                    SubmissionRow.state == SubmissionState.TRANSCRIBING,
                )
                .order_by(SubmissionRow.id)
                .distinct()
            ).all()
            again = session.scalars(
                update(SubmissionRow)
                .where(SubmissionRow.id.in_(waiting), SubmissionRow.state == SubmissionState.TRANSCRIBING)
                .values(
                    state=SubmissionState.ACCEPTED,
                    attempt=0,
                    error="its samples are gone from the object store: its file is decoded again",
                    not_before=None,
                    **FREE,
                )
                .returning(SubmissionRow.id)
                .execution_options(synchronize_session=False)
            ).all()
            open_still = session.scalar(
                select(TranscriptRow.id)
                .where(TranscriptRow.id == transcript, TranscriptRow.state == TranscriptState.TRANSCRIBING)
                .with_for_update(key_share=True)
            )
            if open_still is not None:
                hold(session, transcript, paused=True, elector=None, lease_until=None)
            return sorted(again)

    def give_up(self, transcripts: Iterable[int]) -> list[int]:
        """Give up those of these transcripts that nobody waits for; which ones."""
        with self._transaction() as session:
            return give_up(session, transcripts)

    # Rows

    @staticmethod
    def _row(session: Session, id: int) -> SubmissionRow:
        row = session.get(SubmissionRow, id)
        if row is None:
            raise Missing(f"there is no submission {id}; `stenopool status` lists them")
        return row

    @staticmethod
    def _submission(session: Session, row: SubmissionRow) -> Submission:
        session.refresh(row)  # what the database's own clock gave
        [found] = Desk.read(session, [row])
        return found

    @staticmethod
    def read(session: Session, rows: Sequence[SubmissionRow]) -> list[Submission]:
        """Submissions of their rows, with what they wait for, in their order."""
        waited: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
        for id, *rest in session.execute(_WAITED_FOR, {"ids": [row.id for row in rows]}):
            channel, transcript, total, left = rest
            waited[id].append((channel, transcript, total, left))
        return [submission_from(row, waited[row.id]) for row in rows]


#: What submissions wait for. Put together once: it is asked for with each that is looked at.
_WAITED_FOR = (
    select(
        SubmissionTranscriptRow.submission_id,
        SubmissionTranscriptRow.channel,
        TranscriptRow.id,
        TranscriptRow.chunks_total,
        TranscriptRow.chunks_open,
    )
    .join(TranscriptRow, TranscriptRow.id == SubmissionTranscriptRow.transcript_id)
    .where(SubmissionTranscriptRow.submission_id.in_(bindparam("ids", expanding=True)))
    .order_by(SubmissionTranscriptRow.submission_id, SubmissionTranscriptRow.channel)
)

#: What a submission has as its row has it.
_KEPT = tuple(name for name in Submission.__dataclass_fields__ if hasattr(SubmissionRow, name))


def submission_from(row: SubmissionRow, transcripts: Sequence[tuple[int, int, int, int]]) -> Submission:
    """A submission from its row, and of its transcripts: channel, id, chunks in all and open ones."""
    kept = {name: getattr(row, name) for name in _KEPT}
    counted = {
        "transcripts": tuple((channel, id) for channel, id, _, _ in transcripts),
        "chunks_total": sum(total for _, _, total, _ in transcripts),
        "chunks_open": sum(left for _, _, _, left in transcripts),
    }
    typed = {
        "lane": Lane(row.lane),
        "state": SubmissionState(row.state),
        "settled": None if row.settled is None else SubmissionState(row.settled),
        "metadata": row.metadata_,
        "speakers": tuple(row.speakers or ()),
        "formats": tuple(row.formats or ()),
    }
    return Submission(**{**kept, **typed, **counted})


#: What makes two orders the same work; who goes first, and what it is called, does not.
_SAME = ("source", "model", "options", "split", "again")


def _check_same(row: SubmissionRow, order: Order) -> None:
    """Raises KeyTaken where an order has the key of a submission that is other work."""
    wanted = json.loads(json.dumps({name: asdict(order)[name] for name in _SAME}))  # as the row has it: no tuples
    if other := [name for name in _SAME if getattr(row, name) != wanted[name]]:
        raise KeyTaken(
            f"{order.name}: its key {order.idempotency_key!r} is that of submission {row.id}, {row.name}, which has "
            f"another {' and another '.join(other)}; give it another key"
        )
