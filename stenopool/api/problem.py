"""Errors as problem details (RFC 9457): one place says which of our errors is which status."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from stenopool.errors import (
    BrokerUnreachable,
    KeyTaken,
    LedgerError,
    LedgerUnreachable,
    LegalHold,
    MediaBeyondLimit,
    MediaError,
    Missing,
    OutOfRoom,
    QueueFull,
    SoundGone,
    SoundNotYet,
    StenopoolError,
    StoreError,
    UploadBusy,
    UsageError,
)

_log = logging.getLogger(__name__)

#: The first that an error is one of counts.
STATUS: tuple[tuple[type[StenopoolError], int], ...] = (
    (Missing, 404),
    (KeyTaken, 409),
    (LegalHold, 409),
    (UploadBusy, 423),
    (SoundNotYet, 409),
    (QueueFull, 429),
    (SoundGone, 410),
    (MediaBeyondLimit, 413),
    (MediaError, 422),
    (UsageError, 422),
    (OutOfRoom, 507),
    (LedgerUnreachable, 503),
    (BrokerUnreachable, 503),
    (StoreError, 503),
    (LedgerError, 500),
)

#: Seconds after which whoever was told to come later may come.
LATER = 5


class Refused(Exception):  # noqa: N818 - it is the caller's, not ours
    """A request that is answered with a problem.

    Args:
        status: of HTTP.
        detail: one line that says what is wrong and what to do.
        headers: of the answer.
        more: further members of the problem.
    """

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, headers, more


def problem(status: int, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    """A problem as it is sent."""
    from http import HTTPStatus

    about = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(about | more, status, headers=headers, media_type="application/problem+json")


#: What is told in the place of errors that may name hosts and folders: those are for the operator.
_SAID = {
    500: "something is wrong here; the log says what",
    503: "a part of the farm does not answer; try later",
    507: "there is no room left here; try later",
}


def said_of(error: StenopoolError) -> tuple[int, str]:
    """The status of an error, and what a caller is told of it."""
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
    return status, _SAID.get(status, str(error))


def add_problems(app: FastAPI) -> None:
    """Have an application answer with problems, whatever goes wrong."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return problem(error.status, error.detail, headers=error.headers, **error.more)

    @app.exception_handler(StenopoolError)
    async def ours(_: Request, error: StenopoolError) -> JSONResponse:
        status, said = said_of(error)
        headers = {"Retry-After": str(LATER)} if status in (423, 429, 503) else None
        if status >= 500:
            _log.error("%s", error)
        return problem(status, said, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        wrong = [{"where": ".".join(str(part) for part in one["loc"]), "what": one["msg"]} for one in error.errors()]
        return problem(422, f"{wrong[0]['where']}: {wrong[0]['what']}" if wrong else "malformed", errors=wrong)

    @app.exception_handler(HTTPException)
    async def of_the_framework(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else {}
        from stenopool.api.describe import methods_of

        if error.status_code == 405 and (methods := methods_of(app, request.url.path)):
            headers["Allow"] = ", ".join(methods)  # the framework names those of one route
        return problem(error.status_code, str(error.detail), headers=headers)

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        _log.exception("a request failed", exc_info=error)
        return problem(500, "something is wrong here; the log says what")
