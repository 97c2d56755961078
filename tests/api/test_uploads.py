"""Uploads: tus, with connections that break; and those that go straight to S3."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from stenopool.errors import DiskFull, QueueFull
from storage.access import Access
from storage.s3 import S3Store
from tests.api.test_recordings import sound
from tests.farms import AT_ONCE, HandFarm
from tests.serving import Served, problem, serving
from workers.uploads import Uploads

TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}


def begin(client: httpx2.Client, size: int, name: str = "talk.wav") -> str:
    """Where an upload is that was begun."""
    named = f"filename {base64.b64encode(name.encode()).decode()}"
    answer = client.post("/v1/uploads", headers={**TUS, "Upload-Length": str(size), "Upload-Metadata": named})
    assert answer.status_code == 201, answer.text
    assert answer.headers["tus-resumable"] == "1.0.0"
    return str(answer.headers["location"])


def send(client: httpx2.Client, where: str, offset: int, data: bytes, **more: str) -> httpx2.Response:
    """A PATCH."""
    return client.patch(where, content=data, headers={**PIECE, "Upload-Offset": str(offset), **more})


def offset_of(client: httpx2.Client, where: str) -> int:
    """How many bytes have come."""
    answer = client.head(where, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"])


def test_what_is_spoken(api: Served) -> None:
    """Is told without a key."""
    with api.anybody() as nobody:
        told = nobody.options("/v1/uploads")

    assert told.status_code == 204
    assert told.headers["tus-extension"] == "creation,expiration,termination,checksum"
    assert int(told.headers["tus-max-size"]) == 100_000_000_000
    other = api.ada.post("/v1/uploads", headers={"Upload-Length": "5"})
    assert "say Tus-Resumable: 1.0.0" in problem(other, 412)
    assert other.headers["tus-version"] == "1.0.0"


def test_an_upload_goes_on_where_its_connection_broke(api: Served, named_farm: HandFarm) -> None:
    """It is reset in the middle of a PATCH: what has come is there, and the rest completes the same file."""
    data = sound(60)
    where = begin(api.ada, len(data))
    authorization = api.ada.headers["authorization"]
    head = f"PATCH {where} HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\nUpload-Offset: 0\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in PIECE.items()) + f"Content-Length: {len(data)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", api.port)) as broken:
        broken.sendall(head.encode() + data[:1_200_000])
        while offset_of(api.ada, where) < 1_000_000:
            time.sleep(0.02)
        assert "being sent just now" in problem(send(api.ada, where, 0, data), 423)
        broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, as of a pulled plug
    while (answer := send(api.ada, where, offset := offset_of(api.ada, where), data[offset:])).status_code != 204:
        assert answer.status_code in (409, 423)  # the server has not seen yet that it is gone
        time.sleep(0.05)

    assert 1_000_000 <= offset <= 1_200_000
    assert answer.headers["upload-offset"] == str(len(data))
    id = where.rpartition("/")[2]
    made = api.ada.post("/v1/recordings", json={"upload": id})
    assert made.status_code == 201
    assert made.json()["name"] == "talk.wav"
    assert named_farm.keys("sources") == [f"sources/{hashlib.sha256(data).hexdigest()}"]
    again = api.ada.post("/v1/recordings", json={"upload": id})  # the answer may have been lost
    assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])
    assert list((api.config.uploads).iterdir()) == []


def test_what_does_not_fit_changes_nothing(api: Served) -> None:
    """Wrong places, too much, sums that do not match, files that are not whole."""
    where = begin(api.ada, 10)
    id = where.rpartition("/")[2]
    assert "is at byte 0" in problem(send(api.ada, where, 3, b"abc"), 409)
    assert "more than the 10 bytes" in problem(send(api.ada, where, 0, b"0" * 11), 413)
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    assert "by its checksum" in problem(
        send(api.ada, where, 0, b"01234", **{"Upload-Checksum": f"sha256 {wrong}"}), 460
    )
    problem(send(api.ada, where, 0, b"01234", **{"Upload-Checksum": "crc32 AAAA"}), 400)
    problem(
        api.ada.patch(where, content=b"0", headers={**TUS, "Upload-Offset": "0", "Content-Type": "text/plain"}), 415
    )
    assert offset_of(api.ada, where) == 0

    right = base64.b64encode(hashlib.sha1(b"01234").digest()).decode()
    assert send(api.ada, where, 0, b"01234", **{"Upload-Checksum": f"sha1 {right}"}).status_code == 204
    assert offset_of(api.ada, where) == 5
    assert "has 5 of its 10 bytes" in problem(api.ada.post("/v1/recordings", json={"upload": id}), 409)
    assert send(api.ada, where, 5, b"56789").status_code == 204
    assert problem(api.ada.post("/v1/recordings", json={"upload": id}), 422).startswith("talk.wav: ")
    assert api.ada.delete(where, headers=TUS).status_code == 204
    assert api.ada.head(where, headers=TUS).status_code == 404
    problem(api.ada.post("/v1/recordings", json={"upload": id}), 404)
    too_large = {**TUS, "Upload-Length": str(10**15)}
    assert "raise STENOPOOL_MAX_GB" in problem(api.ada.post("/v1/uploads", headers=too_large), 413)


def test_an_upload_is_its_tenants(api: Served) -> None:
    """Others find none, and that they looked is noted."""
    where = begin(api.ada, 5)
    id = where.rpartition("/")[2]

    assert api.bob.head(where, headers=TUS).status_code == 404
    problem(send(api.bob, where, 0, b"01234"), 404)
    problem(api.bob.delete(where, headers=TUS), 404)
    problem(api.bob.post("/v1/recordings", json={"upload": id}), 404)
    assert [entry for entry in api.audit() if entry == f"access.refused upload {id}"] == [
        f"access.refused upload {id}"
    ] * 4
    assert offset_of(api.operator, where) == 0


def test_what_nobody_goes_on_with_expires(tmp_path: Path) -> None:
    """It is not found any more, and then it is gone, as is what a killed process left."""
    uploads = Uploads(tmp_path / "uploads", most=100, seconds=3600)
    kept, old = uploads.create("ada", 5, {}), uploads.create("ada", 5, {})
    with uploads.spooled() as path:
        path.write_bytes(b"left")
        for one in (uploads.path(old.id), uploads.path(old.id).parent / "about.json", path):
            os.utime(one, (0, 0))
            os.utime(one.parent, (0, 0))
        assert uploads.collect() == 2

    assert uploads.find(kept.id).offset == 0
    assert [one.name for one in (tmp_path / "uploads").iterdir()] == [kept.id]


@pytest.fixture
def s3_api(named_farm: HandFarm, s3: S3Store, tmp_path: Path) -> Iterator[Served]:
    """The API of a farm whose objects are in S3."""
    vars(named_farm.farm).update(store=s3)
    named_farm.store = s3
    with serving(named_farm.farm, tmp_path / "home") as served:
        yield served


def test_one_tenant_leaves_room_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a disk with room for ten: what was promised to one is not promised to another, nor to one more than half."""
    disk = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=10))
    uploads = Uploads(tmp_path / "uploads", most=100)
    first = uploads.create("ada", 4, {})
    with pytest.raises(QueueFull, match="ada has 1 uploads open"):
        uploads.create("ada", 2, {})
    uploads.create("bob", 5, {})
    with pytest.raises(DiskFull, match="no room"):
        uploads.create("eve", 2, {})
    uploads.remove(first.id)
    assert uploads.create("eve", 5, {}).length == 5


