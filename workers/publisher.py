"""The publisher's own transcripts: fetched where a feed names them, kept beside ours, handed out as they came.

    metadata ──► links ──► fetched, within bounds ──► object by its digest ──► row: kept
                                │
                                └──► row: refused, or later, with the reason

Each is asked for until that is answered for good, and never again. Whatever comes of it, its recording goes on.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from scheduler.publisher import Link, links_of, media_type_of
from stenopool.errors import DiskFull, FetchError
from storage.desk import Submission
from storage.keys import publisher_key
from storage.objects import ObjectStore
from storage.publisher import PublisherTranscript, PublisherTranscripts
from storage.publisher_tables import KeptState
from workers.elsewhere import Elsewhere
from workers.farm import Farm
from workers.patience import patiently

_log = logging.getLogger(__name__)

#: How files are called, by media type; all others end in bin.
ENDINGS = {
    "application/json": "json",
    "application/srt": "srt",
    "application/x-subrip": "srt",
    "text/html": "html",
    "text/plain": "txt",
    "text/srt": "srt",
    "text/vtt": "vtt",
}
#: As which they are sent and put elsewhere: a page among them is a stranger's, and is not to be run as one of ours.
SENT_AS = "application/octet-stream"


def keep_transcripts(farm: Farm, submission: Submission, elsewhere: Elsewhere, stop: threading.Event) -> None:
    """Fetch what a submission's publisher offers, as far as that has not been answered.

    Raises:
        StoreError, LedgerError: the farm's own do not answer.
        Stopped: `stop` was set.
    """
    links = dict(enumerate(links_of(submission.metadata), start=1))
    if not links:
        return
    known = PublisherTranscripts(farm.database)
    for one in known.of(submission.id):
        if one.state != KeptState.LATER:
            links.pop(one.place, None)
    if not links:
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="stenopool-", ignore_cleanup_errors=True)
    except OSError as error:
        _log.warning("submission %d: its publisher's transcripts are not fetched (%s)", submission.id, error.strerror)
        return
    with folder as path:
        for place, link in links.items():
            one, content = _fetched(place, link, elsewhere, Path(path) / "text", stop)
            _keep(farm.store, known, submission.id, one, content)


def _keep(
    store: ObjectStore, known: PublisherTranscripts, submission: int, one: PublisherTranscript, content: bytes
) -> None:
    while True:
        if one.sha256 is not None:
            store.put(publisher_key(submission, one.sha256), content)  # without its type: see SENT_AS
        with suppress(KeyError):  # removed just now, as a worker that died long ago had left it without a row
            patiently(partial(known.keep, submission, one, there=store.exists))
            return


def _fetched(
    place: int, link: Link, elsewhere: Elsewhere, path: Path, stop: threading.Event
) -> tuple[PublisherTranscript, bytes]:
    """What came of asking for one, and its bytes."""

    def outcome(state: KeptState, **other: Any) -> PublisherTranscript:
        about = {"url": link.url, "media_type": link.media_type, "language": link.language, "rel": link.rel}
        return PublisherTranscript(place=place, state=state, **{**about, **other})

    try:
        fetched = elsewhere.fetch_text(link.url, path, stop, refuse=partial(_refusal, link.media_type))
    except (FetchError, DiskFull) as error:
        return outcome(KeptState.LATER if error.retryable else KeptState.REFUSED, error=str(error)), b""
    content = path.read_bytes()
    path.unlink()
    media_type = link.media_type or media_type_of(fetched.content_type)
    sha256 = hashlib.sha256(content).hexdigest()
    return outcome(KeptState.KEPT, media_type=media_type, sha256=sha256, size=len(content)), content


def _refusal(media_type: str | None, head: bytes) -> str | None:
    """Why what begins so is not what was offered: many a server says 200 and means 404."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if media_type not in (None, "text/html", "application/xhtml+xml") and start.startswith((b"<!doctype", b"<html")):
        return f"is a web page, not {media_type}"
    return None


# Handing out


def kept_of(farm: Farm, submission: Submission) -> list[PublisherTranscript]:
    """Those of a submission that are kept."""
    return [one for one in PublisherTranscripts(farm.database).of(submission.id) if one.state == KeptState.KEPT]


def content_of(farm: Farm, submission: Submission, one: PublisherTranscript) -> bytes:
    """The bytes of one that is kept, as they came. Raises KeyError where its object is gone."""
    assert one.sha256 is not None
    assert one.size is not None
    return farm.store.read(publisher_key(submission.id, one.sha256), 0, one.size)


def files_of(farm: Farm, submission: Submission, stem: str) -> Iterator[tuple[str, PublisherTranscript, bytes]]:
    """Those that are kept as files: name, what it is, bytes. What is gone from the object store is left out."""
    for one in kept_of(farm, submission):
        with suppress(KeyError):
            yield file_name(stem, one), one, content_of(farm, submission, one)


def file_name(stem: str, one: PublisherTranscript) -> str:
    """What a file of it is called: `talk.publisher1.vtt`."""
    return f"{stem}.publisher{one.place}.{ENDINGS.get(one.media_type or '', 'bin')}"


def record_of_transcript(one: PublisherTranscript) -> dict[str, Any]:
    """One, for programs."""
    return {
        "n": one.place,
        "url": one.url,
        "type": one.media_type,
        "language": one.language,
        "rel": one.rel,
        "state": one.state.value,
        "error": one.error,
        "bytes": one.size,
        "sha256": one.sha256,
    }
