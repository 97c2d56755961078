"""Transcripts: what was heard, in every format; for those who may not see all, what is left of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import RedirectResponse

from scheduler.channels import handed_out
from scheduler.redacted import redaction_map
from stenopool.api.caller import Administrator, Reader, TheFarm, submission_of
from stenopool.api.problem import Refused
from stenopool.api.recordings import Id
from stenopool.api.terms import FormatName
from stenopool.domain import Transcript
from stenopool.errors import Missing, UsageError
from stenopool.formats import KEPT, format_of, render
from storage.desk import Submission
from storage.keys import REDACTED, TRANSCRIPTS
from storage.publisher import PublisherTranscripts
from storage.publisher_tables import KeptState
from storage.redactions import Redactions
from workers.export import stem_of
from workers.farm import Farm
from workers.publish import named, output_name
from workers.publisher import SENT_AS, content_of, file_name
from workers.shown import file_keys, is_redacted, shown_of, transcripts_of, veiled_of

router = APIRouter(prefix="/v1/recordings", tags=["transcripts"])

#: Seconds that a URL to download something by is good for.
SIGNED_FOR = 900

Channel = Annotated[int | None, Query(ge=1, le=512, description="Of split ones; left out: all of them joined.")]


@router.get(
    "/{id}/transcript",
    response_class=Response,
    responses={
        200: {"description": "The transcript, as the format's media type.", "content": {"*/*": {}}},
        304: {"description": "It is what If-None-Match names."},
        307: {"description": "Where the object store has it."},
    },
)
def get_transcript(
    id: Id,
    farm: TheFarm,
    caller: Reader,
    format: FormatName = "json",
    channel: Channel = None,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="This version, not what is shown.")] = None,
    redacted: Annotated[
        bool | None, Query(description="What is left of a redacted one; so in any case for who is no administrator.")
    ] = None,
    redirect: Annotated[bool, Query(description="To the object store, by a URL that is good for 15 minutes.")] = False,
    if_none_match: Annotated[str | None, Header(max_length=2000)] = None,
) -> Response:
    """The transcript of a recording, as a file in one of the formats."""
    found = submission_of(farm, caller, id)
    secret = is_redacted(farm, found)
    if redacted is False and secret and not caller.sees_all:
        raise Refused(403, "the whole text of what is redacted is for keys with the scope admin; leave redacted out")
    veiled = secret and (redacted if redacted is not None else not caller.sees_all)
    if redacted and not secret:
        raise Refused(409, f"nothing of recording {id} is redacted; leave redacted out")
    if redirect:
        return RedirectResponse(_signed(farm, found, format, channel, version, veiled=bool(veiled)), 307)
    transcripts = (veiled_of if veiled else transcripts_of)(farm, found, version)
    chosen = _chosen(found, transcripts, channel, version)
    content = render(chosen, format).encode()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if if_none_match is not None and _matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    name = output_name(stem_of(found.name), chosen.channel, format)
    headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return Response(content, headers=headers, media_type=format_of(format).media_type)


@router.get("/{id}/redaction-map")
def get_redaction_map(id: Id, farm: TheFarm, caller: Administrator, channel: Channel = None) -> dict[str, Any]:
    """What leads from a redacted transcript to the whole one: every text that was taken out, and where."""
    import json

    found = submission_of(farm, caller, id)
    for work, transcript in shown_of(farm, found):
        if transcript.channel == channel:
            masks = Redactions(farm.database).masks(work.id)
            if masks is not None:
                read: dict[str, Any] = json.loads(redaction_map(transcript, masks))
                return read
    raise Missing(f"recording {id} has no redacted transcript{'' if channel is None else f' of channel {channel}'}")


@router.get(
    "/{id}/publisher-transcripts/{n}",
    response_class=Response,
    responses={
        200: {"description": "Its bytes, as they came.", "content": {SENT_AS: {}}},
        409: {"description": "It could not be had."},
        410: {"description": "The object store has it no longer."},
    },
)
def get_publisher_transcript(
    id: Id, n: Annotated[int, Path(ge=1, le=32_767)], farm: TheFarm, caller: Reader
) -> Response:
    """A transcript that the recording's publisher offers itself, as a file: whatever it is, it is none of ours.

    Of a recording of which something is redacted, only for keys with the scope admin: nobody has looked through it.
    """
    found = submission_of(farm, caller, id)
    one = next((one for one in PublisherTranscripts(farm.database).of(id) if one.place == n), None)
    if one is None:
        raise Missing(f"recording {id} has no such transcript; see publisher_transcripts of /v1/recordings/{id}")
    if not caller.sees_all and is_redacted(farm, found):
        raise Refused(403, "what the publisher of a redacted recording offers is for keys with the scope admin")
    if one.state != KeptState.KEPT:
        raise Refused(409, f"it is not kept: {one.error}")
    try:
        content = content_of(farm, found, one)
    except KeyError:
        raise Refused(410, "the object store has it no longer; its publisher may") from None
    name = quote(file_name(stem_of(found.name), one), safe="")
    headers = {"ETag": f'"{one.sha256}"', "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
    return Response(content, headers=headers, media_type=SENT_AS)


def _chosen(
    found: Submission, transcripts: Sequence[Transcript], channel: int | None, version: int | None
) -> Transcript:
    """The one that is asked for, of a recording's."""
    whole = transcripts and len(transcripts) == len(found.transcripts)
    if not whole or (found.ended and not found.published):
        if version is not None and found.published:
            raise Missing(f"recording {found.id} has no version {version}; see versions of /v1/recordings/{found.id}")
        why = f" ({found.error})" if found.error else ""
        raise Refused(409, f"recording {found.id} has no transcript: it is {found.state}{why}")
    of_all, *others = handed_out(transcripts, found.speakers)
    if channel is None:
        return of_all
    if not found.split:
        raise UsageError("its channels are mixed; channel names those of what was handed in with channels: split")
    for one in others:
        if one.channel == channel:
            return one
    raise Missing(f"recording {found.id} has no channel {channel}; it has {len(others)}")


def _signed(
    farm: Farm, found: Submission, format: str, channel: int | None, version: int | None, *, veiled: bool
) -> str:
    """A URL of the file that the object store has."""
    if format not in KEPT or (found.split and channel is None):
        raise Refused(409, f"the object store has no such file; it has {', '.join(KEPT)}, of each split channel")
    works = shown_of(farm, found, version)
    chosen = _chosen(found, [transcript for _, transcript in works], channel, version)
    [work] = [work for work, transcript in works if transcript.channel == chosen.channel]
    keys = file_keys(found.id, work.id, chosen.channel, REDACTED if veiled else TRANSCRIPTS)
    [key] = [key for key, its in keys.items() if its == format]
    if not farm.store.exists(key):
        raise Refused(409, "the object store has that file no longer, or not yet; ask without redirect")
    name = named(stem_of(found.name), chosen.channel, format_of(format).ending)
    try:
        return farm.store.presign(key, SIGNED_FOR, name)
    except UsageError:
        raise Refused(409, "this farm keeps its objects in a folder, which gives no URLs: leave redirect out") from None


def _matches(given: str, etag: str) -> bool:
    return given.strip() == "*" or etag in (one.strip().removeprefix("W/") for one in given.split(","))
