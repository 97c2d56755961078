"""Needs: which objects of the store some row needs, and which rows need an object.

    sources       while a submission of the file is open, and for a time after one has ended that can be done again;
                  while a campaign is to hand it in
    pcm           while a transcript of the recording is being made, and for a time after, to be listened to; where its
                  file was fetched from elsewhere, also while its gaps can be tried again, as the same bytes may not be
                  had twice
    waveforms     as the samples that they are drawn of
    publisher     as long as the submission whose feed names it is there
    transcripts   every version that a submission has published, or may publish yet; redacted and maps as well

and all of it for as long as its tenant has it kept, or as it is held (`storage/keeping.py`).

An object is put before the row that needs it; it is removed only inside a transaction that finds no such row, and in
which none can be made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, Select, or_, select
from sqlalchemy.orm import Session, aliased

from storage.campaign_tables import CampaignItemRow, CampaignRow, CampaignState
from storage.database import database_clock
from storage.keeping import pcm_kept, source_kept
from storage.keeping_tables import HoldRow
from storage.keys import FILES, PCM, PUBLISHER, SOURCES, WAVEFORMS, read_publisher_key, read_transcript_key
from storage.publisher_tables import PublisherTranscriptRow
from storage.tables import (
    COMPLETED,
    ENDED,
    GONE,
    PUBLISHED,
    RecordingRow,
    SubmissionRow,
    SubmissionState,
    SubmissionTranscriptRow,
    TranscriptRow,
    TranscriptState,
)
from storage.transactions import Transactions


@dataclass(frozen=True, slots=True)
class Samples:
    """A recording whose samples are needed."""

    transcript: int
    recording: str
    duration: int


class Needs(Transactions):
    """What the collector asks.

    Args:
        keep: seconds that a file is kept after a submission of it has ended that can be done again, where its tenant
            has set nothing.
        sound: seconds that samples are kept to be listened to, where their tenant has set nothing.
    """

    def __init__(self, engine: Engine, *, keep: float, sound: float = 0.0) -> None:
        super().__init__(engine)
        self._keep = keep
        self._sound = sound

    # Objects without rows

    def needed(self, keys: Collection[str]) -> set[str]:
        """Those of these keys that some row needs."""
        with self._transaction() as session:
            return self._needed(session, keys)

    def unless_needed(self, key: str, remove: Callable[[], None]) -> bool:
        """Remove an object if no row needs it: nobody can make one between the look and the removal.

        Returns whether it was removed.
        """
        with self._transaction() as session:
            self._alone(session, key)
            if ids := read_transcript_key(key):  # who does its submission again, or takes up its transcript, waits
                session.execute(select(SubmissionRow.id).where(SubmissionRow.id == ids[0]).with_for_update())
            if self._needed(session, [key]):
                return False
            remove()
            return True

    def _needed(self, session: Session, keys: Collection[str]) -> set[str]:
        def of(*kinds: str) -> list[str]:
            return [key for key in keys if key.partition("/")[0] in kinds]

        return (
            self._sources(session, of(SOURCES))
            | self._pcm(session, of(PCM, WAVEFORMS))
            | self._transcripts(session, of(*FILES))
            | self._publisher(session, of(PUBLISHER))
        )

    def _sources(self, session: Session, keys: Collection[str]) -> set[str]:
        handed_in = session.scalars(
            select(SubmissionRow.source).where(SubmissionRow.source.in_(keys), source_kept(self._keep))
        )
        uploaded = session.scalars(
            select(CampaignItemRow.source)
            .join(CampaignRow, CampaignRow.id == CampaignItemRow.campaign_id)
            .where(
                CampaignItemRow.source.in_(keys),
                CampaignItemRow.submission_id.is_(None),
                CampaignRow.state != CampaignState.CANCELLED,
            )
        )
        return {source for source in (*handed_in, *uploaded) if source is not None}

    def _pcm(self, session: Session, keys: Collection[str]) -> set[str]:
        recordings = [key.partition("/")[2] for key in keys]
        kept = session.scalars(pcm_kept(recordings, self._sound))
        mendable = session.scalars(
            select(TranscriptRow.recording_id)
            .join(SubmissionTranscriptRow, SubmissionTranscriptRow.transcript_id == TranscriptRow.id)
            .join(SubmissionRow, SubmissionRow.id == SubmissionTranscriptRow.submission_id)
            .where(
                TranscriptRow.recording_id.in_(recordings),
                SubmissionRow.source.contains("://"),
                or_(
                    SubmissionRow.settled.is_not(None),
                    (SubmissionRow.state == SubmissionState.COMPLETED_WITH_GAPS)
                    & (SubmissionRow.ended_at > database_clock() - self._keep),
                ),
            )
        )
        needed = {*kept, *mendable}
        return {key for key, recording in zip(keys, recordings, strict=True) if recording in needed}

    @staticmethod
    def _transcripts(session: Session, keys: Collection[str]) -> set[str]:
        ids = {key: read_transcript_key(key) for key in keys}
        rows = session.execute(
            _versions(
                SubmissionRow.id.in_({found[0] for found in ids.values() if found}),
                or_(SubmissionRow.state.not_in(_WITHOUT_FILES), SubmissionRow.id.in_(select(HoldRow.submission_id))),
            )
        )
        named = {(submission, transcript) for submission, _, transcript in rows}
        return {key for key, found in ids.items() if found in named}

    @staticmethod
    def _publisher(session: Session, keys: Collection[str]) -> set[str]:
        named = {key: read_publisher_key(key) for key in keys}
        row = PublisherTranscriptRow
        rows = session.execute(
            select(row.submission_id, row.sha256).where(
                row.submission_id.in_({found[0] for found in named.values() if found}), row.sha256.is_not(None)
            )
        )
        kept = {(submission, sha256) for submission, sha256 in rows}
        return {key for key, found in named.items() if found in kept}

    # Rows that nobody needs, or without objects

    def orphans(self, seconds: float, limit: int) -> list[int]:
        """Transcripts that were begun so long ago, and that nobody waits for.

        Their worker died between the plan and the word that it was made.
        """
        wanted = (
            select(SubmissionTranscriptRow.transcript_id)
            .join(SubmissionRow, SubmissionRow.id == SubmissionTranscriptRow.submission_id)
            .where(SubmissionTranscriptRow.transcript_id == TranscriptRow.id, SubmissionRow.state.not_in(ENDED))
        )
        with self._transaction() as session:
            return list(
                session.scalars(
                    select(TranscriptRow.id)
                    .where(
                        TranscriptRow.state == TranscriptState.TRANSCRIBING,
                        TranscriptRow.lane.is_not(None),
                        TranscriptRow.created_at < database_clock() - seconds,
                        ~wanted.exists(),
                    )
                    .limit(limit)
                )
            )

    def samples(self, after: int, limit: int) -> list[Samples]:
        """Recordings of transcripts with open chunks, in the order of these, from behind that one on."""
        with self._transaction() as session:
            rows = session.execute(
                select(TranscriptRow.id, TranscriptRow.recording_id, RecordingRow.duration)
                .join(RecordingRow, RecordingRow.id == TranscriptRow.recording_id)
                .where(
                    TranscriptRow.id > after,
                    TranscriptRow.state == TranscriptState.TRANSCRIBING,
                    TranscriptRow.chunks_open > 0,
                    TranscriptRow.lane.is_not(None),
                )
                .order_by(TranscriptRow.id)
                .limit(limit)
            )
            return [Samples(*row) for row in rows]

    def published(self, after: int, limit: int) -> dict[int, dict[int, int]]:
        """Submissions that are published, in their order, from behind that one on; by channel, the transcript shown."""
        with self._transaction() as session:
            ids = session.scalars(
                select(SubmissionRow.id)
                .where(SubmissionRow.id > after, SubmissionRow.state.in_(PUBLISHED))
                .order_by(SubmissionRow.id)
                .limit(limit)
            ).all()
            rows = session.execute(
                _versions(SubmissionRow.id.in_(ids), _VERSION.withheld.is_(False)).order_by(_VERSION.generation)
            ).all()
        found: dict[int, dict[int, int]] = {id: {} for id in ids}
        for submission, channel, transcript in rows:  # the newest comes last
            found[submission][channel] = transcript
        return found

    def redacted(self, submissions: Collection[int]) -> dict[int, str]:
        """Those of these submissions whose transcripts are redacted, and what is."""
        with self._transaction() as session:
            rows = session.execute(
                select(SubmissionRow.id, SubmissionRow.redact).where(
                    SubmissionRow.id.in_(submissions), SubmissionRow.redact.is_not(None)
                )
            )
            return {id: kinds for id, kinds in rows if kinds is not None}


_VERSION = aliased(TranscriptRow)
#: What these have in the object store is of no use, or is to go.
_WITHOUT_FILES = (SubmissionState.FAILED, SubmissionState.CANCELLED, *GONE)


def _versions(*which: ColumnElement[bool]) -> Select[int, int, int]:
    """Of those submissions: submission, channel, and every complete version of the transcript."""
    return (
        select(SubmissionTranscriptRow.submission_id, SubmissionTranscriptRow.channel, _VERSION.id)
        .join(SubmissionRow, SubmissionRow.id == SubmissionTranscriptRow.submission_id)
        .join(TranscriptRow, TranscriptRow.id == SubmissionTranscriptRow.transcript_id)
        .join(
            _VERSION,
            (_VERSION.tenant == TranscriptRow.tenant)
            & (_VERSION.recording_id == TranscriptRow.recording_id)
            & (_VERSION.work_digest == TranscriptRow.work_digest),
        )
        .where(_VERSION.state.in_(COMPLETED), *which)
    )
