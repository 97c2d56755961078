"""Fetching from servers that mean harm, on real connections: each is refused with its reason, and in time."""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stenopool.errors import DiskFull, FetchError
from tests.hostile import (
    ALLOWED,
    CHUNKED,
    HERE,
    SOUND,
    Answer,
    Server,
    certificate,
    chunked,
    cut_at,
    drip,
    moved,
    ok,
    says,
)
from workers.addresses import Address, may_ask
from workers.fetch import Bounds, Fetcher
from workers.source import refusal_of

BOUNDS = Bounds(size=200_000, seconds=60.0, silence=20.0, pace=1)
#: For those who take their time.
HASTY = Bounds(size=200_000, seconds=2.0, silence=0.5, pace=20_000)


@pytest.fixture
def server() -> Iterator[Server]:
    """One that does nothing yet."""
    server = Server()
    yield server
    server.close()


def fetcher(lookup: Callable[[str, int], list[Address]] = lambda *_: [HERE]) -> Fetcher:
    """One that takes this machine for the internet."""
    return Fetcher(BOUNDS, ALLOWED, lookup)


def by_name(host: str, _: int) -> list[Address]:
    """Addresses are what they are, and all names are this machine."""
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        return [HERE]


def refused(code: str, url: str, path: Path, *, by: Fetcher | None = None) -> str:
    """It is, with that reason, within the time that is allowed; returns the line."""
    bounds = HASTY if code in ("time", "pace", "network") else BOUNDS
    started = time.monotonic()
    with pytest.raises(FetchError) as caught:
        (by or Fetcher(bounds, ALLOWED, by_name)).fetch(url, path, refuse=refusal_of)
    assert caught.value.code == code, str(caught.value)
    assert time.monotonic() - started < bounds.seconds + 1
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


def test_what_breaks_off_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    """Where it was, if the server vouches that it is the same file."""
    server.answers["/sound"] = cut_at(30_000)

    assert fetcher().fetch(server.url("/sound"), tmp_path / "x").size == len(SOUND)
    assert (tmp_path / "x").read_bytes() == SOUND
    assert len(server.asked) == 2

    server.answers["/weak"] = cut_at(30_000, 'W/"1"')
    line = refused("cut", server.url("/weak"), tmp_path / "y")
    assert line == f"{server.url('/weak')}: ended before its end (72400 bytes are missing)"
    assert len(server.asked) == 3


def test_the_second_address_is_tried_where_the_first_does_not_answer(server: Server, tmp_path: Path) -> None:
    """As where one of them is of a network that there is no way to."""
    server.answers["/sound"] = ok()
    both = [ipaddress.ip_address("127.0.0.2"), HERE]
    by = Fetcher(BOUNDS, (ipaddress.ip_network("127.0.0.0/30"),), lambda *_: both)

    by.fetch(server.url("/sound", "two.example"), tmp_path / "x")

    assert (tmp_path / "x").read_bytes() == SOUND


def test_no_proxy_and_no_password_of_this_machine(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other programs here are told by the environment is not for strangers."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ada password secret")
    server.answers["/sound"] = ok()

    fetcher().fetch(server.url("/sound"), tmp_path / "x")

    assert "Authorization" not in server.asked[0]


def test_a_host_that_asks_for_time(server: Server, tmp_path: Path) -> None:
    """In seconds, or by a date; or without a word of how long."""
    for header, expected in (("Retry-After: 120", 120.0), ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", 0.0)):
        server.answers["/sound"] = says(f"HTTP/1.1 503 Later\r\n{header}\r\nContent-Length: 0")
        with pytest.raises(FetchError) as caught:
            fetcher().fetch(server.url("/sound"), tmp_path / "x")
        assert (caught.value.code, caught.value.later, caught.value.retryable) == ("later", expected, True)
    server.answers["/sound"] = says("HTTP/1.1 429 Too Many\r\nRetry-After: soon\r\nContent-Length: 0")
    with pytest.raises(FetchError) as caught:
        fetcher().fetch(server.url("/sound"), tmp_path / "x")
    assert (caught.value.code, caught.value.later) == ("later", None)


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
        *(
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
        ),
        *("192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1"),
        *("255.255.255.255", "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
        *("2002:7f00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "::ffff:0:10.0.0.1", "100::1", "5f00::1"),
        *("100.100.100.200", "192.0.0.192", "168.63.129.16", "64:ff9b::a83f:8110"),
    ],
)
def test_addresses_that_are_not_public(address: str, tmp_path: Path) -> None:
    """Of this host, this network, groups, examples; also where they hide in another one. No connection is made."""
    hidden = ipaddress.ip_address(address)
    one_of_two = Fetcher(BOUNDS, lookup=lambda *_: [ipaddress.ip_address("93.184.216.34"), hidden])

    assert not may_ask(hidden)
    assert str(hidden) in refused("address", "http://media.example/talk.mp3", tmp_path / "x", by=one_of_two)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "::ffff:8.8.8.8"])
