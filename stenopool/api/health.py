"""Whether this process lives, and whether it can be of use. No key is needed, and nothing is told."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import select

from stenopool.api.caller import TheFarm
from workers.metrics import render

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def alive() -> dict[str, str]:  # without a thread: that all are taken is no reason to end it
    """This process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(farm: TheFarm, response: Response) -> dict[str, str]:
    """The ledger answers as well, without which nothing can be done."""
    from stenopool.errors import LedgerError
    from storage.database import refusals

    try:
        with refusals(farm.database), farm.database.connect() as connection:
            connection.execute(select(1))
    except LedgerError:
        response.status_code = 503
        return {"status": "the ledger does not answer"}
    return {"status": "ok"}


@router.get("/metrics", include_in_schema=False)
def metrics(farm: TheFarm) -> Response:
    """The ledger's figures for Prometheus: counts and ages, no names. A proxy keeps it from whoever is outside."""
    return Response(render(farm), media_type=CONTENT_TYPE_LATEST)
