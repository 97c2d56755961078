"""Recordings over HTTP: handed in, listed, changed, read."""

from __future__ import annotations

import gzip
import io
import json
import select
import socket
import wave
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from sqlalchemy import event

from stenopool.config import Limits
from stenopool.masking import Mask
from storage.keeping import Keeping
from storage.outbox import Outbox
from storage.redactions import Redactions
from tests.farms import HandFarm
from tests.serving import Served, problem, serving


def sound(seconds: float = 2.0, *, channels: int = 1, seed: int = 7) -> bytes:
    """Noise, as WAV."""
    noise = np.random.default_rng(seed).integers(-8000, 8000, (int(seconds * 16_000), channels)).astype(np.int16)
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(noise.tobytes())
    return held.getvalue()


SHORT = json.dumps({"vad": False, "chunk_length": 2, "overlap": 0, "language": "en"})


def test_a_recording_is_the_body(api: Served, named_farm: HandFarm) -> None:
    """It is in the object store under its own hash, and all else is in the query."""
    body = sound(5)
    answer = api.ada.post(
        "/v1/recordings",
        params={"name": "talk.wav", "lane": "urgent", "options": SHORT, "metadata": '{"room": "4"}'},
        content=body,
        headers={"Content-Type": "audio/wav"},
    )

    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"] == f"/v1/recordings/{made['id']}"
    assert (made["name"], made["lane"], made["tenant"], made["state"]) == ("talk.wav", "urgent", "ada", "accepted")
    assert made["metadata"] == {"room": "4"}
    assert [len(body)] == [found.size for found in named_farm.store.list("sources")]
    named_farm.go()
    shown = api.ada.get(answer.headers["location"]).json()
    assert shown["state"] == "completed"
    assert shown["seconds"] == 5
    assert [one["seconds"] for one in shown["transcripts"]] == [
        {"transcribed": 5.0, "silence": 0.0, "failed": 0.0, "skipped": 0.0}
    ]
    text = api.ada.get(f"{answer.headers['location']}/transcript", params={"format": "txt"})
    assert text.text.split() == ["first0", "first1", "first2"]
    assert api.audit()[0] == f"submission.create submission {made['id']}"


def test_a_recording_is_at_a_url(api: Served) -> None:
    """That is not asked before it is fetched; a file of the server's is never opened, nor what only operators may."""
    made = api.ada.post("/v1/recordings", json={"source": "https://example.org/talk.mp3", "language": "en"})
    assert made.status_code == 201
    assert made.json()["name"] == "talk.mp3"
    assert made.json()["source"] == "https://example.org/talk.mp3"

    assert "is no URL" in problem(api.ada.post("/v1/recordings", json={"source": "/etc/passwd"}), 422)
    assert "file:// is not opened" in problem(
        api.ada.post("/v1/recordings", json={"source": "file:///etc/passwd"}), 422
    )
    secret = {"source": "s3://bucket/key.wav"}
    assert "for operators' keys" in problem(api.ada.post("/v1/recordings", json=secret), 403)
    assert api.operator.post("/v1/recordings", json=secret).status_code == 201
    assert "name either source" in problem(api.ada.post("/v1/recordings", json={}), 422)


def test_what_does_not_fit_is_refused(api: Served) -> None:
    """With a problem that names it; nothing is accepted and ignored."""

    def refused(**given: object) -> str:
        return problem(api.ada.post("/v1/recordings", json={"source": "https://a.org/b.mp3", **given}), 422)

    assert "color" in refused(color="red")
    assert "beam_size must be between 1 and 100" in refused(options={"beam_size": 1000})
    assert "beam" in refused(options={"beam": 1})
    assert "needs a temperature of 0" in refused(options={"beam_size": 5, "temperature": 0.5})
    assert "say channels: split" in refused(speakers=["Ada"])
    assert "differ" in refused(language="en", options={"language": "de"})
    assert "lane" in refused(lane="fast")
    assert "destination" in refused(formats=["txt"])
    assert "for operators' keys" in problem(
        api.ada.post("/v1/recordings", json={"source": "https://a.org/b.mp3", "destination": "s3://x/y"}), 403
    )
    assert "leave tenant out" in problem(
        api.ada.post("/v1/recordings", json={"source": "https://a.org/b.mp3", "tenant": "bob"}), 403
    )
    audio = {"Content-Type": "audio/wav"}
    assert "is empty" in problem(api.ada.post("/v1/recordings", content=b"", headers=audio), 422)
    assert problem(api.ada.post("/v1/recordings", content=b"no sound", headers=audio), 422).startswith("recording: ")
    assert "is no JSON" in problem(
        api.ada.post("/v1/recordings", params={"options": "{"}, content=sound(), headers=audio), 422
    )
    assert "colour" in problem(
        api.ada.post("/v1/recordings", params={"colour": "red"}, content=sound(), headers=audio), 422
    )
    problem(api.ada.post("/v1/recordings", content=b"a: b", headers={"Content-Type": "application/yaml"}), 415)
    problem(api.ada.post("/v1/recordings", content=b"{", headers={"Content-Type": "application/json"}), 422)


