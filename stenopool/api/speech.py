"""Transcription as OpenAI's API has it: a file comes, and its text goes back in the same request.

Each request is a submission like others, in the lane urgent; while it waits it holds no thread. A client that goes away
cancels it; one that has waited for as long as the server waits is told under which id it can be asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from models.tokens import english_name
from scheduler.growing import Growing
from scheduler.items import Item
from stenopool.api.caller import Caller, Submitter, TheFarm
from stenopool.api.speech_errors import SpeechError, SpeechRoute, speech_error
from stenopool.api.speech_form import FORMATS, GRANULARITIES, Wanted, file_of, read_form, read_wanted
from stenopool.api.speech_shapes import body_of, event, usage_of
from stenopool.api.waiting import EVERY, Waiting, waiting_of
from stenopool.domain import Task, Transcript
from stenopool.errors import LedgerUnreachable
from stenopool.formats.text import writable
from storage.desk import Submission
from storage.glances import Glance, Glances
from storage.ledger import Work
from storage.tables import SubmissionState
from workers.farm import Farm
from workers.hand_in import Terms, hand_in
from workers.media import Probe
from workers.shown import shown_of

router = APIRouter(prefix="/v1", tags=["speech"], route_class=SpeechRoute)

#: What OpenAI calls its Whisper: here, the model that most slots of the farm have.
ANY = "whisper-1"
#: Seconds after which a stream in which nothing was said says that it lives.
QUIET = 15.0

_FORM: dict[str, Any] = {
    "file": {"type": "string", "format": "binary", "description": "A recording in any format that is read."},
    "model": {"type": "string", "minLength": 1, "description": f"One of /v1/models, or {ANY}."},
    "language": {"type": "string", "description": "Its code; detected if none is given."},
    "prompt": {"type": "string", "description": "What may have been said before: names and spellings."},
    "response_format": {"type": "string", "enum": list(FORMATS), "default": "json"},
    "temperature": {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
}
_MORE: dict[str, Any] = {
    "languages[]": {"type": "array", "items": {"type": "string"}, "description": "Of which one is detected."},
    "keywords[]": {"type": "array", "items": {"type": "string"}, "description": "Words to expect."},
    "timestamp_granularities[]": {"type": "array", "items": {"type": "string", "enum": list(GRANULARITIES)}},
    "chunking_strategy": {"type": "string", "enum": ["auto"]},
    "stream": {"type": "boolean", "default": False},
}


def _described(fields: dict[str, Any], *other: str) -> dict[str, Any]:
    schema = {"type": "object", "required": ["file", "model"], "properties": fields}
    kinds = ("application/json", "text/plain", "application/x-subrip", "text/vtt", *other)
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
        "responses": {"200": {"description": "The text.", "content": {kind: {} for kind in kinds}}},
    }


@router.post(
    "/audio/transcriptions",
    response_class=Response,
    openapi_extra=_described({**_FORM, **_MORE}, "text/event-stream"),
)
async def create_transcription(request: Request, farm: TheFarm, caller: Submitter) -> Response:
    """The text of a recording; with `stream`, piece by piece as it is heard."""
    return await _answer(request, farm, caller, "transcribe")


@router.post("/audio/translations", response_class=Response, openapi_extra=_described(_FORM))
async def create_translation(request: Request, farm: TheFarm, caller: Submitter) -> Response:
    """The text of a recording in English."""
    return await _answer(request, farm, caller, "translate")


@router.get("/models")
def list_models(farm: TheFarm, caller: Submitter) -> dict[str, Any]:
    """The models of the engines that work."""
    del caller
    return {"object": "list", "data": [_model(name) for name in models_of(farm)]}


@router.get("/models/{name:path}")
def show_model(name: str, farm: TheFarm, caller: Submitter) -> dict[str, Any]:
    """One of them."""
    del caller
    return _model(_chosen(farm, name))


def models_of(farm: Farm) -> list[str]:
    """Models of engines that work, as they are named; that which most slots have comes first."""
    slots: dict[str, int] = {}
    for worker in farm.fleet.workers():
        if worker.role == "engine" and worker.state == "working" and worker.model:
            slots[worker.model] = slots.get(worker.model, 0) + worker.slots
    return sorted(slots, key=lambda name: (-slots[name], name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "stenopool"}


def _chosen(farm: Farm, name: str) -> str:
    """The model that is meant. Raises SpeechError where no engine has it."""
    there = models_of(farm)
    if name in there:
        return name
    if name != ANY:
        known = f"there are {', '.join(there)}" if there else "no engine works now"
        raise SpeechError(404, f"no engine has the model {name!r}; {known}", param="model", code="model_not_found")
    if not there:
        raise SpeechError(503, "no engine works now; try later", param="model", headers={"Retry-After": "30"})
    return there[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A request that waits for its text."""

    request: Request
    farm: Farm
    waiting: Waiting
    id: int
    #: Seconds that it waits, and until when, by the monotonic clock.
    wait: float
    until: float

    async def look(self) -> Glance:
        """How far it is.

        Raises:
            SpeechError: it has waited for long enough, or the client is gone.
        """
        while True:
            if await self.request.is_disconnected():
                await run_in_threadpool(self.farm.desk.cancel, self.id)
                raise SpeechError(499, "the client is gone")
            if time.monotonic() > self.until:
                raise SpeechError(
                    504,
                    f"it is not done after {self.wait:g} s and goes on; ask for it: GET /v1/recordings/{self.id}",
                    code="timeout",
                    headers={**self.named, "x-should-retry": "false"},
                )
            try:
                return await self.waiting.look(self.id)
            except LedgerUnreachable:  # it goes on where it was once it is back
                await asyncio.sleep(EVERY)

    @property
    def named(self) -> dict[str, str]:
        """Headers that say which submission it is."""
        return {"X-Stenopool-Recording": str(self.id)}


