"""Pages: their templates, who looks at them, and how figures are written in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from stenopool.api.caller import Caller, TheFarm
from stenopool.api.problem import Refused
from stenopool.api.session import COOKIE, check_own, csrf_of, session_key
from stenopool.domain import SAMPLE_RATE
from storage.access import Scope
from workers.farm import Farm

#: Header of requests for a part of a page, which are answered with a status and not with another page.
PART = "x-part"


class SignInFirst(Exception):  # noqa: N818 - nothing is wrong
    """Whoever asks has no session."""


async def sign_in_first(request: Request, _: Exception) -> Response:
    """Show where one can sign in, and come back from there."""
    if PART in request.headers or request.method != "GET":
        return Response(status_code=401)
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/sign-in?next={quote(path)}" if path != "/" else "/sign-in", 303)


def page(request: Request, template: str, status: int = 200, /, **context: Any) -> HTMLResponse:
    """A page from its template."""
    viewer = getattr(request.state, "viewer", None)
    text = _TEMPLATES.get_template(template).render(viewer=viewer, path=request.url.path, **context)
    return HTMLResponse(text, status)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at a page, by the session of his browser."""

    request: Request
    farm: Farm
    caller: Caller
    #: The token that forms bring.
    csrf: str

    @property
    def tenant(self) -> str | None:
        """Whose work they see; None: everybody's."""
        return self.caller.tenant

    @property
    def submits(self) -> bool:
        """Whether they may hand in, cancel, pause, retry."""
        return Scope.SUBMIT in self.caller.key.scopes

    @property
    def sees_all(self) -> bool:
        """Whether what is redacted is there for them in full."""
        return Scope.ADMIN in self.caller.key.scopes

    def page(self, template: str, status: int = 200, /, **context: Any) -> HTMLResponse:
        """A page from its template."""
        return page(self.request, template, status, **context)


def _viewer(request: Request, farm: TheFarm) -> Viewer:
    key = session_key(request, farm.database)
    if key is None:
        raise SignInFirst
    viewer = Viewer(request, farm, Caller(key=key, request=request.state.id), csrf_of(request.cookies[COOKIE]))
    request.state.viewer = viewer
    if Scope.READ not in key.scopes:
        raise Refused(403, "this key lacks the scope read, without which there is nothing to be seen")
    return viewer


AViewer = Annotated[Viewer, Depends(_viewer)]


def _actor(request: Request, viewer: AViewer, csrf: Annotated[str, Form()] = "") -> Viewer:
    check_own(request, csrf)
    if not viewer.submits:
        raise Refused(403, "this key lacks the scope submit")
    return viewer


#: A viewer who changes something, by a form of ours.
AnActor = Annotated[Viewer, Depends(_actor)]


def own_path(path: str) -> str:
    """A path of this site, or its first page: nobody is led elsewhere."""
    fine = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if fine else "/"


# How figures are written


def clock(seconds: float | None) -> str:
    """In: 3725.4; out: 1:02:05."""
    if seconds is None:
        return "–"
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def length_of(samples: int | None) -> str:
    """In: 480000; out: 0:30."""
    return clock(None if samples is None else samples / SAMPLE_RATE)


def hours(seconds: float) -> str:
    """In: 5400; out: 1.5 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h" if seconds < 360_000 else f"{seconds / 3600:,.0f} h"


def lasting(seconds: float) -> str:
    """In: 93600; out: 1 d 2 h."""
    if seconds < 90:
        return f"{max(0, seconds):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 129_600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} d"


def moment(at: float | None) -> str:
    """In: 0; out: 1970-01-01T00:00:00Z."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(at: float | None) -> str:
    """In: 0; out: 1970-01-01 00:00. JavaScript writes it in the viewer's own time."""
    return "–" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("stenopool.web"),
        autoescape=True,  # whatever people call their files
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(clock=clock, length_of=length_of, hours=hours, lasting=lasting, moment=moment, day=day)
    return found


_TEMPLATES = _templates()
