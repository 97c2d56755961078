"""Errors as OpenAI's clients read them; all routes of a `SpeechRoute` answer so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from stenopool.api.problem import LATER, STATUS, Refused
from stenopool.errors import StenopoolError

_log = logging.getLogger(__name__)

_KINDS = {401: "authentication_error", 403: "permission_error", 404: "invalid_request_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


class SpeechProblem(BaseModel):
    """What is wrong."""

    message: str = Field(description="One line: what is wrong, and what to do.")
    type: str
    param: str | None
    code: str | None


class SpeechProblems(BaseModel):
    """What went wrong, as OpenAI's clients read it."""

    error: SpeechProblem


class SpeechError(Exception):
    """What is wrong with a request, or became of it.

    Args:
        status: of HTTP.
        message: one line that says what is wrong and what to do.
        param: the parameter that it is about.
        code: as programs know it.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    def body(self) -> dict[str, Any]:
        """As it is sent."""
        kind = _KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        code = self.code or _CODES.get(self.status)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": code}}


class SpeechRoute(APIRoute):
    """A route whose errors are OpenAI's."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute`."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                found = speech_error(error)
                return JSONResponse(found.body(), found.status, headers=dict(found.headers or {}))

        return handler


def speech_error(error: Exception) -> SpeechError:
    """Any error as one of OpenAI's."""
    if isinstance(error, SpeechError):
        return error
    if isinstance(error, Refused):
        return SpeechError(error.status, error.detail, headers=error.headers)
    if isinstance(error, StenopoolError):
        status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
        if status >= 500:
            _log.error("%s", error)  # it may name hosts and folders: that is for the operator
            said = "a part of the farm does not answer; try later" if status == 503 else _SOMETHING
            return SpeechError(status, said, headers={"Retry-After": str(LATER)} if status == 503 else None)
        headers = {"Retry-After": str(LATER)} if status == 429 else None
        return SpeechError(400 if status == 422 else status, str(error), headers=headers)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return SpeechError(400, str(first["msg"]), param=str(first["loc"][-1]))
    if isinstance(error, HTTPException):
        return SpeechError(error.status_code, str(error.detail), headers=error.headers)
    _log.exception("a request failed", exc_info=error)
    return SpeechError(500, _SOMETHING)


_SOMETHING = "something is wrong here; the log says what"
