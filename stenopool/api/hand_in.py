"""Handing in: what is at a URL, what was uploaded, or the body itself, which is never whole in memory."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from scheduler.items import Item
from scheduler.sources import Kind, kind_of, name_of
from stenopool.api.caller import Caller, Submitter, TheConfig, TheFarm, refuse
from stenopool.api.guard import MOST_JSON
from stenopool.api.problem import Refused
from stenopool.api.shapes import Recording, recording
from stenopool.api.terms import HandIn, HandInQuery, Key, terms_of
from stenopool.config import Config
from stenopool.errors import MediaError, Missing, UsageError
from storage.access import Access
from storage.desk import Submission
from storage.keys import upload_key
from workers.apart import probe_apart
from workers.farm import Farm
from workers.hand_in import Terms, hand_in
from workers.ingest import digest_file
from workers.uploads import Uploads

router = APIRouter(tags=["recordings"])

#: Bytes that are written at once; seconds without any after which whoever sends is given up.
PIECE, PATIENCE = 1 << 20, 60.0

#: Files that are handed in at once, in this process.
_TAKERS = CapacityLimiter(8)

_MEDIA = re.compile(r"(audio|video)/[\w.+-]+\s*(;.*)?|application/(octet-stream|ogg)\s*(;.*)?", re.IGNORECASE)
_JSON = re.compile(r"application/json\s*(;.*)?", re.IGNORECASE)

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/HandIn"}},
            **{
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in ("application/octet-stream", "audio/*", "video/*")
            },
        },
    }
}


_GONE = "there is no such upload; it may have expired: begin another one"


def uploads_of(request: Request) -> Uploads:
    """What is being sent to this machine."""
    found: Uploads = request.app.state.uploads
    return found


@router.post(
    "/v1/recordings",
    response_model=Recording,
    status_code=201,
    responses={200: {"model": Recording, "description": "It was handed in before, under the same key."}},
    openapi_extra=_BODY,
)
async def hand_in_recording(
    request: Request,
    response: Response,
    farm: TheFarm,
    config: TheConfig,
    caller: Submitter,
    query: Annotated[HandInQuery, Query()],
    idempotency_key: Annotated[
        Key | None,
        Header(description="A second request with the same key is the first one; 200 says so."),
    ] = None,
) -> dict[str, Any]:
    """Hand in a recording.

    As JSON, a recording at a URL or one that was uploaded; or the recording itself as the body, and all else in the
    query. It exists from then on, hence 201: its state tells how far it is.
    """
    kind = request.headers.get("content-type", "")
    desk = _Desk(farm, config, caller, idempotency_key)
    if _JSON.fullmatch(kind):
        if request.query_params:
            raise UsageError("the query is for a recording that is the body; beside JSON, say it there")
        given = _valid(partial(HandIn.model_validate, await _json(request)), "body")
        found, known = await _taking(partial(desk.named, given, uploads_of(request)))
    elif _MEDIA.fullmatch(kind):
        given = _valid(query.as_body, "query")
        found, known = await _sent(request, desk, given)
    else:
        raise Refused(415, "send JSON, or a recording as audio/*, video/* or application/octet-stream")
    response.status_code = 200 if known else 201
    response.headers["Location"] = f"/v1/recordings/{found.id}"
    return recording(found)


def _valid(read: Callable[[], HandIn], where: str) -> HandIn:
    try:
        return read()
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": (where, *one["loc"])} for one in error.errors()]) from None


async def _json(request: Request) -> Any:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_JSON:
            raise Refused(413, f"a JSON body has {MOST_JSON >> 20} MiB at most")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise UsageError("the body is no JSON") from None


async def _sent(request: Request, desk: _Desk, given: HandIn) -> tuple[Submission, bool]:
    """A recording that is the body: into a file of this machine, hashed on its way."""
    uploads = uploads_of(request)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal():
        uploads.check(int(announced))
    terms, name = await run_in_threadpool(desk.terms, given), given.name or "recording"
    with uploads.spooled(ending_of(name)) as path:
        digest, size = hashlib.sha256(), 0
        with path.open("xb") as file:

            def keep(piece: bytes) -> None:
                digest.update(piece)
                file.write(piece)

            async for piece in pieces(request):
                size += len(piece)
                uploads.check(size)
                await run_in_threadpool(keep, piece)
        if not size:
            raise UsageError("the body is empty; send a recording")
        return await _taking(partial(desk.take, path, name, given, terms, digest.hexdigest()))


async def _taking(take: Callable[[], tuple[Submission, bool]]) -> tuple[Submission, bool]:
    """Hand in. Files are looked at and uploaded meanwhile: for that, not all threads are taken that answer others."""
    return await to_thread.run_sync(take, limiter=_TAKERS)


async def pieces(request: Request) -> Any:
    """The body of a request, in pieces of a size that is worth a write.

    Raises:
        Refused: whoever sends it has fallen silent.
        ClientDisconnect: they are gone; what came until then is handed out first.
    """
    gathered = bytearray()
    stream = request.stream()
    try:
        while True:
            try:
                gathered += await asyncio.wait_for(anext(stream), PATIENCE)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise Refused(
                    408, f"nothing has come for {PATIENCE:.0f} s; send what is left, or all of it again"
                ) from None
            if len(gathered) >= PIECE:
                yield bytes(gathered)
                gathered.clear()
    except Exception:
        if gathered:
            yield bytes(gathered)
        raise
    if gathered:
        yield bytes(gathered)


def ending_of(name: str) -> str:
    """Of a file's name, where it is an ordinary one: it helps to tell what the file is."""
    suffix = PurePath(name).suffix
    return suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,10}", suffix) else ""


