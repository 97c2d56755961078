"""Redactions: what of a transcript is not for everybody, as the ledger keeps it beside the transcript."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import and_, select, union
from sqlalchemy.orm import aliased

from stenopool.domain import Span
from stenopool.masking import Mask, join_masks
from stenopool.timing import span_of
from storage.conditions import same_work
from storage.database import database_clock
from storage.records import segments_of
from storage.search_index import carry_redactions, index_transcript
from storage.tables import COMPLETED, PassageRow, RedactionRow, SubmissionRow, SubmissionTranscriptRow, TranscriptRow
from storage.transactions import Transactions


class Veil(NamedTuple):
    """What of a transcript not all may hear of."""

    #: When it is said; None where nobody knows yet, for it is still to be redacted: then it may be anything.
    spans: list[Span] | None

    def hides(self, start: int, end: int) -> bool:
        """Whether something of it is in these samples."""
        return self.spans is None or any(span.start < end and start < span.end for span in self.spans)


class Redactions(Transactions):
    """Keeps them, and has search go by them."""

    def keep(self, transcript: int, masks: Iterable[Mask]) -> list[Mask]:
        """These masks, too, are to be on a transcript, in files and in search; returns all that are.

        Whoever is redacted once stays so: a second redaction by other rules takes nothing away, nor does another
        version of the transcript, before or after.
        """
        with self._transaction() as session:
            self._alone(session, f"redaction {transcript}")
            row = session.get(TranscriptRow, transcript)
            if row is None:  # deleted meanwhile
                return []
            self._alone(session, f"index {row.tenant} {row.recording_id} {row.work_digest}")
            kept = session.get(RedactionRow, transcript, populate_existing=True)
            before = [] if kept is None else [Mask._make(mask) for mask in kept.masks]
            joined = join_masks([*before, *masks])
            if kept is not None and joined == before:
                return joined
            if kept is None:
                kept = RedactionRow(transcript_id=transcript, masks=[], at=database_clock())
                session.add(kept)
            kept.masks = [list(mask) for mask in joined]
            session.flush()
            for version in session.scalars(
                select(TranscriptRow).where(
                    same_work(row.tenant, row.recording_id, row.work_digest), TranscriptRow.state.in_(COMPLETED)
                )
            ).all():
                if session.scalar(select(PassageRow.id).where(PassageRow.transcript_id == version.id).limit(1)):
                    index_transcript(session, version)
                elif version.id != row.id:
                    carry_redactions(session, version)
            return joined

    def masks(self, transcript: int) -> list[Mask] | None:
        """Those of a transcript; None where nobody redacted it."""
        with self._transaction() as session:
            kept = session.get(RedactionRow, transcript)
            return None if kept is None else [Mask._make(mask) for mask in kept.masks]

    def known(self, transcripts: Iterable[int]) -> set[int]:
        """Those of these transcripts that somebody redacted."""
        with self._transaction() as session:
            mine = RedactionRow.transcript_id.in_(list(transcripts))
            return set(session.scalars(select(RedactionRow.transcript_id).where(mine)))

    def secret(self, transcripts: Iterable[int]) -> set[int]:
        """Those of these transcripts of which something is redacted, or is to be: not all may see all of them."""
        wanted = list(transcripts)
        with self._transaction() as session:
            to_be = (
                select(SubmissionTranscriptRow.transcript_id)
                .join(SubmissionRow, SubmissionRow.id == SubmissionTranscriptRow.submission_id)
                .where(SubmissionTranscriptRow.transcript_id.in_(wanted), SubmissionRow.redact.is_not(None))
            )
            done = select(RedactionRow.transcript_id).where(RedactionRow.transcript_id.in_(wanted))
            return set(session.scalars(union(done, to_be)))

    def veils(self, transcripts: Iterable[int]) -> dict[int, Veil]:
        """What of these transcripts not all may hear of, for those of which it is not nothing."""
        secret = self.secret(transcripts)
        with self._transaction() as session:
            rows = session.execute(
                select(TranscriptRow.id, TranscriptRow.document, RedactionRow.masks)
                .join(RedactionRow, RedactionRow.transcript_id == TranscriptRow.id)
                .where(TranscriptRow.id.in_(secret))
            ).all()
        found = dict.fromkeys(secret, Veil(None))
        for id, document, masks in rows:
            if document is None:
                continue
            segments = segments_of(document)
            spans = [span_of(segments[mask.segment], mask.start, mask.end) for mask in map(Mask._make, masks)]
            found[id] = Veil(spans)
        return found

    def of_submission(self, id: int) -> list[tuple[int, int, tuple[Mask, ...]]]:
        """Channel, transcript and masks of each version of its transcripts that was redacted, the newest last."""
        version = aliased(TranscriptRow)
        with self._transaction() as session:
            rows = session.execute(
                select(SubmissionTranscriptRow.channel, version.id, RedactionRow.masks)
                .join(TranscriptRow, TranscriptRow.id == SubmissionTranscriptRow.transcript_id)
                .join(
                    version,
                    and_(
                        version.tenant == TranscriptRow.tenant,
                        version.recording_id == TranscriptRow.recording_id,
                        version.work_digest == TranscriptRow.work_digest,
                    ),
                )
                .join(RedactionRow, RedactionRow.transcript_id == version.id)
                .where(SubmissionTranscriptRow.submission_id == id)
                .order_by(SubmissionTranscriptRow.channel, version.generation)
            )
            return [(channel, one, tuple(Mask._make(mask) for mask in masks)) for channel, one, masks in rows]
