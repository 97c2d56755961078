"""Publishers' own transcripts: fetched once, kept as they came, and no trouble for the recording whatever they are."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from scheduler.campaigns import Campaigner
from scheduler.redaction import read_rules
from stenopool.domain import Options
from stenopool.errors import FetchError
from storage.campaigns import Campaigns, Plan
from storage.desk import Submission
from storage.erasing import Erasing
from storage.keys import publisher_key
from storage.publisher import PublisherTranscript, PublisherTranscripts
from storage.publisher_tables import KeptState
from storage.redactions import Redactions
from storage.tables import SubmissionState
from tests import sounds
from tests.farms import HandFarm, command
from tests.feeds import Publisher, fetcher
from tests.hostile import ALLOWED, Answer, Server, drip, moved, ok, says
from tests.serving import problem, serving
from workers.addresses import Address
from workers.collect import GRACE
from workers.elsewhere import Elsewhere
from workers.erase import Eraser, receipt_of
from workers.fetch import Bounds, Fetcher
from workers.manifest import records
from workers.podcast import follow
from workers.redact import redact
from workers.shown import shown_of
from workers.stages import Stages

KEPT, REFUSED, LATER = KeptState.KEPT, KeptState.REFUSED, KeptState.LATER
VTT = b"WEBVTT\n\n00:00.000 --> 00:02.000\nHello\n"
PODCAST = 'xmlns:podcast="https://podcastindex.org/namespace/1.0"'


def lookup(host: str, port: int) -> list[Address]:
    """One name leads inside."""
    return [ip_address("10.0.0.7" if host == "inside.example.org" else host)]


FETCHER = Fetcher(Bounds(size=1e7, seconds=60.0, silence=20.0, pace=1), ALLOWED, lookup)


@pytest.fixture
def server() -> Iterator[Server]:
    """One that does as it is told."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def farm(hand_farm: HandFarm) -> HandFarm:
    """On both databases, with workers that know this machine."""
    return abroad(hand_farm)


def abroad(farm: HandFarm) -> HandFarm:
    """Its workers may ask this machine."""
    farm.stages.close()
    farm.stages = Stages(farm.farm, "stages", fetcher=FETCHER)
    return farm


def submit(farm: HandFarm, server: Server, answers: dict[str, Answer], **other: Any) -> Submission:
    """A recording whose feed names these transcripts."""
    server.answers |= answers
    links = [{"url": server.url(path), "type": "text/vtt", "language": "en"} for path in answers]
    return farm.submit(metadata={"transcripts": json.dumps(links)}, **other)


def of(farm: HandFarm, submission: Submission) -> list[PublisherTranscript]:
    """What became of them."""
    return PublisherTranscripts(farm.farm.database).of(submission.id)


def states(farm: HandFarm, submission: Submission) -> list[tuple[KeptState, str | None]]:
    """In short."""
    return [(one.state, one.error) for one in of(farm, submission)]


