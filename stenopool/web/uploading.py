"""Upload: files are dropped, and become recordings."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from stenopool.api.problem import Refused
from stenopool.web.pages import AViewer
from storage.tables import Lane

router = APIRouter()


@router.get("/upload")
def upload(viewer: AViewer) -> Response:
    """The page."""
    if not viewer.submits:
        raise Refused(403, "this key lacks the scope submit")
    workers = viewer.farm.fleet.workers()
    models = sorted({one.model for one in workers if one.model}) or ["pocket"]
    return viewer.page("upload.html", lanes=Lane, models=models)
