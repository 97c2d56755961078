"""What the doctor says of a store: one that keeps its promises, and those that do not."""

from __future__ import annotations

import socket

import pytest

from stenopool.doctor.findings import Check, Finding, State, examine
from stenopool.doctor.services import look_at_store, try_store
from storage.objects import ObjectStore
from storage.s3 import S3Store
from tests.servers import BUCKET


def test_a_store_that_keeps_its_promises(store: ObjectStore) -> None:
    """Of each kind; the probe is gone afterwards."""
    finding = try_store(store, "it")

    assert finding.state == State.OK
    assert finding.seen.startswith("it: put, range, put if absent, delete in ")
    assert list(store.list()) == []


def look(where: str) -> Finding:
    """What is said of a store by its URL."""
    [(_, finding)] = examine([Check("store", lambda: look_at_store(where, 10), "")], 30)
    return finding


def test_a_bucket(s3_server: tuple[str, int]) -> None:
    """That is there, and that is not."""
    host, port = s3_server
    there = look(f"s3://{BUCKET}/doctor?endpoint=http://{host}:{port}")
    missing = look(f"s3://no-such-bucket?endpoint=http://{host}:{port}")

    assert there.state == State.OK
    assert missing.state == State.FAILED
    assert missing.seen.endswith("there is no such bucket")
    assert missing.cure == "create it, or correct its name (NoSuchBucket)"


def test_a_server_that_is_gone(s3_server: tuple[str, int]) -> None:
    """A port on which nobody listens: twice, and no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    finding = look(f"s3://{BUCKET}?endpoint=http://127.0.0.1:{port}")

    assert (finding.state, finding.cure) == (State.FAILED, "see that it runs and can be reached")


def test_a_server_that_replaces_what_is_there(s3: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are some that do not know the condition: several would win where one may."""

    def careless(key: str, data: bytes) -> bool:
        s3.put(key, data)
        return True

    monkeypatch.setattr(s3, "put_if_absent", careless)
    finding = try_store(s3, "it")

    assert (finding.state, finding.seen) == (State.FAILED, "it replaces what is there (If-None-Match)")
    assert list(s3.list()) == []
