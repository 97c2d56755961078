"""Fetching what a stranger names: one http(s) URL into one file, and nothing that it could be talked into.

    URL ──► parts ──► addresses ──► connection ──► answer ──► file
            scheme,    every one      to the one     status,     size, time,
            host       is public      that was seen  redirects   pace

Every redirect begins at the left again, five times at most. The name is looked up once for each: the address that was
judged is the one that is connected to (DNS rebinding has nothing to rebind), while certificate and Host say the name.
No proxy of the environment is used, no cookie is kept, no credentials are sent.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from stenopool.errors import FetchError, UsageError
from stenopool.version import __version__
from workers.addresses import Address, is_public

REDIRECTS = 5
PIECE = 1 << 16  # bytes
_HEADERS = {
    "User-Agent": f"stenopool/{__version__}",
    "Accept": "audio/*, video/*, */*;q=0.5",
    "Accept-Encoding": "identity",  # sound is compressed already; what is compressed twice is a trap
}
_PORTS = {"http": 80, "https": 443}
#: Status by which somebody says that it may go better later.
_LATER = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an answer may take."""

    #: Bytes.
    size: int = 4 << 30
    #: Seconds for all of it, redirects included.
    seconds: float = 3600.0
    #: Seconds without a byte.
    silence: float = 30.0
    #: Bytes a second, on average, once `silence` has passed.
    pace: float = 1024.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What an answer said of itself."""

    #: Where it came from in the end, after all redirects.
    url: str
    #: Bytes; None where nothing was sent, as it has not changed.
    size: int | None
    content_type: str | None
    etag: str | None
    last_modified: str | None

    @property
    def unchanged(self) -> bool:
        """The server has nothing newer than what the request named."""
        return self.size is None


Resolve = Callable[[str, int], list[Address]]


def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host, as the system knows them.

    Raises:
        OSError, UnicodeError: it has none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # An address of a link has its zone behind it.
    return list(dict.fromkeys(ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found))


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches within limits.

    Args:
        limits: of every answer.
        permitted: says which addresses may be asked.
        lookup: finds the addresses of a host and port.
    """

    limits: Limits = field(default_factory=Limits)
    permitted: Callable[[Address], bool] = is_public
    lookup: Resolve = resolve

    def fetch(self, url: str, path: Path, *, etag: str | None = None, last_modified: str | None = None) -> Fetched:
        """Write what is at a URL to a file; one that is there and was fetched in part is gone on with.

        Args:
            etag: of what is known of it; where that is still so, nothing is written. Without a file. With a part of
                one: of what that is a part of.
            last_modified: likewise.

        Raises:
            FetchError: it cannot be had, with a reason; retryable where it may be later. The file may hold a part.
            UsageError: it is no http(s) URL.
        """
        deadline = time.monotonic() + self.limits.seconds
        for _ in range(REDIRECTS + 1):
            target = _target(url)
            with self._request(target, _conditions(path, etag, last_modified), deadline) as response:
                if response.status in (301, 302, 303, 307, 308):
                    url = _redirected(url, response)
                    continue
                return self._take(url, response, path, deadline)
        raise FetchError("redirects", f"{url}: redirected more than {REDIRECTS} times")

    @contextlib.contextmanager
    def _request(self, target: SplitResult, headers: Mapping[str, str], deadline: float) -> Iterator[HTTPResponse]:
        """Ask, and hand out the answer with its body unread."""
        url, host = target.geturl(), target.hostname or ""
        port = target.port or _PORTS[target.scheme]
        connection = _connection(target.scheme, host, self._address(url, host, port), port, self.limits.silence)
        try:
            # Who says a letter of the headers now and then is never silent.
            patience = min(deadline, time.monotonic() + 2 * self.limits.silence)
            with _given_up_at(patience, lambda: _hang_up(connection)), _failures(url, patience, "network", "does not answer"):
                connection.request(
                    "GET",
                    _asked_for(target),
                    headers={**_HEADERS, "Host": _named(host, port, target.scheme), **headers},
                    preload_content=False,
                    decode_content=False,
                )
                response = connection.getresponse()
            with _given_up_at(deadline, response.shutdown):
                yield response
        finally:
            connection.close()

    def _address(self, url: str, host: str, port: int) -> Address:
        try:
            found = self.lookup(host, port)
        except UnicodeError:
            raise FetchError("host", f"{url}: {host} is no name of a host") from None
        except OSError as error:
            again = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
            raise FetchError("host", f"{url}: {host} is not found ({error.strerror})", retryable=again) from error
        if not found:
            raise FetchError("host", f"{url}: {host} has no address")
        if hidden := [str(one) for one in found if not self.permitted(one)]:
            raise FetchError("address", f"{url}: {host} is {hidden[0]}, which is not on the public internet")
        return found[0]

    def _take(self, url: str, response: HTTPResponse, path: Path, deadline: float) -> Fetched:
        headers = response.headers
        about = {
            "url": url,
            "content_type": headers.get("Content-Type"),
            "etag": headers.get("ETag"),
            "last_modified": headers.get("Last-Modified"),
        }
        if response.status == 304:
            return Fetched(size=None, **about)
        if response.status == 416 and headers.get("Content-Range") == f"bytes */{_size(path)}":
            return Fetched(size=_size(path), **about)  # there is no more of it than was there
        start = _beginning(url, response, path)
        encoding = headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise FetchError("encoding", f"{url}: comes compressed ({encoding}), though it was asked for as it is")
        length = _length(url, headers.get("Content-Length"))
        if length is not None and start + length > self.limits.size:
            raise FetchError("size", f"{url}: has {start + length} bytes, and {self.limits.size} are allowed")
        size = start
        began = time.monotonic()
        with _writing(path, "ab" if start else "wb") as write:
            while piece := _piece(url, response, deadline):
                size += len(piece)
                if size > self.limits.size:
                    raise FetchError("size", f"{url}: has more than the {self.limits.size} bytes that are allowed")
                write(piece)
                took = time.monotonic() - began
                if took > self.limits.silence and size - start < self.limits.pace * took:
                    slow = f"{url}: comes at less than {self.limits.pace:g} bytes a second"
                    raise FetchError("pace", slow, retryable=True)
        if size == 0:
            raise FetchError("empty", f"{url}: is empty")
        return Fetched(size=size, **about)


