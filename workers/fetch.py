"""Fetching what a stranger names: one http(s) URL into one file, and nothing that it could be talked into.

    URL ──► parts ──► addresses ──► connection ──► answer ──► file
            scheme,    every one      to one that    status,     size, time,
            host       may be asked   was seen       redirects   pace

Every redirect begins at the left again, five times at most. The name is looked up once for each: the address that was
judged is the one that is connected to (DNS rebinding has nothing to rebind), while certificate and Host say the name.
That is why this is http.client: other libraries look names up by themselves. No proxy of the environment is used, no
cookie is kept, no credentials are sent.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from stenopool.config import Network
from stenopool.errors import FetchError
from stenopool.version import __version__
from storage.objects import downloading
from workers.addresses import Address, may_ask

#: How often it may be said that it is elsewhere, how often a file that breaks off is gone on with, and how many of a
#: host's addresses are tried.
REDIRECTS, RESUMPTIONS, ADDRESSES = 5, 5, 4
HEAD = 4096  # bytes by which a file is judged
PIECE = 1 << 16  # bytes
PORTS = {"http": 80, "https": 443}

_HEADERS = {
    "User-Agent": f"stenopool/{__version__}",
    "Accept": "audio/*, video/*, */*;q=0.5",
    "Accept-Encoding": "identity",  # sound is compressed already; what is compressed twice is a trap
    "Connection": "close",
}
_MOVED = (301, 302, 303, 307, 308)
#: Status by which somebody says that it may go better later.
_LATER = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What an answer may take."""

    #: Bytes.
    size: float = 4e9
    #: Seconds for all of it, redirects and resumptions included.
    seconds: float = 6 * 3600.0
    #: Seconds without a byte.
    silence: float = 30.0
    #: Bytes a second, on average, once `silence` has passed.
    pace: float = 4096.0


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
    """Fetches within bounds.

    Args:
        bounds: of every answer.
        allowed: networks that may be asked besides the public internet.
        lookup: finds the addresses of a host and port.
    """

    bounds: Bounds = field(default_factory=Bounds)
    allowed: tuple[Network, ...] = ()
    lookup: Callable[[str, int], list[Address]] = resolve

    def fetch(
        self,
        url: str,
        path: Path,
        *,
        name: str | None = None,
        etag: str | None = None,
        last_modified: str | None = None,
        refuse: Callable[[bytes], str | None] = lambda _: None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Fetched:
        """Write what is at a URL to a file. What breaks off is gone on with, where the server knows it again.

        Args:
            name: what it is called in errors, where the URL is a secret.
            etag: of what is known of it: where that is still so, nothing is written. Where the file holds a part of it
                already: of what that is a part of; then the rest is fetched.
            last_modified: of what is known of it, likewise.
            refuse: told the first bytes; why they are not wanted.
            progress: told how many bytes there are, now and then; may raise to end it.

        Raises:
            FetchError: it cannot be had, with a reason; retryable where it may be later. The file may hold a part.
            StoreError: the disk refuses; DiskFull where it has no room.
        """
        job = _Job(
            fetcher=self,
            url=url,
            name=name or shown_url(url),
            path=path,
            deadline=time.monotonic() + self.bounds.seconds,
            etag=etag,
            last_modified=last_modified,
            refuse=refuse,
            progress=progress,
        )
        for resumption in range(RESUMPTIONS + 1):
            before = _size(path)
            try:
                return job.follow()
            except FetchError as error:
                broken = error.code in ("cut", "network") and _size(path) > before
                if not broken or resumption == RESUMPTIONS or not _vouches(job.etag):
                    raise
        raise AssertionError  # the last turn returns or raises


@dataclass(slots=True, kw_only=True)
class _Job:
    """One file on its way."""

    fetcher: Fetcher
    url: str
    name: str
    path: Path
    #: By the monotonic clock.
    deadline: float
    etag: str | None
    last_modified: str | None
    refuse: Callable[[bytes], str | None]
    progress: Callable[[int], None]

    def follow(self) -> Fetched:
        """Ask, through all redirects, and take the answer."""
        url, name = self.url, self.name
        for _ in range(REDIRECTS + 1):
            target = _target(url, name)
            with self._answer(target, name) as response:
                if response.status not in _MOVED:
                    return self._take(url, name, response)
                url = _redirected(url, name, response)
                name = f"{self.name}: leads to {shown_url(url)}"
        raise FetchError("redirects", f"{self.name}: is redirected more than {REDIRECTS} times")

    @contextlib.contextmanager
    def _answer(self, target: SplitResult, name: str) -> Iterator[HTTPResponse]:
        """Ask, and hand out the answer with its body unread."""
        host, port = _host(target), target.port or PORTS[target.scheme]
        addresses = self._addresses(host, port, name)
        # Who says a letter of the headers now and then is never silent.
        patience = min(self.deadline, time.monotonic() + 2 * self.fetcher.bounds.silence)
        with contextlib.ExitStack() as opened:
            with _failures(name, patience, "network", "does not answer"):
                sock = self._connect(target, host, port, addresses, patience)
                opened.callback(sock.close)
                connection = HTTPConnection(host, port)
                connection.sock = sock
                opened.callback(connection.close)
                with _given_up_at(patience, sock):
                    headers = {**_HEADERS, "Host": _named(host, port, target.scheme), **self._conditions()}
                    connection.request("GET", _asked_for(target), headers=headers)
                    response = opened.enter_context(connection.getresponse())
                if time.monotonic() >= patience:  # headers that broke off, as we did that, look like all there are
                    raise TimeoutError
            with _given_up_at(self.deadline, sock):
                yield response

    def _connect(
        self, target: SplitResult, host: str, port: int, addresses: list[Address], patience: float
    ) -> socket.socket:
        """To one of these addresses and no other, by whatever name it is called."""
        for address in addresses[:-1]:
            with contextlib.suppress(OSError):
                return self._reach(target, host, port, address, patience)
        return self._reach(target, host, port, addresses[-1], patience)

    def _reach(self, target: SplitResult, host: str, port: int, address: Address, patience: float) -> socket.socket:
        silence = self.fetcher.bounds.silence
        left = max(min(patience - time.monotonic(), silence), 0.01)
        sock = socket.create_connection((str(address), port), timeout=left)
        try:
            sock.settimeout(silence)
            if target.scheme == "https":  # all of the handshake has the time that elsewhere a byte has
                return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise
        return sock

    def _addresses(self, host: str, port: int, name: str) -> list[Address]:
        try:
            found = self.fetcher.lookup(host, port)
        except UnicodeError:
            raise FetchError("host", f"{name}: {host} is no name of a host") from None
        except OSError as error:
            again = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
            raise FetchError("host", f"{name}: {host} is not found ({error.strerror})", retryable=again) from error
        if not found:
            raise FetchError("host", f"{name}: {host} has no address")
        if hidden := [str(one) for one in found if not may_ask(one, self.fetcher.allowed)]:
            raise FetchError(
                "address",
                f"{name}: {host} is {hidden[0]}, which is not on the public internet; where it is in a network of your "
                "own, name that in STENOPOOL_FETCH_ALLOW",
            )
        return found[:ADDRESSES]

    def _conditions(self) -> dict[str, str]:
        """What is asked for: the rest of a file that is there in part, or whatever is newer than what is known."""
        if part := _size(self.path):
            return {"Range": f"bytes={part}-", "If-Range": self.etag or ""} if _vouches(self.etag) else {}
        known = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {header: value for header, value in known.items() if value}

    def _take(self, url: str, name: str, response: HTTPResponse) -> Fetched:
        headers = response.headers
        about = {
            "content_type": headers.get("Content-Type"),
            "etag": headers.get("ETag"),
            "last_modified": headers.get("Last-Modified"),
        }
        if response.status == 304:
            return Fetched(url=url, size=None, **about)
        part = _size(self.path)
        if response.status == 416 and part and headers.get("Content-Range") == f"bytes */{part}":
            return Fetched(url=url, size=part, **about)  # there is no more of it than was there
        start = self._beginning(name, response, part)
        _check_encoding(name, headers)
        length = _length(name, headers)
        self._check_size(name, start + (length or 0))
        self.etag = about["etag"] if start == 0 else self.etag
        size = self._write(name, response, start)
        if size == 0:
            raise FetchError("empty", f"{name}: is empty")
        return Fetched(url=url, size=size, **about)

    def _write(self, name: str, response: HTTPResponse, start: int) -> int:
        """The body, behind what is there; returns how large the file is then."""
        bounds = self.fetcher.bounds
        size, head, judged, began = start, b"", start > 0, time.monotonic()
        with downloading(self.path), self.path.open("ab" if start else "wb") as file:
            while True:
                piece = _piece(name, response, self.deadline)
                if not judged:
                    head += piece
                    if len(head) >= HEAD or not piece:
                        judged = True
                        if why := self.refuse(head[:HEAD]) if head else None:
                            raise FetchError("content", f"{name}: {why}")
                if not piece:
                    return size
                size += len(piece)
                self._check_size(name, size)
                file.write(piece)
                self.progress(size)
                took = time.monotonic() - began
                if took > bounds.silence and size - start < bounds.pace * took:
                    slow = f"{name}: comes at less than {bounds.pace:g} bytes a second"
                    raise FetchError("pace", slow, retryable=True)

    def _check_size(self, name: str, size: int) -> None:
        if size > self.fetcher.bounds.size:
            bound = self.fetcher.bounds.size
            most = f"{bound / 1e9:g} GB" if bound >= 1e9 else f"{bound / 1e6:g} MB"
            raise FetchError("size", f"{name}: has more than {most}, which is the most that is taken")

    def _beginning(self, name: str, response: HTTPResponse, part: int) -> int:
        """The byte that the body begins with."""
        if response.status == 200:
            return 0
        if response.status == 206:
            said = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)", response.headers.get("Content-Range", ""))
            etag = response.headers.get("ETag")
            if said is None or not part or int(said[1]) != part or (etag and etag != self.etag):
                raise FetchError("range", f"{name}: sends another part than was asked for")
            return part
        said_so = f"{name}: status {response.status}"
        wait = _seconds(response.headers.get("Retry-After"))
        if response.status == 429 or (response.status == 503 and wait is not None):
            raise FetchError("later", f"{said_so}: asks for time", retryable=True, later=wait)
        raise FetchError("status", said_so, retryable=response.status in _LATER)