def test_a_key_names_a_request(api: Served) -> None:
    """The same is done once and told with 200, another is refused; another tenant has its own keys."""
    audio = {"Content-Type": "audio/wav", "Idempotency-Key": "order-7"}
    first = api.ada.post("/v1/recordings", content=sound(), headers=audio)
    again = api.ada.post("/v1/recordings", content=sound(), headers=audio)
    other = api.ada.post("/v1/recordings", content=sound(seed=8), headers=audio)
    bobs = api.bob.post("/v1/recordings", content=sound(seed=8), headers=audio)

    assert (first.status_code, again.status_code, bobs.status_code) == (201, 200, 201)
    assert again.json()["id"] == first.json()["id"] != bobs.json()["id"]
    assert "its key 'order-7' is that of submission" in problem(other, 409)


def test_a_body_is_never_whole_in_memory(named_farm: HandFarm, tmp_path: Path) -> None:
    """It goes to a file as it comes, and no further than the limit; then nothing is left of it."""
    limits = Limits(size=1e6)

    with serving(named_farm.farm, tmp_path / "home", limits=limits) as api:
        audio = {"Content-Type": "audio/wav"}
        announced = api.ada.post("/v1/recordings", content=b"\0" * 1_000_001, headers=audio)
        assert "raise STENOPOOL_MAX_GB" in problem(announced, 413)
        head = f"POST /v1/recordings HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {api.key()}\r\n"
        head += "Content-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n\r\n"
        with socket.create_connection(("127.0.0.1", api.port), timeout=60) as endless:
            endless.sendall(head.encode())
            with suppress(ConnectionError):  # it is closed on us some time after the answer
                while not select.select([endless], [], [], 0)[0]:
                    endless.sendall(b"4000\r\n" + b"\0" * 0x4000 + b"\r\n")
            answer = endless.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"raise STENOPOOL_MAX_GB" in answer
        assert list((tmp_path / "home" / "uploads").iterdir()) == []


def test_a_full_queue_says_so(api: Served) -> None:
    """And when to come again."""
    api.farm.desk.set_tenant("ada", max_queued=1)
    given = {"source": "https://a.org/b.mp3"}
    assert api.ada.post("/v1/recordings", json=given).status_code == 201
    refused = api.ada.post("/v1/recordings", json=given)

    assert "no more than 1 may be" in problem(refused, 429)
    assert int(refused.headers["retry-after"]) > 0


def test_pages_are_stable(api: Served) -> None:
    """What is handed in meanwhile moves none; a cursor is of its own list."""
    for n in range(5):
        api.ada.post("/v1/recordings", json={"source": f"https://a.org/{n}.mp3", "lane": "bulk" if n % 2 else "normal"})
    api.bob.post("/v1/recordings", json={"source": "https://a.org/bob.mp3"})
    page = api.ada.get("/v1/recordings", params={"limit": 2})
    api.ada.post("/v1/recordings", json={"source": "https://a.org/late.mp3"})
    names = [one["name"] for one in page.json()["recordings"]]
    while (following := page.headers.get("link")) is not None:
        page = api.ada.get(following[1 : following.index(">")])
        names += [one["name"] for one in page.json()["recordings"]]

    assert names == ["4.mp3", "3.mp3", "2.mp3", "1.mp3", "0.mp3"]
    assert page.json()["cursor"] is None

    def listed(**which: Any) -> list[str]:
        return [one["name"] for one in api.ada.get("/v1/recordings", params=which).json()["recordings"]]

    assert listed(lane="bulk") == ["3.mp3", "1.mp3"]
    assert listed(q="LATE") == ["late.mp3"]
    assert listed(q="%") == []
    assert listed(state=["failed", "cancelled"]) == []
    assert listed(campaign="none") == []
    cursor = api.ada.get("/v1/recordings", params={"limit": 2}).json()["cursor"]
    assert "of another list" in problem(api.ada.get("/v1/recordings", params={"lane": "bulk", "cursor": cursor}), 422)
    assert "is no cursor" in problem(api.ada.get("/v1/recordings", params={"cursor": "x"}), 422)
    assert len(api.operator.get("/v1/recordings").json()["recordings"]) == 7
    assert len(api.operator.get("/v1/recordings", params={"tenant": "bob"}).json()["recordings"]) == 1


