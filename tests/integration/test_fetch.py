"""Fetching from servers that mean harm, on real connections: each is refused with its reason, and in time."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stenopool.errors import FetchError, UsageError
from workers.addresses import Address, is_public
from workers.fetch import Fetcher, Limits

HERE = ipaddress.ip_address("127.0.0.1")
SOUND = bytes(range(256)) * 400
LIMITS = Limits(size=200_000, seconds=4.0, silence=0.5, pace=20_000)

#: What a server does with a connection whose request it has read.
Answer = Callable[[socket.socket, str], None]


class Server:
    """Answers each path as it is told, on 127.0.0.1; knows what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """Of something on it."""
        return f"http://{host}:{self.port}{path}"

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                piece = connection.recv(4096)
                if not piece:
                    return
                request += piece
            self.asked.append(request.decode("latin-1"))
            self.answers[self.asked[-1].split(" ")[1].partition("?")[0]](connection, self.asked[-1])


def says(head: str, body: bytes = b"") -> Answer:
    """An answer that is what it is; `head` without the last empty line."""
    return lambda connection, _: connection.sendall(head.encode("latin-1") + b"\r\n\r\n" + body)


def ok(body: bytes = SOUND, *headers: str, length: int | None = None) -> Answer:
    """200, with that body."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body) if length is None else length}", *headers]
    return says("\r\n".join(lines), body)


def moved(where: str, status: int = 302) -> Answer:
    """A redirect."""
    return says(f"HTTP/1.1 {status} Moved\r\nLocation: {where}\r\nContent-Length: 0")


def drip(head: bytes, piece: bytes, every: float) -> Answer:
    """For ever a little."""

    def answer(connection: socket.socket, _: str) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            time.sleep(every)

    return answer


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> Answer:
    """A body in pieces, and what comes after them."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", body + end)


@pytest.fixture
def server() -> Iterator[Server]:
    """One that does nothing yet."""
    server = Server()
    yield server
    server.close()


def fetcher(lookup: Callable[[str, int], list[Address]] = lambda *_: [HERE]) -> Fetcher:
    """One that takes this machine for the internet."""
    return Fetcher(LIMITS, permitted=lambda address: address == HERE, lookup=lookup)


def refused(code: str, url: str, path: Path, *, by: Fetcher | None = None) -> str:
    """It is, with that reason, within the time that is allowed; returns the line."""
    started = time.monotonic()
    with pytest.raises(FetchError) as caught:
        (by or fetcher()).fetch(url, path)
    assert caught.value.code == code, str(caught.value)
    assert time.monotonic() - started < LIMITS.seconds + 1
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is meant


def test_what_is_there_is_fetched(server: Server, tmp_path: Path) -> None:
    """With what the server said of it; the request names the host, and asks for nothing compressed."""
    server.answers["/a%20talk.mp3"] = ok(SOUND, "Content-Type: audio/mpeg", 'ETag: "1"', "Last-Modified: yesterday")
    path = tmp_path / "talk.mp3"

    fetched = fetcher().fetch(server.url("/a talk.mp3".replace(" ", "%20") + "?x=1#t=5", "media.example"), path)

    assert path.read_bytes() == SOUND
    assert (fetched.size, fetched.content_type, fetched.etag) == (len(SOUND), "audio/mpeg", '"1"')
    assert server.asked[0].startswith("GET /a%20talk.mp3?x=1 HTTP/1.1\r\n")
    assert f"Host: media.example:{server.port}\r\n" in server.asked[0]
    assert "Accept-Encoding: identity\r\n" in server.asked[0]


def test_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    """Five of them, relative ones too, of every kind."""
    for at, status in enumerate((301, 302, 303, 307)):
        server.answers[f"/{at}"] = moved(f"/{at + 1}", status)
    server.answers["/4"] = moved(server.url("/sound", "other.example"), 308)
    server.answers["/sound"] = ok()

    fetched = fetcher().fetch(server.url("/0"), tmp_path / "sound")

    assert fetched.url == server.url("/sound", "other.example")
    assert (tmp_path / "sound").read_bytes() == SOUND