def shown_url(url: str) -> str:
    """A URL as people are told of it: without what may be a secret in it, and on one line."""
    base = re.sub(r"//[^/@]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0])
    short = base if len(base) <= 200 else f"{base[:199]}…"
    return short if short.isprintable() else repr(short)


def check_url(url: str) -> None:
    """See that a URL is one that may be asked for, without asking.

    Raises:
        FetchError: it is none, or of another kind, or has credentials in it.
    """
    _target(url, shown_url(url))


def host_of(url: str) -> str:
    """The host that a URL names, in lower case; empty where it names none."""
    return urlsplit(url).hostname or ""


def _target(url: str, name: str) -> SplitResult:
    """The parts of a URL that may be asked for."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise FetchError("url", f"{name}: is no URL ({error})") from None
    if parts.scheme not in PORTS:
        raise FetchError("scheme", f"{name}: only http and https are fetched")
    if not parts.hostname or port == 0 or re.search(r"[\x00-\x20\x7f]", url):
        raise FetchError("url", f"{name}: is no URL")
    if parts.username is not None or parts.password is not None:
        raise FetchError("credentials", f"{name}: a URL with a password in it is not fetched")
    return parts._replace(fragment="")


def _host(target: SplitResult) -> str:
    """As it is asked for, looked up and vouched for: in ASCII."""
    host = target.hostname or ""
    with contextlib.suppress(UnicodeError):  # the lookup says so
        return host if host.isascii() else host.encode("idna").decode()
    return host


def _asked_for(target: SplitResult) -> str:
    """Path and query, as they are written in a request."""
    path = quote(target.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(target.query, safe="/%:@!$&'()*+,;=~-._?")
    return f"{path}?{query}" if query else path


def _named(host: str, port: int, scheme: str) -> str:
    """The host as a request names it."""
    name = f"[{host}]" if ":" in host else host
    return name if port == PORTS[scheme] else f"{name}:{port}"


@contextlib.contextmanager
def _given_up_at(deadline: float, sock: socket.socket) -> Iterator[None]:
    """At that time the connection ends, whoever waits for something from it."""

    def end() -> None:
        with contextlib.suppress(OSError):  # it has ended by itself
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # TLS's own would pull the cipher from under its reader

    guard = threading.Timer(max(0.0, deadline - time.monotonic()), end)
    guard.daemon = True
    guard.start()
    try:
        yield
    finally:
        guard.cancel()


@contextlib.contextmanager
def _failures(name: str, deadline: float, code: str, what: str) -> Iterator[None]:
    """What goes wrong on the way, as a FetchError."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        why = f"its certificate does not vouch for it ({error.verify_message})"
        raise FetchError("certificate", f"{name}: {why}") from error
    except (HTTPException, OSError, ValueError) as error:
        if time.monotonic() >= deadline:
            raise FetchError("time", f"{name}: takes longer than is allowed", retryable=True) from error
        raise FetchError(code, f"{name}: {what} ({_reason(error)})", retryable=True) from error


def _piece(name: str, response: HTTPResponse, deadline: float) -> bytes:
    """What has come, once anything has; nothing at the end."""
    with _failures(name, deadline, "cut", "ended before its end"):
        piece = response.read1(PIECE)
        if not piece and response.length:
            raise HTTPException(f"{response.length} bytes are missing")
        # Where the end is when the connection ends, we may have ended it ourselves.
        if not piece and time.monotonic() >= deadline:
            raise TimeoutError
        return piece


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).partition("\n")[0]
    return text[:100] if text.isprintable() and text else type(error).__name__


