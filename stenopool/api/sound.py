"""The sound of a recording, what is drawn of it, and what became of each stretch of it.

`send_sound`, `waveform_of` and `strip_of` are for the page as well, whose visitors have a session in place of a key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from stenopool.api.caller import Caller, Reader, TheFarm, submission_of
from stenopool.api.problem import Refused
from stenopool.api.ranges import Bytes, Unsatisfiable, asked
from stenopool.api.recordings import Id
from stenopool.domain import SAMPLE_RATE, Span
from stenopool.errors import UsageError
from storage.access import Scope
from storage.desk import Submission
from storage.strip import Strip, StripPiece
from workers.farm import Farm
from workers.sound import Sound, sound_of
from workers.waveform import MOST, waveform_of

router = APIRouter(prefix="/v1/recordings", tags=["sound"])

Channel = Annotated[int | None, Query(ge=1, le=512, description="From 1, where channels were split.")]
Seconds = Annotated[float | None, Query(ge=0, le=1e7, description="In seconds.")]

_PARTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "All of it.", "content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}}},
    206: {
        "description": "The range that was asked for.",
        "content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}},
    },
    409: {"description": "It is not decoded yet; or it is to be redacted, and nobody knows where yet."},
    410: {"description": "It is not kept any more."},
    416: {"description": "The range is behind the end."},
}


def hears_all(caller: Caller) -> bool:
    """Whether what is redacted is for this caller."""
    return Scope.ADMIN in caller.key.scopes


@router.get("/{id}/sound", response_class=Response, responses=_PARTS)
def recording_sound(
    request: Request,
    id: Id,
    farm: TheFarm,
    caller: Reader,
    channel: Channel = None,
    start: Seconds = None,
    end: Seconds = None,
) -> Response:
    """The sound as WAV, 16 kHz, whole or a range of its bytes: a player need not load what it does not play.

    Of two channels that were split, left and right; of more, all mixed. Where the samples are gone and the file that
    was handed in is there, that file. Silent where something is redacted, unless the key has the scope admin.
    """
    submission = submission_of(farm, caller, id)
    span = span_between(start, end)
    return send_sound(request, sound_of(farm, submission, channel=channel, span=span, full=hears_all(caller)))


# The same, but for the body; a second function, as operations of an API have different ids.
router.add_api_route("/{id}/sound", recording_sound, methods=["HEAD"], include_in_schema=False)


@router.get("/{id}/waveform", responses={code: _PARTS[code] for code in (409, 410)})
def recording_waveform(
    request: Request,
    id: Id,
    farm: TheFarm,
    caller: Reader,
    channel: Channel = None,
    points: Annotated[int, Query(ge=1, le=MOST, description="Stretches at most.")] = 1000,
) -> dict[str, Any]:
    """The least and the greatest sample of each stretch, in JSON as BBC's audiowaveform writes it (8 bits).

    The first time, all of the samples are read for it; a day takes some seconds.
    """
    keep = request.app.state.config.keep_sound
    submission = submission_of(farm, caller, id)
    return waveform_of(farm, submission, channel=channel, points=points, full=hears_all(caller), sound=keep)


@router.get("/{id}/chunks")
def recording_chunks(
    id: Id,
    farm: TheFarm,
    caller: Reader,
    channel: Channel = None,
    offset: Annotated[int, Query(ge=0, le=10**6)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> dict[str, Any]:
    """What becomes of each stretch, in order, while it is made and after: chunks, silences, what was skipped.

    `total` stretches there are, `limit` of them are told from the `offset`th on. What was skipped lies within a chunk.
    """
    return strip_of(farm, submission_of(farm, caller, id), channel=channel, offset=offset, limit=limit)


def span_between(start: float | None, end: float | None) -> Span | None:
    """Seconds as a span of samples; None where neither is given. Raises UsageError where nothing is between them."""
    if start is None and end is None:
        return None
    first = round((start or 0.0) * SAMPLE_RATE)
    last = round((1e7 if end is None else end) * SAMPLE_RATE)
    if first >= last:
        raise UsageError(f"there is nothing from {start or 0:g} s to {end:g} s; end has to be greater than start")
    return Span(first, last)


def send_sound(request: Request, sound: Sound) -> Response:
    """A sound, or the range of it that a request asks for."""
    tag = f'"{sound.tag}"'
    kind = "inline" if sound.media_type.startswith(("audio/", "video/")) else "attachment"
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Content-Disposition": f"{kind}; filename*=UTF-8''{quote(sound.name, safe='')}",
    }
    try:
        part = asked(request.headers.get("range"), sound.size, if_range=request.headers.get("if-range"), tag=tag)
    except Unsatisfiable:
        there = {"Content-Range": f"bytes */{sound.size}", "Accept-Ranges": "bytes"}
        raise Refused(416, f"there are {sound.size} bytes; ask for some of these", headers=there) from None
    start, end = part or Bytes(0, sound.size)
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{sound.size}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=sound.media_type)
    return StreamingResponse(sound.pieces(start, end), status_code=status, headers=headers, media_type=sound.media_type)


def strip_of(
    farm: Farm, submission: Submission, *, channel: int | None = None, offset: int = 0, limit: int = 1000
) -> dict[str, Any]:
    """What becomes of each stretch of one channel of a submission, the first one if none is named; in samples.

    Raises:
        UsageError: there is no such channel.
    """
    transcripts = dict(submission.transcripts)
    answer: dict[str, Any] = {"sample_rate": SAMPLE_RATE, "channels": [at for at in transcripts if at]}
    if not transcripts:
        return {
            **answer, "channel": None, "transcript": None, "version": None, "state": None, "duration": None,
            "counts": {}, "total": 0, "offset": offset, "chunks": [],
        }  # fmt: skip
    at = next(iter(transcripts)) if channel is None else channel
    if at not in transcripts:
        raise UsageError(f"{submission.id} has no channel {channel}; leave it out for the first one")
    work = farm.ledger.work(transcripts[at])
    pieces: Sequence[StripPiece] = Strip(farm.database).pieces(work.id)
    return {
        **answer,
        "channel": at or None,
        "transcript": work.id,
        "version": work.version,
        "state": work.state.value,
        "duration": work.duration,
        "counts": dict(Counter(piece.state.value for piece in pieces)),
        "total": len(pieces),
        "offset": offset,
        "chunks": [_record(piece) for piece in pieces[offset : offset + limit]],
    }


def _record(piece: StripPiece) -> dict[str, Any]:
    record = asdict(piece)
    del record["span"]
    return {"start": piece.span.start, "end": piece.span.end, **record}
