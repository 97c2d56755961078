"""What lies elsewhere: a URL or an object of S3 that a submission names becomes a file, in turn with others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from stenopool.errors import FetchError
from storage.foreign import read_foreign, signed_url
from workers.fetch import Fetched, Fetcher, check_url, host_of, shown_url
from workers.hosts import Hosts
from workers.ingest import Stopped
from workers.source import refusal_of

#: Of a text that goes with a recording: bytes, seconds for all of it, seconds without a byte, and seconds that its turn
#: is waited for. Texts are small, and a recording waits for them.
TEXT_SIZE, TEXT_SECONDS, TEXT_SILENCE, TEXT_PATIENCE = 5e6, 30.0, 10.0, 30.0


class Elsewhere:
    """Fetches sources with manners, and what goes with them.

    Objects of S3 are fetched by a signed URL, so that all that holds for URLs holds for them: which addresses may be
    asked, how much is taken, and that what breaks off is gone on with. Whoever names a bucket names no secret.

    Args:
        hosts: who is asked how often; None for what is usual.
    """

    def __init__(self, fetcher: Fetcher, hosts: Hosts | None = None) -> None:
        self._fetcher = fetcher
        self._hosts = hosts or Hosts()
        bounds = fetcher.bounds
        self._of_texts = replace(
            fetcher,
            bounds=replace(
                bounds,
                size=min(bounds.size, TEXT_SIZE),
                seconds=min(bounds.seconds, TEXT_SECONDS),
                silence=min(bounds.silence, TEXT_SILENCE),
            ),
        )

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

    def fetch_text(
        self, url: str, path: Path, stop: threading.Event, *, refuse: Callable[[bytes], str | None]
    ) -> Fetched:
        """Write a text that goes with a recording to a file, within bounds of its own; whole, or not at all.

        Args:
            url: http or https, and nothing else.
            stop, refuse: as of `fetch`, and of `Fetcher.fetch`.

        Raises:
            FetchError: it cannot be had.
            StoreError: the disk refuses.
            Stopped: `stop` was set.
        """

        def progress(_: int) -> None:
            if stop.is_set():
                raise Stopped

        check_url(url)
        path.unlink(missing_ok=True)  # a part is of something else
        with self._hosts.turn(host_of(url), TEXT_PATIENCE):
            return self._of_texts.fetch(url, path, refuse=refuse, progress=progress)
