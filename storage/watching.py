"""Watch-lists: phrases of which a tenant wants to hear when somebody says them.

They are compared word by word as search does (stenopool/wording.py), across the borders of segments, and looked for in
the transaction in which a transcript is shown for the first time: what was heard is kept there, and told through the
outbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, aliased

from stenopool.domain import Segment
from stenopool.errors import Missing, UsageError
from stenopool.timing import span_of
from stenopool.wording import Spoken, find_phrase, words_of
from storage.database import database_clock
from storage.outbox import note_heard
from storage.records import segments_of
from storage.tables import (
    ENDED,
    PUBLISHED,
    PassageRow,
    SubmissionRow,
    SubmissionTranscriptRow,
    TranscriptRow,
    WatchHitRow,
    WatchRow,
)
from storage.transactions import Transactions

#: Words of a phrase.
LONGEST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A phrase that is watched."""

    id: int
    tenant: str
    phrase: str
    #: Seconds since 1970, by the database's clock.
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a phrase is in a transcript."""

    #: Its first word, from 0.
    place: int
    #: Samples.
    start: int
    end: int
    #: With the segments around.
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchHit:
    """Where a phrase was heard."""

    watch: int
    phrase: str
    tenant: str
    transcript: int
    #: Samples.
    start: int
    end: int
    #: With the segments around.
    text: str
    #: Seconds since 1970, by the database's clock.
    at: float


def find_in(segments: Sequence[Segment], phrases: Sequence[Sequence[str]]) -> list[list[Found]]:
    """Where each of the phrases, which are words as they are compared, was said. Pure."""
    places: list[tuple[int, Spoken]] = [
        (at, spoken) for at, segment in enumerate(segments) for spoken in words_of(segment.text)
    ]
    words = [spoken.word for _, spoken in places]
    there = set(words)
    return [
        [_found(segments, places, at, len(phrase)) for at in find_phrase(words, phrase)]
        if there.issuperset(phrase)
        else []
        for phrase in phrases
    ]


def without_text(hits: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Where it was heard, of an event's detail: not what was said around it."""
    return [{name: value for name, value in hit.items() if name != "text"} for hit in hits]


def _found(segments: Sequence[Segment], places: Sequence[tuple[int, Spoken]], at: int, n: int) -> Found:
    (first, begins), (last, ends) = places[at], places[at + n - 1]
    start = span_of(segments[first], begins.start, begins.end).start
    end = span_of(segments[last], ends.start, ends.end).end
    around = " ".join(segment.text.strip() for segment in segments[max(0, first - 1) : last + 2])
    return Found(place=at, start=start, end=max(start, end), text=around.replace("\x00", " "))


def raise_watches(session: Session, row: TranscriptRow, only: int | None = None) -> int:
    """Keep and tell what a transcript has of its tenant's phrases, or of one; returns how many places there are.

    What was raised of it before is not raised again.
    """
    chosen = () if only is None else (WatchRow.id == only,)
    watches = session.scalars(
        select(WatchRow).where(WatchRow.tenant == row.tenant, *chosen).order_by(WatchRow.id)
    ).all()
    if not watches or not row.document:
        return 0
    known = set(session.scalars(select(WatchHitRow.watch_id).where(WatchHitRow.transcript_id == row.id).distinct()))
    new = [watch for watch in watches if watch.id not in known]
    segments = segments_of(row.document)
    n = 0
    for watch, found in zip(new, find_in(segments, [watch.words.split() for watch in new]), strict=True):
        n += len(found)
        session.add_all(
            WatchHitRow(watch_id=watch.id, transcript_id=row.id, at=database_clock(), **asdict(one)) for one in found
        )
        if found:
            hits = [{"start": one.start, "end": one.end, "text": one.text} for one in found]
            detail = {"watch": watch.id, "phrase": watch.phrase, "transcript": row.id, "hits": hits}
            for submission in _who_has(session, row):
                note_heard(session, submission, detail)
    session.flush()
    return n


