"""The search index: passages of what is shown, changed in the transaction in which that changes.

`index_shown` is called wherever a transcript may have begun or ceased to be shown: it is completed, a submission takes
it up, fails, or is cancelled. It looks at what is, not at what changed, so it may be called once too often.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, cast, delete, func, insert, select, text
from sqlalchemy.dialects.postgresql import REGCONFIG
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, aliased

from stenopool.masking import Mask, carried, join_masks
from storage.conditions import SHOWABLE, same_work
from storage.database import database_clock
from storage.passages import CONFIGS, SIMPLE, passages_of
from storage.records import segments_of
from storage.tables import (
    COMPLETED,
    PassageRow,
    RedactionRow,
    SubmissionRow,
    SubmissionState,
    SubmissionTranscriptRow,
    TranscriptRow,
)
from storage.transactions import alone
from storage.watching import raise_watches

#: Postgres' index for words that are spelled otherwise.
TRIGRAMS = "ix_passages_trigrams"


def index_shown(session: Session, transcripts: Iterable[int]) -> None:
    """Bring the index in line with what is shown of these transcripts' works. Locks no row after it was called."""
    works = session.execute(
        select(TranscriptRow.tenant, TranscriptRow.recording_id, TranscriptRow.work_digest)
        .where(TranscriptRow.id.in_(set(transcripts)), TranscriptRow.state.in_(COMPLETED))
        .distinct()
    ).all()
    # Of two who change what is shown, the later one sees what the other did.
    alone(session, *(f"index {tenant} {recording} {digest}" for tenant, recording, digest in works))
    for tenant, recording, digest in sorted(works):
        _index_work(session, tenant, recording, digest)


def index_again(session: Session, transcript: int) -> None:
    """Make what there is in the index of a transcript's work anew; of no phrase that is watched is anybody told."""
    row = session.get_one(TranscriptRow, transcript)
    alone(session, f"index {row.tenant} {row.recording_id} {row.work_digest}")
    work = same_work(row.tenant, row.recording_id, row.work_digest)
    session.execute(delete(PassageRow).where(PassageRow.transcript_id.in_(select(TranscriptRow.id).where(work))))
    _index_work(session, row.tenant, row.recording_id, row.work_digest, tell=False)


def index_transcript(session: Session, row: TranscriptRow) -> None:
    """Its passages anew, as its document and its redaction have them now."""
    session.execute(delete(PassageRow).where(PassageRow.transcript_id == row.id))
    segments = segments_of(row.document)
    redaction = carry_redactions(session, row)
    masks: dict[int, list[Mask]] | None = None
    if redaction is not None:
        masks = {}
        for mask in map(Mask._make, redaction.masks):
            masks.setdefault(mask.segment, []).append(mask)
    on_postgres = session.get_bind().dialect.name == "postgresql"
    rows = [
        {
            "transcript_id": row.id,
            "tenant": row.tenant,
            "language": passage.language,
            "config": passage.config if on_postgres and passage.config in _configs(session) else SIMPLE,
            "completed_at": row.completed_at,
            "view": passage.view,
            "start": passage.start,
            "end": passage.end,
            "text": passage.text,
            "marks": passage.marks,
            "words": passage.words,
        }
        for passage in passages_of(segments, row.language, masks)
    ]
    if not rows:
        return
    table = insert(PassageRow.__table__)  # type: ignore[arg-type]
    if on_postgres:
        words = func.to_tsvector(cast(bindparam("by"), REGCONFIG), bindparam("said"))
        rows = [{**row, "by": row["config"], "said": row.pop("words")} for row in rows]
        table = table.values(
            {name: bindparam(name) for name in rows[0] if name not in ("by", "said")} | {"words": words}
        )
    session.connection().execute(table, rows)


def carry_redactions(session: Session, row: TranscriptRow) -> RedactionRow | None:
    """The redaction of a version, with what other versions of the same work hide: what is redacted once stays so.

    Whoever calls has the lock of the work's index.
    """
    kept = session.get(RedactionRow, row.id, populate_existing=True)
    others = session.execute(
        select(TranscriptRow, RedactionRow.masks)
        .join(RedactionRow, RedactionRow.transcript_id == TranscriptRow.id)
        .where(same_work(row.tenant, row.recording_id, row.work_digest), TranscriptRow.id != row.id)
        .order_by(TranscriptRow.generation)
    ).all()
    segments = segments_of(row.document) if others else ()
    found = [
        mask
        for other, masks in others
        if other.document is not None
        for mask in carried(map(Mask._make, masks), segments_of(other.document), segments)
    ]
    before = [] if kept is None else [Mask._make(mask) for mask in kept.masks]
    joined = join_masks([*before, *found])
    if joined != before:
        if kept is None:
            kept = RedactionRow(transcript_id=row.id, masks=[], at=database_clock())
            session.add(kept)
        kept.masks = [list(mask) for mask in joined]
        session.flush()
    return kept


def make_trigrams(connection: Connection) -> bool:
    """Make what fuzzy search needs in Postgres, as far as this role may; False where it may not."""
    try:
        with connection.begin_nested():
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
            connection.execute(text(f"CREATE INDEX IF NOT EXISTS {TRIGRAMS} ON passages USING gin (text gin_trgm_ops)"))
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return False
    return True


def _configs(session: Session) -> frozenset[str]:
    """Those of `CONFIGS` that this Postgres has: older ones have fewer."""
    known: frozenset[str] | None = session.info.get("configs")
    if known is None:
        names = session.scalars(text("SELECT cfgname FROM pg_ts_config WHERE pg_ts_config_is_visible(oid)"))
        session.info["configs"] = known = frozenset(names) & frozenset(CONFIGS.values())
    return known


def _index_work(session: Session, tenant: str, recording: str, digest: str, *, tell: bool = True) -> None:
    work = same_work(tenant, recording, digest)
    shown = session.scalar(
        select(TranscriptRow)
        .where(work, SHOWABLE)
        .order_by(TranscriptRow.generation.desc())
        .limit(1)
        # What this transaction has read before it changed it is not what is there now.
        .execution_options(populate_existing=True)
    )
    if shown is not None and not _is_wanted(session, shown):
        shown = None
    indexed = set(
        session.scalars(
            select(PassageRow.transcript_id)
            .where(PassageRow.transcript_id.in_(select(TranscriptRow.id).where(work)))
            .distinct()
        )
    )
    gone = indexed - ({shown.id} if shown else set())
    if gone:
        session.execute(delete(PassageRow).where(PassageRow.transcript_id.in_(gone)))
    if shown is not None and shown.id not in indexed:
        index_transcript(session, shown)
        if tell:
            raise_watches(session, shown)


def _is_wanted(session: Session, row: TranscriptRow) -> bool:
    """Somebody has it: on one machine always, on a farm whose submission neither failed nor was cancelled."""
    if row.lane is None:
        return True
    version = aliased(TranscriptRow)
    state = func.coalesce(SubmissionRow.settled, SubmissionRow.state)
    found = session.scalar(
        select(SubmissionRow.id)
        .join(SubmissionTranscriptRow, SubmissionTranscriptRow.submission_id == SubmissionRow.id)
        .join(version, version.id == SubmissionTranscriptRow.transcript_id)
        .where(
            version.tenant == row.tenant,
            version.recording_id == row.recording_id,
            version.work_digest == row.work_digest,
            state.not_in([SubmissionState.FAILED, SubmissionState.CANCELLED]),
        )
        .limit(1)
    )
    return found is not None
