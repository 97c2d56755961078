"""Search: where something was said, in all transcripts that are shown and that the caller may see."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from stenopool.api.caller import Reader, TheFarm
from stenopool.api.paging import Cursor, link_next
from stenopool.api.shapes import SearchPage, hit
from stenopool.api.terms import Line, Tenant
from storage.search import Search, Wanted

router = APIRouter(prefix="/v1/search", tags=["search"])

Day = Annotated[date | None, Query(description="As 2026-11-22, by UTC.")]


@router.get("", response_model=SearchPage)
def search_transcripts(
    request: Request,
    response: Response,
    farm: TheFarm,
    caller: Reader,
    q: Annotated[
        Line,
        Query(description='All words, "a phrase", one OR another, -not, beginn*.', examples=['budget "next year"']),
    ],
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    cursor: Cursor = None,
    tenant: Tenant | None = None,
    campaign: Line | None = None,
    speaker: Line | None = None,
    language: Annotated[Line | None, Query(description="Its code.")] = None,
    since: Day = None,
    until: Day = None,
    fuzzy: Annotated[bool, Query(description="Also words that are spelled alike.")] = False,
    redacted: Annotated[bool, Query(description="Only what is left of redacted transcripts.")] = False,
) -> dict[str, Any]:
    """Find where something was said. What is redacted is found by administrators only."""
    wanted = Wanted(
        query=q,
        tenant=caller.whose(tenant),
        campaign=campaign,
        speaker=speaker,
        language=language,
        since=None if since is None else _midnight(since),
        until=None if until is None else _midnight(until) + timedelta(days=1).total_seconds(),
        fuzzy=fuzzy,
        redacted=redacted,
        veiled=not caller.sees_all,
    )
    page = Search(farm.database).find(wanted, limit=limit, cursor=cursor)
    link_next(request, response, page.cursor)
    return {"hits": list(map(hit, page.hits)), "cursor": page.cursor}


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