def _who_has(session: Session, row: TranscriptRow) -> Sequence[SubmissionRow]:
    version = aliased(TranscriptRow)
    mine = (
        select(SubmissionTranscriptRow.submission_id)
        .join(version, version.id == SubmissionTranscriptRow.transcript_id)
        .where(
            version.tenant == row.tenant,
            version.recording_id == row.recording_id,
            version.work_digest == row.work_digest,
        )
    )
    state = func.coalesce(SubmissionRow.settled, SubmissionRow.state)
    return session.scalars(
        select(SubmissionRow)
        .where(SubmissionRow.id.in_(mine), state.not_in([one for one in ENDED if one not in PUBLISHED]))
        .order_by(SubmissionRow.id)
    ).all()


class Watching(Transactions):
    """The phrases, and where they were heard."""

    def add(self, tenant: str, phrase: str) -> Watch:
        """Watch a phrase; one that is watched already, in whatever spelling, is that one.

        Raises:
            UsageError: it has no word, or too many.
        """
        words = [spoken.word for spoken in words_of(phrase)]
        if not 0 < len(words) <= LONGEST:
            raise UsageError(f"{phrase!r}: a phrase has from 1 to {LONGEST} words, this one has {len(words)}")
        joined = " ".join(words)
        with self._transaction() as session:
            self._alone(session, f"watch {tenant}")
            row = session.scalar(select(WatchRow).where(WatchRow.tenant == tenant, WatchRow.words == joined))
            if row is None:
                row = WatchRow(tenant=tenant, phrase=phrase.strip(), words=joined, created_at=database_clock())
                session.add(row)
                session.flush()
                session.refresh(row)
            return _watch(row)

    def watches(self, tenant: str | None = None) -> list[Watch]:
        """Those of a tenant, or all, the oldest first."""
        mine = () if tenant is None else (WatchRow.tenant == tenant,)
        with self._transaction() as session:
            return [_watch(row) for row in session.scalars(select(WatchRow).where(*mine).order_by(WatchRow.id))]

    def watch(self, id: int) -> Watch:
        """One of them. Raises Missing where there is none."""
        with self._transaction() as session:
            row = session.get(WatchRow, id)
            if row is None:
                raise Missing(f"there is no watched phrase {id}; `stenopool watchlist list` has them")
            return _watch(row)

    def remove(self, id: int) -> None:
        """Watch it no more; where it was heard is forgotten. Raises Missing where there is none."""
        with self._transaction() as session:
            if not session.execute(delete(WatchRow).where(WatchRow.id == id).returning(WatchRow.id)).all():
                raise Missing(f"there is no watched phrase {id}; `stenopool watchlist list` has them")

    def hits(self, *, tenant: str | None = None, watch: int | None = None, limit: int = 100) -> list[WatchHit]:
        """Where phrases were heard, the last one first."""
        chosen = [WatchRow.tenant == tenant] if tenant is not None else []
        chosen += [WatchRow.id == watch] if watch is not None else []
        with self._transaction() as session:
            rows = session.execute(
                select(WatchHitRow, WatchRow)
                .join(WatchRow, WatchRow.id == WatchHitRow.watch_id)
                .where(*chosen)
                .order_by(WatchHitRow.at.desc(), WatchHitRow.transcript_id.desc(), WatchHitRow.place)
                .limit(limit)
            )
            return [
                WatchHit(
                    watch=watch.id,
                    phrase=watch.phrase,
                    tenant=watch.tenant,
                    transcript=hit.transcript_id,
                    start=hit.start,
                    end=hit.end,
                    text=hit.text,
                    at=hit.at,
                )
                for hit, watch in rows
            ]

    def backfill(self, id: int) -> Iterator[int]:
        """Look for a phrase in all that is shown; yields, for each transcript, in how many places it was heard anew."""
        with self._transaction() as session:
            tenant = session.get_one(WatchRow, id).tenant
        after = 0
        while True:
            with self._transaction() as session:
                transcript = session.scalar(
                    select(func.min(PassageRow.transcript_id)).where(
                        PassageRow.transcript_id > after, PassageRow.tenant == tenant
                    )
                )
                if transcript is None:
                    return
                self._alone(session, f"watch {tenant}")
                n = raise_watches(session, session.get_one(TranscriptRow, transcript), only=id)
            after = transcript
            yield n


def _watch(row: WatchRow) -> Watch:
    return Watch(id=row.id, tenant=row.tenant, phrase=row.phrase, created_at=row.created_at)
