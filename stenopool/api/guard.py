"""What every request passes: it gets an id, its body a bound, its answer the headers that browsers go by.

Plain ASGI: bodies and answers are passed on piece by piece, as they come.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stenopool.api.problem import problem

#: Bytes of a JSON body: a list of ten thousand recordings fits.
MOST_JSON = 8 << 20

#: Seconds for which the rest of a body is read that is refused.
DRAINED_FOR = 1.0

#: What takes other bodies than JSON, and bounds them itself.
STREAMED = re.compile(r"/v1/(recordings|uploads(/(?!presigned$)[^/]*)?|audio/.*)")

#: What a caller may name a request, to find it again in logs and in the audit log.
_REQUEST = re.compile(r"[\w.:-]{1,64}")
_JSON = re.compile(r"application/([\w.-]+\+)?json\s*(;.*)?", re.IGNORECASE)

#: Of what is no page: nothing in it is ever run, framed or remembered.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Stands before an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        id = given if _REQUEST.fullmatch(given) else secrets.token_hex(8)
        told: dict[str, str] = {}
        scope.setdefault("state", {}).update(id=id, headers=told)
        ours = scope["path"].startswith("/v1/")

        body = _Body(receive, there=_has_body(headers))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                its = MutableHeaders(scope=message)
                its["X-Request-ID"] = id
                for name, value in (told | (_HEADERS if ours else {"X-Content-Type-Options": "nosniff"})).items():
                    its.setdefault(name, value)
                if message["status"] >= 400 and body.left:
                    its["Connection"] = "close"  # or the rest would be read, however much it is
                await send(message)
            elif body.left and not message.get("more_body"):
                # Who is refused while they send is to hear of it: where a connection is closed on them, they may not.
                await send({**message, "more_body": True})
                await body.drain()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await send(message)

        taking: Receive = body
        if ours and not STREAMED.fullmatch(scope["path"]):
            if refusal := _refusal(headers):
                await problem(*refusal)(scope, taking, answer)
                return
            taking = _bounded(taking)
        await self._app(scope, taking, answer)


class _Body:
    """A request's body, as it is received."""

    def __init__(self, receive: Receive, *, there: bool) -> None:
        self._receive = receive
        #: There is more of it.
        self.left = there

    async def __call__(self) -> Message:
        message = await self._receive()
        if not message.get("more_body"):
            self.left = False
        return message

    async def drain(self) -> None:
        """Read on for a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAINED_FOR):
                while self.left:
                    await self()


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "") not in ("", "0") or "transfer-encoding" in headers


def _refusal(headers: Headers) -> tuple[int, str] | None:
    """Why a body is not read; None where it is, or there is none."""
    if not _has_body(headers):
        return None
    length = headers.get("content-length", "")
    if not _JSON.fullmatch(headers.get("content-type", "")):
        return 415, "send JSON, as Content-Type: application/json"
    if length.isdecimal() and int(length) > MOST_JSON:
        return 413, _TOO_LARGE
    return None


_TOO_LARGE = f"a JSON body has {MOST_JSON >> 20} MiB at most; send less at once"


def _bounded(receive: Receive) -> Receive:
    n = 0

    async def bounded() -> Message:
        nonlocal n
        message = await receive()
        n += len(message.get("body", b""))
        if n > MOST_JSON:
            raise HTTPException(413, _TOO_LARGE)
        return message

    return bounded