def test_a_look_at_a_recording_is_four_statements(api: Served, named_farm: HandFarm) -> None:
    """Key, recording, transcripts, its publisher: two transactions, however much there is to be told."""
    done = named_farm.submit(6).id
    named_farm.go(failing=[2])
    api.ada.post(f"/v1/recordings/{done}/retry")
    named_farm.go("second")
    begun = named_farm.submit(4).id
    api.ada.get("/v1/recordings")  # that its key is used is noted once a minute, and now
    statements: list[str] = []
    begins: list[object] = []
    database = api.farm.database
    event.listen(database, "before_cursor_execute", lambda _, __, statement, *___: statements.append(statement))
    event.listen(database, "begin", begins.append)

    shown = [api.ada.get(f"/v1/recordings/{id}").json() for id in (done, begun)]

    assert [len(one["versions"]) for one in shown] == [2, 0]
    asked = [statement.partition("FROM ")[2].split()[0] for statement in statements]
    assert asked == ["api_keys", "submissions", "submission_transcripts", "publisher_transcripts"] * 2
    assert len(begins) == 4


def test_states_are_changed(api: Served, named_farm: HandFarm) -> None:
    """As on the command line; what cannot be is a conflict that says what it is."""
    id = named_farm.submit().id
    where = f"/v1/recordings/{id}"

    assert api.ada.post(f"{where}/pause").json()["paused"]
    assert not api.ada.post(f"{where}/resume").json()["paused"]
    assert api.ada.post(f"{where}/cancel").json()["state"] == "cancelled"
    assert "has ended already; it is cancelled" in problem(api.ada.post(f"{where}/cancel"), 409)
    assert api.ada.post(f"{where}/retry").json()["state"] == "accepted"
    assert "neither failed nor gaps" in problem(api.ada.post(f"{where}/retry"), 409)
    assert [line.split()[0] for line in api.audit()[:4]] == [
        *("submission.retry", "submission.cancel", "submission.resume", "submission.pause")
    ]


def test_who_goes_first_is_changed(api: Served, named_farm: HandFarm) -> None:
    """Also of what is ready: it waits for its turn in the other lane."""
    other, mine = named_farm.submit(4), named_farm.submit(6)
    named_farm.ingest()
    named_farm.admit()
    changed = api.ada.patch(f"/v1/recordings/{mine.id}", json={"lane": "urgent", "priority": 5, "deadline": 60})

    assert changed.status_code == 200
    assert (changed.json()["lane"], changed.json()["priority"]) == ("urgent", 5)
    assert changed.json()["deadline_at"] > changed.json()["created_at"]
    assert "submission.reprioritise" in api.audit()[0]
    assert named_farm.states(mine) == ["waiting"] * 3
    assert named_farm.states(other) == ["ready"] * 2
    assert {lane for _, lane in named_farm.window.waiting()} == {0}
    assert named_farm.hear() == [0, 0, 1, 1, 2]
    named_farm.merge()
    named_farm.publish()
    assert api.ada.get(f"/v1/recordings/{mine.id}").json()["state"] == "completed"
    assert "has ended" in problem(api.ada.patch(f"/v1/recordings/{mine.id}", json={"lane": "bulk"}), 409)