def _size(path: Path) -> int:
    """Of what is there of a file."""
    return path.stat().st_size if path.exists() else 0


def _vouches(etag: str | None) -> bool:
    """Whether a tag stands for certain bytes: a weak one does not."""
    return bool(etag) and re.fullmatch(r'"[^"\x00-\x1f]*"', etag or "") is not None


def _redirected(url: str, name: str, response: HTTPResponse) -> str:
    location = response.headers.get("Location")
    if not location:
        raise FetchError("status", f"{name}: is elsewhere (status {response.status}), but does not say where")
    # As browsers read it: in UTF-8, though headers come as Latin-1.
    with contextlib.suppress(UnicodeError):
        location = location.encode("latin-1").decode()
    try:
        return urljoin(url, location.strip())
    except ValueError as error:
        raise FetchError("url", f"{name}: leads to what is no URL ({error})") from None


def _check_encoding(name: str, headers: Message) -> None:
    """Nothing that would have to be unpacked."""
    for header, plain in (("Content-Encoding", ("", "identity")), ("Transfer-Encoding", ("", "identity", "chunked"))):
        encoding = (headers.get(header) or "").strip().lower()
        if encoding not in plain:
            shown = encoding[:40] if encoding.isprintable() else "unknown"
            raise FetchError("encoding", f"{name}: comes compressed ({shown}), though it was asked for as it is")


def _length(name: str, headers: Message) -> int | None:
    """Bytes that the body is said to have."""
    said = set(headers.get_all("Content-Length", []))
    if not said:
        return None
    if len(said) > 1:  # servers and proxies differ about which is meant
        raise FetchError("length", f"{name}: says two different lengths")
    [length] = said
    if not re.fullmatch(r"[0-9]{1,18}", length.strip()):
        raise FetchError("length", f"{name}: says a length that is none ({length[:40]!r})")
    return int(length)


def _seconds(header: str | None) -> float | None:
    """What Retry-After says, from now on; None where it says nothing that can be read."""
    if header is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", header.strip()):
        return float(header)
    try:
        return max(parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
