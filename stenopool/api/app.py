"""The application: its parts, what all of them have in common, and how they are described."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from stenopool.api import (
    audit,
    campaigns,
    campaigns_run,
    events,
    hand_in,
    health,
    keeping,
    keys,
    recordings,
    search,
    sound,
    speech,
    transcripts,
    uploads,
    watchlists,
    webhooks,
    workers,
)
from stenopool.api.background import Background
from stenopool.api.describe import describe
from stenopool.api.guard import Guard
from stenopool.api.problem import add_problems
from stenopool.api.rate import Rates
from stenopool.api.threads import few_threads
from stenopool.config import Config
from stenopool.version import __version__
from workers.farm import Farm
from workers.uploads import Uploads

#: Each has a router; the more special paths of two go first.
PARTS = (
    health,
    hand_in,
    uploads,
    recordings,
    transcripts,
    sound,
    speech,
    keeping,
    campaigns,
    campaigns_run,
    search,
    watchlists,
    events,
    webhooks,
    keys,
    audit,
    workers,
)

#: What browsers of other sites may be told, and may send.
_EXPOSED = (
    *("ETag", "Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID"),
    *("Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Upload-Offset", "Upload-Length"),
    *("Upload-Expires", "Upload-Metadata"),
)

_ABOUT = """Recordings in, transcripts out, every second accounted for.

Every call but those of health carries a key: `Authorization: Bearer sp_...` (made by `stenopool key create`). A key is
a tenant's and sees only what is that tenant's; what is another's is not found. Errors are problem details (RFC 9457).
"""


def make_app(farm: Farm, config: Config) -> FastAPI:
    """The API of a farm.

    Args:
        farm: whose; it is closed by whoever opened it.
    """

    app = FastAPI(
        title="Stenopool",
        version=__version__,
        description=_ABOUT,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        lifespan=few_threads,
    )
    app.state.farm = farm
    app.state.config = config
    app.state.rates = Rates(config.api_rate)
    app.state.background = Background()
    app.state.uploads = Uploads(config.uploads, most=int(config.limits.size))
    add_problems(app)
    app.add_middleware(Guard)
    if config.api_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.api_origins,
            allow_methods=["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"],
            allow_headers=["*"],
            expose_headers=_EXPOSED,
        )
    for part in PARTS:
        app.include_router(part.router)
    describe(app)
    return app
