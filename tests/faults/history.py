"""What must hold of a farm's ledger after any run, whatever went wrong in it."""

from __future__ import annotations

from sqlalchemy import Engine, func, select, text

from stenopool.domain import CoverageKind
from storage.invariants import INVARIANTS
from storage.ledger import Ledger
from storage.records import read_document
from storage.tables import (
    COMPLETED,
    ENDED,
    MAKING,
    ChunkRow,
    ChunkState,
    RecordingRow,
    SubmissionRow,
    TranscriptRow,
)


def violations(engine: Engine) -> list[str]:
    """Every promise that is broken, in words: none, after a run that has come to its end."""
    found: list[str] = []
    with engine.connect() as connection:
        for id, state in connection.execute(
            select(SubmissionRow.id, SubmissionRow.state).where(SubmissionRow.state.not_in(ENDED))
        ):
            found.append(f"submission {id} has not ended: {state}")
        found += [f"{kind} {id} {detail} ({name})" for name, kind, id, detail in connection.execute(text(INVARIANTS))]
        for id, state in connection.execute(
            select(TranscriptRow.id, TranscriptRow.state).where(TranscriptRow.state.in_(MAKING))
        ):
            found.append(f"transcript {id} is still being made, and everything has ended: {state}")
        for id, n in connection.execute(
            select(ChunkRow.transcript_id, func.count())
            .where(ChunkRow.state == ChunkState.LEASED)
            .group_by(ChunkRow.transcript_id)
        ):
            found.append(f"transcript {id} has {n} chunks that somebody still holds")
        ids = connection.execute(
            select(TranscriptRow.id, RecordingRow.duration)
            .join(RecordingRow, RecordingRow.id == TranscriptRow.recording_id)
            .where(TranscriptRow.state.in_(COMPLETED))
        ).all()
    ledger = Ledger(engine)
    for id, duration in ids:
        document = ledger.work(id).document
        if document is None:
            found.append(f"transcript {id} is complete without a document")
            continue
        _, coverage = read_document(document)  # refuses holes and overlaps
        if coverage.duration != duration:
            found.append(f"transcript {id} covers {coverage.duration} samples of {duration}")
    return found


def gaps(engine: Engine, transcript: int) -> list[str]:
    """Why parts of a transcript are missing."""
    document = Ledger(engine).work(transcript).document
    assert document is not None
    _, coverage = read_document(document)
    return [piece.reason or "" for piece in coverage if piece.kind is CoverageKind.FAILED]
