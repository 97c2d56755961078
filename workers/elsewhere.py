"""What lies elsewhere: a URL or an object of S3 that a submission names becomes a file, in turn with others."""

from __future__ import annotations

import threading
from pathlib import Path

from stenopool.errors import FetchError
from storage.foreign import read_foreign, signed_url
from workers.fetch import Fetcher, host_of, shown_url
from workers.hosts import Hosts
from workers.ingest import Stopped
from workers.source import refusal_of


class Elsewhere:
    """Fetches sources with manners.

    Objects of S3 are fetched by a signed URL, so that all that holds for URLs holds for them: which addresses may be
    asked, how much is taken, and that what breaks off is gone on with. Whoever names a bucket names no secret.

    Args:
        hosts: who is asked how often; None for what is usual.
    """

    def __init__(self, fetcher: Fetcher, hosts: Hosts | None = None) -> None:
        self._fetcher = fetcher
        self._hosts = hosts or Hosts()

    def fetch(self, source: str, path: Path, stop: threading.Event) -> None:
        """Write what is there to a file.

        Args:
            source: an http(s) URL, or s3://bucket/key.
            stop: set it to give up.

        Raises:
            FetchError: it cannot be had, or is no recording.
            UsageError: it is no URL of an object.
            StoreError: there are no credentials for an object; the disk refuses.
            Stopped: `stop` was set.
        """

        def progress(_: int) -> None:
            if stop.is_set():
                raise Stopped

        an_object = source.startswith("s3://")
        url = signed_url(read_foreign(source), int(self._fetcher.bounds.seconds)) if an_object else source
        try:
            with self._hosts.turn(host_of(url)):
                self._fetcher.fetch(url, path, name=shown_url(source), refuse=refusal_of, progress=progress)
        except FetchError as error:
            if error.code == "size":
                raise FetchError("size", f"{error}; raise STENOPOOL_MAX_GB") from error
            if an_object and error.code == "status" and not error.retryable:
                cure = "see that it is there, that ingest workers may read it, and which region it is in"
                raise FetchError("status", f"{error}; {cure}") from error
            raise