def test_a_feeds_own_are_kept_as_they_came(hand_farm: HandFarm, tmp_path: Path) -> None:
    """By addresses that are relative to the feed; and who follows it again, fetches nothing again."""
    database = hand_farm.farm.database
    campaigns = Campaigns(database)
    options = asdict(Options(language="en", vad=False, chunk_length=2, overlap=0))
    campaign = campaigns.create(Plan(tenant="ada", name="talks", model="pocket", options=options))
    hand_farm.stages.close()
    hand_farm.stages = Stages(hand_farm.farm, "stages", fetcher=fetcher())
    with Publisher() as publisher:
        publisher.files["/1.wav"] = (sounds.write(tmp_path / "1.wav", sounds.noise(4)).read_bytes(), "audio/wav")
        publisher.files["/shows/1.vtt"] = (VTT, "text/html; charset=utf-8")
        publisher.files["/1.srt"] = ("1\nÄ".encode("latin-1"), "Application/X-Subrip; charset=iso-8859-1")
        tags = (
            f'<podcast:transcript {PODCAST} url="shows/1.vtt" type="text/vtt" language="en" rel="captions"/>'
            f'<podcast:transcript {PODCAST} url="/1.srt"/>'
        )
        url = publisher.publish(["/1.wav"], more=tags)
        for _ in range(2):
            follow(campaigns, campaign.id, url, fetcher())
            campaigns.listed(campaign.id)
            campaigns.start(campaign.id, None)
            Campaigner(database).tick()
            hand_farm.go()

        assert publisher.asked == {"/feed.xml": 2, "/1.wav": 1, "/shows/1.vtt": 1, "/1.srt": 1}
        [submission] = hand_farm.farm.desk.submissions()
        assert submission.state == SubmissionState.COMPLETED
        first, second = of(hand_farm, submission)
        assert first == PublisherTranscript(
            place=1,
            url=publisher.url("/shows/1.vtt"),
            media_type="text/vtt",
            language="en",
            rel="captions",
            state=KEPT,
            sha256=hashlib.sha256(VTT).hexdigest(),
            size=len(VTT),
        )
        assert (second.media_type, second.language, second.state) == ("application/x-subrip", None, KEPT)
    keys = [publisher_key(submission.id, str(one.sha256)) for one in (first, second)]
    assert hand_farm.keys("publisher") == sorted(keys)
    assert hand_farm.store.read(keys[1], 0, 100) == b"1\n\xc4", "not a byte is changed"
    hand_farm.store.delete(keys[1])
    [record] = records(hand_farm.farm, campaigns.get(campaign.id))
    told = [(one["state"], one["key"], one["sha256"]) for one in record["publisher_transcripts"]]
    assert told == [("kept", keys[0], first.sha256), ("kept", keys[1], None)], "as they are there now"


