"""Holding transcripts: none of their chunks is handed out any more; those that are being decoded end as ever.

A transcript is held while it, its lane or its tenant is paused, and for good once nobody wants it. Who holds one, and
who frees chunks of one that may be held, has its row locked: so one of the two sees what the other did. Submissions are
locked before transcripts, and those before each other in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Select, or_, select, update
from sqlalchemy.orm import Session

from storage.pausing import paused_now
from storage.tables import (
    ENDED,
    ChunkRow,
    ChunkState,
    SubmissionRow,
    SubmissionTranscriptRow,
    TranscriptRow,
    TranscriptState,
)


def is_held(*, paused: bool, state: str) -> bool:
    """Whether a transcript's chunks are kept back."""
    return paused or state == TranscriptState.CANCELLED


def held_of(session: Session, transcripts: Iterable[int]) -> list[int]:
    """Lock transcripts; those of them that are held."""
    rows = session.execute(
        select(TranscriptRow.id, TranscriptRow.paused, TranscriptRow.state, TranscriptRow.tenant, TranscriptRow.lane)
        .where(TranscriptRow.id.in_(set(transcripts)))
        .order_by(TranscriptRow.id)
        .with_for_update(key_share=True)
    )
    # Judged after they are locked: a condition would be by what was before.
    found = rows.all()
    lanes_and_tenants = paused_now(session)
    return [
        id
        for id, paused, state, tenant, lane in found
        if is_held(paused=paused or lanes_and_tenants.has(tenant, lane), state=state)
    ]


def hold(session: Session, transcript: int, **changes: Any) -> None:
    """What was ready waits again. The transcript's row is locked."""
    held = session.execute(
        update(ChunkRow)
        .where(ChunkRow.transcript_id == transcript, ChunkRow.state == ChunkState.READY)
        .values(state=ChunkState.WAITING)
        .returning(ChunkRow.index)
        .execution_options(synchronize_session=False)
    ).all()
    session.execute(
        update(TranscriptRow)
        .where(TranscriptRow.id == transcript)
        .values(chunks_waiting=TranscriptRow.chunks_waiting + len(held), **changes)
        .execution_options(synchronize_session=False)
    )


def hold_paused(session: Session) -> None:
    """What is ready of paused lanes and tenants waits again."""
    if not (paused := paused_now(session)):
        return
    ready = (
        select(ChunkRow.transcript_id)
        .join(TranscriptRow, TranscriptRow.id == ChunkRow.transcript_id)
        .where(
            ChunkRow.state == ChunkState.READY,
            or_(TranscriptRow.lane.in_(paused.lanes), TranscriptRow.tenant.in_(paused.tenants)),
        )
        .distinct()
    )
    locked = session.scalars(
        select(TranscriptRow.id)
        .where(TranscriptRow.id.in_(session.scalars(ready).all()))
        .order_by(TranscriptRow.id)
        .with_for_update(key_share=True)
    ).all()
    for transcript in locked:
        hold(session, transcript)


def pause_unwanted(session: Session, submission: int) -> None:
    """Hold its transcripts for which nobody else waits who is not paused as well."""
    for transcript, paused in _others(session, submission).items():
        if all(paused):
            hold(session, transcript, paused=True)


def abandon(session: Session, submission: int) -> None:
    """It has ended without its transcripts: those for which nobody else waits are given up."""
    for transcript, paused in _others(session, submission).items():
        if not paused:
            hold(session, transcript, state=TranscriptState.CANCELLED)
        elif all(paused):
            hold(session, transcript, paused=True)


def give_up(session: Session, transcripts: Iterable[int]) -> list[int]:
    """Give up those of these transcripts that are being transcribed for nobody; which ones."""
    unwanted = [id for id, waiting in _waiting(session, transcripts).items() if not waiting]
    for transcript in unwanted:
        hold(session, transcript, state=TranscriptState.CANCELLED)
    return unwanted


def transcripts_of(*submissions: int) -> Select[int]:
    """The ids of their transcripts."""
    return select(SubmissionTranscriptRow.transcript_id).where(SubmissionTranscriptRow.submission_id.in_(submissions))


def _others(session: Session, submission: int) -> dict[int, list[bool]]:
    """As `_waiting`, without this one."""
    return {
        transcript: [paused for id, paused in waiting if id != submission]
        for transcript, waiting in _waiting(session, session.scalars(transcripts_of(submission))).items()
    }


def _waiting(session: Session, transcripts: Iterable[int]) -> dict[int, list[tuple[int, bool]]]:
    """Lock those that are being transcribed; for each, who waits for it: submission, and whether that is paused."""
    mine = session.scalars(
        select(TranscriptRow.id)
        .where(TranscriptRow.id.in_(set(transcripts)), TranscriptRow.state == TranscriptState.TRANSCRIBING)
        .order_by(TranscriptRow.id)
        .with_for_update(key_share=True)
    ).all()
    found: dict[int, list[tuple[int, bool]]] = {transcript: [] for transcript in mine}
    # After they are locked: who takes one up has it locked, too.
    for transcript, id, paused in session.execute(
        select(SubmissionTranscriptRow.transcript_id, SubmissionRow.id, SubmissionRow.paused)
        .join(SubmissionRow, SubmissionRow.id == SubmissionTranscriptRow.submission_id)
        .where(SubmissionTranscriptRow.transcript_id.in_(mine), SubmissionRow.state.not_in(ENDED))
    ):
        found[transcript].append((id, paused))
    return found
