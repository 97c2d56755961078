"""Campaigns: what belongs to each, what was found out about it, and what of it is handed in.

    listing ──► ready ──► running ◄──► paused
                 any of them ──► cancelled

A campaign's state is one guarded UPDATE; its submissions follow it, in the scheduler's next ticks at the latest. What
is listed twice is in it once, by its key: so a list may be gone through again, as after a kill, or for what is new.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, func, insert, or_, select, update
from sqlalchemy.orm import Session, aliased

from stenopool.errors import Missing, UsageError
from storage.campaign_tables import CampaignItemRow, CampaignRow, CampaignState, FeedPageRow
from storage.database import database_clock
from storage.tables import OPEN, Lane, SubmissionRow
from storage.transactions import Transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a campaign is, and how its recordings are to be transcribed."""

    tenant: str
    name: str
    model: str
    options: Mapping[str, Any]
    split: bool = False
    speakers: tuple[str, ...] = ()
    destination: str | None = None
    formats: tuple[str, ...] = ()
    redact: str | None = None
    lane: Lane = Lane.BULK
    priority: int = 0
    #: Seconds from its start.
    deadline: float | None = None
    #: Engine-hours.
    budget: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign(Plan):
    """A campaign, as the ledger has it; times are in seconds since 1970, by the database's clock."""

    id: int
    state: CampaignState
    deadline_at: float | None
    forecast: Mapping[str, Any] | None
    created_at: float
    started_at: float | None
    #: When this was asked.
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A recording as it is listed."""

    #: Digest of what makes it another one than the others of its campaign; 64 hex digits.
    key: str
    location: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    lane: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: As of a submission; None for a file of somebody's machine that is not uploaded yet.
    source: str | None = None
    #: Samples, as far as the list says.
    duration: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignItem(Entry):
    """A recording of a campaign."""

    id: int
    file_sha256: str | None
    size: int | None
    problem: str | None
    checked_at: float | None
    duplicate_of: int | None
    submission_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found out about an item."""

    id: int
    #: None where that is not known.
    size: int | None = None
    duration: int | None = None
    file_sha256: str | None = None
    #: Why it cannot be transcribed; None where nothing speaks against it.
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPage:
    """A page of a feed, as it was last read."""

    url: str
    etag: str | None = None
    last_modified: str | None = None
    #: URL of the next page.
    following: str | None = None