class _Desk:
    """Hands in for a caller; what it hands out is a submission, and whether that was known."""

    def __init__(self, farm: Farm, config: Config, caller: Caller, key: str | None) -> None:
        self._farm = farm
        self._config = config
        self._caller = caller
        self._key = key

    def terms(self, given: HandIn) -> Terms:
        """What is asked for, if it may be."""
        return terms_of(given, self._caller, self._farm, self._config, again=given.again)

    def named(self, given: HandIn, uploads: Uploads) -> tuple[Submission, bool]:
        """What is elsewhere, or was uploaded."""
        if (given.source is None) == (given.upload is None):
            raise UsageError("name either source, a URL, or upload, the id of one")
        terms = self.terms(given)
        if given.upload is not None:
            return self._uploaded(given, given.upload, terms, uploads)
        source = given.source or ""
        match kind_of(source):
            case Kind.PATH:
                raise UsageError(f"{source[:100]!r} is no URL; a file is sent as the body, or uploaded")
            case Kind.OBJECT if self._caller.tenant is not None:
                raise Refused(403, "s3:// is read with the farm's credentials, for operators' keys; give an https URL")
        item = self._item(given, source, given.name or name_of(source), self._key)
        return self._handed_in(item, terms)

    def take(self, path: Path, name: str, given: HandIn, terms: Terms, digest: str) -> tuple[Submission, bool]:
        """A file of this machine."""
        return self._handed_in(self._item(given, str(path), name, self._key), terms, digest)

    def _uploaded(self, given: HandIn, id: str, terms: Terms, uploads: Uploads) -> tuple[Submission, bool]:
        key = self._key or f"upload {id}"
        if id.startswith("p-"):
            return self._presigned(given, id, terms, uploads, key)
        try:
            upload = uploads.find(id)
        except Missing:
            return self._known(terms.tenant, key)
        if upload.tenant != terms.tenant:
            if not self._caller.may_see(upload.tenant):
                raise refuse(self._farm, self._caller, f"upload {id}", upload.tenant, _GONE)
            raise Missing(_GONE)
        if not upload.complete:
            raise Refused(409, f"upload {id} has {upload.offset} of its {upload.length} bytes; send the rest first")
        name = given.name or upload.metadata.get("filename") or "recording"
        path = uploads.path(id)
        done = self._handed_in(self._item(given, str(path), name, key), terms, digest_file(path))
        uploads.remove(id)
        return done

    def _presigned(self, given: HandIn, id: str, terms: Terms, uploads: Uploads, key: str) -> tuple[Submission, bool]:
        object_key = upload_key(terms.tenant, id)
        size = self._farm.store.size(object_key)
        if size is None:
            return self._known(terms.tenant, key)
        uploads.check(size)
        name = given.name or "recording"
        with uploads.spooled(ending_of(name)) as path:
            try:
                self._farm.store.download(object_key, path)
            except KeyError:  # handed in by another request just now
                return self._known(terms.tenant, key)
            done = self._handed_in(self._item(given, str(path), name, key), terms, digest_file(path))
        self._farm.store.delete(object_key)
        return done

    def _known(self, tenant: str, key: str) -> tuple[Submission, bool]:
        """What was made of an upload that is gone."""
        found = self._farm.desk.with_key(tenant, key)
        if found is None:
            raise Missing(_GONE)
        return found, True

    def _item(self, given: HandIn, location: str, name: str, key: str | None) -> Item:
        return Item(location=location, name=_line(name), key=key, metadata=given.metadata)

    def _handed_in(self, item: Item, terms: Terms, digest: str | None = None) -> tuple[Submission, bool]:
        known = item.key is not None and self._farm.desk.with_key(terms.tenant, item.key) is not None
        look = partial(probe_apart, limits=self._config.limits)
        try:
            found = hand_in(self._farm, item, terms, file_sha256=digest, look=look)
        except MediaError as error:
            if digest is None:
                raise
            raise type(error)(str(error).replace(item.location, item.name)) from None  # no folder of ours is told
        if not known:
            Access(self._farm.database).note(
                self._caller.actor, "submission.create", f"submission {found.id}", tenant=found.tenant
            )
        return found, known


def _line(name: str) -> str:
    """A name that an upload brought with it, as a line."""
    return re.sub(r"[\x00-\x1f\x7f]", "", name)[:200] or "recording"