def test_transcripts_in_every_format(api: Served, named_farm: HandFarm) -> None:
    """With their media types and names; who has one already is told so."""
    done = named_farm.submit(4)
    waiting = named_farm.submit(4)
    api.ada.post(f"/v1/recordings/{waiting.id}/cancel")
    named_farm.go()
    where = f"/v1/recordings/{done.id}/transcript"

    got = {
        name: api.ada.get(where, params={"format": name}) for name in ("txt", "srt", "vtt", "json", "csv", "chapters")
    }
    assert {one.status_code for one in got.values()} == {200}
    assert got["vtt"].headers["content-type"].startswith("text/vtt")
    assert got["json"].json()["schema"] == "stenopool/transcript"
    assert got["txt"].headers["content-disposition"] == "attachment; filename*=UTF-8''talk1.txt"
    etag = got["txt"].headers["etag"]
    same = api.ada.get(where, params={"format": "txt"}, headers={"If-None-Match": f'"x", {etag}'})
    assert (same.status_code, same.content) == (304, b"")
    assert "has no version 9" in problem(api.ada.get(where, params={"version": 9}), 404)
    assert "mixed" in problem(api.ada.get(where, params={"channel": 1}), 422)
    assert "unknown format" in problem(api.ada.get(where, params={"format": "doc"}), 422)
    assert "gives no URLs" in problem(api.ada.get(where, params={"redirect": True}), 409)
    assert "it is cancelled" in problem(api.ada.get(f"/v1/recordings/{waiting.id}/transcript"), 409)


def test_channels_apart_and_joined(api: Served, named_farm: HandFarm) -> None:
    """All of them without a number."""
    done = named_farm.submit(2, channels=2, split=True, speakers=("Ada", "Bob"))
    named_farm.go()
    where = f"/v1/recordings/{done.id}/transcript"

    joined = api.ada.get(where).json()
    second = api.ada.get(where, params={"channel": 2}).json()
    assert [one["speaker"] for one in joined["segments"]] == ["Ada", "Bob"]
    assert second["channel"] == 2
    assert "has no channel 3" in problem(api.ada.get(where, params={"channel": 3}), 404)


def test_who_may_not_see_all_gets_what_is_left(api: Served, named_farm: HandFarm) -> None:
    """Of a redacted transcript, in every way that there is to it."""
    done = named_farm.submit(4)
    named_farm.go()
    [(_, transcript)] = named_farm.now(done).transcripts
    where = f"/v1/recordings/{done.id}"
    reader = api.client("ada", ["read"])
    assert "first0" in reader.get(f"{where}/transcript", params={"format": "txt"}).text

    asked = api.ada.post(f"{where}/redact", json={"terms": ["first0"]})
    assert asked.json() == {"recording": done.id, "redacted": 1}

    text = {"format": "txt"}
    assert reader.get(f"{where}/transcript", params=text).text.split() == ["[NAME]", "first1"]
    assert reader.get(f"{where}/transcript", params=text | {"redacted": True}).text.split() == ["[NAME]", "first1"]
    assert "scope admin" in problem(reader.get(f"{where}/transcript", params=text | {"redacted": False}), 403)
    assert api.ada.get(f"{where}/transcript", params=text).text.split() == ["first0", "first1"]
    assert api.ada.get(f"{where}/transcript", params=text | {"redacted": True}).text.split() == ["[NAME]", "first1"]
    assert api.ada.get(f"{where}/redaction-map").json()["redactions"][0]["text"] == "first0"
    problem(reader.get(f"{where}/redaction-map"), 403)
    found = {
        who: len(c.get("/v1/search", params={"q": "first0"}).json()["hits"])
        for who, c in (("a", api.ada), ("r", reader))
    }
    assert found == {"a": 1, "r": 0}
    assert len(reader.get("/v1/search", params={"q": "first1"}).json()["hits"]) == 1
    assert Redactions(named_farm.farm.database).masks(transcript) == [Mask(0, 1, 7, "name")]
    reader.close()


def test_nobody_guesses_what_is_redacted(api: Served, named_farm: HandFarm) -> None:
    """Watching for a word does not tell whether it is behind a mask, in hits or in events."""
    for phrase in ("first0", "first1"):
        api.ada.post("/v1/watchlist", json={"phrase": phrase})
    done = named_farm.submit(6)
    named_farm.go()
    Outbox(named_farm.farm.database).number()
    api.ada.post(f"/v1/recordings/{done.id}/redact", json={"terms": ["first0"]})

    def heard(client: httpx2.Client) -> tuple[list[str], list[str]]:
        hits = client.get("/v1/watchlist/hits").json()
        events = client.get("/v1/events", params={"limit": 1000}).json()["events"]
        told = [event["detail"]["phrase"] for event in events if event["type"] == "submission.phrase_heard"]
        return sorted({hit["phrase"] for hit in hits}), sorted(set(told))

    with api.client("ada", ["read"]) as reader:
        assert heard(reader) == (["first1"], ["first1"])
    assert heard(api.ada) == (["first0", "first1"], ["first0", "first1"])


