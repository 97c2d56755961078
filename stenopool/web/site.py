"""API and page in one application, as they are served."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stenopool.api.app import make_app
from stenopool.api.session import SAFE
from stenopool.config import Config
from stenopool.logs import process_is, set_up
from stenopool.web import campaigns, overview, player, recordings, searching, signing_in, uploading
from stenopool.web.live import Snapshots
from stenopool.web.pages import SignInFirst, page, sign_in_first
from storage.overview import Overview
from workers.farm import Farm

#: Everything that a page loads is ours, and nobody shows it within a page of theirs.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; media-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

#: Bytes of a form: none of ours has more than a few fields.
_MOST_FORM = 64 << 10


def make_site(farm: Farm, config: Config) -> FastAPI:
    """The API of a farm, and its page."""
    app = make_app(farm, config)
    app.state.snapshots = Snapshots(lambda tenant: Overview(farm.database).look(tenant))
    app.add_exception_handler(SignInFirst, sign_in_first)
    for kind, handler in list(app.exception_handlers.items()):
        if kind is not SignInFirst:
            app.add_exception_handler(kind, _as_page(handler))
    app.add_middleware(PageGuard)
    for part in (signing_in, overview, recordings, player, campaigns, searching, uploading):
        app.include_router(part.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")))
    return app


def from_env() -> FastAPI:
    """That of the farm that the settings name: what each process of a server makes for itself."""
    config = Config.from_env()
    set_up(config.log)  # a process of its own, which has only its environment from the one that began it
    process_is(role="api")
    return make_site(Farm.find(config), config)


def is_page(path: str) -> bool:
    """Whether a person asks, and not a program."""
    return not path.startswith(("/v1/", "/healthz", "/readyz", "/metrics"))


def _as_page(handler: Callable[..., Any]) -> Callable[[Request, Exception], Awaitable[Response]]:
    """An error of a page is told as a page, in the words that the API would use."""

    async def told(request: Request, error: Exception) -> Response:
        response: Response = await handler(request, error)
        if not is_page(request.url.path):
            return response
        said = json.loads(bytes(response.body))
        return page(request, "error.html", response.status_code, title=said["title"], detail=said["detail"])

    return told


class PageGuard:
    """Stands before pages; the API has a guard of its own, and is passed on untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or not is_page(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                its = MutableHeaders(scope=message)
                if scope["path"].startswith("/static/"):
                    its["Cache-Control"] = "no-cache"  # asked for each time, sent only where it has changed
                for name, value in _HEADERS.items():
                    its.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        # A body in chunks is as long as it likes, whatever length is told beside it.
        told = length.isdecimal() and int(length) <= _MOST_FORM and "transfer-encoding" not in headers
        if scope["method"] not in SAFE and not told:
            refusal = PlainTextResponse(f"a form has {_MOST_FORM >> 10} KiB at most, and says how long it is\n", 413)
            await refusal(scope, receive, answer)
            return
        await self._app(scope, receive, answer)
