"""Pages: a cursor says behind what a page begins, so that what is new meanwhile moves nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Annotated, Any

from fastapi import Query, Request, Response

from stenopool.errors import UsageError

Limit = Annotated[int, Query(ge=1, le=1000, description="So many at most.")]
Cursor = Annotated[
    str | None, Query(max_length=500, description="What the page before ended with; all else has to be as it was.")
]


def cursor_of(last: int, *asked: Any) -> str:
    """The cursor of a page that ends with this one, of what was `asked` for."""
    text = json.dumps([last, _mark(asked)])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str | None, *asked: Any) -> int | None:
    """What a page is to begin behind. Raises UsageError where the cursor is none, or of other pages."""
    if cursor is None:
        return None
    try:
        last, mark = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        place = int(last)
    except (ValueError, TypeError, OverflowError):
        raise UsageError("that is no cursor; it is what the page before this one ended with") from None
    if mark != _mark(asked) or not 0 <= place < 1 << 63:
        raise UsageError("that cursor is of another list: all that is asked for has to be as it was")
    return place


def _mark(asked: tuple[Any, ...]) -> str:
    return hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()[:12]


def link_next(request: Request, response: Response, cursor: str | None) -> None:
    """Say in the head as well where the next page is (RFC 8288)."""
    if cursor is not None:
        url = request.url.include_query_params(cursor=cursor)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