def test_addresses_that_are_public(address: str) -> None:
    """Also as a gateway writes them."""
    assert may_ask(ipaddress.ip_address(address))


def test_networks_of_the_operators_own() -> None:
    """Those that are named and no others, in any disguise; what a cloud tells a machine is never asked for."""
    allowed = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("169.254.0.0/16"), ALLOWED[0])

    assert may_ask(ipaddress.ip_address("10.1.2.3"), allowed)
    assert may_ask(ipaddress.ip_address("::ffff:10.1.2.3"), allowed)
    assert not may_ask(ipaddress.ip_address("10.2.0.1"), allowed)
    assert not may_ask(ipaddress.ip_address("169.254.169.254"), allowed)
    assert not may_ask(ipaddress.ip_address("::ffff:169.254.169.254"), allowed)


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0"]
)
def test_this_machine_by_any_other_name(host: str, server: Server, tmp_path: Path) -> None:
    """As the system itself reads it."""
    by = Fetcher(BOUNDS)
    refused("address", f"http://{host}:{server.port}/", tmp_path / "x", by=by)
    assert server.asked == []


def test_a_redirect_to_where_nobody_may_ask(server: Server, tmp_path: Path) -> None:
    """Each is judged anew."""
    server.answers["/sound"] = moved("http://169.254.169.254/latest/meta-data/")

    line = refused("address", server.url("/sound"), tmp_path / "x")

    where = "http://169.254.169.254/latest/meta-data/: 169.254.169.254 is 169.254.169.254"
    assert line == (
        f"{server.url('/sound')}: leads to {where}, which is not on the public internet; where it is in a network of "
        "your own, name that in STENOPOOL_FETCH_ALLOW"
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
    by = Fetcher(BOUNDS)
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
        pytest.param("network", lambda *_: time.sleep(2), id="silence"),
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
        pytest.param("encoding", ok(b"x", "Transfer-Encoding: gzip, chunked"), id="a bomb on its way"),
        pytest.param("content", ok(b"#EXTM3U\n#EXTINF:9,\nhttp://10.0.0.1/x.ts\n"), id="a playlist"),
        pytest.param("content", ok(b"[playlist]\nFile1=file:///etc/passwd\n"), id="a playlist of Winamp's"),
        pytest.param(
            "content", ok(b'<?xml version="1.0"?>\n<playlist><location>x</location>'), id="a playlist of XSPF"
        ),
        pytest.param("content", ok(b"ffconcat version 1.0\nfile /etc/passwd\n"), id="a playlist of FFmpeg's"),
        pytest.param("content", ok(b'<?xml version="1.0"?><MPD><BaseURL>x</BaseURL></MPD>'), id="a playlist of DASH"),
        pytest.param("content", ok(b"<!DOCTYPE html><title>Sign in</title>"), id="a page to sign in"),
        pytest.param("time", drip(CHUNKED + b"1\r\nx\r\n0\r\n", b"X: y\r\n", 0.1), id="an end that does not end"),
        pytest.param("empty", ok(b""), id="an empty file"),
        pytest.param(
            "range", says("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10"), id="an unasked part"
        ),
        pytest.param("status", says("HTTP/1.1 404 Not Found\r\nContent-Length: 0"), id="not there"),
        pytest.param("status", says("HTTP/1.1 503 Later\r\nContent-Length: 0"), id="not now"),
        pytest.param("status", says("HTTP/1.1 204 Nothing"), id="nothing to send"),
        pytest.param("status", says("HTTP/1.1 999 Go Away\r\nContent-Length: 0"), id="a status of its own"),
        pytest.param("status", says("HTTP/1.1 302 Moved\r\nContent-Length: 0"), id="moved to nowhere"),
        pytest.param("scheme", moved("file:///etc/passwd"), id="moved to a file"),
        pytest.param("scheme", moved("ftp://127.0.0.1/x"), id="moved to another protocol"),
        pytest.param("scheme", moved("gopher://127.0.0.1:6379/_FLUSHALL"), id="moved to a trick"),
        pytest.param("credentials", moved("http://user:secret@127.0.0.1/"), id="moved with a password"),
        pytest.param("redirects", moved("/sound"), id="round and round"),
        pytest.param("url", moved("http://[::1/x"), id="moved to what is no URL"),
        pytest.param("url", moved("http://a b/x"), id="moved to a name with a space"),
        pytest.param("address", moved("http://[::ffff:10.0.0.1]/x"), id="moved to an address in disguise"),
    ],
)
def test_answers_that_mean_harm(code: str, answer: Answer, server: Server, tmp_path: Path) -> None:
    """Each is refused with its reason, in the time that is allowed, and nothing large is kept."""
    server.answers["/sound"] = answer

    line = refused(code, server.url("/sound"), tmp_path / "x")

    assert line.startswith(server.url("/sound"))
    assert "secret" not in line
    assert not (tmp_path / "x").exists() or (tmp_path / "x").stat().st_size <= BOUNDS.size


