"""What programs do all day: campaigns, search, watch-lists, events, webhooks; and what keeps them in bounds."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path

import httpx2
import pytest

from stenopool.api import events, webhooks
from stenopool.api.background import Background
from stenopool.api.events import MOST_WAITING
from stenopool.api.guard import MOST_JSON
from stenopool.api.rate import Rates
from stenopool.api.threads import THREADS
from stenopool.errors import LedgerUnreachable
from storage.outbox import Outbox
from tests.farms import HandFarm
from tests.serving import Served, problem, serving

ITEMS = [{"source": f"https://example.org/{n}.mp3", "name": f"Episode {n}"} for n in range(3)]


def test_a_campaign_from_list_to_end(api: Served) -> None:
    """Listed, listed once more, begun, held back, given up; what cannot be is a conflict."""
    plan = {"name": "talks", "items": ITEMS, "language": "en", "budget": 2.5}
    made = api.ada.post("/v1/campaigns", json=plan)
    assert made.status_code == 201
    assert made.json()["new"] == 3
    where = made.headers["location"]
    status = made.json()["campaign"]
    assert (status["state"], status["states"], status["unchecked"]) == ("ready", {"left": 3}, 3)

    assert api.ada.post("/v1/campaigns", json=plan).json()["new"] == 0
    assert "with another model" in problem(api.ada.post("/v1/campaigns", json=plan | {"model": "other"}), 422)
    more = api.ada.post(f"{where}/items", json={"items": [*ITEMS, {"source": "https://example.org/new.mp3"}]})
    assert more.json()["new"] == 1
    assert "is no URL" in problem(api.ada.post(f"{where}/items", json={"items": [{"source": "a.mp3"}]}), 422)
    s3 = {"items": [{"source": "s3://bucket/a.mp3"}]}
    assert "operators' keys" in problem(api.ada.post(f"{where}/items", json=s3), 403)

    assert "is not paused" in problem(api.ada.post(f"{where}/resume"), 409)
    assert api.ada.post(f"{where}/start").json()["state"] == "running"
    assert api.ada.post(f"{where}/start").json()["state"] == "running"
    assert "no engine of pocket" in problem(api.ada.get(f"{where}/forecast"), 409)
    assert api.ada.post(f"{where}/pause").json()["state"] == "paused"
    assert api.ada.post(f"{where}/resume").json()["state"] == "running"
    assert api.ada.post(f"{where}/retry-failed", json={"gaps": True}).json() == {"recordings": 0, "more": False}
    manifest = api.ada.get(f"{where}/manifest")
    assert [one["name"] for one in manifest.json()["items"]] == ["Episode 0", "Episode 1", "Episode 2", "new.mp3"]
    lines = api.ada.get(f"{where}/manifest", params={"format": "csv"}).text.splitlines()
    assert len(lines) == 5
    assert api.ada.post(f"{where}/cancel").json()["state"] == "cancelled"
    assert "is cancelled" in problem(api.ada.post(f"{where}/start"), 409)
    assert [one["name"] for one in api.ada.get("/v1/campaigns").json()["campaigns"]] == ["talks"]
    assert api.bob.get("/v1/campaigns").json() == {"campaigns": [], "cursor": None}


def test_a_campaign_is_looked_at_in_the_background(api: Served) -> None:
    """What is wrong is in the ledger; an address that is nobody's business is never asked."""
    plan = {"name": "talks", "items": [{"source": "http://127.0.0.1:9/a.mp3"}]}
    where = api.ada.post("/v1/campaigns", json=plan).headers["location"]

    assert api.ada.post(f"{where}/validate").status_code == 202
    while (status := api.ada.get(where).json())["looking"]:
        time.sleep(0.05)
    assert (status["unchecked"], status["trouble"], status["states"]) == (0, None, {"problem": 1})
    [wrong] = api.ada.get(f"{where}/problems").json()["problems"]
    assert "not on the public internet" in wrong["problem"]


