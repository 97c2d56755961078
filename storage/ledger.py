"""The ledger: what is to be done, who does it, what is done. Every transition is one guarded UPDATE, here.

    chunk       waiting ──► ready ──► leased ──► done
                              ▲─────────┘  released, or the lease ran out
    transcript  transcribing ──► merging ──► completed | completed_with_gaps | completed_empty
                     └─► cancelled: nobody wants it any more

A chunk waits for its recording's language; in a sequential transcript also for the chunk before it, which tells it what
was heard. A claim raises the chunk's fence; a result counts only under the fence it was claimed with, so a worker that
was taken for dead can come back late without harm. The transcript's counter of open chunks falls in the transaction
that finishes a chunk; whoever finds it at zero may begin the merge, and only one can.

Work that is done again is another version of the same transcript, under the next number. All versions are kept; the
newest that is complete is shown, unless it had more gaps than the one that was shown then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, delete, func, insert, literal, null, or_, select, true, update
from sqlalchemy.orm import Session

from stenopool.domain import Chunk, Span
from stenopool.errors import LedgerError
from storage.chunks import Chunks
from storage.conditions import SHOWABLE, lapsed, same_work
from storage.database import database_clock
from storage.keeping import pcm_kept
from storage.keys import pcm_key
from storage.records import gap_samples
from storage.search_index import index_shown
from storage.tables import (
    COMPLETED,
    MAKING,
    ChunkRow,
    ChunkState,
    RecordingRow,
    SilenceRow,
    SourceRow,
    TranscriptRow,
    TranscriptState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One channel of a file (or its mix), as it was decoded before."""

    channel: int
    recording: str
    duration: int
    ended_early: str | None
    damaged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A transcript as the ledger has it."""

    id: int
    recording: str
    duration: int
    #: Its number among the versions of the same work, from 1.
    version: int
    state: TranscriptState
    provenance: dict[str, Any]
    language: str | None
    language_probability: float | None
    chunks_total: int
    chunks_open: int
    sequential: bool
    document: dict[str, Any] | None
    #: It has more gaps than the version that is shown instead.
    withheld: bool

    @property
    def complete(self) -> bool:
        """It has a document, and nothing more will happen to it."""
        return self.state in COMPLETED


@dataclass(frozen=True, slots=True)
class Parts:
    """What a transcript is merged of."""

    work: Work
    #: What was heard in the chunks that are done, in order.
    results: list[dict[str, Any]]
    #: The spans that the plan left out, in order, with their score.
    silences: list[tuple[Span, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """Where a farm's transcript stands in the queue."""

    tenant: str
    #: Which engines can decode it.
    engine_key: str
    lane: int
    priority: int = 0
    deadline_at: float | None = None