class Campaigns(Transactions):
    """Queries and transitions of campaigns and their items."""

    # What they are

    def create(self, plan: Plan) -> Campaign:
        """Begin a campaign; one of that name is gone on with.

        Raises:
            UsageError: there is one of that name, to be transcribed in another way.
        """
        given = asdict(plan) | {"options": dict(plan.options)}
        with self._transaction() as session:
            self._alone(session, f"campaign {plan.tenant} {plan.name}")
            row = self._row(session, plan.tenant, plan.name)
            if row is None:
                row = CampaignRow(**given, state=CampaignState.LISTING, created_at=database_clock())
                session.add(row)
                session.flush()
                session.refresh(row)
            wanted = json.loads(json.dumps(given))  # as the row has it: no tuples
            if other := [name for name, value in wanted.items() if getattr(row, name) != value]:
                raise UsageError(
                    f"{plan.name}: there is such a campaign, with another {' and another '.join(other)}; leave that as "
                    "it was, or give this one another name"
                )
            return self._campaign(session, row)

    def find(self, tenant: str, name: str) -> Campaign:
        """A tenant's campaign of that name. Raises Missing where there is none."""
        with self._transaction() as session:
            row = self._row(session, tenant, name)
            if row is None:
                raise Missing(f"{tenant} has no campaign {name}; `stenopool campaign list` lists them")
            return self._campaign(session, row)

    def get(self, id: int) -> Campaign:
        """One of them. Raises Missing where there is none."""
        with self._transaction() as session:
            row = session.get(CampaignRow, id)
            if row is None:
                raise Missing(f"there is no campaign {id}; `stenopool campaign list` lists them")
            return self._campaign(session, row)

    def all(self, tenant: str | None = None) -> list[Campaign]:
        """All of them, or a tenant's; the last one first."""
        mine = () if tenant is None else (CampaignRow.tenant == tenant,)
        with self._transaction() as session:
            rows = session.scalars(select(CampaignRow).where(*mine).order_by(CampaignRow.id.desc()))
            return [self._campaign(session, row) for row in rows]

    # What belongs to them

    def add(self, campaign: int, entries: Sequence[Entry], page: FeedPage | None = None) -> int:
        """List some more; those that are listed already are left as they are. Returns how many were new.

        Args:
            page: of a feed, which they are; it counts as read in the same moment.
        """
        with self._transaction() as session:
            self._alone(session, f"campaign {campaign}")
            first: dict[str, Entry] = {}
            for entry in entries:
                first.setdefault(entry.key, entry)
            mine = (CampaignItemRow.campaign_id == campaign, CampaignItemRow.key.in_(first))
            known = set(session.scalars(select(CampaignItemRow.key).where(*mine)))
            new = [_row_of(entry) for key, entry in first.items() if key not in known]
            if new:
                session.execute(insert(CampaignItemRow), [{"campaign_id": campaign, **row} for row in new])
            if page is not None:
                session.merge(FeedPageRow(campaign_id=campaign, **asdict(page)))
            return len(new)

    def page(self, campaign: int, url: str) -> FeedPage:
        """A page of a feed as it was last read; without anything where it never was."""
        with self._transaction() as session:
            row = session.get(FeedPageRow, (campaign, url))
            if row is None:
                return FeedPage(url=url)
            return FeedPage(url=url, etag=row.etag, last_modified=row.last_modified, following=row.following)

    def items(self, campaign: int, after: int = 0, limit: int = 500) -> list[CampaignItem]:
        """All of them, in the order in which they were listed, from behind that one on."""
        return self._items(campaign, after, limit)

    def item(self, id: int) -> CampaignItem:
        """One of them."""
        with self._transaction() as session:
            return _item(session.get_one(CampaignItemRow, id))

    def unchecked(self, campaign: int, after: int, limit: int) -> list[CampaignItem]:
        """Those that nobody has looked at, or in which something was wrong; of what is handed in, none."""
        looked = or_(CampaignItemRow.checked_at.is_(None), CampaignItemRow.problem.is_not(None))
        return self._items(campaign, after, limit, looked, CampaignItemRow.submission_id.is_(None))

    def n_unchecked(self, campaign: int) -> int:
        """How many of them nobody has looked at."""
        mine = (CampaignItemRow.campaign_id == campaign, CampaignItemRow.submission_id.is_(None))
        with self._transaction() as session:
            return (
                session.scalar(
                    select(func.count()).select_from(CampaignItemRow).where(*mine, CampaignItemRow.checked_at.is_(None))
                )
                or 0
            )

    def problems(self, campaign: int, after: int = 0, limit: int = 500) -> list[CampaignItem]:
        """Those that are left out, as something is wrong with them, from behind that one on."""
        wrong = (CampaignItemRow.problem.is_not(None), CampaignItemRow.submission_id.is_(None))
        return self._items(campaign, after, limit, *wrong)

    def here(self, campaign: int, after: int, limit: int) -> list[CampaignItem]:
        """Those that are to be uploaded."""
        return self._items(campaign, after, limit, *_WANTED, CampaignItemRow.source.is_(None))

    def _items(self, campaign: int, after: int, limit: int, *which: ColumnElement[bool]) -> list[CampaignItem]:
        mine = (CampaignItemRow.campaign_id == campaign, CampaignItemRow.id > after)
        with self._transaction() as session:
            rows = session.scalars(
                select(CampaignItemRow).where(*mine, *which).order_by(CampaignItemRow.id).limit(limit)
            )
            return [_item(row) for row in rows]

    # What was found out

    def found(self, found: Iterable[Found]) -> None:
        """Keep what was found out; what is not known of an item stays as it was."""
        with self._transaction() as session:
            for one in found:
                known = {name: value for name, value in asdict(one).items() if value is not None}
                changes = known | {"problem": one.problem, "checked_at": database_clock()}
                del changes["id"]
                session.execute(update(CampaignItemRow).where(CampaignItemRow.id == one.id).values(**changes))

    def find_duplicates(self, campaign: int) -> None:
        """Of those with the same bytes, or from the same place, that are to be done in the same way, the first is done.

        What is handed in already is done, whatever is found out later.
        """
        first = aliased(CampaignItemRow)
        with self._transaction() as session:
            self._alone(session, f"campaign {campaign}")
            mine = (CampaignItemRow.campaign_id == campaign, CampaignItemRow.submission_id.is_(None))
            session.execute(update(CampaignItemRow).where(*mine).values(duplicate_of=None))
            for same in ("file_sha256", "location"):
                earlier = (
                    select(func.min(first.id))
                    .where(
                        first.campaign_id == campaign,
                        getattr(first, same) == getattr(CampaignItemRow, same),
                        cast(first.options, Text) == cast(CampaignItemRow.options, Text),
                        first.problem.is_(None),
                        first.id < CampaignItemRow.id,
                    )
                    .scalar_subquery()
                )
                session.execute(
                    update(CampaignItemRow)
                    .where(*mine, CampaignItemRow.duplicate_of.is_(None), getattr(CampaignItemRow, same).is_not(None))
                    .values(duplicate_of=earlier)
                    .execution_options(synchronize_session=False)
                )

    def uploaded(self, item: int, source: str, file_sha256: str, *, there: Callable[[str], bool]) -> None:
        """A file of somebody's machine is in the object store, and is kept there until it is handed in.

        Args:
            there: whether the object store has it.

        Raises:
            KeyError: it has not.
        """
        with self._transaction() as session:
            self._alone(session, source)  # or it is removed between the look and the row
            if not there(source):
                raise KeyError(source)
            changes = {"source": source, "file_sha256": file_sha256}
            session.execute(update(CampaignItemRow).where(CampaignItemRow.id == item).values(**changes))

    # Their states

    def listed(self, campaign: int) -> bool:
        """All that belongs to it is listed. False where that was so before."""
        return self._change(campaign, [CampaignState.LISTING], state=CampaignState.READY)

    def start(self, campaign: int, forecast: Mapping[str, Any] | None) -> bool:
        """Hand in what belongs to it, from now on. False where it is not ready."""
        return self._change(
            campaign,
            [CampaignState.READY],
            state=CampaignState.RUNNING,
            forecast=None if forecast is None else dict(forecast),
            started_at=database_clock(),
            deadline_at=database_clock() + CampaignRow.deadline,
        )

    def pause(self, campaign: int) -> bool:
        """Begin nothing more of it. False where it does not run."""
        return self._change(campaign, [CampaignState.RUNNING], state=CampaignState.PAUSED)

    def resume(self, campaign: int) -> bool:
        """Go on with it. False where it is not paused."""
        return self._change(campaign, [CampaignState.PAUSED], state=CampaignState.RUNNING)

    def cancel(self, campaign: int) -> bool:
        """Give it up. False where that was done before."""
        others = [state for state in CampaignState if state != CampaignState.CANCELLED]
        return self._change(campaign, others, state=CampaignState.CANCELLED)

    def _change(self, campaign: int, before: Collection[CampaignState], **changes: Any) -> bool:
        with self._transaction() as session:
            changed = session.execute(
                update(CampaignRow)
                .where(CampaignRow.id == campaign, CampaignRow.state.in_(before))
                .values(**changes)
                .returning(CampaignRow.id)
                .execution_options(synchronize_session=False)
            )
            return bool(changed.all())

    # What is handed in

    def running(self) -> list[Campaign]:
        """Those that run, and of which something is left that can be handed in."""
        left = select(CampaignItemRow.id).where(CampaignItemRow.campaign_id == CampaignRow.id, *_LEFT)
        with self._transaction() as session:
            rows = session.scalars(
                select(CampaignRow)
                .where(CampaignRow.state == CampaignState.RUNNING, left.exists())
                .order_by(CampaignRow.lane, CampaignRow.id)
            )
            return [self._campaign(session, row) for row in rows]

    def left(self, campaign: int, limit: int) -> list[CampaignItem]:
        """The next ones to be handed in."""
        return self._items(campaign, 0, limit, *_LEFT)

    def open(self, campaign: int) -> int:
        """How many of its submissions have not ended."""
        mine = (SubmissionRow.campaign_id == campaign, SubmissionRow.state.in_(OPEN))
        with self._transaction() as session:
            return session.scalar(select(func.count()).select_from(SubmissionRow).where(*mine)) or 0

    def handed_in(self, item: int, submission: int) -> None:
        """An item is that submission, for good."""
        with self._transaction() as session:
            session.execute(
                update(CampaignItemRow)
                .where(CampaignItemRow.id == item, CampaignItemRow.submission_id.is_(None))
                .values(submission_id=submission)
            )

    def to_pause(self, limit: int) -> list[int]:
        """Submissions that go on though their campaign is paused."""
        return self._of(limit, CampaignRow.state == CampaignState.PAUSED, SubmissionRow.paused.is_(False))

    def to_cancel(self, limit: int) -> list[int]:
        """Submissions that go on though their campaign is cancelled."""
        return self._of(limit, CampaignRow.state == CampaignState.CANCELLED)

    def to_resume(self, campaign: int, limit: int) -> list[int]:
        """Submissions of a campaign that are paused."""
        return self._of(limit, CampaignRow.id == campaign, SubmissionRow.paused.is_(True))

    def _of(self, limit: int, *which: ColumnElement[bool]) -> list[int]:
        with self._transaction() as session:
            rows = session.scalars(
                select(SubmissionRow.id)
                .join(CampaignRow, CampaignRow.id == SubmissionRow.campaign_id)
                .where(SubmissionRow.state.in_(OPEN), *which)
                .order_by(SubmissionRow.id)
                .limit(limit)
            )
            return list(rows)

    def ended_as(self, campaign: int, states: Collection[str], after: int, limit: int) -> list[int]:
        """Submissions of a campaign that are in one of these states, from behind that one on."""
        mine = (SubmissionRow.campaign_id == campaign, SubmissionRow.state.in_(states), SubmissionRow.id > after)
        with self._transaction() as session:
            return list(session.scalars(select(SubmissionRow.id).where(*mine).order_by(SubmissionRow.id).limit(limit)))

    # Rows

    @staticmethod
    def _row(session: Session, tenant: str, name: str) -> CampaignRow | None:
        return session.scalar(select(CampaignRow).where(CampaignRow.tenant == tenant, CampaignRow.name == name))

    @staticmethod
    def _campaign(session: Session, row: CampaignRow) -> Campaign:
        session.refresh(row)  # what the database's own clock gave
        kept = {name: getattr(row, name) for name in Campaign.__dataclass_fields__ if hasattr(CampaignRow, name)}
        typed = {
            "lane": Lane(row.lane),
            "state": CampaignState(row.state),
            "speakers": tuple(row.speakers),
            "formats": tuple(row.formats),
            "now": session.scalar(select(database_clock())) or 0.0,
        }
        return Campaign(**(kept | typed))


#: Nothing speaks against these, and they are not handed in yet.
_WANTED = (
    CampaignItemRow.submission_id.is_(None),
    CampaignItemRow.problem.is_(None),
    CampaignItemRow.duplicate_of.is_(None),
)
#: Of them, those that the farm can get at.
_LEFT = (*_WANTED, CampaignItemRow.source.is_not(None))


def _row_of(entry: Entry) -> dict[str, Any]:
    row = asdict(entry) | {"options": dict(entry.options)}
    row["metadata_"] = dict(row.pop("metadata"))
    return row


def _item(row: CampaignItemRow) -> CampaignItem:
    kept = {name: getattr(row, name) for name in CampaignItem.__dataclass_fields__ if name != "metadata"}
    return CampaignItem(**kept, metadata=row.metadata_)