def test_what_is_redacted_is_so_in_every_version(api: Served, named_farm: HandFarm) -> None:
    """Also in one that is made later, and in one that was shown before."""
    done = named_farm.submit(6)
    named_farm.go(failing=[2])
    where = f"/v1/recordings/{done.id}/transcript"
    reader = api.client("ada", ["read"])
    api.ada.post(f"/v1/recordings/{done.id}/redact", json={"terms": ["first0"]})
    api.ada.post(f"/v1/recordings/{done.id}/retry")
    named_farm.go("second")

    assert reader.get(where, params={"format": "txt"}).text.split() == ["[NAME]", "first1", "second2"]
    assert api.ada.get(where, params={"format": "txt"}).text.split() == ["first0", "first1", "second2"]
    assert reader.get("/v1/search", params={"q": "first0"}).json()["hits"] == []
    assert len(reader.get("/v1/search", params={"q": "second2"}).json()["hits"]) == 1
    api.ada.post(f"/v1/recordings/{done.id}/redact", json={"terms": ["first1"]})
    for version in (1, 2):
        text = reader.get(where, params={"format": "txt", "version": version}).text
        assert text.split()[:2] == ["[NAME]", "[NAME]"]
    reader.close()


def test_deleting_holding_and_a_receipt(api: Served, named_farm: HandFarm) -> None:
    """What is held is not deleted; what is deleted leaves a receipt, and no text."""
    done = named_farm.submit(4)
    named_farm.go()
    where = f"/v1/recordings/{done.id}"
    submitter = api.client("ada", ["submit", "read"])

    assert api.ada.put(f"{where}/hold", json={"reason": "case 12"}).json()["reason"] == "case 12"
    assert "is held (case 12)" in problem(api.ada.delete(where), 409)
    assert "lacks the scope admin" in problem(submitter.delete(where), 403)
    assert api.ada.delete(f"{where}/hold").status_code == 204
    problem(api.ada.delete(f"{where}/hold"), 404)
    Keeping(named_farm.farm.database).hold(done.id, by="olga@desk", reason="a court's")
    assert "a court's" in problem(api.ada.delete(f"{where}/hold"), 403)
    assert "operator" in problem(api.ada.put(f"{where}/hold", json={"reason": "mine"}), 403)
    assert Keeping(named_farm.farm.database).release(done.id)
    receipt = api.ada.delete(where, params={"reason": "asked for"})
    assert receipt.status_code == 200
    assert receipt.json()["state"] == "deleted"
    assert receipt.json()["by"].startswith("key ")
    assert api.ada.get(where).json()["deletion"] == receipt.json()
    problem(api.ada.get(f"{where}/transcript"), 409)
    assert "nothing left" in problem(api.ada.put(f"{where}/hold", json={}), 409)
    assert named_farm.keys() == []
    submitter.close()


def test_what_is_compressed_is_not_taken_for_a_recording(api: Served) -> None:
    """It is hashed and kept as it came."""
    answer = api.ada.post(
        "/v1/recordings", content=gzip.compress(sound()), headers={"Content-Type": "application/octet-stream"}
    )
    problem(answer, 422)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_and_paths(api: Served, method: str) -> None:
    """Are problems as well."""
    answer = api.ada.request(method, "/v1/recordings")
    problem(answer, 405)
    assert "GET" in answer.headers["allow"]
    problem(api.ada.request(method, "/v1/nothing"), 404)


def test_the_page_finds_what_the_api_finds(api: Served, named_farm: HandFarm) -> None:
    """For who may not see all: what nobody redacted, and what is left of the rest."""
    done = named_farm.submit(4)
    named_farm.go()
    with api.anybody() as reader:
        reader.post("/sign-in", data={"key": api.key("ada", ["read"])})
        assert done.name in reader.get("/search", params={"q": "first0"}).text
        api.ada.post(f"/v1/recordings/{done.id}/redact", json={"terms": ["first0"]})
        assert done.name not in reader.get("/search", params={"q": "first0"}).text
        assert done.name in reader.get("/search", params={"q": "first1"}).text
