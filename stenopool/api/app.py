"""The application: its parts, what all of them have in common, and how they are described."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

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
    app.middleware("http")(_with_request_id)
    for part in (health, recordings, sound, speech):
        app.include_router(part.router)
    return app


async def _with_request_id(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    given = request.headers.get("x-request-id", "")
    request.state.id = given if _REQUEST.fullmatch(given) else secrets.token_hex(8)
    response = await call_next(request)
    response.headers["X-Request-ID"] = request.state.id
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "no-store")
    return response
