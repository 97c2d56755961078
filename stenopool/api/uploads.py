"""Uploads that go on after whatever broke them off (tus 1.0), and those that go straight to the object store.

An upload of tus lies on the machine that takes it: where several serve the API, they share that folder, or a proxy
sends whoever uploads to the same one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import time
import uuid
from collections.abc import Mapping
from email.utils import formatdate
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.requests import ClientDisconnect

from stenopool.api.caller import Caller, Submitter, TheFarm, refuse
from stenopool.api.hand_in import pieces, uploads_of
from stenopool.api.problem import Refused
from stenopool.api.shapes import Shape
from stenopool.api.terms import Strict, Tenant
from stenopool.errors import UsageError
from storage.access import Access
from storage.keys import upload_key
from workers.farm import Farm
from workers.uploads import Upload, Uploads

VERSION = "1.0.0"
PRESIGNED = "presigned"
#: Seconds that a URL to send something by is good for.
SIGNED_FOR = 900

_SUMS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}
_MISMATCH = 460  # as tus has it

TheUploads = Annotated[Uploads, Depends(uploads_of)]
Id = Annotated[str, Path(pattern=r"^t-[0-9a-f]{32}$")]
Version = Annotated[str | None, Header(alias="Tus-Resumable", description=VERSION, examples=[VERSION])]


def _speaks_tus(request: Request, version: Version = None) -> None:
    if request.path_params.get("id") == PRESIGNED:  # that is no upload, and has a route of its own
        raise Refused(405, f"POST is what there is at /v1/uploads/{PRESIGNED}", headers={"Allow": "POST"})
    request.state.headers["Tus-Resumable"] = VERSION
    if version != VERSION:
        raise Refused(412, f"say Tus-Resumable: {VERSION}, which is spoken here", headers={"Tus-Version": VERSION})


router = APIRouter(prefix="/v1/uploads", tags=["uploads"])
_TUS = [Depends(_speaks_tus)]


@router.options("", status_code=204)
def tell_of_uploads(uploads: TheUploads) -> Response:
    """What is spoken here: tus, and which parts of it."""
    told = {
        "Tus-Resumable": VERSION,
        "Tus-Version": VERSION,
        "Tus-Extension": "creation,expiration,termination,checksum",
        "Tus-Checksum-Algorithm": ",".join(_SUMS),
        "Tus-Max-Size": str(uploads.most),
        "Allow": "OPTIONS, POST",
    }
    return Response(status_code=204, headers=told)


@router.post("", status_code=201, dependencies=_TUS, response_class=Response)
def begin_upload(
    uploads: TheUploads,
    farm: TheFarm,
    caller: Submitter,
    upload_length: Annotated[int, Header(ge=0, le=2**53, description="Bytes that it will have.")],
    upload_metadata: Annotated[
        str | None, Header(max_length=4000, description="Names and values in base64: filename dGFsay5tcDM=")
    ] = None,
    tenant: Tenant | None = None,
) -> Response:
    """Begin an upload: its bytes are sent by PATCH to the Location of the answer."""
    if not upload_length:
        raise UsageError("Upload-Length is 0: an empty file is no recording")
    upload = uploads.create(caller.acts_for(tenant), upload_length, _read_metadata(upload_metadata or ""))
    Access(farm.database).note(caller.actor, "upload.create", f"upload {upload.id}", tenant=upload.tenant)
    return Response(status_code=201, headers={"Location": f"/v1/uploads/{upload.id}", **_expiry(upload)})


class Wanted(Strict):
    """What is to be sent straight to the object store."""

    size: int = Field(ge=1, le=5_000_000_000, description="Its bytes, exactly; more than 5 GB go by tus.")
    tenant: Tenant | None = None


class Presigned(Shape):
    """Where to send it."""

    id: str
    url: str = Field(description="Whoever knows it may send the file: keep it secret.")
    method: str
    headers: dict[str, str]
    expires_at: float


@router.post(f"/{PRESIGNED}", status_code=201, response_model=Presigned)
def presign_upload(wanted: Wanted, farm: TheFarm, uploads: TheUploads, caller: Submitter) -> dict[str, Any]:
    """A URL to which a file is sent straight, past this server; then it is handed in by its id."""
    uploads.check(wanted.size)
    tenant, id = caller.acts_for(wanted.tenant), f"p-{uuid.uuid4().hex}"
    try:
        url = farm.store.presign_upload(upload_key(tenant, id), SIGNED_FOR, wanted.size)
    except UsageError:
        raise Refused(
            409, "this farm keeps its objects in a folder, which gives no URLs: send it to /v1/uploads"
        ) from None
    Access(farm.database).note(caller.actor, "upload.presign", f"upload {id}", tenant=tenant)
    headers = {"Content-Length": str(wanted.size), "Content-Type": "application/octet-stream"}
    return {"id": id, "url": url, "method": "PUT", "headers": headers, "expires_at": time.time() + SIGNED_FOR}


def _found(id: str, farm: Farm, uploads: Uploads, caller: Caller) -> Upload:
    found = uploads.find(id)
    if not caller.may_see(found.tenant):
        missing = f"there is no upload {id}; it may have expired: begin another one"
        raise refuse(farm, caller, f"upload {id}", found.tenant, missing)
    return found


@router.head("/{id}", dependencies=_TUS, response_class=Response)
def look_at_upload(id: Id, farm: TheFarm, uploads: TheUploads, caller: Submitter) -> Response:
    """How many of its bytes have come."""
    upload = _found(id, farm, uploads, caller)
    told = {"Upload-Offset": str(upload.offset), "Upload-Length": str(upload.length), **_expiry(upload)}
    if upload.metadata:
        told["Upload-Metadata"] = ",".join(f"{name} {_encoded(value)}" for name, value in upload.metadata.items())
    return Response(headers=told)


_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.patch("/{id}", status_code=204, dependencies=_TUS, response_class=Response, openapi_extra=_BODY)
async def go_on_with_upload(
    request: Request,
    id: Id,
    farm: TheFarm,
    uploads: TheUploads,
    caller: Submitter,
    upload_offset: Annotated[int, Header(ge=0, le=2**53, description="From which byte on.")],
    upload_checksum: Annotated[
        str | None, Header(max_length=200, description="Of what is sent: sha256 and its digest in base64.")
    ] = None,
) -> Response:
    """Send what comes next of an upload. What has come when the connection breaks, has come."""
    if request.headers.get("content-type", "").lower() != "application/offset+octet-stream":
        raise Refused(415, "send Content-Type: application/offset+octet-stream")
    checksum = _read_checksum(upload_checksum)
    upload = await run_in_threadpool(_found, id, farm, uploads, caller)
    with uploads.writing(id) as file:
        offset = file.tell()
        if offset != upload_offset:
            raise Refused(409, f"the upload is at byte {offset}, not {upload_offset}; go on from there")
        digest = _SUMS[checksum[0]]() if checksum else None
        try:
            async for piece in pieces(request):
                offset += len(piece)
                _check_room(offset, upload)
                await run_in_threadpool(file.write, piece)
                if digest is not None:
                    digest.update(piece)
            if checksum and digest is not None:
                _check_sum(digest.digest(), checksum[1])
        except ClientDisconnect:
            if digest is not None:  # of a part nobody knows whether it is right
                file.truncate(upload_offset)
            return Response(status_code=499)
        except (_Mismatch, Refused) as error:
            file.truncate(upload_offset)
            if isinstance(error, _Mismatch):
                return _mismatch()
            raise
        await run_in_threadpool(_settle, file)
    return Response(status_code=204, headers={"Upload-Offset": str(offset), **_expiry(uploads.find(id))})


@router.delete("/{id}", status_code=204, dependencies=_TUS, response_class=Response)
def end_upload(id: Id, farm: TheFarm, uploads: TheUploads, caller: Submitter) -> Response:
    """Give an upload up; what has come is gone."""
    upload = _found(id, farm, uploads, caller)
    uploads.remove(upload.id)
    Access(farm.database).note(caller.actor, "upload.delete", f"upload {id}", tenant=upload.tenant)
    return Response(status_code=204)


class _Mismatch(Exception):  # noqa: N818
    """What came is not what was sent."""


def _check_room(offset: int, upload: Upload) -> None:
    if offset > upload.length:
        raise Refused(413, f"that is more than the {upload.length} bytes that it was to have")


def _check_sum(came: bytes, sent: bytes) -> None:
    if not hmac.compare_digest(came, sent):
        raise _Mismatch


def _mismatch() -> Response:
    # tus has a status of its own for it, which has no phrase.
    from fastapi.responses import JSONResponse

    detail = "what came is not what was sent, by its checksum; send it again"
    about = {"type": "about:blank", "title": "Checksum Mismatch", "status": _MISMATCH, "detail": detail}
    return JSONResponse(about, _MISMATCH, media_type="application/problem+json")


def _settle(file: Any) -> None:
    """What is said to have come is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _expiry(upload: Upload) -> dict[str, str]:
    return {"Upload-Expires": formatdate(upload.expires_at, usegmt=True)}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _read_metadata(given: str) -> Mapping[str, str]:
    """In: filename dGFsay5tcDM=,is_confidential   Out: {"filename": "talk.mp3", "is_confidential": ""}"""
    found = {}
    for pair in filter(None, map(str.strip, given.split(","))):
        name, _, value = pair.partition(" ")
        try:
            found[name] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise UsageError(f"Upload-Metadata: {name!r} has a value that is no base64 of a text") from None
    return found


def _read_checksum(given: str | None) -> tuple[str, bytes] | None:
    if given is None:
        return None
    name, _, value = given.partition(" ")
    if name not in _SUMS:
        raise Refused(400, f"Upload-Checksum: {name!r} is not known here; choose from {', '.join(_SUMS)}")
    try:
        return name, base64.b64decode(value, validate=True)
    except binascii.Error:
        raise Refused(400, "Upload-Checksum: the digest is no base64") from None
