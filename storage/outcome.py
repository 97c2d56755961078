"""What has become of a submission: all that the ledger knows of it, in one look.

Whoever waits for a recording asks for this again and again. Its statements are put together once, and not for each
request: that takes longer than to run them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import aliased

from stenopool.errors import Missing
from storage.desk import Submission, submission_from
from storage.erasing import Deletion, deletion_from
from storage.keeping import Hold, hold_from
from storage.keeping_tables import DeletionRow, HoldRow
from storage.publisher import PublisherTranscript, publisher_transcripts_of
from storage.tables import COMPLETED, SubmissionRow, SubmissionTranscriptRow, TranscriptRow, TranscriptState
from storage.transactions import Transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of one of a submission's transcripts."""

    #: From 1; 0 where channels were mixed.
    channel: int
    #: From 1.
    number: int
    state: TranscriptState
    language: str | None
    document: Mapping[str, Any] | None
    #: It has more gaps than the version that is shown instead.
    withheld: bool
    #: It is the one that people get.
    shown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A submission, and what has become of it."""

    submission: Submission
    #: Why nothing of it is removed; None where it is not held.
    hold: Hold | None
    #: None where it was never to be deleted.
    deletion: Deletion | None
    #: Of its transcripts, by channel, the first one first; also those that were given up.
    versions: tuple[Version, ...]
    #: What its publisher offers, as far as that was asked for, in the order of the feed.
    publisher_transcripts: tuple[PublisherTranscript, ...]

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.submission.tenant


class Outcomes(Transactions):
    """Looks them up."""

    def of(self, id: int) -> Outcome:
        """A submission's. Raises Missing where there is none."""
        with self._transaction() as session:
            found = session.execute(_SUBMISSION, {"id": id}).one_or_none()
            if found is None:
                raise Missing(f"there is no submission {id}; `stenopool status` lists them")
            row, hold, deletion = found
            versions = session.connection().execute(_VERSIONS, {"id": id}).all()
            linked = {(one.channel, one.transcript, one.chunks_total, one.chunks_open): None for one in versions}
            return Outcome(
                submission=submission_from(row, list(linked)),
                hold=None if hold is None else hold_from(hold),
                deletion=None if deletion is None else deletion_from(deletion, row),
                versions=tuple(_versions(versions)),
                publisher_transcripts=tuple(publisher_transcripts_of(session, id)),
            )


def _versions(rows: Iterable[Any]) -> Iterable[Version]:
    rows = list(rows)
    # By channel: of what may be shown, the newest, which comes last.
    shown = {row.channel: row.id for row in rows if row.state in COMPLETED and not row.withheld}
    for row in rows:
        yield Version(
            channel=row.channel,
            number=row.generation,
            state=TranscriptState(row.state),
            language=row.language,
            document=row.document,
            withheld=row.withheld,
            shown=shown.get(row.channel) == row.id,
        )


_SUBMISSION = (
    select(SubmissionRow, HoldRow, DeletionRow)
    .outerjoin(HoldRow, HoldRow.submission_id == SubmissionRow.id)
    .outerjoin(DeletionRow, DeletionRow.submission_id == SubmissionRow.id)
    .where(SubmissionRow.id == bindparam("id"))
)

_link, _version = SubmissionTranscriptRow, aliased(TranscriptRow)
_VERSIONS = (
    select(
        _link.channel,
        TranscriptRow.id.label("transcript"),
        TranscriptRow.chunks_total,
        TranscriptRow.chunks_open,
        _version.id,
        _version.generation,
        _version.state,
        _version.language,
        _version.document,
        _version.withheld,
    )
    .select_from(_link)
    .join(TranscriptRow, TranscriptRow.id == _link.transcript_id)
    .join(
        _version,
        (_version.tenant == TranscriptRow.tenant)
        & (_version.recording_id == TranscriptRow.recording_id)
        & (_version.work_digest == TranscriptRow.work_digest),
    )
    .where(_link.submission_id == bindparam("id"))
    .order_by(_link.channel, _version.generation)
)
