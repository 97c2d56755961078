"""Signing in with a key, or with a link of `stenopool up`; signing out."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from stenopool.api.caller import TheFarm
from stenopool.api.problem import Refused
from stenopool.api.session import COOKIE, check_own, session_key
from stenopool.web.pages import own_path, page
from storage.access import Access
from storage.sessions import LASTS, Sessions

router = APIRouter()


@router.get("/sign-in")
def form(request: Request, next: str = "/") -> Response:
    """Where a key is asked for."""
    return page(request, "sign_in.html", next=own_path(next), problem=None)


@router.get("/session")
def session(request: Request, farm: TheFarm) -> dict[str, bool]:
    """Whether there is a session.

    Who comes from another site comes without the cookie, which is for requests from here alone: the page at which he
    ends asks once more.
    """
    return {"signed_in": session_key(request, farm.database) is not None}


@router.post("/sign-in")
def sign_in(
    request: Request,
    farm: TheFarm,
    key: Annotated[str, Form(max_length=200)] = "",
    link: Annotated[str, Form(max_length=200)] = "",
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """Begin a session."""
    _check_from_here(request)
    sessions = Sessions(farm.database)
    if link:
        token, problem = sessions.redeem(link, request.state.id), "This link was used before, or is too old: use a key."
    else:
        found = Access(farm.database).key_of(key.strip())
        token = None if found is None else sessions.open(found, request.state.id)
        problem = "This key is unknown, revoked or expired."
    if token is None:
        return page(request, "sign_in.html", 401, next=own_path(next), problem=problem)
    response = RedirectResponse(own_path(next), 303)
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(LASTS),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",  # as the proxy that speaks TLS says
    )
    return response


@router.post("/sign-out")
def sign_out(request: Request, farm: TheFarm, csrf: Annotated[str, Form()] = "") -> Response:
    """End the session."""
    check_own(request, csrf)
    Sessions(farm.database).end(request.cookies.get(COOKIE, ""))
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response


def _check_from_here(request: Request) -> None:
    """Nobody is signed in by another site, under a name that is not theirs."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    if site not in ("same-origin", "none") or (origin and urlsplit(origin).netloc != request.headers.get("host")):
        raise Refused(403, "sign in on this site's own page")
