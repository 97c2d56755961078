"""Publishers' own transcripts, as the ledger keeps them beside the submission whose feed names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from storage.database import database_clock
from storage.keeping import locked
from storage.keys import publisher_key
from storage.publisher_tables import KeptState, PublisherTranscriptRow
from storage.tables import GONE
from storage.transactions import Transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherTranscript:
    """A transcript of the publisher's own, or why it is not there."""

    #: Among those that its feed names, from 1.
    place: int
    url: str
    media_type: str | None
    language: str | None
    rel: str | None
    state: KeptState
    #: Of its bytes; None where it is not kept.
    sha256: str | None = None
    size: int | None = None
    #: Why it is not kept.
    error: str | None = None


class PublisherTranscripts(Transactions):
    """Keeps what became of them."""

    def keep(self, submission: int, one: PublisherTranscript, *, there: Callable[[str], bool]) -> bool:
        """What became of one. False where it is kept already, which stays, or its submission is gone.

        Args:
            there: whether the object store has what is to be kept.

        Raises:
            KeyError: it has not.
        """
        with self._transaction() as session:
            if one.sha256 is not None:
                key = publisher_key(submission, one.sha256)
                self._alone(session, key)  # or it is removed between the look and the row
                if not there(key):
                    raise KeyError(key)
            if locked(session, submission).state in GONE:
                return False
            row = session.get(PublisherTranscriptRow, (submission, one.place))
            if row is not None and row.state == KeptState.KEPT:
                return False
            session.merge(PublisherTranscriptRow(submission_id=submission, **asdict(one), at=database_clock()))
            return True

    def of(self, submission: int) -> list[PublisherTranscript]:
        """A submission's, as far as they were asked for, in the order of their feed."""
        with self._transaction() as session:
            return publisher_transcripts_of(session, submission)


def publisher_transcripts_of(session: Session, submission: int) -> list[PublisherTranscript]:
    """As `PublisherTranscripts.of`."""
    return [_read(row) for row in session.scalars(_OF_SUBMISSION, {"submission": submission})]


_OF_SUBMISSION = (
    select(PublisherTranscriptRow)
    .where(PublisherTranscriptRow.submission_id == bindparam("submission"))
    .order_by(PublisherTranscriptRow.place)
)


def _read(row: PublisherTranscriptRow) -> PublisherTranscript:
    kept = {name: getattr(row, name) for name in PublisherTranscript.__dataclass_fields__}
    return PublisherTranscript(**{**kept, "state": KeptState(row.state)})
