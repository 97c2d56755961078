"""How far campaigns are: counts by state, audio done and to be done, failures by their reasons."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Float, and_, case, cast, func, or_, select
from sqlalchemy.orm import Session

from stenopool.domain import SAMPLE_RATE
from storage.campaign_tables import CampaignItemRow
from storage.database import database_clock
from storage.tables import (
    ENDED,
    OPEN,
    PUBLISHED,
    RecordingRow,
    SubmissionRow,
    SubmissionState,
    SubmissionTranscriptRow,
    TranscriptRow,
)
from storage.transactions import Transactions

#: What an item is that is no submission, beside the states of those that are one.
PROBLEM, DUPLICATE, HERE, LEFT = "problem", "duplicate", "here", "left"


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long recordings are, as far as that is known; seconds."""

    n_known: int
    #: Of those whose length is known: the sum, and the sum of the squares.
    total: float
    squares: float
    n_unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a campaign is."""

    #: How many items are in each state: those of submissions, and what items are that are none.
    states: dict[str, int]
    #: Seconds of audio that are transcribed, those of recordings under way included.
    done: float
    #: Of these, those of recordings under way.
    partly: float
    #: Of all that is or will be done.
    lengths: Lengths
    #: Of what has not ended.
    remaining: Lengths
    #: Seconds of audio of the recordings that ended within the window, and how many these are.
    lately: float
    n_lately: int
    #: When the last one ended, by the database's clock.
    ended_at: float | None
    #: Why something failed or is left out, the most frequent first.
    reasons: list[tuple[str, int]]


class CampaignProgress(Transactions):
    """Queries of how far campaigns are."""

    def of(self, campaign: int, window: float) -> Progress:
        """How far a campaign is; `window` is the seconds that count as lately."""
        with self._transaction() as session:
            since = select(database_clock()).scalar_subquery() - window
            seconds, n = session.execute(
                select(func.sum(cast(SubmissionRow.duration, Float) / SAMPLE_RATE), func.count()).where(
                    SubmissionRow.campaign_id == campaign,
                    SubmissionRow.state.in_(PUBLISHED),
                    SubmissionRow.ended_at > since,
                )
            ).one()
            whole, partly = self._done(session, campaign)
            return Progress(
                states=self._states(session, campaign),
                done=whole + partly,
                partly=partly,
                lengths=self._lengths(session, campaign, _DOABLE),
                remaining=self._lengths(session, campaign, _UNENDED),
                lately=float(seconds or 0),
                n_lately=n,
                ended_at=session.scalar(
                    select(func.max(SubmissionRow.ended_at)).where(SubmissionRow.campaign_id == campaign)
                ),
                reasons=self._reasons(session, campaign),
            )

    def remaining(self, campaign: int) -> tuple[Lengths, float]:
        """Of what has not ended, and is to be done; and seconds of it that are transcribed already."""
        with self._transaction() as session:
            return self._lengths(session, campaign, _UNENDED), self._done(session, campaign)[1]

    def committed(self, campaign: int) -> float:
        """Seconds of audio of what is handed in, as far as they are known."""
        known = func.coalesce(SubmissionRow.duration, CampaignItemRow.duration, 0)
        with self._transaction() as session:
            samples = session.scalar(
                select(func.sum(known))
                .select_from(CampaignItemRow)
                .join(SubmissionRow, SubmissionRow.id == CampaignItemRow.submission_id)
                .where(CampaignItemRow.campaign_id == campaign)
            )
            return float(samples or 0) / SAMPLE_RATE

    def others(self, campaign: int, model: str) -> float:
        """Seconds of audio for the same model that is handed in and open, of whoever else, as far as it is known."""
        with self._transaction() as session:
            samples = session.scalar(
                select(func.sum(SubmissionRow.duration)).where(
                    SubmissionRow.state.in_(OPEN),
                    SubmissionRow.model == model,
                    or_(SubmissionRow.campaign_id.is_(None), SubmissionRow.campaign_id != campaign),
                )
            )
            return float(samples or 0) / SAMPLE_RATE

    @staticmethod
    def _states(session: Session, campaign: int) -> dict[str, int]:
        state = case(
            (SubmissionRow.state.is_not(None), SubmissionRow.state),
            (CampaignItemRow.problem.is_not(None), PROBLEM),
            (CampaignItemRow.duplicate_of.is_not(None), DUPLICATE),
            (CampaignItemRow.source.is_(None), HERE),
            else_=LEFT,
        ).label("state")
        rows = session.execute(
            select(state, func.count())
            .select_from(CampaignItemRow)
            .outerjoin(SubmissionRow, SubmissionRow.id == CampaignItemRow.submission_id)
            .where(CampaignItemRow.campaign_id == campaign)
            .group_by(state)
            .order_by(state)
        )
        return {state: n for state, n in rows}  # noqa: C416 - rows are no tuples to a type checker

    @staticmethod
    def _done(session: Session, campaign: int) -> tuple[float, float]:
        """Seconds of recordings that are done, and seconds that are transcribed of those under way."""
        mine = SubmissionRow.campaign_id == campaign
        whole = session.scalar(select(func.sum(SubmissionRow.duration)).where(mine, SubmissionRow.state.in_(PUBLISHED)))
        share = cast(TranscriptRow.chunks_total - TranscriptRow.chunks_open, Float) / TranscriptRow.chunks_total
        partly = session.scalar(
            select(func.sum(RecordingRow.duration * share))
            .join(TranscriptRow, TranscriptRow.recording_id == RecordingRow.id)
            .join(SubmissionTranscriptRow, SubmissionTranscriptRow.transcript_id == TranscriptRow.id)
            .join(SubmissionRow, SubmissionRow.id == SubmissionTranscriptRow.submission_id)
            .where(mine, SubmissionRow.state.in_(OPEN), TranscriptRow.chunks_total > 0)
        )
        return float(whole or 0) / SAMPLE_RATE, float(partly or 0) / SAMPLE_RATE

    @staticmethod
    def _lengths(session: Session, campaign: int, which: ColumnElement[bool]) -> Lengths:
        seconds = cast(func.coalesce(SubmissionRow.duration, CampaignItemRow.duration), Float) / SAMPLE_RATE
        n, known, total, squares = session.execute(
            select(func.count(), func.count(seconds), func.sum(seconds), func.sum(seconds * seconds))
            .select_from(CampaignItemRow)
            .outerjoin(SubmissionRow, SubmissionRow.id == CampaignItemRow.submission_id)
            .where(CampaignItemRow.campaign_id == campaign, which)
        ).one()
        return Lengths(n_known=known, total=float(total or 0), squares=float(squares or 0), n_unknown=n - known)

    @staticmethod
    def _reasons(session: Session, campaign: int) -> list[tuple[str, int]]:
        failed = session.execute(
            select(SubmissionRow.name, SubmissionRow.error).where(
                SubmissionRow.campaign_id == campaign, SubmissionRow.state == SubmissionState.FAILED
            )
        ).all()
        left_out = session.scalars(
            select(CampaignItemRow.problem).where(
                CampaignItemRow.campaign_id == campaign,
                CampaignItemRow.submission_id.is_(None),
                CampaignItemRow.problem.is_not(None),
            )
        ).all()
        counted = Counter(reason_of(error or "", name) for name, error in failed)
        counted.update(problem for problem in left_out if problem is not None)
        return sorted(counted.items(), key=lambda one: (-one[1], one[0]))


_DOABLE = or_(
    CampaignItemRow.submission_id.is_not(None),
    and_(CampaignItemRow.problem.is_(None), CampaignItemRow.duplicate_of.is_(None)),
)
_UNENDED = and_(_DOABLE, or_(CampaignItemRow.submission_id.is_(None), SubmissionRow.state.not_in(ENDED)))


def reason_of(error: str, *names: str) -> str:
    """An error without what it happened to, so that the same reason reads the same.

    In:  talk.mp3: is text, not audio or video
    Out: is text, not audio or video
    """
    for name in sorted(names, key=len, reverse=True):
        error = error.removeprefix(f"{name}: ")
    return error
