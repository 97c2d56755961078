"""A publisher: a server with a podcast's feed, in pages, and its sound; it knows what it was asked for."""

from __future__ import annotations

import hashlib
import ipaddress
import threading
from collections import Counter
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from workers.fetch import Bounds, Fetcher

HERE = ipaddress.ip_network("127.0.0.0/8")


class Publisher:
    """Serves files on 127.0.0.1, each with an ETag; a context manager."""

    def __init__(self) -> None:
        #: By path, with its type.
        self.files: dict[str, tuple[bytes, str]] = {}
        #: Paths that are answered by a status without anything else.
        self.broken: dict[str, int] = {}
        #: How often each path was asked for; and of these, how often its bytes were sent.
        self.asked: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str) -> str:
        """Of something on it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def publish(self, episodes: Iterable[str], *, per_page: int = 20, more: str = "", name: str = "feed") -> str:
        """A feed of these episodes, named by the paths of their sound, in pages; returns its URL."""
        paths = list(episodes)
        pages = [paths[at : at + per_page] for at in range(0, len(paths), per_page)] or [[]]
        for number, page in enumerate(pages, start=1):
            following = number < len(pages)
            head = f'<atom:link rel="next" href="{_page(name, number + 1)}"/>' if following else ""
            self.files[_page(name, number)] = (self._feed(page, head, more), "text/xml")
        return self.url(_page(name, 1))

    def _feed(self, paths: list[str], head: str, more: str) -> bytes:
        items = [
            f"<item><title>Episode {path}</title><guid>{path}</guid>{more}"
            f'<enclosure url="{path}" type="audio/mpeg" length="{len(self.files.get(path, (b"", ""))[0])}"/></item>'
            for path in paths
        ]
        spaces = 'xmlns:atom="http://www.w3.org/2005/Atom" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"'
        feed = f'<rss version="2.0" {spaces}><channel><title>Talks</title>{head}{"".join(items)}</channel></rss>'
        return feed.encode()


def _page(name: str, number: int) -> str:
    return f"/{name}.xml" if number == 1 else f"/{name}{number}.xml"


def _handler(publisher: Publisher) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            publisher.asked[self.path] += 1
            if self.path in publisher.broken or self.path not in publisher.files:
                self._answer(publisher.broken.get(self.path, 404))
                return
            body, kind = publisher.files[self.path]
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            if self.headers.get("If-None-Match") == etag:
                self._answer(304)
                return
            publisher.sent[self.path] += 1
            self._answer(200, body, {"ETag": etag, "Content-Type": kind})

        def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:  # whoever asked has seen enough
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Nothing."""

    return Handler


def fetcher(*, size: float = 1e9) -> Fetcher:
    """One that may ask this machine."""
    return Fetcher(Bounds(size=size, seconds=20.0, silence=5.0), allowed=(HERE,))
