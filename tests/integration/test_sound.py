"""Sound, waveform and strip over HTTP: a real server, real samples, on both databases."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from stenopool.api.app import make_app
from stenopool.config import Config
from storage.access import Access, Actor
from storage.desk import Submission
from storage.keeping import Keeping, Retention
from storage.keys import pcm_key, waveform_key
from storage.tables import Lane
from tests.farms import HandFarm, S
from tests.over_http import Answer, ask, served
from workers.collect import Collector
from workers.erase import Eraser
from workers.waveform import extremes

WEEK = 604_800.0
ACTOR = Actor("test")


@dataclass
class Desk:
    """A farm whose API is served, and keys for it."""

    farm: HandFarm
    port: int
    reader: str
    admin: str

    def get(self, id: int, what: str, *, key: str | None = None, method: str = "GET", **headers: str) -> Answer:
        """What is told of a submission."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(self.port, f"/v1/recordings/{id}/{what}", key or self.reader, method=method, headers=named)

    def told(self, id: int, what: str, **how: Any) -> dict[str, Any]:
        """The same as JSON."""
        answer = self.get(id, what, **how)
        assert answer.status == 200, answer.body
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def collect(self, sound: float = WEEK) -> list[str]:
        """A round of the collector; what went."""
        return [one.which for one in Collector(self.farm.farm, keep=0, sound=sound, grace=-60).round()]

    def recordings(self, submission: Submission) -> list[str]:
        """By channel."""
        ledger = self.farm.farm.ledger
        return [ledger.work(id).recording for _, id in self.farm.now(submission).transcripts]

    def samples(self, recording: str) -> np.ndarray:
        """int16, all of them."""
        return np.frombuffer(self.farm.store.read(pcm_key(recording), 0, 10**9), "<i2")


@pytest.fixture
def desk(hand_farm: HandFarm) -> Iterator[Desk]:
    """Its publisher leaves samples to be listened to."""
    hand_farm.stages._sound = WEEK
    access = Access(hand_farm.farm.database)
    _, reader = access.create(ACTOR, "reader", tenant="ada", scopes=["read"])
    _, admin = access.create(ACTOR, "admin", tenant="ada", scopes=["read", "admin"])
    with served(make_app(hand_farm.farm, Config.from_env({}))) as port:
        yield Desk(hand_farm, port, reader, admin)


def read_wav(data: bytes) -> tuple[int, np.ndarray]:
    """Channels, and samples one after the other."""
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getsampwidth()) == (S, 2)
        return file.getnchannels(), np.frombuffer(file.readframes(file.getnframes()), "<i2")