def test_a_part_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    """As long as it is the same file; and nothing is sent where all is there."""
    path = tmp_path / "sound"
    path.write_bytes(SOUND[:1000])
    rest = f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1000-{len(SOUND) - 1}/{len(SOUND)}"
    server.answers["/sound"] = says(f"{rest}\r\nContent-Length: {len(SOUND) - 1000}", SOUND[1000:])

    assert fetcher().fetch(server.url("/sound"), path, etag='"1"').size == len(SOUND)
    assert path.read_bytes() == SOUND
    assert 'Range: bytes=1000-\r\nIf-Range: "1"\r\n' in server.asked[0]

    server.answers["/sound"] = says(f"HTTP/1.1 416 No\r\nContent-Range: bytes */{len(SOUND)}\r\nContent-Length: 0")
    assert fetcher().fetch(server.url("/sound"), path, etag='"1"').size == len(SOUND)


def test_another_file_begins_anew(server: Server, tmp_path: Path) -> None:
    """The server sends it whole, and the part is thrown away."""
    path = tmp_path / "sound"
    path.write_bytes(b"older" * 100)
    server.answers["/sound"] = ok()

    fetcher().fetch(server.url("/sound"), path, etag='"old"')

    assert path.read_bytes() == SOUND


def test_what_has_not_changed_is_not_sent(server: Server, tmp_path: Path) -> None:
    """A conditional request, as for a feed."""
    server.answers["/feed"] = says('HTTP/1.1 304 Not Modified\r\nETag: "1"')

    fetched = fetcher().fetch(server.url("/feed"), tmp_path / "feed", etag='"1"', last_modified="yesterday")

    assert fetched.unchanged
    assert not (tmp_path / "feed").exists()
    assert 'If-None-Match: "1"\r\nIf-Modified-Since: yesterday\r\n' in server.asked[0]


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1"),
        *("255.255.255.255", "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
        *("2002:7f00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    ],
)
def test_addresses_that_are_not_public(address: str, tmp_path: Path) -> None:
    """Of this host, this network, groups, examples; also where they hide in another one. No connection is made."""
    hidden = ipaddress.ip_address(address)
    one_of_two = Fetcher(LIMITS, lookup=lambda *_: [ipaddress.ip_address("93.184.216.34"), hidden])

    assert not is_public(hidden)
    assert address in refused("address", "http://media.example/talk.mp3", tmp_path / "x", by=one_of_two)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "::ffff:8.8.8.8"])
def test_addresses_that_are_public(address: str) -> None:
    """Also as a gateway writes them."""
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0"]
)
def test_this_machine_by_any_other_name(host: str, server: Server, tmp_path: Path) -> None:
    """As the system itself reads it."""
    by = Fetcher(LIMITS)
    refused("address", f"http://{host}:{server.port}/", tmp_path / "x", by=by)
    assert server.asked == []


def test_a_redirect_to_where_nobody_may_ask(server: Server, tmp_path: Path) -> None:
    """Each is judged anew."""
    server.answers["/sound"] = moved("http://169.254.169.254/latest/meta-data/")
    by = fetcher(lambda host, _: [HERE if host == "127.0.0.1" else ipaddress.ip_address(host)])

    line = refused("address", server.url("/sound"), tmp_path / "x", by=by)

    assert line == (
        "http://169.254.169.254/latest/meta-data/: 169.254.169.254 is 169.254.169.254, which is not on the public internet"
    )


def test_a_name_that_changes_its_address(server: Server, tmp_path: Path) -> None:
    """It is looked up once: what was judged is what is connected to."""
    answers = iter([[HERE], [ipaddress.ip_address("10.0.0.1")]])
    server.answers["/sound"] = ok()

    fetcher(lambda *_: next(answers)).fetch(server.url("/sound", "rebinding.example"), tmp_path / "x")

    assert (tmp_path / "x").read_bytes() == SOUND
    assert next(answers) == [ipaddress.ip_address("10.0.0.1")]


def test_a_host_that_is_not_there(tmp_path: Path) -> None:
    """Or is no name at all."""
    by = Fetcher(LIMITS)
    refused("host", "http://nobody.invalid/x", tmp_path / "x", by=by)
    refused("host", f"http://{'a' * 70}.example/x", tmp_path / "x", by=by)


