"""Listing submissions: by what they are, page by page, the last one first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select

from storage.campaign_tables import CampaignRow
from storage.desk import Desk, Submission
from storage.tables import Lane, SubmissionRow, SubmissionState
from storage.transactions import Transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which submissions are listed; None for whatever it may be."""

    tenant: str | None = None
    states: Collection[SubmissionState] = ()
    lane: Lane | None = None
    #: Name of a campaign.
    campaign: str | None = None
    #: What its name has in it, in whatever case.
    name: str | None = None


class Listing(Transactions):
    """Lists."""

    def page(self, which: Which, *, before: int | None = None, limit: int = 100) -> list[Submission]:
        """So many at most, with ids below that one."""
        chosen: list[ColumnElement[bool]] = []
        if which.tenant is not None:
            chosen.append(SubmissionRow.tenant == which.tenant)
        if which.states:
            chosen.append(SubmissionRow.state.in_(which.states))
        if which.lane is not None:
            chosen.append(SubmissionRow.lane == which.lane)
        if which.campaign is not None:
            named = select(CampaignRow.id).where(CampaignRow.name == which.campaign)
            chosen.append(SubmissionRow.campaign_id.in_(named))
        if which.name is not None:
            chosen.append(SubmissionRow.name.icontains(which.name, autoescape=True))
        if before is not None:
            chosen.append(SubmissionRow.id < before)
        with self._transaction() as session:
            rows = session.scalars(
                select(SubmissionRow).where(*chosen).order_by(SubmissionRow.id.desc()).limit(limit)
            ).all()
            return Desk.read(session, rows)