async def _answer(request: Request, farm: Farm, caller: Caller, task: Task) -> Response:
    config = request.app.state.config
    form = await read_form(request, config.limits.size)
    try:
        wanted = read_wanted(form, task)
        file, name = file_of(form)
        submission = await run_in_threadpool(_hand_in, farm, caller, file, name, wanted)
    finally:
        await form.close()
    call = _Call(
        request=request,
        farm=farm,
        waiting=waiting_of(request),
        id=submission.id,
        wait=config.speech_wait,
        until=time.monotonic() + config.speech_wait,
    )
    if wanted.stream:
        return StreamingResponse(_events(call), media_type="text/event-stream", headers=call.named)
    while not (await call.look()).ready:
        pass
    return await run_in_threadpool(_whole, call, wanted)


def _hand_in(farm: Farm, caller: Caller, file: UploadFile, name: str, wanted: Wanted) -> Submission:
    terms = Terms(
        tenant=caller.acts_for(None),
        model=_chosen(farm, wanted.model),
        options=wanted.options,
        split=False,
        again=False,
        lane="urgent",
        priority=0,
        deadline=None,
    )
    try:
        with tempfile.NamedTemporaryFile(prefix="stenopool-") as copy:
            shutil.copyfileobj(file.file, copy, 1 << 20)
            copy.flush()
            item = Item(location=copy.name, name=name, metadata={"api": "openai"})
            return hand_in(farm, item, terms, look=_unseen)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpeechError(503, "the server has no room for the file now; try later") from error
        raise


def _unseen(_: Path) -> Probe:
    """Nothing is opened here: ingest finds what is wrong with a file, in a process that may crash."""
    return Probe(container="", codec="", channels=1, sample_rate=0, seconds=None, announced=False)


def _result(call: _Call) -> tuple[Work, Transcript]:
    """What became of it. Raises SpeechError where there is no text."""
    submission = call.farm.desk.submission(call.id)
    shown = shown_of(call.farm, submission)
    if not shown:
        why = submission.error or f"it is {submission.state.value}"
        # What cannot be decoded is the caller's; what failed later is ours.
        ours = submission.state is SubmissionState.FAILED and submission.duration is not None
        code = "server_error" if ours else "invalid_file" if submission.error else submission.state.value
        raise SpeechError(500 if ours else 400, why, param=None if ours else "file", code=code, headers=call.named)
    return shown[0]


def _whole(call: _Call, wanted: Wanted) -> Response:
    work, transcript = _result(call)
    spans = call.farm.ledger.spans(work.id) if wanted.format == "verbose_json" else ()
    language = ""
    if wanted.format == "verbose_json":
        spoken = "en" if wanted.options.task == "translate" else transcript.language
        language = english_name(spoken).lower() if spoken else ""
    body, media_type = body_of(
        transcript, wanted.format, granularities=wanted.granularities, language=language, spans=spans
    )
    headers = call.named
    if gaps := sum(len(piece.span) for piece in transcript.coverage.gaps):
        headers["X-Stenopool-Gap-Seconds"] = f"{gaps / 16_000:.3f}"
    return Response(body, headers=headers, media_type=media_type)


async def _events(call: _Call) -> AsyncIterator[bytes]:
    """The text as it becomes certain, then all of it."""
    over = False
    try:
        heard = _Heard(call)
        said = time.monotonic()
        while True:
            glance = await call.look()
            for piece in await heard.more(glance):
                said = time.monotonic()
                yield event({"type": "transcript.text.delta", "delta": piece})
            if glance.ready:
                break
            if time.monotonic() > said + QUIET:
                said = time.monotonic()
                yield b": it goes on\n\n"
        _, transcript = await run_in_threadpool(_result, call)
        text = writable(transcript.text)
        if rest := heard.rest(text):
            yield event({"type": "transcript.text.delta", "delta": rest})
        over = True
        yield event({"type": "transcript.text.done", "text": text, "usage": usage_of(transcript)})
    except Exception as error:
        over = True  # it goes on, has failed, or is cancelled already
        yield event(speech_error(error).body())
    finally:
        if not over:  # the client is gone, and nothing can be awaited here
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().run_in_executor(None, call.farm.desk.cancel, call.id)


class _Heard:
    """What is heard of a submission so far."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._glances = Glances(call.farm.database)
        self._transcript: int | None = None
        self._open = -1
        self._next = 0
        self._growing: Growing | None = None

    async def more(self, glance: Glance) -> list[str]:
        """Pieces of text that are certain since the last look."""
        if glance.transcript is None or glance.chunks_open == self._open:
            return []
        self._open = glance.chunks_open
        return [writable(piece) for piece in await run_in_threadpool(self._more, glance.transcript) if piece]

    def _more(self, transcript: int) -> list[str]:
        if self._growing is None:
            self._transcript = transcript
            self._growing = Growing(self._call.farm.ledger.work(transcript).duration)
        if transcript != self._transcript:  # it was begun anew; the whole text comes in the end
            return []
        pieces = []
        while found := self._glances.heard(transcript, self._next):
            pieces += [self._growing.add(one.result, one.following) for one in found]
            self._next += len(found)
        return pieces

    def rest(self, text: str) -> str:
        """What is left to tell of the whole text."""
        return text if self._growing is None else self._growing.finish(text)
