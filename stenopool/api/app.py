"""The application: its parts, what all of them have in common, and how they are described."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stenopool.api import health, recordings, sound, speech
from stenopool.api.problem import add_problems
from stenopool.config import Config
from stenopool.version import __version__
from workers.farm import Farm

_ABOUT = """Recordings in, transcripts out, every second accounted for.

Every call but those of health carries a key: `Authorization: Bearer sp_...` (made by `stenopool key create`). A key is
a tenant's and sees only what is that tenant's; what is another's is not found. Errors are problem details (RFC 9457).
"""

#: What a caller may name a request, to find it again in logs and in the audit log.
_REQUEST = re.compile(r"[\w.:-]{1,64}")


def make_app(farm: Farm, config: Config) -> FastAPI:
    """The API of a farm.

    Args:
        farm: whose; it is closed by whoever opened it.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = FastAPI(
        title="Stenopool",
        version=__version__,
        description=_ABOUT,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.farm = farm
    app.state.config = config
    add_problems(app)
    app.add_middleware(_Named)
    for part in (health, recordings, sound, speech):
        app.include_router(part.router)
    return app


class _Named:
    """Every request has an id that every answer tells. Plain ASGI: through it, it is seen that a client goes away."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        id = given if _REQUEST.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["id"] = id

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = id
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, answer)