def test_a_phrase_is_found_and_watched(api: Served, named_farm: HandFarm) -> None:
    """With the grammar of the command; pages go on behind each other; events tell of it."""
    watched = api.ada.post("/v1/watchlist", json={"phrase": "First1"})
    assert watched.status_code == 201
    assert api.ada.post("/v1/watchlist", json={"phrase": "first1"}).json()["id"] == watched.json()["id"]
    one, other = named_farm.submit(4), named_farm.submit(4)
    named_farm.go()
    Outbox(named_farm.farm.database).number()

    page = api.ada.get("/v1/search", params={"q": '"first0 first1" -draft', "limit": 1}).json()
    last = api.ada.get("/v1/search", params={"q": '"first0 first1" -draft', "limit": 1, "cursor": page["cursor"]})
    hits = [*page["hits"], *last.json()["hits"]]
    assert {hit["recording"] for hit in hits} == {one.id, other.id}
    assert last.json()["cursor"] is None
    assert hits[0]["text"][slice(*hits[0]["found"][0])] == "first0 first1"
    assert api.bob.get("/v1/search", params={"q": "first0"}).json()["hits"] == []
    assert problem(api.ada.get("/v1/search", params={"q": '"'}), 422)

    heard = api.ada.get("/v1/watchlist/hits", params={"watch": watched.json()["id"]}).json()
    assert [place["start"] for place in heard] == [2.0, 2.0]
    assert api.ada.delete(f"/v1/watchlist/{watched.json()['id']}").status_code == 204
    assert api.ada.get("/v1/watchlist").json() == []
    types = [event["type"] for event in api.ada.get("/v1/events").json()["events"]]
    assert types.count("submission.completed") == 2
    assert types.count("submission.phrase_heard") == 2


def test_events_are_waited_for(api: Served, named_farm: HandFarm) -> None:
    """Who asks for what is not there yet is answered when it is, or after as long as was said."""
    outbox = Outbox(named_farm.farm.database)
    named_farm.submit()
    outbox.number()
    after = api.ada.get("/v1/events").json()["after"]
    assert api.ada.get("/v1/events", params={"after": after, "wait": 0.1}).json() == {"events": [], "after": after}

    def later() -> None:
        time.sleep(0.3)
        named_farm.submit()
        outbox.number()

    thread = threading.Thread(target=later)
    thread.start()
    found = api.ada.get("/v1/events", params={"after": after, "wait": 30}).json()
    thread.join()
    assert [(event["state"], event["position"]) for event in found["events"]] == [("accepted", after + 1)]
    assert api.bob.get("/v1/events").json()["events"] == []


def test_who_waits_for_events_keeps_no_thread(api: Served, named_farm: HandFarm) -> None:
    """As many wait as there are threads, and others are answered meanwhile."""
    assert MOST_WAITING >= THREADS
    outbox = Outbox(named_farm.farm.database)
    api.ada.get("/v1/events")

    def wait(_: int) -> list[str]:
        with httpx2.Client(base_url=api.url, headers=api.ada.headers, timeout=60, trust_env=False) as client:
            return [one["state"] for one in client.get("/v1/events", params={"wait": 30}).json()["events"]]

    with ThreadPoolExecutor(MOST_WAITING) as many:
        waiting = [many.submit(wait, n) for n in range(MOST_WAITING)]
        while events._waiting < MOST_WAITING:
            assert not any(one.done() for one in waiting)
            time.sleep(0.01)
        assert api.ada.get("/v1/recordings").json()["recordings"] == []
        assert not any(one.done() for one in waiting)
        named_farm.submit()
        outbox.number()
        assert [one.result() for one in waiting] == [["accepted"]] * MOST_WAITING


