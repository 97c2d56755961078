"""Browsers that have signed in: a cookie in the place of a key, and the sign that a request is the page's own.

Other sites can have a browser send requests here, with its cookie, though SameSite forbids it: whatever changes
something has to bring a second token, which only the page knows. It follows from the first.
"""

from __future__ import annotations

import hashlib
import hmac

from fastapi import Request
from sqlalchemy import Engine

from stenopool.api.problem import Refused
from storage.access import Key
from storage.sessions import Sessions

COOKIE = "stenopool_session"
#: Header of requests of the page's JavaScript; forms have a field of the name `FIELD`.
HEADER = "X-CSRF-Token"
FIELD = "csrf"

#: These change nothing.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def csrf_of(token: str) -> str:
    """The second token of a session."""
    return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()


def session_key(request: Request, database: Engine) -> Key | None:
    """The key of the session that a request belongs to; None where it belongs to none that counts."""
    token = request.cookies.get(COOKIE)
    return None if not token else Sessions(database).key_of(token)


def check_own(request: Request, given: str | None) -> None:
    """Raises Refused where a request of a session changes something, and does not bring its second token."""
    expected = csrf_of(request.cookies.get(COOKIE, ""))
    if not hmac.compare_digest(expected.encode(), (given or "").encode()):
        raise Refused(403, f"this request is not the page's own: {HEADER} is missing or of another session; reload it")