class Ledger(Chunks):
    """Queries and transitions of recordings, transcripts and chunks."""

    # Recordings and where they came from

    def sources(self, file_sha256: str, *, split: bool) -> list[Source]:
        """The recordings that a file was decoded to: all of its channels or its mix; empty if it never was, whole."""
        wanted = SourceRow.channel > 0 if split else SourceRow.channel == 0
        with self._transaction() as session:
            rows = session.execute(
                select(SourceRow, RecordingRow.duration)
                .join(RecordingRow, RecordingRow.id == SourceRow.recording_id)
                .where(SourceRow.file_sha256 == file_sha256, wanted)
                .order_by(SourceRow.channel)
            ).all()
            if not rows or len(rows) != rows[0][0].channels:
                return []
            return [
                Source(
                    channel=row.channel,
                    recording=row.recording_id,
                    duration=duration,
                    ended_early=row.ended_early,
                    damaged=row.damaged,
                )
                for row, duration in rows
            ]

    def add_sources(self, file_sha256: str, sources: Sequence[Source]) -> None:
        """Keep what a file was decoded to: all of its channels or its mix, in one transaction."""
        split = any(source.channel > 0 for source in sources)
        with self._transaction() as session:
            self._alone(session, file_sha256, *(pcm_key(source.recording) for source in sources))
            # Another release of the decoder may have found other channels: rows of both are never a whole file.
            session.execute(
                delete(SourceRow).where(
                    SourceRow.file_sha256 == file_sha256,
                    SourceRow.channel > 0 if split else SourceRow.channel == 0,
                )
            )
            for source in sources:
                if session.get(RecordingRow, source.recording) is None:
                    session.add(
                        RecordingRow(id=source.recording, duration=source.duration, created_at=database_clock())
                    )
                    session.flush()
                session.add(
                    SourceRow(
                        file_sha256=file_sha256,
                        channel=source.channel,
                        channels=len(sources),
                        recording_id=source.recording,
                        ended_early=source.ended_early,
                        damaged=source.damaged,
                    )
                )

    def call(self, recording: str, name: str) -> None:
        """On one machine, what people call a recording: the file that it was decoded from."""
        with self._transaction() as session:
            session.execute(
                update(RecordingRow)
                .where(RecordingRow.id == recording, RecordingRow.name.is_distinct_from(name))
                .values(name=name)
            )

    # Transcripts

    def latest(self, recording: str, work_digest: str, tenant: str = "") -> Work | None:
        """The transcript of a recording by that model with those options: the one being made, else the one shown."""
        with self._transaction() as session:
            row = self._latest(session, same_work(tenant, recording, work_digest))
            return None if row is None else self._work(session, row)

    def work(self, transcript: int) -> Work:
        """One transcript. Raises LedgerError where there is none."""
        with self._transaction() as session:
            return self._work(session, self._row(session, transcript))

    def plan(
        self,
        recording: str,
        work_digest: str,
        *,
        provenance: Mapping[str, Any],
        language: str | None,
        chunks: Iterable[Chunk],
        silences: Iterable[tuple[Span, float]],
        sequential: bool = False,
        again: bool = False,
        queued: Queued | None = None,
    ) -> Work:
        """Begin a transcript: its chunks, ready if the language is known, and its silences.

        In a `sequential` one only the first chunk is ready then, and each of the others once the one before it is done.
        One that is `queued` has its chunks made ready by the dispatcher, as far as there is room for them.
        Where it has been begun, that one is returned; unless it is complete and to be done `again`, or was cancelled:
        then this is the next version.
        """
        with self._transaction() as session:
            self._alone(session, pcm_key(recording))
            work = same_work(queued.tenant if queued else "", recording, work_digest)
            latest = self._latest(session, work)
            if latest is not None and not (again and latest.state in COMPLETED):
                return self._work(session, latest)
            planned = list(chunks)
            row = TranscriptRow(
                recording_id=recording,
                work_digest=work_digest,
                generation=self._next_generation(session, work),
                provenance=dict(provenance),
                state=TranscriptState.TRANSCRIBING,
                sequential=sequential,
                language=language,
                chunks_total=len(planned),
                chunks_open=len(planned),
                created_at=database_clock(),
                **(asdict(queued) if queued else {}),
            )
            if queued:  # a sequential one has the others made ready one by one as they are finished
                row.chunks_waiting = min(len(planned), 1) if sequential else len(planned)
            session.add(row)
            session.flush()
            session.add_all(
                ChunkRow(
                    transcript_id=row.id,
                    index=chunk.index,
                    start=chunk.span.start,
                    end=chunk.span.end,
                    speech=None if chunk.speech is None else [[run.start, run.end] for run in chunk.speech],
                    state=ChunkState.WAITING,
                    **({"engine_key": queued.engine_key, "lane": queued.lane} if queued else {}),
                )
                for chunk in planned
            )
            session.add_all(
                SilenceRow(transcript_id=row.id, start=span.start, end=span.end, score=score)
                for span, score in silences
            )
            session.flush()
            if language is not None and queued is None:
                self._let_go(session, row.id, sequential=sequential)
            return self._work(session, row)

    def spans(self, transcript: int) -> list[Span]:
        """The chunks' spans, in order."""
        with self._transaction() as session:
            rows = session.execute(
                select(ChunkRow.start, ChunkRow.end)
                .where(ChunkRow.transcript_id == transcript)
                .order_by(ChunkRow.index)
            )
            return [Span(start, end) for start, end in rows]

    def open_spans(self, transcript: int) -> list[Span]:
        """The spans of the chunks that are not done."""
        with self._transaction() as session:
            rows = session.execute(
                select(ChunkRow.start, ChunkRow.end).where(
                    ChunkRow.transcript_id == transcript, ChunkRow.state != ChunkState.DONE
                )
            )
            return [Span(start, end) for start, end in rows]

    def set_language(self, transcript: int, language: str, probability: float) -> None:
        """Decide a transcript's language, once; its chunks may go now. A second decision has no effect."""
        with self._transaction() as session:
            decided = session.execute(
                update(TranscriptRow)
                .where(TranscriptRow.id == transcript, TranscriptRow.language.is_(None))
                .values(language=language, language_probability=probability, elector=None, lease_until=None)
                .returning(TranscriptRow.sequential, TranscriptRow.lane)
            ).all()
            for sequential, lane in decided:
                if lane is None:
                    self._let_go(session, transcript, sequential=sequential)

    def begin_election(self, transcript: int, worker: str) -> bool:
        """Take on to detect a transcript's language; False where it is known, or somebody else has."""
        with self._transaction() as session:
            taken = session.execute(
                update(TranscriptRow)
                .where(
                    TranscriptRow.id == transcript,
                    TranscriptRow.language.is_(None),
                    TranscriptRow.state == TranscriptState.TRANSCRIBING,
                    lapsed(TranscriptRow),
                )
                .values(elector=worker, lease_until=database_clock() + self.lease)
                .returning(TranscriptRow.id)
                .execution_options(synchronize_session=False)
            )
            return bool(taken.all())

    @staticmethod
    def _let_go(session: Session, transcript: int, *, sequential: bool) -> None:
        """The language is known: what waited for nothing else is ready."""
        first = (ChunkRow.index == 0,) if sequential else ()
        session.execute(
            update(ChunkRow)
            .where(ChunkRow.transcript_id == transcript, ChunkRow.state == ChunkState.WAITING, *first)
            .values(state=ChunkState.READY)
        )

    def parts(self, transcript: int) -> Parts:
        """What a transcript is merged of, read at once. Raises LedgerError where there is none."""
        with self._transaction() as session:
            work = self._work(session, self._row(session, transcript))
            results = session.scalars(
                select(ChunkRow.result)
                .where(ChunkRow.transcript_id == transcript, ChunkRow.state == ChunkState.DONE)
                .order_by(ChunkRow.index)
            )
            silences = session.execute(
                select(SilenceRow.start, SilenceRow.end, SilenceRow.score)
                .where(SilenceRow.transcript_id == transcript)
                .order_by(SilenceRow.start)
            )
            return Parts(
                work,
                [result for result in results if result is not None],
                [(Span(start, end), score) for start, end, score in silences],
            )

    # Merging

    def without_open_chunks(self, transcripts: Iterable[int]) -> list[int]:
        """Those of the transcripts whose chunks are all done."""
        with self._transaction() as session:
            rows = session.scalars(
                select(TranscriptRow.id).where(TranscriptRow.id.in_(list(transcripts)), TranscriptRow.chunks_open == 0)
            )
            return list(rows)

    def begin_merge(self, transcript: int) -> int | None:
        """Take the merge of a transcript without open chunks; returns its fence, None if it is not to be merged.

        A merge that was begun and did not end in time is taken over: merging is pure, and only the last fence can end
        it. On one machine it is at once, as who began it may be dead.
        """
        with self._transaction() as session:
            return session.execute(
                update(TranscriptRow)
                .where(
                    TranscriptRow.id == transcript,
                    TranscriptRow.chunks_open == 0,
                    TranscriptRow.state.in_([TranscriptState.TRANSCRIBING, TranscriptState.MERGING]),
                    lapsed(TranscriptRow) | TranscriptRow.lane.is_(None),
                )
                .values(
                    state=TranscriptState.MERGING,
                    fence=TranscriptRow.fence + 1,
                    lease_until=database_clock() + self.lease,
                )
                .returning(TranscriptRow.fence)
                .execution_options(synchronize_session=False)
            ).scalar()

    def complete(self, transcript: int, fence: int, state: TranscriptState, document: Mapping[str, Any]) -> bool:
        """End a merge; False if another took it over.

        It is shown from now on, unless it has more gaps than what is shown: then it is `withheld`.
        """
        with self._transaction() as session:
            withheld = state == TranscriptState.COMPLETED_WITH_GAPS and self._is_worse(session, transcript, document)
            won = session.execute(
                update(TranscriptRow)
                .where(
                    TranscriptRow.id == transcript,
                    TranscriptRow.fence == fence,
                    TranscriptRow.state == TranscriptState.MERGING,
                )
                .values(state=state, document=dict(document), withheld=withheld, completed_at=database_clock())
                .returning(TranscriptRow.id)
                .execution_options(synchronize_session=False)
            ).all()
            if won:
                index_shown(session, [transcript])
            return bool(won)

    # Versions

    def shown(self, transcript: int) -> Work | None:
        """The version of a transcript that people get: complete, and with no more gaps than those before it."""
        with self._transaction() as session:
            row = self._row(session, transcript)
            shown = self._shown(session, same_work(row.tenant, row.recording_id, row.work_digest))
            return None if shown is None else self._work(session, shown)

    def versions(self, transcript: int) -> list[Work]:
        """All versions of a transcript, the first one first; also those that were given up."""
        with self._transaction() as session:
            row = self._row(session, transcript)
            rows = session.scalars(
                select(TranscriptRow)
                .where(same_work(row.tenant, row.recording_id, row.work_digest))
                .order_by(TranscriptRow.generation)
            )
            return [self._work(session, one) for one in rows]

    def mend(self, transcript: int, queued: Queued) -> Work:
        """Begin a version of a transcript in which only the gaps of the one that is shown are transcribed.

        All else is taken over as it is. Each gap's chunk is told what it was told then; it waits for nothing. Where
        what was heard is no longer kept, all of it is transcribed. Where a version is being made already, or there are
        no gaps, that one is returned.
        """
        with self._transaction() as session:
            given = self._row(session, transcript)
            self._alone(session, pcm_key(given.recording_id))
            work = same_work(given.tenant, given.recording_id, given.work_digest)
            old = self._latest(session, work)
            if old is None:
                raise LedgerError(f"transcript {transcript} is not complete in any version: submit it again")
            if old.state != TranscriptState.COMPLETED_WITH_GAPS:
                return self._work(session, old)
            anew = true() if old.forgotten else ChunkRow.result["failed"].as_string().is_not(None)
            row = self._next_version(session, old, queued, anew)
            return self._work(session, row)

    @classmethod
    def _next_version(
        cls, session: Session, old: TranscriptRow, queued: Queued, anew: ColumnElement[bool]
    ) -> TranscriptRow:
        """A version in which those chunks are transcribed again, and all else is taken over as it is."""
        row = TranscriptRow(
            recording_id=old.recording_id,
            work_digest=old.work_digest,
            generation=cls._next_generation(session, same_work(old.tenant, old.recording_id, old.work_digest)),
            provenance=old.provenance,
            state=TranscriptState.TRANSCRIBING,
            sequential=old.sequential and old.forgotten,
            language=old.language,
            language_probability=old.language_probability,
            chunks_total=old.chunks_total,
            chunks_open=0,
            created_at=database_clock(),
            **asdict(queued),
        )
        session.add(row)
        session.flush()
        session.execute(
            insert(SilenceRow).from_select(
                ["transcript_id", "start", "end", "score"],
                select(literal(row.id), SilenceRow.start, SilenceRow.end, SilenceRow.score).where(
                    SilenceRow.transcript_id == old.id
                ),
            )
        )
        chunk: dict[str, Any] = {
            "transcript_id": literal(row.id),
            "state": case((anew, ChunkState.WAITING.value), else_=ChunkState.DONE.value),
            "result": case((anew, null()), else_=ChunkRow.result),
            "engine_key": literal(queued.engine_key),
            "lane": literal(int(queued.lane)),
            **{name: getattr(ChunkRow, name) for name in ("index", "start", "end", "speech", "carried")},
        }
        session.execute(
            insert(ChunkRow).from_select(list(chunk), select(*chunk.values()).where(ChunkRow.transcript_id == old.id))
        )
        gaps = session.scalar(
            select(func.count())
            .select_from(ChunkRow)
            .where(ChunkRow.transcript_id == row.id, ChunkRow.state == ChunkState.WAITING)
        )
        row.chunks_open = gaps or 0
        row.chunks_waiting = min(1, row.chunks_open) if row.sequential else row.chunks_open
        session.flush()
        return row

    # Samples

    def unless_needed(self, recording: str, remove: Callable[[], None], *, sound: float = 0.0) -> None:
        """Remove a recording's samples if no transcript of it is being made, and nobody has them kept.

        Inside the transaction: nobody can begin a transcript between the look and the removal.

        Args:
            sound: seconds that they are kept to be listened to, where their tenant has set nothing.
        """
        with self._transaction() as session:
            self._alone(session, pcm_key(recording))
            if session.scalars(pcm_kept([recording], sound)).first() is None:
                remove()

    def while_needed(self, recording: str, put: Callable[[], None], *, sound: float) -> None:
        """Put what is made of a recording's samples, unless they are to be removed by now: then it would outlive them.

        Inside the transaction: who deletes the recording comes before it, or finds what was put.
        """
        with self._transaction() as session:
            self._alone(session, pcm_key(recording))
            if session.scalars(pcm_kept([recording], sound)).first() is not None:
                put()

    @staticmethod
    def _latest(session: Session, work: ColumnElement[bool]) -> TranscriptRow | None:
        """The version that is being made, else the one that is shown."""
        return session.scalar(
            select(TranscriptRow)
            .where(work, or_(TranscriptRow.state.in_(MAKING), SHOWABLE))
            .order_by(case((TranscriptRow.state.in_(MAKING), 0), else_=1), TranscriptRow.generation.desc())
            .limit(1)
        )

    @staticmethod
    def _shown(session: Session, work: ColumnElement[bool]) -> TranscriptRow | None:
        return session.scalar(
            select(TranscriptRow).where(work, SHOWABLE).order_by(TranscriptRow.generation.desc()).limit(1)
        )

    @staticmethod
    def _next_generation(session: Session, work: ColumnElement[bool]) -> int:
        return (session.scalar(select(func.max(TranscriptRow.generation)).where(work)) or 0) + 1

    @staticmethod
    def _row(session: Session, transcript: int) -> TranscriptRow:
        row = session.get(TranscriptRow, transcript)
        if row is None:
            raise LedgerError(f"the ledger has no transcript {transcript}")
        return row

    def _is_worse(self, session: Session, transcript: int, document: Mapping[str, Any]) -> bool:
        """Whether it has more gaps than the version that is shown."""
        row = self._row(session, transcript)
        self._alone(session, pcm_key(row.recording_id))
        shown = self._shown(session, same_work(row.tenant, row.recording_id, row.work_digest))
        return shown is not None and gap_samples(document) > gap_samples(shown.document or {})

    @staticmethod
    def _work(session: Session, row: TranscriptRow) -> Work:
        duration = session.scalar(select(RecordingRow.duration).where(RecordingRow.id == row.recording_id))
        return Work(
            id=row.id,
            recording=row.recording_id,
            duration=duration or 0,
            version=row.generation,
            state=TranscriptState(row.state),
            provenance=row.provenance,
            language=row.language,
            language_probability=row.language_probability,
            chunks_total=row.chunks_total,
            chunks_open=row.chunks_open,
            sequential=row.sequential,
            document=row.document,
            withheld=row.withheld,
        )
