"""As much of the model hub as a download needs, over folders, and as unreliable as a test wants it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: Where nothing listens.
NOWHERE = "http://127.0.0.1:9"


@dataclass
class Hub:
    """A hub with one repository, someone/pocket."""

    #: Commit -> its files.
    commits: dict[str, Path]
    #: Branches and tags -> commit.
    branches: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    #: Files only for those who have accepted the terms.
    gated: bool = False
    #: Nothing without a token; with this error code.
    closed: str | None = None
    #: Answers "bytes=5-" with what is behind the fifth byte.
    knows_ranges: bool = True
    #: How many connections break.
    breaks: int = 0
    #: After how many bytes of weights they do.
    breaks_after: int = 0
    #: Instead of breaking, a connection falls silent; then this is set.
    silent: Event | None = None
    #: File and range of every request for a file's content, in order.
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The address, meanwhile."""
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub=self)) as server:
            server.daemon_threads = True
            thread = Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()

    def content_of(self, digest: str) -> tuple[str, bytes]:
        """A large file's name and content, by its hash."""
        for folder in self.commits.values():
            for file in sorted(folder.glob("*.safetensors")):
                if _sha256(file) == digest:
                    return file.name, file.read_bytes()
        raise AssertionError(digest)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, hub: Hub) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """What a file is, without its content."""
        self._answer()

    def do_GET(self) -> None:
        """A listing, or a file."""
        self._answer()

    def _answer(self) -> None:
        path, hub = self.path.partition("?")[0], self.hub
        if match := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
            self._send_large(match[1])
        elif hub.closed is not None:
            self._send(401, {"X-Error-Code": hub.closed})
        elif match := re.fullmatch(r"/api/models/someone/pocket/(revision|tree)/([\w.%-]+)", path):
            revision = match[2].replace("%2F", "/")
            commit = hub.branches.get(revision, revision)
            if commit not in hub.commits:
                self._send(404, {"X-Error-Code": "RevisionNotFound"})
            elif match[1] == "revision":
                siblings = [{"rfilename": file.name} for file in self._files(commit)]
                self._send_json({"id": "someone/pocket", "sha": commit, "siblings": siblings})
            else:
                self._send_json([self._listed(file) for file in self._files(commit)])
        elif match := re.fullmatch(r"/someone/pocket/resolve/([0-9a-f]{40})/([\w.-]+)", path):
            self._resolve(match[1], hub.commits[match[1]] / match[2])
        else:
            self._send(404, {"X-Error-Code": "RepoNotFound"})

    def _files(self, commit: str) -> list[Path]:
        return sorted(file for file in self.hub.commits[commit].iterdir() if file.is_file())

    def _listed(self, file: Path) -> dict[str, Any]:
        listed = {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _sha256(file)[:40]}
        if file.suffix == ".safetensors":
            listed["lfs"] = {"oid": _sha256(file), "size": file.stat().st_size, "pointerSize": 134}
        return listed

    def _resolve(self, commit: str, file: Path) -> None:
        about = {"X-Repo-Commit": commit}
        if self.hub.gated:
            self._send(401, about | {"X-Error-Code": "GatedRepo"})
        elif file.suffix == ".safetensors":
            digest = _sha256(file)
            about |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(file.stat().st_size)}
            port = self.headers["Host"].rpartition(":")[2]  # by another name: the hub keeps large files elsewhere
            self._send(302, about | {"Location": f"http://localhost:{port}/cdn/{digest}"})
        else:
            if self.command == "GET":
                self.hub.asked.append((file.name, self.headers["Range"]))
            self._send(200, about | {"ETag": f'"{_sha256(file)[:40]}"'}, file.read_bytes())

    def _send_json(self, content: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def _send(self, status: int, headers: dict[str, str] | None = None, content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _send_large(self, digest: str) -> None:
        hub = self.hub
        name, content = hub.content_of(digest)
        wanted = self.headers["Range"]
        hub.asked.append((name, wanted))
        headers, status = {}, 200
        if wanted and hub.knows_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, status = content[start:], 206
        if not hub.breaks:
            self._send(status, headers, content)
            return
        hub.breaks -= 1
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content[: hub.breaks_after])
        self.wfile.flush()
        self.close_connection = True
        if hub.silent:
            hub.silent.set()
            self.connection.settimeout(60)
            self.rfile.read(1)  # until the other side is gone


def environment(home: Path, endpoint: str, **settings: str) -> dict[str, str]:
    """What a process needs to find the hub at `endpoint` and to keep its cache in `home`.

    The hub's library reads its settings where it is imported, so every test of it is a process of its own.
    """
    inherited = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    hub = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    return inherited | hub | settings


FIND = """
import sys
from models.checkpoint import find_checkpoint
from stenopool.errors import StenopoolError
try:
    checkpoint = find_checkpoint(*sys.argv[1:])
    print(checkpoint.folder)
    print(checkpoint.digest)
except StenopoolError as error:
    print(type(error).__name__, error.retryable, error)
"""


def start_finding(home: Path, endpoint: str, *names: str, **settings: str) -> subprocess.Popen[str]:
    """A process that finds a checkpoint and prints its folder and digest, or the error's name and line."""
    return subprocess.Popen(
        [sys.executable, "-c", FIND, *(names or ("someone/pocket",))],
        env=environment(home, endpoint, **settings),
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def find(home: Path, endpoint: str, *names: str, **settings: str) -> list[str]:
    """The lines that finding a checkpoint printed."""
    with start_finding(home, endpoint, *names, **settings) as process:
        said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return said.splitlines()