def test_a_file_goes_straight_to_s3_and_comes_straight_from_there(s3_api: Served, named_farm: HandFarm) -> None:
    """By URLs that are signed for exactly that, and no longer than a quarter of an hour."""
    data = sound(3)
    asked = s3_api.ada.post("/v1/uploads/presigned", json={"size": len(data)})
    assert asked.status_code == 201
    signed = asked.json()
    assert time.time() < signed["expires_at"] <= time.time() + 900
    problem(s3_api.ada.post("/v1/recordings", json={"upload": signed["id"]}), 404)  # nothing is there yet
    sent = urllib.request.Request(signed["url"], data, signed["headers"], method=signed["method"])
    with urllib.request.urlopen(sent) as response:
        assert response.status == 200

    problem(s3_api.bob.post("/v1/recordings", json={"upload": signed["id"]}), 404)
    options = {"vad": False, "chunk_length": 2, "overlap": 0, "language": "en"}
    wanted = {"upload": signed["id"], "name": "talk.wav", "options": options}
    made = s3_api.ada.post("/v1/recordings", json=wanted)
    assert made.status_code == 201
    assert s3_api.ada.post("/v1/recordings", json=wanted).status_code == 200
    assert named_farm.keys("uploads") == []
    named_farm.go()
    where = f"/v1/recordings/{made.json()['id']}/transcript"
    direct = s3_api.ada.get(where, params={"format": "txt", "redirect": True})
    assert direct.status_code == 307
    with urllib.request.urlopen(direct.headers["location"]) as response:
        assert response.read().split() == [b"first0", b"first1"]
        assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''talk.txt"
    assert "no such file" in problem(s3_api.ada.get(where, params={"format": "chapters", "redirect": True}), 409)
    assert signed["url"] not in str(Access(s3_api.farm.database).entries())


def test_a_folder_gives_no_urls(api: Served) -> None:
    """It says what to do instead."""
    assert "send it to /v1/uploads" in problem(api.ada.post("/v1/uploads/presigned", json={"size": 5}), 409)


def test_what_was_sent_by_a_url_and_never_handed_in_is_collected(named_farm: HandFarm) -> None:
    """After a day."""
    named_farm.store.put("uploads/ab/p-1", b"old")
    assert named_farm.collect(grace=AT_ONCE) == []
    assert [one.which for one in named_farm.collect(grace=-90_000)] == ["uploads/ab/p-1"]
    assert named_farm.keys() == []
