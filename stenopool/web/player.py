"""The transcript page: text beside sound."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import RedirectResponse, Response

from scheduler.channels import handed_out
from stenopool.api.caller import submission_of
from stenopool.api.problem import Refused
from stenopool.api.recordings import Id
from stenopool.domain import SAMPLE_RATE, Transcript
from stenopool.errors import Missing
from stenopool.formats import FORMATS
from stenopool.web.pages import AViewer
from stenopool.web.reading import gaps, rows, seams, timed, unsure
from storage.desk import Submission
from workers.shown import is_redacted, transcripts_of, veiled_of

router = APIRouter()

#: From 1; without, what is heard in all of them.
Channel = Annotated[int | None, Query(ge=1, le=512)]
Version = Annotated[int | None, Query(ge=1, le=10_000)]


@router.get("/recordings/{id}/transcript")
def transcript(viewer: AViewer, id: Id, channel: Channel = None, version: Version = None) -> Response:
    """The page."""
    one = submission_of(viewer.farm, viewer.caller, id)
    secret = is_redacted(viewer.farm, one)
    veiled = secret and not viewer.sees_all
    found = handed_out((veiled_of if veiled else transcripts_of)(viewer.farm, one, version), one.speakers)
    if not found and version is None:
        return RedirectResponse(f"/recordings/{id}", 303)
    shown = _chosen(found, one, channel)
    drawn = {
        "sound": f"/v1/recordings/{id}/sound" + (f"?channel={channel}" if channel else ""),
        "waveform": f"/v1/recordings/{id}/waveform?points=2000" + (f"&channel={channel}" if channel else ""),
        "seconds": shown.duration / SAMPLE_RATE,
        "marks": gaps(shown),
        "seams": seams(shown),
    }
    asked = {name: value for name, value in (("channel", channel), ("version", version)) if value}
    return viewer.page(
        "transcript.html",
        one=one,
        transcript=shown,
        rows=rows(shown),
        timed=timed(shown),
        unsure=unsure(shown),
        channels=[other.channel for other in found if other.channel is not None],
        channel=channel,
        formats=FORMATS,
        query="".join(f"&{name}={value}" for name, value in asked.items()),
        # An element of a script that is none: no text of it ends the element.
        drawn=json.dumps(drawn).replace("<", "\\u003c"),
        secret=secret,
        veiled=veiled,
    )


def _chosen(found: list[Transcript], one: Submission, channel: int | None) -> Transcript:
    if not found:
        raise Missing(f"{one.name} has no such transcript; /recordings/{one.id} says how far it is")
    if channel is None:
        return found[0]
    for transcript in found:
        if transcript.channel == channel:
            return transcript
    raise Refused(404, f"{one.name} has no channel {channel} of its own")
