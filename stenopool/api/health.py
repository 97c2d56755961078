"""Whether this process lives, and whether it can be of use. No key is needed, and nothing is told."""

from __future__ import annotations

from fastapi import APIRouter, Response
from sqlalchemy import select

from stenopool.api.caller import TheFarm

router = APIRouter(tags=["health"])


@router.get("/healthz")
def alive() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(farm: TheFarm, response: Response) -> dict[str, str]:
    """The ledger answers as well, without which nothing can be done."""
    from stenopool.errors import LedgerError
    from storage.database import name_of, refusals

    try:
        with refusals(name_of(farm.database)), farm.database.connect() as connection:
            connection.execute(select(1))
    except LedgerError:
        response.status_code = 503
        return {"status": "the ledger does not answer"}
    return {"status": "ok"}