def test_a_part_of_another_file(server: Server, tmp_path: Path) -> None:
    """206, but from elsewhere: what is there is not mixed with it."""
    path = tmp_path / "x"
    path.write_bytes(b"part")
    server.answers["/sound"] = says("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-9/10", b"12345678")

    with pytest.raises(FetchError) as caught:
        fetcher().fetch(server.url("/sound"), path, etag='"1"')

    assert caught.value.code == "range"
    assert path.read_bytes() == b"part"


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ssl.SSLContext]:
    """What a server of media.example has, where this machine trusts it."""
    public, context = certificate(tmp_path_factory.mktemp("tls"), "media.example")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(public))
        yield context


def test_a_name_is_vouched_for(trusted: ssl.SSLContext, tmp_path: Path) -> None:
    """Though it is connected to by its address: another name is not, and neither is the address itself."""
    server = Server(trusted)
    server.answers["/sound"] = ok()
    url = server.url("/sound", "media.example").replace("http:", "https:")

    assert fetcher().fetch(url, tmp_path / "x").size == len(SOUND)
    line = refused("certificate", url.replace("media.", "evil."), tmp_path / "y")
    assert line.startswith(f"https://evil.example:{server.port}/sound: its certificate does not vouch for it (Hostname")
    refused("certificate", url.replace("media.example", "127.0.0.1"), tmp_path / "y")
    assert len(server.asked) == 1
    server.close()


def test_a_certificate_that_nobody_knows(tmp_path: Path) -> None:
    """And a server that speaks no TLS at all."""
    _, context = certificate(tmp_path, "media.example")
    server, plain = Server(context), Server()
    secure = [one.url("/", "media.example").replace("http:", "https:") for one in (server, plain)]

    refused("certificate", secure[0], tmp_path / "x")
    refused("network", secure[1], tmp_path / "x")
    server.close()
    plain.close()


def test_a_disk_that_is_full(server: Server, tmp_path: Path) -> None:
    """It is ours, and is not blamed on the server."""
    server.answers["/sound"] = ok()

    with pytest.raises(DiskFull, match=r"^/dev/full: cannot be written to \(No space left on device\); make room"):
        fetcher().fetch(server.url("/sound"), Path("/dev/full"))


@pytest.mark.parametrize(
    "url", ["http://", "http://:80/x", "http://[::1/x", "http://a b/x", "http://a:99999/", "http://a/\n"]
)
def test_what_is_no_url(url: str, tmp_path: Path) -> None:
    """Is told so."""
    assert "is no URL" in refused("url", url, tmp_path / "x")
