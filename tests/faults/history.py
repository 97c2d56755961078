"""What must hold of a farm's ledger after any run, whatever went wrong in it."""

from __future__ import annotations

from sqlalchemy import Engine, func, select

from stenopool.domain import CoverageKind
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
    TranscriptState,
)


def violations(engine: Engine) -> list[str]:
    """Every promise that is broken, in words: none, after a run that has come to its end."""
    found: list[str] = []
    with engine.connect() as connection:
        for id, state in connection.execute(
            select(SubmissionRow.id, SubmissionRow.state).where(SubmissionRow.state.not_in(ENDED))
        ):
            found.append(f"submission {id} has not ended: {state}")
        for id, state, sequential, counted, total, waiting in connection.execute(
            select(
                TranscriptRow.id,
                TranscriptRow.state,
                TranscriptRow.sequential,
                TranscriptRow.chunks_open,
                TranscriptRow.chunks_total,
                TranscriptRow.chunks_waiting,
            )
        ):
            states = dict(
                connection.execute(
                    select(ChunkRow.state, func.count()).where(ChunkRow.transcript_id == id).group_by(ChunkRow.state)
                ).all()
            )
            if sum(states.values()) != total:
                found.append(f"transcript {id} has {sum(states.values())} chunks, not {total}")
            if total - states.get(ChunkState.DONE, 0) != counted:
                found.append(f"transcript {id} counts {counted} open chunks, and has {states}")
            n_waiting = states.get(ChunkState.WAITING, 0)
            if waiting != (
                min(1, n_waiting) if sequential else n_waiting
            ):  # of a sequential one, the next to go counts
                found.append(f"transcript {id} counts {waiting} waiting chunks, and has {states}")
            if leased := states.get(ChunkState.LEASED):
                found.append(f"transcript {id} has {leased} chunks that somebody still holds")
            if state == TranscriptState.CANCELLED and states.get(ChunkState.READY):
                found.append(f"transcript {id} was cancelled, and has {states}")
            if state in MAKING:
                found.append(f"transcript {id} is still being made, and everything has ended")
        for recording, tenant, digest, n in connection.execute(
            select(TranscriptRow.recording_id, TranscriptRow.tenant, TranscriptRow.work_digest, func.count())
            .group_by(
                TranscriptRow.recording_id, TranscriptRow.tenant, TranscriptRow.work_digest, TranscriptRow.generation
            )
            .having(func.count() > 1)
        ):
            found.append(f"{n} transcripts of {recording} for {tenant} by {digest}")
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