def _target(url: str) -> SplitResult:
    """The parts of a URL that may be asked for."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is no URL ({error})") from None
    if parts.scheme not in _PORTS:
        raise FetchError("scheme", f"{url}: only http and https are fetched")
    if not parts.hostname or port == 0 or re.search(r"[\x00-\x20\x7f]", url):
        raise UsageError(f"{url!r} is no URL")
    if parts.username is not None or parts.password is not None:
        raise FetchError("credentials", f"{parts.hostname}: a URL with a password in it is not fetched")
    return parts._replace(fragment="")


def _connection(scheme: str, host: str, address: Address, port: int, silence: float) -> HTTPConnection:
    """To that address and no other, by whatever name it is called."""
    if scheme == "http":
        return HTTPConnection(str(address), port, timeout=silence)
    # The name is asked for (SNI) and vouched for; only the way to it is given.
    return HTTPSConnection(
        str(address),
        port,
        timeout=silence,
        server_hostname=host,
        assert_hostname=host,
        ssl_context=ssl.create_default_context(),
    )


def _asked_for(target: SplitResult) -> str:
    """Path and query, as they are written in a request."""
    path = quote(target.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(target.query, safe="/%:@!$&'()*+,;=~-._?")
    return f"{path}?{query}" if query else path


def _named(host: str, port: int, scheme: str) -> str:
    """The host as a request names it."""
    name = f"[{host}]" if ":" in host else host.encode("idna").decode()
    return name if port == _PORTS[scheme] else f"{name}:{port}"


@contextlib.contextmanager
def _given_up_at(deadline: float, hang_up: Callable[[], None]) -> Iterator[None]:
    """At that time the connection ends, whoever waits for something from it."""

    def end() -> None:
        with contextlib.suppress(OSError):  # it has ended by itself
            hang_up()

    guard = threading.Timer(max(0.0, deadline - time.monotonic()), end)
    guard.daemon = True
    guard.start()
    try:
        yield
    finally:
        guard.cancel()


def _hang_up(connection: HTTPConnection) -> None:
    if connection.sock is not None:
        connection.sock.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _failures(url: str, deadline: float, code: str, what: str) -> Iterator[None]:
    """What goes wrong on the way, as a FetchError."""
    try:
        yield
    except (HTTPError, HTTPException, OSError) as error:
        if time.monotonic() >= deadline:
            raise FetchError("time", f"{url}: takes longer than is allowed", retryable=True) from error
        if "CERTIFICATE_VERIFY_FAILED" in str(error) or "certificate" in str(error):
            raise FetchError("certificate", f"{url}: its certificate does not vouch for it") from error
        raise FetchError(code, f"{url}: {what} ({_reason(error)})", retryable=True) from error


def _piece(url: str, response: HTTPResponse, deadline: float) -> bytes:
    """What has come, once anything has; nothing at the end."""
    with _failures(url, deadline, "cut", "ended before its end"):
        return response.read1(PIECE, decode_content=False)


@contextlib.contextmanager
def _writing(path: Path, mode: str) -> Iterator[Callable[[bytes], object]]:
    try:
        with path.open(mode) as file:
            yield file.write
    except OSError as error:
        raise FetchError("disk", f"{path}: cannot be written ({error.strerror}); make room", retryable=True) from error


def _size(path: Path) -> int:
    """Of what is there of a file."""
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0].rpartition(": ")[2] or type(error).__name__


def _redirected(url: str, response: HTTPResponse) -> str:
    location = response.headers.get("Location")
    if not location:
        raise FetchError("status", f"{url}: is elsewhere (status {response.status}), but does not say where")
    # As browsers read it: in UTF-8, though headers come as Latin-1.
    with contextlib.suppress(UnicodeError):
        location = location.encode("latin-1").decode()
    return urljoin(url, location.strip())


def _conditions(path: Path, etag: str | None, last_modified: str | None) -> dict[str, str]:
    """What is asked: the rest of a file that is there in part, or whatever is newer than what is known."""
    part = _size(path)
    # A weak tag does not vouch for bytes.
    if part and etag and not etag.startswith("W/"):
        return {"Range": f"bytes={part}-", "If-Range": etag}
    known = {"If-None-Match": etag, "If-Modified-Since": last_modified}
    return {} if part else {name: value for name, value in known.items() if value}


def _beginning(url: str, response: HTTPResponse, path: Path) -> int:
    """The byte that the body begins with."""
    if response.status == 200:
        return 0
    if response.status == 206:
        said = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", response.headers.get("Content-Range", ""))
        part = _size(path)
        if said is None or int(said[1]) != part or not part:
            raise FetchError("range", f"{url}: sends another part than was asked for")
        return part
    raise FetchError("status", f"{url}: status {response.status}", retryable=response.status in _LATER)


def _length(url: str, header: str | None) -> int | None:
    if header is None:
        return None
    # Said twice, it is joined by a comma; servers and proxies differ about which is meant.
    if not re.fullmatch(r"\d{1,18}", header):
        raise FetchError("length", f"{url}: says a length that is none ({header[:40]})")
    return int(header)
