"""A server that does whatever a test would have a hostile one do, on real connections."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE = ipaddress.ip_address("127.0.0.1")
SOUND = bytes(range(256)) * 400

#: This machine, for the internet.
ALLOWED = (ipaddress.ip_network("127.0.0.1/32"),)

#: What a server does with a connection whose request it has read.
Answer = Callable[[socket.socket, str], None]


class Server:
    """Answers each path as it is told, on 127.0.0.1; knows what it was asked.

    Args:
        tls: speak it, with a certificate of its own.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
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

    def _begun(self, connection: socket.socket) -> socket.socket:
        return connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True)

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), self._begun(connection) as connection:
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
    return lambda connection, _: connection.sendall(CHUNKED + body + end)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def cut_at(at: int, etag: str = '"1"') -> Answer:
    """The file up to there, then the rest for whoever asks for it by its tag."""

    def answer(connection: socket.socket, request: str) -> None:
        if f"Range: bytes={at}-" in request:
            assert f"If-Range: {etag}" in request
            rest = f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {at}-{len(SOUND) - 1}/{len(SOUND)}"
            says(f"{rest}\r\nContent-Length: {len(SOUND) - at}\r\nETag: {etag}", SOUND[at:])(connection, request)
        else:
            ok(SOUND[:at], f"ETag: {etag}", length=len(SOUND))(connection, request)

    return answer


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """One that a host of that name has made for itself: in a file, and as its server has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    public = folder / "certificate.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    both = folder / "both.pem"
    both.write_bytes(secret + public.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return public, context