def test_a_player_finds_its_way(desk: Desk) -> None:
    """Whole, its head only, ranges that begin and end anywhere, and a range of other bytes."""
    submission = desk.farm.submit(2)
    desk.farm.go()

    whole = desk.get(submission.id, "sound")
    assert (whole.status, whole.headers["content-type"], whole.headers["accept-ranges"]) == (200, "audio/wav", "bytes")
    [recording] = desk.recordings(submission)
    assert read_wav(whole.body)[0] == 1
    np.testing.assert_array_equal(read_wav(whole.body)[1], desk.samples(recording))

    head = desk.get(submission.id, "sound", method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(whole.body)))
    assert head.headers["etag"] == whole.headers["etag"]
    for start, end in [(0, 1), (0, 44), (7, 60), (43, 46), (1001, 40_002), (64_000, 64_044)]:
        part = desk.get(submission.id, "sound", Range=f"bytes={start}-{end - 1}")
        assert (part.status, part.body) == (206, whole.body[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/64044"
    other = desk.get(submission.id, "sound", Range="bytes=5-9", If_Range='"other"')
    assert (other.status, other.body) == (200, whole.body)
    same = desk.get(submission.id, "sound", Range="bytes=5-9", If_Range=whole.headers["etag"])
    assert (same.status, same.body) == (206, whole.body[5:10])
    behind = desk.get(submission.id, "sound", Range="bytes=64044-")
    assert (behind.status, behind.headers["content-range"]) == (416, "bytes */64044")


def test_a_part_of_it(desk: Desk) -> None:
    """By time: a file of its own; what is none is refused."""
    submission = desk.farm.submit(2)
    desk.farm.go()
    [recording] = desk.recordings(submission)

    for query, start, end in [
        ("start=0.5&end=1.25", 8_000, 20_000),
        ("start=1.5", 24_000, 32_000),
        ("end=99", 0, None),
    ]:
        part = desk.get(submission.id, f"sound?{query}")
        np.testing.assert_array_equal(read_wav(part.body)[1], desk.samples(recording)[start:end])
    for query in ("start=2", "start=1&end=1", "start=-1", "channel=1", "channel=0"):
        refused = desk.get(submission.id, f"sound?{query}")
        assert (refused.status, refused.headers["content-type"]) == (422, "application/problem+json"), query


def test_channels_are_left_and_right(desk: Desk) -> None:
    """Of two that were split; each alone; three are mixed."""
    two, three = desk.farm.submit(2, channels=2, split=True), desk.farm.submit(2, channels=3, split=True)
    desk.farm.go()

    rows = [desk.samples(recording) for recording in desk.recordings(two)]
    channels, together = read_wav(desk.get(two.id, "sound").body)
    assert channels == 2
    np.testing.assert_array_equal(together.reshape(-1, 2), np.stack(rows, axis=1))
    odd = desk.get(two.id, "sound", Range="bytes=1003-1010").body
    assert odd == desk.get(two.id, "sound").body[1003:1011]
    np.testing.assert_array_equal(read_wav(desk.get(two.id, "sound?channel=2").body)[1], rows[1])
    channels, mixed = read_wav(desk.get(three.id, "sound").body)
    rows = [desk.samples(recording) for recording in desk.recordings(three)]
    assert channels == 1
    np.testing.assert_array_equal(mixed, np.mean(rows, axis=0).astype(np.int16))


def test_sound_is_kept_for_a_while(desk: Desk) -> None:
    """What was done in a lane of people, for a week; of an archive, not at all; and as its tenant wants it."""
    talk, episode = desk.farm.submit(2), desk.farm.submit(2, lane=Lane.BULK)
    desk.farm.go()
    assert desk.get(talk.id, "sound").status == 200
    desk.collect()
    assert desk.get(talk.id, "sound").status == 200, "the collector keeps to it"
    gone = desk.get(episode.id, "sound")
    assert gone.status == 410
    assert "stenopool retention set --tenant ada --pcm" in json.loads(gone.body)["detail"]

    desk.collect(sound=0)
    assert desk.get(talk.id, "sound").status == 410

    kept = Keeping(desk.farm.farm.database)
    kept.set(Retention(tenant="ada", pcm=0))
    desk.farm.submit(2)
    desk.farm.go()
    assert desk.farm.keys("pcm") == [], "its tenant wants none"


def test_before_it_is_decoded_and_after_there_is_the_file(desk: Desk) -> None:
    """As it was handed in, as long as it is there; nothing that a browser would show."""
    talk = desk.farm.submit(2)
    file = desk.farm.store.read(talk.source, 0, 10**9)
    page = desk.farm.again(talk, name="talk.html")

    answer = desk.get(talk.id, "sound", Range="bytes=0-9")
    assert (answer.status, answer.body) == (206, file[:10])
    assert answer.headers["content-type"] in ("audio/wav", "audio/x-wav")
    shown = desk.get(page.id, "sound")
    assert (shown.body, shown.headers["content-type"]) == (file, "application/octet-stream")
    assert shown.headers["content-disposition"].startswith("attachment;")
    elsewhere = desk.farm.order(desk.farm._folder / "talk1.wav", source="https://host/talk.mp3", file_sha256=None)
    assert "is not decoded yet" in json.loads(desk.get(elsewhere.id, "sound").body)["detail"]


def test_who_may_not_hear_all_hears_silence(desk: Desk) -> None:
    """Where something is redacted, and where nobody knows yet; before that is known, nothing."""
    card = "pay 4111 1111 1111 1111 ok "
    submission = desk.farm.submit(6, redact="card")
    assert desk.get(submission.id, "sound").status == 409
    desk.farm.ingest()
    assert desk.get(submission.id, "sound").status == 409
    assert desk.get(submission.id, "sound", key=desk.admin).status == 200

    desk.farm.admit()
    claims = desk.farm.claim()
    desk.farm.finish(claims[:1], by="plain")
    desk.farm.finish(claims[1:2], by=card)
    desk.farm.finish(claims[2:], failing={2})
    desk.farm.merge()
    assert desk.get(submission.id, "sound").status == 409, "its text is there, and nobody has looked"
    assert desk.get(submission.id, "waveform").status == 409
    desk.farm.publish()

    whole = read_wav(desk.get(submission.id, "sound", key=desk.admin).body)[1]
    heard = read_wav(desk.get(submission.id, "sound").body)[1]
    silent = heard == 0
    assert whole[silent].any()
    margin = S // 20
    np.testing.assert_array_equal(heard[: 2 * S - margin], whole[: 2 * S - margin])
    assert not heard[2 * S - margin :].any(), "what was said of the card, and what nobody could hear"
    part = desk.get(submission.id, "sound?start=1&end=3")
    np.testing.assert_array_equal(read_wav(part.body)[1], heard[S : 3 * S])
    drawn = np.reshape(desk.told(submission.id, "waveform?points=600")["data"], (-1, 2))
    assert drawn[: 2 * 100 - 5].any(axis=1).all()
    assert not drawn[2 * 100 - 5 :].any()

    desk.collect(sound=0)
    assert desk.get(submission.id, "sound").status == 410, "not the file"


def test_a_waveform_is_that_of_the_samples(desk: Desk) -> None:
    """In as many stretches as are asked for, or fewer; kept, and gone with the samples."""
    submission = desk.farm.submit(2)
    desk.farm.go()
    [recording] = desk.recordings(submission)
    samples = desk.samples(recording) >> 8

    for points, each in ((1000, 160), (200, 160), (199, 320), (1, 32_000), (7, 29 * 160)):
        found = desk.told(submission.id, f"waveform?points={points}")
        assert {name: found[name] for name in ("version", "channels", "sample_rate", "samples_per_pixel", "bits")} == {
            "version": 2, "channels": 1, "sample_rate": S, "samples_per_pixel": each, "bits": 8,
        }  # fmt: skip
        stretches = [samples[at : at + each] for at in range(0, len(samples), each)]
        assert found["data"] == [int(value) for one in stretches for value in (one.min(), one.max())]
        assert found["length"] == len(stretches) <= points
    assert desk.farm.keys("waveforms") == [waveform_key(recording)]
    assert desk.collect() == [submission.source]
    desk.farm.store.delete(pcm_key(recording))
    assert desk.get(submission.id, "waveform").status == 200, "it is not made anew"

    assert waveform_key(recording) in desk.collect(sound=0)
    assert desk.get(submission.id, "waveform").status == 410


def test_a_waveform_is_the_same_block_by_block(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is in memory at a time."""
    submission = desk.farm.submit(2)
    desk.farm.go()
    [recording] = desk.recordings(submission)
    at_once = extremes(desk.farm.store, recording, 2 * S, 160)

    monkeypatch.setattr("workers.waveform._BLOCK", 1700)

    np.testing.assert_array_equal(extremes(desk.farm.store, recording, 2 * S, 160), at_once)


def test_who_deletes_a_recording_deletes_what_is_drawn(desk: Desk) -> None:
    """The receipt counts it; and what comes too late is not kept."""
    submission = desk.farm.submit(2)
    desk.farm.go()
    [recording] = desk.recordings(submission)
    desk.get(submission.id, "waveform")
    eraser = Eraser(desk.farm.farm, keep=0, sound=WEEK)
    eraser.erasing.begin(submission.id, by="test")
    assert eraser.go_on(submission.id)

    assert desk.farm.keys("waveforms") == desk.farm.keys("pcm") == []
    deletion = eraser.erasing.deletion(submission.id)
    assert deletion is not None
    assert {"waveforms", "pcm"} <= {one["kind"] for one in deletion.receipt["objects"]}
    late = waveform_key(recording)
    desk.farm.farm.ledger.while_needed(recording, lambda: desk.farm.store.put(late, b"late"), sound=WEEK)
    assert desk.farm.keys("waveforms") == []


def test_the_strip_tells_what_becomes_of_each_stretch(desk: Desk) -> None:
    """From before it is decoded until after what was heard is forgotten."""
    submission = desk.farm.submit(8)
    assert desk.told(submission.id, "chunks")["chunks"] == []
    desk.farm.ingest()
    assert desk.told(submission.id, "chunks")["counts"] == {"queued": 4}
    desk.farm.admit()
    first, second = desk.farm.claim(1)[0], desk.farm.claim(1)[0]
    assert desk.told(submission.id, "chunks")["counts"] == {"running": 2, "queued": 2}
    desk.farm.finish([first], failing={0})
    desk.farm.expire()

    told = desk.told(submission.id, "chunks")
    assert (told["duration"], told["sample_rate"], told["state"], told["total"]) == (8 * S, S, "transcribing", 4)
    shown = [(one["start"], one["end"], one["state"], one["attempts"], one["reason"]) for one in told["chunks"]]
    assert shown == [
        (0, 2 * S, "gap", 1, "the device failed"),
        (2 * S, 4 * S, "retry", 1, "1 worker died with it"),
        (4 * S, 6 * S, "queued", 0, None),
        (6 * S, 8 * S, "queued", 0, None),
    ]
    [again] = desk.farm.claim(1)
    assert (again.index, again.fence) == (second.index, 2)
    one = desk.told(submission.id, "chunks?offset=1&limit=1")["chunks"]
    assert [(it["index"], it["state"], it["worker"], it["fence"], it["deaths"]) for it in one] == [
        (1, "running", "engine", 2, 1)
    ]
    desk.farm.finish([again])
    desk.farm.go()
    done = desk.told(submission.id, "chunks")
    assert (done["state"], done["counts"]) == ("completed_with_gaps", {"gap": 1, "done": 3})

    keeping = Keeping(desk.farm.farm.database)
    keeping.set(replace(keeping.retention("ada"), chunks=0))
    desk.farm.collect()
    assert desk.told(submission.id, "chunks")["chunks"] == done["chunks"]


def test_nothing_of_another_tenant_is_there(desk: Desk) -> None:
    """Neither sound nor what is drawn; without a key, nothing at all."""
    submission = desk.farm.submit(2, tenant="eve")
    desk.farm.go()

    for what in ("sound", "waveform", "chunks"):
        assert desk.get(submission.id, what).status == 404
        assert ask(desk.port, f"/v1/recordings/{submission.id}/{what}").status == 401
