"""Search over all transcripts; a hit opens the player at its second."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from fastapi.responses import Response
from markupsafe import Markup, escape

from stenopool.domain import SAMPLE_RATE
from stenopool.errors import UsageError
from stenopool.web.pages import AViewer
from storage.search import Page, Search, Wanted

router = APIRouter()


@router.get("/search")
def search(
    viewer: AViewer,
    q: Annotated[str, Query(max_length=1000)] = "",
    language: Annotated[str, Query(max_length=16)] = "",
    fuzzy: bool = False,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """The page, with what was found."""
    found, problem = Page((), None), None
    if q.strip():
        wanted = Wanted(
            query=q, tenant=viewer.tenant, language=language or None, fuzzy=fuzzy, veiled=not viewer.sees_all
        )
        try:
            found = Search(viewer.farm.database).find(wanted, cursor=cursor)
        except UsageError as error:
            problem = str(error)
    hits = [
        {
            "link": f"/recordings/{hit.submission}/transcript"
            + (f"?channel={hit.channel}" if hit.channel else "")
            + f"#t={hit.at / SAMPLE_RATE:.1f}",
            "at": hit.at / SAMPLE_RATE,
            "text": marked(hit.text, hit.found),
            "hit": hit,
        }
        for hit in found.hits
        if hit.submission is not None
    ]
    more = None
    if found.cursor:
        asked = {"q": q, "cursor": found.cursor} | ({"language": language} if language else {})
        more = f"/search?{urlencode(asked | ({'fuzzy': 'true'} if fuzzy else {}))}"
    return viewer.page("search.html", q=q, language=language, fuzzy=fuzzy, hits=hits, more=more, problem=problem)


def marked(text: str, found: Iterable[tuple[int, int]]) -> Markup:
    """A passage with what was found in it marked; whatever was said stays text."""
    parts, at = [], 0
    for start, end in found:
        parts += [escape(text[at:start]), Markup("<mark>"), escape(text[start:end]), Markup("</mark>")]
        at = end
    return Markup("").join([*parts, escape(text[at:])])
