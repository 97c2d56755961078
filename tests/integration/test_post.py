"""Posting to whom a stranger named: only to the public internet, and never for long."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from scheduler.webhooks import Answer
from stenopool.errors import UsageError
from tests.receiver import Receiver, Request, status
from workers.addresses import Address
from workers.post import Post, target

#: May ask this machine.
ANYWHERE = Post(lambda _: True, seconds=2.0)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Takes all."""
    with Receiver() as receiver:
        yield receiver


def test_what_is_sent_arrives(receiver: Receiver) -> None:
    """Body, headers, path and query, and the host by its name."""
    here = Post(lambda _: True, lambda *_: [ipaddress.ip_address("127.0.0.1")])
    url = f"http://hook.example:{receiver.port}/a b/ü?x=1&y=ü".replace(" ", "%20")

    assert here(url, b"body", {"webhook-id": "1"}) == Answer(204)

    [request] = receiver.requests
    assert (request.path, request.body) == ("/a%20b/%C3%BC?x=1&y=%C3%BC", b"body")
    assert request.headers["host"] == f"hook.example:{receiver.port}"
    assert request.headers["webhook-id"] == "1"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433", "0.0.0.0"]
)
def test_nobody_on_this_machine_is_asked(receiver: Receiver, host: str) -> None:
    """Whatever it is called."""
    answer = Post()(f"http://{host}:{receiver.port}/", b"", {})

    assert answer.status is None
    assert answer.error is not None
    assert receiver.requests == []


def test_one_hidden_address_is_enough() -> None:
    """A name that is partly public may be rebound between two looks: there is one look, and all must be public."""
    found: list[Address] = [ipaddress.ip_address("8.8.8.8"), ipaddress.ip_address("10.0.0.1")]
    answer = Post(lookup=lambda *_: found)("https://hook.example/", b"", {})

    assert answer == Answer(None, "hook.example is 10.0.0.1, which is not on the public internet")


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    """Neither elsewhere nor back to this machine."""

    def away(_: Request, handler: BaseHTTPRequestHandler) -> None:
        status(handler, 302, Location=receiver.url)

    with Receiver(away) as other:
        assert ANYWHERE(other.url, b"", {}) == Answer(302)
    assert receiver.requests == []


def test_a_huge_body_is_not_read() -> None:
    """Its sender finds nobody who takes it."""
    ended = threading.Event()

    def flood(_: Request, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(1 << 20))
        except OSError:
            ended.set()

    with Receiver(flood) as receiver:
        assert ANYWHERE(receiver.url, b"", {}) == Answer(200)
        assert ended.wait(10)


def test_who_says_a_letter_now_and_then_is_cut() -> None:
    """All of it has a time, not each letter."""

    def drip(_: Request, handler: BaseHTTPRequestHandler) -> None:
        for letter in b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000:
            handler.wfile.write(bytes([letter]))
            handler.wfile.flush()
            time.sleep(0.02)

    with Receiver(drip) as receiver:
        began = time.monotonic()
        answer = Post(lambda _: True, seconds=0.3)(receiver.url, b"", {})

    assert answer == Answer(None, "it did not answer within 0.3 s")
    assert time.monotonic() - began < 2


def test_who_closes_has_not_answered() -> None:
    """So does nobody at all."""

    def close(_: Request, handler: BaseHTTPRequestHandler) -> None:
        handler.connection.shutdown(socket.SHUT_RDWR)

    with Receiver(close) as receiver:
        answer = ANYWHERE(receiver.url, b"", {})
    assert answer.status is None
    assert (answer.error or "").startswith("it does not answer (")
    gone = ANYWHERE(receiver.url, b"", {})
    assert gone == Answer(None, "it does not answer (Connection refused)")


@pytest.mark.parametrize(
    ("header", "seconds"), [("120", 120.0), ("soon", None), ("-5", None), ("Fri, 01 Jan 1999 00:00:00 GMT", 0.0)]
)
def test_a_retry_after(header: str, seconds: float | None) -> None:
    """Seconds, or a date; what is neither is none."""
    with Receiver(lambda _, handler: status(handler, 503, Retry_After=header)) as receiver:
        assert ANYWHERE(receiver.url, b"", {}) == Answer(503, retry_after=seconds)


def test_a_certificate_has_to_vouch_for_the_name(receiver: Receiver) -> None:
    """Who speaks no TLS is not spoken to without."""
    answer = ANYWHERE(receiver.url.replace("http:", "https:"), b"", {})

    assert answer.status is None
    assert receiver.requests == []
    assert ssl.create_default_context().check_hostname


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://hook.example/", "no URL that can be posted to"),
        ("hook.example", "no URL that can be posted to"),
        ("https://ada:secret@hook.example/", "hook.example: a webhook's URL has no password in it"),
        ("https://hook.example:99999/", "is no URL"),
        ("https://hook.example/\r\nx: y", "is no URL"),
        (f"https://{'x' * 64}.example/", "is no URL"),
    ],
)
def test_what_is_no_url(url: str, words: str) -> None:
    """Said at once, without the password."""
    with pytest.raises(UsageError, match=words) as error:
        target(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("host", ["hook.example", "other.example"])
def test_a_certificate_vouches_for_its_name_only(receiver: Receiver, tmp_path: Path, host: str) -> None:
    """By whatever address the host was found."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate := certified("hook.example", tmp_path / "hook.pem"))
    receiver.speak(context)
    trust = ssl.create_default_context(cafile=str(certificate))
    post = Post(lambda _: True, lambda *_: [ipaddress.ip_address("127.0.0.1")], seconds=5.0, trust=trust)

    answer = post(f"https://{host}:{receiver.port}/", b"body", {})

    if host == "hook.example":
        assert answer == Answer(204)
        assert receiver.requests[0].headers["host"] == f"hook.example:{receiver.port}"
    else:
        assert answer.status is None
        assert (answer.error or "").startswith("it does not answer (its certificate does not vouch for it: ")
        assert receiver.requests == []


def certified(host: str, path: Path) -> Path:
    """A file with a key, and a certificate for a host that is signed by nobody else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, host)])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