# Answers


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        pytest.param("size", ok(length=10**12), id="a length that is too large"),
        pytest.param("size", drip(b"HTTP/1.1 200 OK\r\n\r\n", SOUND, 0), id="no end"),
        pytest.param("size", chunked(SOUND, SOUND, SOUND), id="pieces without end"),
        pytest.param("pace", drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x", 0.1), id="a body letter by letter"),
        pytest.param("time", drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.2), id="headers one by one"),
        pytest.param("time", drip(b"", b"H", 0.2), id="a status letter by letter"),
        pytest.param("time", drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.1), id="go on and on"),
        pytest.param("network", lambda *_: time.sleep(3), id="silence"),
        pytest.param("network", lambda *_: None, id="nothing"),
        pytest.param("network", says("SSH-2.0-OpenSSH_9.2"), id="another protocol"),
        pytest.param("network", says("HTTP/1.1 200 OK\r\n" + "X: y\r\n" * 200 + "Z: z"), id="too many headers"),
        pytest.param("network", says("HTTP/1.1 200 OK\r\nX: " + "y" * 100_000), id="a header that is too long"),
        pytest.param("cut", ok(length=len(SOUND) + 1), id="less than it said"),
        pytest.param("cut", chunked(SOUND, end=b""), id="pieces that break off"),
        pytest.param("cut", chunked(end=b"fffffffffffffff\r\nxx"), id="a piece that is too large"),
        pytest.param("cut", chunked(end=b"nonsense\r\n"), id="pieces of no size"),
        pytest.param("length", says("HTTP/1.1 200 OK\r\nContent-Length: -5"), id="a negative length"),
        pytest.param("length", says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6", b"123456"), id="two"),
        pytest.param("length", says(f"HTTP/1.1 200 OK\r\nContent-Length: {'9' * 30}"), id="an enormous length"),
        pytest.param("encoding", ok(b"\x1f\x8b", "Content-Encoding: gzip"), id="a bomb"),
        pytest.param("encoding", ok(b"x", "Content-Encoding: identity, br"), id="a bomb in a box"),
        pytest.param("empty", ok(b""), id="an empty file"),
        pytest.param("range", says("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10"), id="an unasked part"),
        pytest.param("status", says("HTTP/1.1 404 Not Found\r\nContent-Length: 0"), id="not there"),
        pytest.param("status", says("HTTP/1.1 503 Later\r\nContent-Length: 0"), id="not now"),
        pytest.param("status", says("HTTP/1.1 302 Moved\r\nContent-Length: 0"), id="moved to nowhere"),
        pytest.param("scheme", moved("file:///etc/passwd"), id="moved to a file"),
        pytest.param("scheme", moved("ftp://127.0.0.1/x"), id="moved to another protocol"),
        pytest.param("scheme", moved("gopher://127.0.0.1:6379/_FLUSHALL"), id="moved to a trick"),
        pytest.param("credentials", moved("http://user:secret@127.0.0.1/"), id="moved with a password"),
        pytest.param("redirects", moved("/sound"), id="round and round"),
    ],
)
def test_answers_that_mean_harm(code: str, answer: Answer, server: Server, tmp_path: Path) -> None:
    """Each is refused with its reason, in the time that is allowed, and nothing large is kept."""
    server.answers["/sound"] = answer

    line = refused(code, server.url("/sound"), tmp_path / "x")

    assert line.startswith(("http://127.0.0.1", "file:", "ftp:", "gopher:", "127.0.0.1"))
    assert not (tmp_path / "x").exists() or (tmp_path / "x").stat().st_size <= LIMITS.size


def test_a_part_of_another_file(server: Server, tmp_path: Path) -> None:
    """206, but from elsewhere: what is there is not mixed with it."""
    path = tmp_path / "x"
    path.write_bytes(b"part")
    server.answers["/sound"] = says("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-9/10", b"12345678")

    with pytest.raises(FetchError) as caught:
        fetcher().fetch(server.url("/sound"), path, etag='"1"')

    assert caught.value.code == "range"
    assert path.read_bytes() == b"part"


def test_a_certificate_of_somebody_else(tmp_path: Path) -> None:
    """Or none at all: a server that speaks no TLS is not taken for one that does."""
    server = Server()
    try:
        refused("network", f"https://media.example:{server.port}/", tmp_path / "x")
    finally:
        server.close()


def test_a_disk_that_is_full(server: Server, tmp_path: Path) -> None:
    """It is ours, and is not blamed on the server."""
    server.answers["/sound"] = ok()

    line = refused("disk", server.url("/sound"), Path("/dev/full"))

    assert line == "/dev/full: cannot be written (No space left on device); make room"


@pytest.mark.parametrize("url", ["http://", "http://:80/x", "http://[::1/x", "http://a b/x", "http://a:99999/", "http://a/\n"])
def test_what_is_no_url(url: str, tmp_path: Path) -> None:
    """Is told so."""
    with pytest.raises(UsageError, match="is no URL"):
        fetcher().fetch(url, tmp_path / "x")
