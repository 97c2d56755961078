"""The stores that tests of storage share: a folder, and a bucket of a real server over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest

from storage.folder import FolderStore
from storage.objects import ObjectStore
from storage.s3 import S3Store
from tests.proxy import Proxy

BUCKET = "stenopool"

# It ends with its input, so also where this process is killed. Between its look whether there is an object and its
# writing of one there is no lock: no thread may step between them.
SERVER = """
import sys
from moto.server import ThreadedMotoServer

sys.setswitchinterval(60)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    """Host and port of an S3 server with a bucket, and an environment that boto3 finds its credentials in.

    One that is there already is named by S3_SERVER ("host:port"), with its credentials: all must hold there, too.
    """
    if "S3_SERVER" in os.environ:
        there = urlsplit(f"http://{os.environ['S3_SERVER']}")
        boto3.client("s3", endpoint_url=there.geturl()).create_bucket(Bucket=BUCKET)
        yield there.hostname or "", there.port or 80
        return
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "testkey",
            "AWS_SECRET_ACCESS_KEY": "testsecret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        server = [sys.executable, "-c", SERVER]
        pipe = subprocess.PIPE
        with subprocess.Popen(server, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}").create_bucket(Bucket=BUCKET)
            yield "127.0.0.1", port
            assert process.stdin is not None
            process.stdin.close()


@pytest.fixture
def s3(s3_server: tuple[str, int]) -> S3Store:
    """An empty store in S3."""
    host, port = s3_server
    return S3Store(BUCKET, f"farm/{uuid.uuid4().hex}", endpoint=f"http://{host}:{port}")


@pytest.fixture
def proxy(s3_server: tuple[str, int]) -> Iterator[Proxy]:
    """A proxy before the S3 server."""
    with Proxy(*s3_server) as proxy:
        yield proxy


@pytest.fixture
def far(s3: S3Store, proxy: Proxy) -> S3Store:
    """The same store as `s3` behind the proxy, with little patience."""
    return S3Store(BUCKET, s3._prefix.rstrip("/"), endpoint=f"http://127.0.0.1:{proxy.port}", attempts=4, timeout=2.0)


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind."""
    if request.param == "folder":
        return FolderStore(tmp_path / "objects")
    s3: S3Store = request.getfixturevalue("s3")
    return s3