@pytest.fixture
def receiver() -> Iterator[http.server.HTTPServer]:
    """Somebody who takes what is posted to them."""

    class Takes(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            taken.append(json.loads(body)["type"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    taken: list[str] = []
    with http.server.HTTPServer(("127.0.0.1", 0), Takes) as server:
        server.taken = taken  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_webhooks(named_farm: HandFarm, tmp_path: Path, receiver: http.server.HTTPServer) -> None:
    """Added, tried, given a new secret, replayed, removed; secrets are shown once."""
    home = tmp_path / "home"
    with serving(named_farm.farm, home, fetch_allow=(ip_network("127.0.0.0/8"),)) as api:
        url = f"http://127.0.0.1:{receiver.server_port}/hook"
        made = api.ada.post("/v1/webhooks", json={"url": url, "types": ["submission.accepted"]})
        assert made.status_code == 201
        assert made.json()["secret"].startswith("whsec_")
        where = made.headers["location"]
        assert "secret" not in api.ada.get(where).json()
        assert [one["id"] for one in api.ada.get("/v1/webhooks").json()] == [made.json()["id"]]
        assert api.ada.post(f"{where}/test").json()["taken"]
        assert receiver.taken == ["webhook.test"]  # type: ignore[attr-defined]
        assert api.ada.post(f"{where}/rotate").json()["secret"] != made.json()["secret"]
        assert api.ada.post(f"{where}/replay", json={"after": 0}).json()["events"] == 0
        assert api.ada.get(f"{where}/deliveries").json() == {"deliveries": [], "cursor": None}
        assert "no such type" in problem(api.ada.post("/v1/webhooks", json={"url": url, "types": ["x"]}), 422)
        assert api.ada.delete(where).status_code == 204
        problem(api.ada.get(where), 404)
    with serving(named_farm.farm, home) as strict:
        assert "never posted to" in problem(strict.ada.post("/v1/webhooks", json={"url": url}), 422)
        assert "no password" in problem(strict.ada.post("/v1/webhooks", json={"url": "https://a:b@c.org/"}), 422)


def test_periods(api: Served) -> None:
    """What is left out stays as it is; a tenant's administrator sets its own."""
    assert api.ada.get("/v1/retention").json() == [
        {"tenant": "ada", "source": None, "pcm": None, "chunks": None, "transcript": None}
    ]
    assert api.ada.patch("/v1/retention/ada", json={"source": 3600, "pcm": 0}).json()["source"] == 3600
    assert api.ada.patch("/v1/retention/ada", json={"pcm": None}).json()["source"] == 3600
    assert api.operator.get("/v1/retention").json()[0]["pcm"] is None
    problem(api.ada.patch("/v1/retention/bob", json={"source": 0}), 403)


def test_a_key_asks_so_often_and_no_more(named_farm: HandFarm, tmp_path: Path) -> None:
    """Then it is told when to come again; other keys are not."""
    with serving(named_farm.farm, tmp_path / "home", api_rate=0.01) as api:
        first, second = api.ada.get("/v1/recordings"), api.ada.get("/v1/recordings")
        assert first.status_code == 200
        assert first.headers["ratelimit-policy"] == '"key";q=1;w=2'
        assert "asks too often" in problem(second, 429)
        assert 1 <= int(second.headers["retry-after"]) <= 100
        assert api.bob.get("/v1/recordings").status_code == 200
        assert api.ada.get("/healthz").status_code == 200


def test_tokens_come_back() -> None:
    """As many a second as the rate, and no more than its burst."""
    now = [0.0]
    rates = Rates(2, clock=lambda: now[0])
    taken = [rates.take(1) for _ in range(5)]
    assert [bool(one and one.allowed) for one in taken] == [True] * 4 + [False]
    assert taken[-1] is not None
    assert taken[-1].headers["Retry-After"] == "1"
    now[0] = 1.0
    again = [rates.take(1) for _ in range(3)]
    assert [bool(one and one.allowed) for one in again] == [True, True, False]
    now[0] = 1e6
    assert sum(bool((one := rates.take(1)) and one.allowed) for _ in range(9)) == 4
    assert Rates(0).take(1) is None


def test_bodies_have_bounds(api: Served) -> None:
    """Also those that do not say how long they are; and kinds."""
    kind = {"Content-Type": "application/json"}
    large = b'{"phrase": "' + b"a" * MOST_JSON + b'"}'
    problem(api.ada.post("/v1/watchlist", content=large, headers=kind), 413)
    problem(api.ada.post("/v1/watchlist", content=iter([large]), headers=kind), 413)
    problem(api.ada.post("/v1/watchlist", content=b"phrase=a", headers={"Content-Type": "text/plain"}), 415)
    problem(api.ada.post("/v1/watchlist", content=b"{", headers=kind), 422)
    items = {"name": "a", "items": [{"source": "https://a.org/b"}] * 10_001}
    assert "10000" in problem(api.ada.post("/v1/campaigns", json=items), 422)


def test_headers_that_browsers_go_by(named_farm: HandFarm, tmp_path: Path) -> None:
    """Nothing is run, framed, sniffed or kept; other sites ask only where they are named."""
    site = {"Origin": "https://app.example.org"}
    with serving(named_farm.farm, tmp_path / "home") as api:
        answer = api.ada.get("/v1/recordings", headers=site | {"X-Request-ID": "mine-7"})
        assert answer.headers["x-request-id"] == "mine-7"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
    with serving(named_farm.farm, tmp_path / "home", api_origins=("https://app.example.org",)) as api:
        answer = api.ada.get("/v1/recordings", headers=site)
        assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
        assert "Location" in answer.headers["access-control-expose-headers"]
        other = api.ada.get("/v1/recordings", headers={"Origin": "https://evil.example.org"})
        assert "access-control-allow-origin" not in other.headers


def test_no_body_is_read_that_has_no_bound(api: Served) -> None:
    """Not before anybody is known: neither where uploads are, nor as a form that says it is short."""
    with api.anybody() as nobody:
        large = iter([b'{"size": "' + b"a" * MOST_JSON + b'"}'])
        answer = nobody.post("/v1/uploads/presigned", content=large, headers={"Content-Type": "application/json"})
        problem(answer, 413)
    with socket.create_connection(("127.0.0.1", api.port), 20) as raw:
        raw.sendall(
            b"POST /sign-in HTTP/1.1\r\nHost: farm\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nkey=a\r\n0\r\n\r\n"
        )
        assert b" 413 " in raw.recv(1000).partition(b"\r\n")[0]


def test_a_session_is_counted_as_its_key(named_farm: HandFarm, tmp_path: Path) -> None:
    """Who signs in with a key may not ask more often than by the key itself."""
    with serving(named_farm.farm, tmp_path / "home", api_rate=1.0) as served, served.anybody() as browser:
        assert browser.post("/sign-in", data={"key": served.key()}).status_code == 303
        statuses = [browser.get("/v1/recordings").status_code for _ in range(6)]
        assert statuses[0] == 200
        assert statuses[-1] == 429


def test_what_fails_in_the_background_names_no_host() -> None:
    """What is for the operator is in the log."""
    background = Background()

    def fail() -> None:
        raise LedgerUnreachable("db.internal:5432 does not answer")

    background.begin("it", fail)
    while background.goes_on("it"):
        time.sleep(0.01)
    assert background.error("it") == "a part of the farm does not answer; try later"


def test_a_form_of_speech_keeps_little_in_memory(api: Served) -> None:
    """A field is 64 KiB at most; what is larger is no parameter."""
    large = {"model": "whisper-1", "prompt": "a" * (65 << 10)}
    answer = api.ada.post("/v1/audio/transcriptions", data=large, files={"file": ("a.wav", b"RIFF")})
    assert answer.status_code == 400
    assert "64KB" in answer.json()["error"]["message"]


def test_few_webhooks_are_tested_at_once(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each keeps a thread for as long as its host pleases: not all threads are for that."""
    monkeypatch.setattr(webhooks, "_TESTS", threading.BoundedSemaphore(1))
    hook = api.ada.post("/v1/webhooks", json={"url": "https://example.org/hook"}).json()["id"]
    with webhooks._TESTS:
        answer = api.ada.post(f"/v1/webhooks/{hook}/test")
    assert "others are tested" in problem(answer, 429)
    assert answer.headers["retry-after"] == "5"