def endless(connection: socket.socket, _: str) -> None:
    """As much as anybody takes."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(bytes(1 << 16))


def test_whatever_they_are_the_recording_goes_on(farm: HandFarm, server: Server) -> None:
    """Each has its reason, in a line, without what may be a secret in its address; and is not asked for again."""
    page = b"<!DOCTYPE html><p>Not here"
    answers = {
        "/endless": endless,
        "/large": ok(b"", length=5_000_001),
        "/gone": says(f"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: {len(page)}", page),
        "/soft": ok(page, "Content-Type: text/html"),
        "/loop": moved("/loop"),
        "/inward": moved("http://inside.example.org/admin"),
        "/metadata": moved("http://169.254.169.254/latest"),
        "/empty": ok(b""),
        "/packed": ok(VTT, "Content-Encoding: gzip"),
        "/good": ok(VTT),
    }
    server.answers |= answers
    strange = [
        "file:///etc/passwd",
        "s3://bucket/key",
        "http://ada:pw@127.0.0.1/",
        "http://[x",
        "http://inside.example.org/",
    ]
    links = [
        {"url": url, "type": "text/vtt"} for url in (*(server.url(f"{path}?key=secret") for path in answers), *strange)
    ]
    submission = farm.submit(metadata={"transcripts": json.dumps(links)})

    farm.go()

    assert farm.now(submission).state == SubmissionState.COMPLETED
    own = "; where it is in a network of your own, name that in STENOPOOL_FETCH_ALLOW"
    inside = f"inside.example.org is 10.0.0.7, which is not on the public internet{own}"
    at = server.url
    assert [error for state, error in states(farm, submission) if state == REFUSED] == [
        f"{at('/endless')}: has more than 5 MB, which is the most that is taken",
        f"{at('/large')}: has more than 5 MB, which is the most that is taken",
        f"{at('/gone')}: status 404",
        f"{at('/soft')}: is a web page, not text/vtt",
        f"{at('/loop')}: is redirected more than 5 times",
        f"{at('/inward')}: leads to http://inside.example.org/admin: {inside}",
        f"{at('/metadata')}: leads to http://169.254.169.254/latest: 169.254.169.254 is 169.254.169.254, which is not "
        f"on the public internet{own}",
        f"{at('/empty')}: is empty",
        f"{at('/packed')}: comes compressed (gzip), though it was asked for as it is",
        "file:///etc/passwd: only http and https are fetched",
        "s3://bucket/key: only http and https are fetched",
        "http://127.0.0.1/: a URL with a password in it is not fetched",
        "http://[x: is no URL (Invalid IPv6 URL)",
        f"http://inside.example.org/: {inside}",
    ]
    assert [one.place for one in of(farm, submission) if one.state == KEPT] == [10]
    assert len(farm.keys("publisher")) == 1
    paths = [request.split(" ")[1].partition("?")[0] for request in server.asked]
    assert {path: paths.count(path) for path in answers} == {path: 6 if path == "/loop" else 1 for path in answers}


def test_a_slow_one_is_given_up(server: Server, tmp_path: Path) -> None:
    """Though it never ends and never is silent."""
    server.answers["/slow"] = drip(b"HTTP/1.1 200 OK\r\n\r\n", b"a", 0.05)
    elsewhere = Elsewhere(Fetcher(Bounds(seconds=0.5), ALLOWED))

    with pytest.raises(FetchError, match=r": takes longer than is allowed$") as refused:
        elsewhere.fetch_text(server.url("/slow"), tmp_path / "text", threading.Event(), refuse=lambda _: None)

    assert refused.value.retryable


def test_what_could_not_be_had_for_the_moment_is_tried_again(farm: HandFarm, server: Server) -> None:
    """As the transcript is published; what still cannot be had then keeps nobody."""
    later = says("HTTP/1.1 503 Unavailable\r\nContent-Length: 0")
    submission = submit(farm, server, {"/1": later, "/2": later, "/3": ok(VTT)})
    farm.ingest()
    reasons = [f"{server.url(path)}: status 503" for path in ("/1", "/2")]
    assert states(farm, submission) == [(LATER, reasons[0]), (LATER, reasons[1]), (KEPT, None)]
    assert farm.now(submission).state == SubmissionState.TRANSCRIBING

    server.answers["/1"] = ok(VTT)
    farm.go()

    assert farm.now(submission).state == SubmissionState.COMPLETED
    assert states(farm, submission) == [(KEPT, None), (LATER, reasons[1]), (KEPT, None)]
    assert len(server.asked) == 5


def test_what_is_kept_stays(farm: HandFarm, server: Server) -> None:
    """Whoever comes late with other bytes, or with a failure, changes nothing."""
    submission = submit(farm, server, {"/1": ok(VTT)})
    farm.ingest()
    [one] = of(farm, submission)
    known = PublisherTranscripts(farm.farm.database)
    late = PublisherTranscript(
        place=1, url=one.url, media_type=None, language=None, rel=None, state=REFUSED, error="too late"
    )

    assert not known.keep(submission.id, late, there=farm.store.exists)
    assert of(farm, submission) == [one]


def test_a_worker_that_is_killed_fetches_none_twice(named_farm: HandFarm, server: Server, tmp_path: Path) -> None:
    """With SIGKILL, as it asks for the second one: the first is there, and only the others are asked for again."""
    farm = abroad(named_farm)
    victims: list[int] = []

    def deadly(connection: socket.socket, request: str) -> None:
        if victims:
            os.kill(victims.pop(), signal.SIGKILL)
        else:
            ok(VTT + b"2")(connection, request)

    submission = submit(farm, server, {"/1": ok(VTT), "/2": deadly, "/3": ok(VTT)})
    script = (
        "import ipaddress, sys\n"
        "from stenopool.config import Config\n"
        "from workers.farm import Farm\n"
        "from workers.fetch import Fetcher\n"
        "from workers.stages import Stages\n"
        "fetcher = Fetcher(allowed=(ipaddress.ip_network('127.0.0.1/32'),))\n"
        "stages = Stages(Farm.find(Config.from_env()), 'victim', fetcher=fetcher)\n"
        "sys.stdin.readline()\n"
        "stages.ingest(int(sys.argv[1]))\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", script, str(submission.id)], stdin=subprocess.PIPE)
    victims.append(worker.pid)
    worker.communicate(b"\n")
    assert worker.returncode == -signal.SIGKILL
    assert [one.state for one in of(farm, submission)] == [KEPT]
    assert farm.now(submission).state == SubmissionState.INGESTING

    farm.expire()
    farm.go()

    assert farm.now(submission).state == SubmissionState.COMPLETED
    assert states(farm, submission) == [(KEPT, None)] * 3
    assert sorted(request.split(" ")[1] for request in server.asked) == ["/1", "/2", "/2", "/3"]
    assert len(farm.keys("publisher")) == 2, "equal ones are one object"


def test_a_deletion_takes_them_along(farm: HandFarm, server: Server) -> None:
    """They are counted in its receipt; whoever comes late keeps nothing."""
    answers = {"/1": ok(VTT), "/2": says("HTTP/1.1 404 Not Found\r\nContent-Length: 0")}
    submission = submit(farm, server, answers)
    other = submit(farm, server, answers)
    farm.go()
    [late, _] = of(farm, submission)
    eraser = Eraser(farm.farm, keep=0)
    eraser.erasing.begin(submission.id, by="ada@desk")
    assert eraser.go_on(submission.id)

    deletion = Erasing(farm.farm.database).deletion(submission.id)
    assert deletion is not None
    receipt = receipt_of(deletion)
    assert receipt["rows"]["publisher_transcripts"] == 2
    [mine] = [one for one in receipt["objects"] if one["kind"] == "publisher"]
    assert (mine["bytes"], mine["removed"]) == (len(VTT), True)
    assert not PublisherTranscripts(farm.farm.database).keep(submission.id, late, there=lambda _: True)
    assert of(farm, submission) == []
    assert farm.keys("publisher") == [publisher_key(other.id, str(late.sha256))]


def test_what_is_removed_as_it_is_kept_is_put_again(farm: HandFarm, server: Server) -> None:
    """A worker that died long ago left it without a row, and the collector comes by after the next one has put it."""
    submission = submit(farm, server, {"/1": ok(VTT)})
    put, puts = farm.store.put, []

    def put_and_collected(key: str, data: bytes, media_type: str | None = None) -> None:
        put(key, data, media_type)
        puts.append(key)
        if key.startswith("publisher") and len(puts) == 1:
            farm.store.delete(key)

    vars(farm.store)["put"] = put_and_collected
    farm.ingest()

    [one] = of(farm, submission)
    assert farm.keys("publisher") == [publisher_key(submission.id, str(one.sha256))] == puts[:1]
    assert len(puts) == 2


def test_the_collector_knows_them(farm: HandFarm, server: Server) -> None:
    """What no row names goes, once nobody can be about to name it; the rest stays, also of what failed."""
    submission = submit(farm, server, {"/1": ok(VTT)})
    farm.ingest()
    [key] = farm.keys("publisher")
    farm.farm.desk.cancel(submission.id)
    left = publisher_key(submission.id, "0" * 64)
    farm.store.put(left, b"nobody's")

    farm.collect(grace=GRACE)
    assert farm.keys("publisher") == sorted([key, left])
    farm.collect()
    assert farm.keys("publisher") == [key]


def test_they_are_handed_out_as_files(named_farm: HandFarm, server: Server, tmp_path: Path) -> None:
    """By the API as bytes that no browser runs, by the command beside ours; of what is redacted, to few."""
    farm = abroad(named_farm)
    evil = b"<script>alert(1)</script>"
    answers = {"/1": ok(VTT), "/2": ok(evil), "/3": says("HTTP/1.1 404 Not Found\r\nContent-Length: 0")}
    submission = submit(farm, server, answers)
    farm.go()
    shown = command("show", str(submission.id)).output.splitlines()
    assert [line for line in shown if line.startswith("publisher")] == [
        f"publisher   1, text/vtt, en: kept, {len(VTT)} bytes",
        f"publisher   2, text/vtt, en: kept, {len(evil)} bytes",
        f"publisher   3, text/vtt, en: refused, {server.url('/3')}: status 404",
    ]
    fetched = command("fetch", str(submission.id), "-o", str(tmp_path / "out"), "--format", "txt", "--publisher")
    assert fetched.exit_code == 0
    stem = Path(submission.name).stem
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{stem}.publisher1.vtt",
        f"{stem}.publisher2.vtt",
        f"{stem}.txt",
    ]
    assert (tmp_path / "out" / f"{stem}.publisher1.vtt").read_bytes() == VTT

    with serving(farm.farm, tmp_path / "home") as api, api.client(scopes=["read"]) as reader:
        of_it = f"/v1/recordings/{submission.id}"
        told = reader.get(of_it).json()["publisher_transcripts"]
        assert told[0] == {
            "n": 1,
            "url": server.url("/1"),
            "type": "text/vtt",
            "language": "en",
            "rel": None,
            "state": "kept",
            "error": None,
            "bytes": len(VTT),
            "sha256": hashlib.sha256(VTT).hexdigest(),
        }
        got = reader.get(f"{of_it}/publisher-transcripts/2")
        assert got.content == evil
        assert got.headers["content-type"] == "application/octet-stream"
        assert got.headers["content-disposition"] == f"attachment; filename*=UTF-8''{stem}.publisher2.vtt"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in got.headers["content-security-policy"]
        with api.anybody() as visitor:
            visitor.post("/sign-in", data={"key": api.key(scopes=["read"])})
            page = visitor.get(f"/recordings/{submission.id}").text
            assert f'<a href="{of_it}/publisher-transcripts/2" download>text/vtt</a>, en: kept</li>' in page
            assert f"<li>text/vtt, en: {server.url('/3')}: status 404</li>" in page
            assert visitor.get(f"{of_it}/publisher-transcripts/2").content == evil
        assert problem(reader.get(f"{of_it}/publisher-transcripts/3"), 409).endswith(": status 404")
        assert "has no such transcript" in problem(reader.get(f"{of_it}/publisher-transcripts/4"), 404)
        assert "there is no recording" in problem(api.bob.get(f"{of_it}/publisher-transcripts/1"), 404)

        [(work, transcript)] = shown_of(farm.farm, farm.now(submission))
        redact(Redactions(farm.farm.database), work.id, transcript, read_rules("", ["first1"]))
        assert "with the scope admin" in problem(reader.get(f"{of_it}/publisher-transcripts/1"), 403)
        assert api.ada.get(f"{of_it}/publisher-transcripts/1").content == VTT
        farm.store.delete(publisher_key(submission.id, hashlib.sha256(VTT).hexdigest()))
        assert "no longer" in problem(api.ada.get(f"{of_it}/publisher-transcripts/1"), 410)


def test_a_campaigns_files_and_manifest_have_them(named_farm: HandFarm, server: Server, tmp_path: Path) -> None:
    """With their digests; the files only where they are asked for, and nothing of the recording is redacted."""
    farm = abroad(named_farm)
    campaigns = Campaigns(farm.farm.database)
    options = asdict(Options(language="en", vad=False, chunk_length=2, overlap=0))
    campaign = campaigns.create(Plan(tenant="default", name="talks", model="pocket", options=options))
    campaigns.listed(campaign.id)
    one = submit(farm, server, {"/1": ok(VTT)}, tenant="default", campaign_id=campaign.id)
    secret = submit(farm, server, {"/1": ok(VTT)}, tenant="default", campaign_id=campaign.id, redact="card")
    farm.go()

    for more, files in (((), {"talk1.txt"}), (("--publisher",), {"talk1.txt", "talk1.publisher1.vtt"})):
        command("campaign", "fetch", "talks", "-o", str(tmp_path / "out"), "--format", "txt", *more)
        assert {path.name for path in (tmp_path / "out" / str(one.id)).iterdir()} == {*files, "manifest.json"}
        assert {path.name for path in (tmp_path / "out" / str(secret.id)).iterdir()} == {"talk2.txt", "manifest.json"}
    [named] = json.loads((tmp_path / "out" / str(one.id) / "manifest.json").read_text())["publisher"]
    assert (named["name"], named["sha256"]) == ("talk1.publisher1.vtt", hashlib.sha256(VTT).hexdigest())
