"""The first page: what runs, what waits, who works, what failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from scheduler.forecast import Band, engines_of, forecast, speed_of
from stenopool.web.pages import AViewer, Viewer
from stenopool.web.plots import Plot, plot
from storage.desk import Submission
from storage.fleet import Worker
from storage.listing import Listing, Which
from storage.overview import HISTORY, Look
from storage.tables import SubmissionState
from storage.throughput import PIECE, Done
from workers.farm import Farm

router = APIRouter()

#: What is at work just now.
RUNNING = (SubmissionState.INGESTING, SubmissionState.TRANSCRIBING, SubmissionState.PUBLISHING)


@router.get("/")
def overview(viewer: AViewer) -> Response:
    """The page."""
    return viewer.page("overview.html", **_shown(viewer))


@router.get("/parts/overview")
def part(viewer: AViewer) -> Response:
    """What changes of it."""
    return viewer.page("parts/overview.html", **_shown(viewer))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What stands above all."""

    n_open: int
    #: Seconds of audio that are to be done, and submissions of unknown length besides.
    audio: float
    n_unknown: int
    #: Times real time, of all engines together, in the last quarter of an hour; None where nothing was done.
    speed: float | None
    #: Seconds that an engine takes for a second of audio.
    factor: float | None
    engines: int
    silent: int
    #: Chunks that are held, and slots that there are.
    held: int
    slots: int
    eta: Band | None


def figures(look: Look) -> Figures:
    """The figures of a look."""
    engines = [one for one in look.workers if one.slots]
    healthy = [one for one in engines if one.healthy]
    lately = [one for one in look.history if one.began > look.now - 3 * PIECE]
    audio, busy = sum(one.audio for one in lately), sum(one.busy for one in lately)
    seconds = look.now - min((one.began for one in lately), default=look.now)
    return Figures(
        n_open=sum(one.n for one in look.backlog),
        audio=sum(one.audio for one in look.backlog),
        n_unknown=sum(one.n_unknown for one in look.backlog),
        speed=audio / seconds if audio and seconds else None,
        factor=busy / audio if audio else None,
        engines=len(healthy),
        silent=sum(not one.healthy for one in look.workers),
        held=sum(min(one.held, one.slots) for one in healthy),
        slots=sum(one.slots for one in healthy),
        eta=_eta(look),
    )


def _eta(look: Look) -> Band | None:
    """When the last of the open ones is done: the slowest model's."""
    workers = [
        Worker(id=one.id, role=one.role, host=one.host, pid=0, version="", model=one.model, slots=one.slots)
        for one in look.workers
        if one.healthy
    ]
    done = [Done(one.audio, one.busy) for one in look.history]
    found = []
    for model, lengths in look.remaining.items():
        speed = speed_of(done, workers, model)
        expected = None if speed is None else forecast(lengths, speed, engines_of(workers, model))
        if expected is None or expected.finish is None:
            return None
        found.append(expected.finish)
    return max(found, key=lambda band: band.mid, default=None)


def plots(look: Look) -> list[Plot]:
    """Throughput and real-time factor over time, piece by piece."""
    end = int(look.now // PIECE * PIECE) + PIECE
    began = end - HISTORY
    # The last piece is still going on: what is done of it in so many seconds.
    lasted = {
        one.began: PIECE if one.began + PIECE <= look.now else max(look.now - one.began, 30) for one in look.history
    }
    speed = [(one.began, one.audio / lasted[one.began]) for one in look.history]
    factor = [(one.began, one.busy / one.audio) for one in look.history if one.audio]
    return [
        plot("Throughput", "× real time, all engines", speed, began, end, PIECE),
        plot("Real-time factor", "seconds an engine takes for a second of audio", factor, began, end, PIECE),
    ]


def _shown(viewer: Viewer) -> dict[str, Any]:
    look: Look = viewer.request.app.state.snapshots.of(viewer.tenant)
    return {
        "look": look,
        "figures": figures(look),
        "plots": plots(look) if viewer.tenant is None else [],
        "running": running(viewer.farm, viewer.tenant),
    }


def running(farm: Farm, tenant: str | None) -> list[Submission]:
    """What is at work just now, as far as there is room for it."""
    return Listing(farm.database).page(Which(tenant=tenant, states=RUNNING), limit=8)
