"""Posting to a URL that a tenant named: one request, to a public address, and the status of its answer."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException
from urllib.parse import SplitResult, quote, urlsplit

from scheduler.webhooks import Answer
from stenopool.errors import UsageError
from workers.addresses import Address, may_ask
from workers.fetch import resolve

#: For all of it: the way there, the request, the status of the answer.
SECONDS = 15.0

_PORTS = {"http": 80, "https": 443}


def target(url: str) -> SplitResult:
    """The parts of a URL that can be posted to. Raises UsageError where it cannot."""
    try:
        parts = urlsplit(url)
        port = parts.port
        if parts.hostname:
            _plain(parts.hostname)
    except ValueError as error:
        raise UsageError(f"{url!r} is no URL ({error})") from None
    if parts.scheme not in _PORTS or not parts.hostname or port == 0 or re.search(r"[\x00-\x20\x7f]", url):
        raise UsageError(f"{url!r} is no URL that can be posted to: https://host/path")
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{parts.hostname}: a webhook's URL has no password in it; what is sent is signed")
    return parts._replace(fragment="")


def literal(parts: SplitResult) -> Address | None:
    """The address that a URL names instead of a host; None where it names one."""
    try:
        return ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Post:
    """Posts.

    Args:
        permitted: says which addresses may be asked.
        lookup: finds the addresses of a host and port.
        seconds: after which a request is given up.
        trust: whose certificates are believed; None for the system's.
    """

    permitted: Callable[[Address], bool] = may_ask
    lookup: Callable[[str, int], list[Address]] = resolve
    seconds: float = SECONDS
    trust: ssl.SSLContext | None = None

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send it once. What goes wrong is an answer, too; a body that comes with one is not read."""
        parts = target(url)
        deadline = time.monotonic() + self.seconds
        try:
            with self._connected(parts, deadline) as connection:
                path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
                query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
                given = {**headers, "Host": _host(parts), "Connection": "close"}
                connection.request("POST", f"{path}?{query}" if query else path, body, given)
                response = connection.getresponse()
                if time.monotonic() >= deadline:  # its headers may have ended because they were cut
                    raise TimeoutError
                return Answer(response.status, retry_after=_seconds(response.getheader("Retry-After")))
        except _NotPublic as error:
            return Answer(None, str(error))
        except (OSError, HTTPException, UnicodeError) as error:
            if time.monotonic() >= deadline:
                return Answer(None, f"it did not answer within {self.seconds:g} s")
            return Answer(None, f"it does not answer ({_reason(error)})")

    @contextlib.contextmanager
    def _connected(self, parts: SplitResult, deadline: float) -> Iterator[HTTPConnection]:
        """To an address that was judged, by whatever name it is called; cut at the deadline."""
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        found = self.lookup(host, port)
        if hidden := [str(one) for one in found if not self.permitted(one)]:
            raise _NotPublic(f"{host} is {hidden[0]}, which is not on the public internet")
        stream = _reach(found, port, deadline)
        if parts.scheme == "https":  # the name is asked for, and vouched for; only the way to it is given
            context = self.trust or ssl.create_default_context()
            stream = context.wrap_socket(stream, server_hostname=host, do_handshake_on_connect=False)
        guard = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, [stream])
        guard.daemon = True
        guard.start()
        try:
            if isinstance(stream, ssl.SSLSocket):
                stream.do_handshake()
            connection = HTTPConnection(host, port)
            connection.sock = stream
            yield connection
        finally:
            guard.cancel()
            stream.close()


class _NotPublic(Exception):  # noqa: N818
    """An address that may not be asked."""


def _reach(addresses: Sequence[Address], port: int, deadline: float) -> socket.socket:
    """A connection to the first of them that takes one."""
    failed: OSError = OSError("it has no address")
    for address in addresses:
        try:
            return socket.create_connection((str(address), port), max(0.1, deadline - time.monotonic()))
        except OSError as error:
            failed = error
    raise failed


def _cut(stream: socket.socket) -> None:
    """Whoever waits for something from it waits no longer."""
    with contextlib.suppress(OSError):  # it has ended by itself
        socket.socket.shutdown(stream, socket.SHUT_RDWR)


def _plain(host: str) -> str:
    """A host as it goes over the wire. Raises UnicodeError where none can be called so."""
    return f"[{host}]" if ":" in host else host.encode("idna").decode()


def _host(parts: SplitResult) -> str:
    name = _plain(parts.hostname or "")
    port = parts.port or _PORTS[parts.scheme]
    return name if port == _PORTS[parts.scheme] else f"{name}:{port}"


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After: seconds, or a date; None where it is neither."""
    if retry_after is None:
        return None
    if re.fullmatch(r"\d{1,9}", retry_after.strip()):
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _reason(error: Exception) -> str:
    """In a line, without what it was asked."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not vouch for it: {error.verify_message}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.partition("\n")[0] or type(error).__name__)[:200]
