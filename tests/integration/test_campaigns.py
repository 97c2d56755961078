"""Campaigns: what is listed is in them once, is looked at, is handed in in bounds, and ends in a manifest."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

import scheduler.campaigns
from scheduler.campaigns import Campaigner, entry_of, hand_in
from scheduler.items import Item
from stenopool.config import Limits
from stenopool.domain import Options
from stenopool.errors import FetchError, LedgerError, UsageError
from storage.campaign_progress import CampaignProgress, reason_of
from storage.campaign_tables import CampaignState
from storage.campaigns import Campaign, CampaignItem, Campaigns, Plan
from storage.desk import Desk, Order
from storage.fleet import Fleet, Worker
from storage.keys import SOURCES
from storage.tables import SubmissionState
from storage.throughput import A_FILE, INGEST, Done, Throughput
from tests import sounds
from tests.farms import HandFarm
from tests.feeds import Publisher, fetcher
from tests.hostile import Server, ok, says
from tests.standin import StandIn
from workers.engine import EngineWorker
from workers.lifecycle import alive
from workers.manifest import COLUMNS, as_csv, as_json, records
from workers.outlook import first_forecast, forecast_now, outlook
from workers.podcast import follow
from workers.validate import Validator, upload, validate

S = 16_000  # one second
OPTIONS = asdict(Options(language="en", vad=False, chunk_length=2, overlap=0))


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    """One with nothing yet."""
    with Publisher() as publisher:
        yield publisher


@pytest.fixture
def campaigns(any_database: Engine) -> Campaigns:
    """Of an empty ledger."""
    return Campaigns(any_database)


def begin(campaigns: Campaigns, **other: Any) -> Campaign:
    """A campaign without anything in it."""
    plan = Plan(tenant="ada", name="talks", model="pocket", options=OPTIONS)
    return campaigns.create(replace(plan, **other))


def urls(n: int) -> list[Item]:
    """Recordings that lie elsewhere."""
    return [Item(location=f"https://a/{at}.mp3", name=f"{at}.mp3", metadata={"duration": "60"}) for at in range(n)]


def listed(campaigns: Campaigns, items: list[Item], **other: Any) -> Campaign:
    """A campaign of these, ready."""
    campaign = begin(campaigns, **other)
    campaigns.add(campaign.id, list(map(entry_of, items)))
    campaigns.listed(campaign.id)
    return campaigns.find("ada", campaign.name)


def running(campaigns: Campaigns, items: list[Item], **other: Any) -> Campaign:
    """The same, started."""
    campaign = listed(campaigns, items, **other)
    assert campaigns.start(campaign.id, None)
    return campaigns.find("ada", campaign.name)


def states(engine: Engine, campaign: Campaign) -> dict[str, int]:
    """How many are in each state."""
    return CampaignProgress(engine).of(campaign.id, 60).states


# Listing


def test_a_campaign_is_made_once(campaigns: Campaigns) -> None:
    """Whoever says the same again gets the same; to another way of doing it, it does not change."""
    first = begin(campaigns, deadline=60.0)

    assert begin(campaigns, deadline=60.0).id == first.id
    assert begin(campaigns, tenant="bob").id != first.id
    with pytest.raises(UsageError, match=r"^talks: there is such a campaign, with another model and another deadline;"):
        begin(campaigns, model="other")
    with pytest.raises(LedgerError, match=r"^ada has no campaign nothing; `stenopool campaign list` lists them$"):
        campaigns.find("ada", "nothing")


def test_what_is_listed_twice_is_in_it_once(campaigns: Campaigns) -> None:
    """In a page, and in two; in the order in which it was listed first."""
    campaign = begin(campaigns)
    first, second, third = map(entry_of, urls(3))

    assert campaigns.add(campaign.id, [second, first, second]) == 2
    assert campaigns.add(campaign.id, [first, third]) == 1
    assert [item.name for item in campaigns.items(campaign.id)] == ["1.mp3", "0.mp3", "2.mp3"]
    assert campaigns.items(campaign.id)[0].duration == 60 * S


def test_a_feed_is_followed_and_the_second_time_nothing_is_fetched(campaigns: Campaigns, publisher: Publisher) -> None:
    """Page after page; what is new or changed is listed beside the rest."""
    episodes = [f"/{at}.mp3" for at in range(50)]
    url = publisher.publish(episodes)
    campaign = begin(campaigns)

    first = follow(campaigns, campaign.id, url, fetcher())
    assert (first.pages, first.unchanged, first.new, first.stopped) == (3, 0, 50, None)
    sent = sum(publisher.sent.values())

    second = follow(campaigns, campaign.id, url, fetcher())
    assert (second.pages, second.unchanged, second.new) == (3, 3, 0)
    assert sum(publisher.sent.values()) == sent
    assert sum(publisher.asked.values()) == 2 * sent

    publisher.files["/7.mp3"] = (b"longer", "audio/mpeg")
    publisher.publish(["/new.mp3", *episodes])
    third = follow(campaigns, campaign.id, url, fetcher())
    assert third.new == 2, "a new episode, and one whose enclosure has changed"
    assert len(campaigns.items(campaign.id)) == 52


def test_whoever_is_killed_on_the_way_goes_on_there(campaigns: Campaigns, publisher: Publisher) -> None:
    """What was read of a page is kept with what it listed."""
    url = publisher.publish([f"/{at}.mp3" for at in range(50)])
    publisher.broken["/feed3.xml"] = 503
    campaign = begin(campaigns)
    with pytest.raises(FetchError, match="status 503"):
        follow(campaigns, campaign.id, url, fetcher())
    assert len(campaigns.items(campaign.id)) == 40

    publisher.broken.clear()
    followed = follow(campaigns, campaign.id, url, fetcher())

    assert (followed.unchanged, followed.new) == (2, 10)
    assert publisher.sent == {"/feed.xml": 1, "/feed2.xml": 1, "/feed3.xml": 1}


def test_a_feed_has_an_end(campaigns: Campaigns, publisher: Publisher) -> None:
    """One that leads back to where it was, and one that goes on for ever."""
    url = publisher.publish(["/1.mp3", "/2.mp3"], per_page=1)
    body, kind = publisher.files["/feed2.xml"]
    publisher.files["/feed2.xml"] = (body.replace(b"<item>", b'<atom:link rel="next" href="/feed.xml"/><item>'), kind)
    campaign = begin(campaigns)

    looped = follow(campaigns, campaign.id, url, fetcher())
    assert (looped.pages, looped.stopped) == (2, f"its page {publisher.url('/feed.xml')} comes twice")
    bounded = follow(campaigns, campaign.id, url, fetcher(), most_pages=1)
    assert (bounded.pages, bounded.stopped) == (1, "it has more than 1 pages")


def test_what_is_no_feed_or_too_large_is_refused(campaigns: Campaigns, publisher: Publisher) -> None:
    """In a line that names it."""
    publisher.files["/page"] = (b"<!doctype html><p>hello", "text/html")
    url = publisher.publish([f"/{at}.mp3" for at in range(50)], per_page=50)
    campaign = begin(campaigns)

    with pytest.raises(
        UsageError, match=r"/page: is a web page, not a feed; name the address of its RSS or Atom feed$"
    ):
        follow(campaigns, campaign.id, publisher.url("/page"), fetcher())
    with pytest.raises(FetchError) as error:
        follow(campaigns, campaign.id, url, fetcher(size=1000))
    assert error.value.code == "size"


# Validating


def looked(campaigns: Campaigns, items: list[Item], *, first: int = 1 << 20) -> list[CampaignItem]:
    """The items of a campaign that was validated."""
    campaign = listed(campaigns, items)
    validate(campaigns, campaign.id, Validator(fetcher(), Limits(), first))
    return campaigns.items(campaign.id)


def file(path: Path) -> Item:
    """A file of this machine, as it is listed."""
    return Item(location=str(path), name=path.name)


def test_files_are_looked_at_in_full(campaigns: Campaigns, tmp_path: Path) -> None:
    """What is no sound is known, and what is there twice, and whatever was mended once it is looked at again."""
    talk = sounds.write(tmp_path / "talk.wav", sounds.tone(3))
    copy = tmp_path / "copy.wav"
    copy.write_bytes(talk.read_bytes())
    (tmp_path / "diary.mp3").write_text("Dear diary")
    items = [file(one) for one in (tmp_path / "gone.wav", tmp_path / "diary.mp3", talk, copy)]

    gone, diary, first, second = looked(campaigns, items)

    assert (gone.problem, diary.problem) == ("does not exist", "is text, not audio or video")
    assert (first.duration, first.size, first.problem, first.duplicate_of) == (3 * S, talk.stat().st_size, None, None)
    assert first.file_sha256 == hashlib.sha256(talk.read_bytes()).hexdigest()
    assert second.duplicate_of == first.id
    sounds.write(tmp_path / "gone.wav", sounds.tone(2))
    campaign = campaigns.find("ada", "talks")
    validate(campaigns, campaign.id, Validator(fetcher(), Limits()))
    assert [one.problem is None for one in campaigns.items(campaign.id)] == [True, False, True, True]


def test_of_what_lies_elsewhere_the_first_part_is_fetched(
    campaigns: Campaigns, publisher: Publisher, tmp_path: Path
) -> None:
    """Its header says how long it is, or nobody does; what is no sound is known by it, too."""
    long, short = sounds.tone(60), sounds.tone(1)
    publisher.files |= {
        "/long.wav": (sounds.write(tmp_path / "long.wav", long).read_bytes(), "audio/wav"),
        "/long.opus": (sounds.write(tmp_path / "long.opus", np.tile(sounds.noise(10), 8)).read_bytes(), "audio/ogg"),
        "/late.m4a": (sounds.write(tmp_path / "late.m4a", np.tile(sounds.noise(5), 6)).read_bytes(), "audio/mp4"),
        "/short.wav": (sounds.write(tmp_path / "short.wav", short).read_bytes(), "audio/wav"),
        "/login": (b"<!doctype html><p>Who are you?</p>" + b" " * 500_000, "text/html"),
    }
    names = ["long.wav", "long.opus", "late.m4a", "short.wav", "login", "gone.mp3"]
    items = [Item(location=publisher.url(f"/{name}"), name=name) for name in names]

    wav, ogg, late, whole, login, gone = looked(campaigns, items, first=100_000)

    assert [one.duration for one in (wav, ogg, late, whole)] == [60 * S, None, None, S]
    assert [one.problem for one in (wav, ogg, late, whole)] == [None] * 4
    assert wav.file_sha256 is None, "only its beginning was seen"
    assert whole.file_sha256 == hashlib.sha256(publisher.files["/short.wav"][0]).hexdigest()
    assert login.problem is not None
    assert login.problem.startswith("is a web page")
    assert gone.problem == "status 404"


def test_hosts_are_asked_with_manners(campaigns: Campaigns, tmp_path: Path) -> None:
    """For two files at once, and again after as long as one says; each channel counts where they are split."""
    sound = sounds.write(tmp_path / "talk.wav", np.tile(sounds.tone(1), (2, 1))).read_bytes()
    server, lock, at_once, most, refusals = Server(), threading.Lock(), 0, 0, 1

    def answer(connection: socket.socket, request: str) -> None:
        nonlocal at_once, most, refusals
        with lock:
            at_once += 1
            most = max(most, at_once)
            refused = refusals > 0
            refusals -= 1
        time.sleep(0.05)
        with lock:
            at_once -= 1
        later = says("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0")
        (later if refused else ok(sound))(connection, request)

    items = []
    for at in range(6):
        server.answers[f"/{at}.wav"] = answer
        items.append(Item(location=server.url(f"/{at}.wav"), name=f"{at}.wav"))
    campaign = listed(campaigns, items)

    validate(campaigns, campaign.id, Validator(fetcher(), Limits(), split=True))
    server.close()

    assert [(one.problem, one.duration) for one in campaigns.items(campaign.id)] == [(None, 2 * S)] * 6
    assert most == 2
    assert len(server.asked) == 7


# Handing in


def test_so_many_are_open_and_no_more(
    campaigns: Campaigns, any_database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends makes room for the next; each is handed in once."""
    monkeypatch.setattr(scheduler.campaigns, "OPEN_AT_MOST", 3)
    campaign = running(campaigns, urls(5))
    campaigner, desk = Campaigner(any_database), Desk(any_database)

    campaigner.tick()
    campaigner.tick()
    assert states(any_database, campaign) == {"accepted": 3, "left": 2}
    first = desk.submissions()[-1]
    assert (first.name, first.source, first.campaign_id) == ("0.mp3", "https://a/0.mp3", campaign.id)
    desk.cancel(first.id)
    campaigner.tick()
    assert states(any_database, campaign) == {"accepted": 3, "cancelled": 1, "left": 1}


def test_killed_between_two_steps_it_hands_nothing_in_twice(campaigns: Campaigns, any_database: Engine) -> None:
    """The submission is there, and the campaign has not noted it yet."""
    campaign = running(campaigns, urls(2))
    [item, _] = campaigns.left(campaign.id, 2)
    submission = hand_in(Desk(any_database), campaign, item)

    Campaigner(any_database).tick()

    assert len(Desk(any_database).submissions()) == 2
    assert campaigns.item(item.id).submission_id == submission.id


def test_problems_and_duplicates_are_left_out(campaigns: Campaigns, any_database: Engine, tmp_path: Path) -> None:
    """And files that are not uploaded wait until they are."""
    campaign = running(campaigns, [*urls(1), Item(location="https://a/0.mp3", name="again", key="2"), file(tmp_path)])
    campaigns.find_duplicates(campaign.id)

    Campaigner(any_database).tick()

    assert states(any_database, campaign) == {"accepted": 1, "duplicate": 1, "here": 1}


def test_submissions_do_what_their_campaign_does(campaigns: Campaigns, any_database: Engine) -> None:
    """Those that are handed in, and those that are not yet; what somebody else handed in goes on."""
    campaign = running(campaigns, urls(3))
    campaigner, desk = Campaigner(any_database), Desk(any_database)
    other = desk.accept(order(campaign))
    campaigner.tick()
    campaigns.add(campaign.id, list(map(entry_of, urls(5))))

    assert campaigns.pause(campaign.id)
    assert not campaigns.pause(campaign.id)
    campaigner.tick()
    assert [one.paused for one in desk.submissions()] == [True, True, True, False]
    assert campaigns.resume(campaign.id)
    assert campaigner.resume(campaign.id) == 3
    assert campaigner.resume(campaign.id) == 0
    campaigner.tick()
    assert states(any_database, campaign) == {"accepted": 5}

    assert campaigns.cancel(campaign.id)
    assert campaigner.follow() == 5
    assert states(any_database, campaign) == {"cancelled": 5}
    assert desk.submission(other.id).state == SubmissionState.ACCEPTED
    assert not campaigns.start(campaign.id, None)


def order(campaign: Campaign) -> Order:
    """Something that belongs to no campaign."""
    return Order(tenant=campaign.tenant, name="x", source="sources/x", file_sha256="x", model="pocket", options={})


def test_a_budget_is_kept(campaigns: Campaigns, any_database: Engine) -> None:
    """By how fast engines are; while nobody knows that, nothing is handed in."""
    campaign = running(campaigns, urls(5), budget=0.1)  # six minutes of an engine
    campaigner = Campaigner(any_database)
    campaigner.tick()
    assert states(any_database, campaign) == {"left": 5}

    Throughput(any_database).add("w", "pocket", Done(audio=60.0, busy=120.0))  # three minutes of audio in these
    campaigner.tick()
    campaigner.tick()

    assert states(any_database, campaign) == {"accepted": 3, "left": 2}


def test_a_deadline_begins_with_the_start(campaigns: Campaigns, any_database: Engine) -> None:
    """Those that are handed in later are due at the same time."""
    campaign = running(campaigns, urls(1), deadline=600.0)
    Campaigner(any_database).tick()

    [submission] = Desk(any_database).submissions()
    assert campaign.deadline_at == pytest.approx((campaign.started_at or 0) + 600)
    assert submission.deadline_at == pytest.approx(campaign.deadline_at, abs=1)


def test_one_that_is_not_all_listed_does_not_start(campaigns: Campaigns) -> None:
    """Nor does one start twice."""
    campaign = begin(campaigns)
    assert not campaigns.start(campaign.id, None)
    assert campaigns.listed(campaign.id)
    assert campaigns.start(campaign.id, {"some": "forecast"})
    assert not campaigns.start(campaign.id, None)
    assert not campaigns.listed(campaign.id), "what is listed later changes no state"
    found = campaigns.find("ada", "talks")
    assert (found.state, found.forecast) == (CampaignState.RUNNING, {"some": "forecast"})


# What engines did


def test_throughput_is_kept_in_pieces(any_database: Engine) -> None:
    """By engine and time; only of that model, and where there is nothing of late, what is kept."""
    throughput = Throughput(any_database)
    throughput.add("a", "pocket", Done(100.0, 10.0))
    throughput.add("a", "pocket", Done(50.0, 10.0))
    throughput.add("b", "pocket", Done(7.0, 1.0))
    throughput.add("c", "other", Done(9.0, 1.0))

    found = throughput.of("pocket")
    assert sum(one.audio for one in found) == 157.0
    assert len(found) in (2, 3), "where five minutes ended in between"
    assert sum(one.audio for one in throughput.of("pocket", seconds=0.0)) == 157.0
    assert throughput.of("nothing") == []


# The whole way


def handed_in(farm: HandFarm, folder: Path) -> Campaign:
    """A campaign of two talks, a copy of one, and what is no sound; validated, uploaded, started."""
    campaigns = farm.farm.campaigns
    paths = []
    for n in range(2):
        noise = np.random.default_rng(n).integers(-8000, 8000, (1, 6 * S)).astype(np.int16)
        paths.append(sounds.write(folder / f"talk{n}.wav", noise))
    (folder / "copy.wav").write_bytes(paths[0].read_bytes())
    (folder / "diary.mp3").write_text("Dear diary")
    items = [file(one) for one in (*paths, folder / "copy.wav", folder / "diary.mp3")]
    campaign = listed(campaigns, items)
    validate(campaigns, campaign.id, Validator(fetcher(), Limits()))
    upload(campaigns, campaign.id, farm.store)
    Fleet(farm.farm.database).join(
        Worker(id="e", role="engine", host="h", pid=1, version="1", model="pocket", slots=4, speed=3.0)
    )
    assert campaigns.start(campaign.id, first_forecast(farm.farm, campaign))
    return campaigns.find("ada", "talks")


def test_a_campaign_from_its_list_to_its_manifest(hand_farm: HandFarm, tmp_path: Path) -> None:
    """Each of its recordings is told of, with the digests of what is in the object store."""
    campaign = handed_in(hand_farm, tmp_path)
    assert len(hand_farm.keys(SOURCES)) == 2
    hand_farm.collect()
    assert len(hand_farm.keys(SOURCES)) == 2, "what is still to be handed in is kept"
    before = outlook(hand_farm.farm, campaign)
    assert (before.ended, before.progress.lengths.total, before.progress.done) == (False, 12.0, 0.0)
    assert before.eta is not None

    Campaigner(hand_farm.farm.database).tick()
    hand_farm.go(failing={1})

    after = outlook(hand_farm.farm, campaign)
    assert after.ended
    assert after.progress.states == {"completed_with_gaps": 2, "duplicate": 1, "problem": 1}
    assert after.progress.done == 12.0
    assert after.progress.reasons == [("is text, not audio or video", 1)]
    assert after.took is not None
    assert after.error is not None
    whole = "".join(as_json(hand_farm.farm, campaign, records(hand_farm.farm, campaign)))
    assert "".join(as_json(hand_farm.farm, campaign, records(hand_farm.farm, campaign))) == whole
    manifest = json.loads(whole)
    assert manifest["campaign"]["forecast_error"] == after.error
    first, _, copy, diary = manifest["items"]
    assert (copy["state"], copy["submission"], copy["transcripts"]) == (
        "duplicate",
        first["submission"],
        first["transcripts"],
    )
    assert (diary["state"], diary["transcripts"]) == ("problem", [])
    [transcript] = first["transcripts"]
    assert transcript["gaps"] == [{"start": 2.0, "end": 4.0, "reason": "the device failed"}]
    assert transcript["coverage"]["failed"] == 2.0
    for kept in transcript["files"]:
        content = hand_farm.store.read(kept["key"], 0, 1 << 30)
        assert kept["sha256"] == hashlib.sha256(content).hexdigest()
    rows = list(csv.DictReader(io.StringIO("".join(as_csv(records(hand_farm.farm, campaign))))))
    assert tuple(rows[0]) == COLUMNS
    assert [row["gaps"] for row in rows] == ["1", "1", "1", ""]
    assert {row["json_sha256"] for row in rows[:1]} == {
        kept["sha256"] for kept in transcript["files"] if kept["format"] == "json"
    }


def test_what_is_heard_of_a_recording_is_done(hand_farm: HandFarm, tmp_path: Path) -> None:
    """Before all of it is: two thirds of one of two that last six seconds each, in chunks of two."""
    campaign = handed_in(hand_farm, tmp_path)
    Campaigner(hand_farm.farm.database).tick()
    hand_farm.farm.throughput.add("e", "pocket", Done(audio=10.0, busy=10.0))
    assert forecast_now(hand_farm.farm, campaign).audio.mid == 12.0

    hand_farm.ingest()
    hand_farm.admit()
    hand_farm.finish(hand_farm.claim(2))

    seen = outlook(hand_farm.farm, campaign)
    assert (seen.progress.done, seen.progress.partly, seen.progress.remaining.total) == (4.0, 4.0, 12.0)
    assert forecast_now(hand_farm.farm, campaign).engine.mid == pytest.approx(8.0)


def test_gaps_are_done_again_and_the_manifest_says_so(hand_farm: HandFarm, tmp_path: Path) -> None:
    """As the desk's retry does it."""
    campaign = handed_in(hand_farm, tmp_path)
    Campaigner(hand_farm.farm.database).tick()
    hand_farm.go(failing={1})

    gaps = hand_farm.farm.campaigns.ended_as(campaign.id, [SubmissionState.COMPLETED_WITH_GAPS], 0, 10)
    assert all(map(hand_farm.farm.desk.retry, gaps))
    assert not outlook(hand_farm.farm, campaign).ended
    hand_farm.go()

    assert outlook(hand_farm.farm, campaign).progress.states["completed"] == 2
    first = next(records(hand_farm.farm, campaign))
    assert (first["transcripts"][0]["version"], first["transcripts"][0]["gaps"]) == (2, [])


def test_a_forecast_needs_something_to_go_by(hand_farm: HandFarm) -> None:
    """An engine that has worked, or is there; and the length of some recording."""
    campaigns = hand_farm.farm.campaigns
    campaign = listed(campaigns, [Item(location="https://a/1.mp3", name="1.mp3")])
    with pytest.raises(UsageError, match=r"^no engine of pocket has worked on this farm yet, and nothing is known"):
        forecast_now(hand_farm.farm, campaign)
    assert first_forecast(hand_farm.farm, campaign) is None

    hand_farm.farm.throughput.add("w", "pocket", Done(1000.0, 100.0))
    with pytest.raises(
        UsageError, match=r"^talks: nobody knows how long .* look with: stenopool campaign validate talks$"
    ):
        forecast_now(hand_farm.farm, campaign)
    campaigns.add(campaign.id, [entry_of(one) for one in urls(3)[2:]])
    found = forecast_now(hand_farm.farm, campaign, 2)
    assert (found.audio.mid, found.n_unknown, found.engines) == (120.0, 1, 2)


def test_reasons_leave_out_what_they_happened_to() -> None:
    """So that the same one is counted as one."""
    assert reason_of("talk.mp3: is text", "talk.mp3", "/a/talk.mp3") == "is text"
    assert reason_of("/a/talk.mp3: is text", "talk.mp3", "/a/talk.mp3") == "is text"
    assert reason_of("3 workers died ingesting it", "talk.mp3") == "3 workers died ingesting it"


def test_ingest_says_what_it_did(hand_farm: HandFarm) -> None:
    """Files and seconds; what is refused is no work done."""
    hand_farm.submit(6)
    hand_farm.order(sounds.write(hand_farm._folder / "gone.wav", sounds.noise(3)))
    for key in hand_farm.keys(SOURCES)[:1]:
        hand_farm.store.delete(key)
    me = Worker(id="i", role="ingest", host="h", pid=1, version="1")

    with alive(hand_farm.farm, me, done=lambda: hand_farm.stages.done):
        hand_farm.ingest()

    [told] = hand_farm.farm.throughput.of(INGEST)
    assert told.audio - A_FILE in (3.0, 6.0)
    assert told.busy > 0
    assert hand_farm.farm.throughput.of("pocket") == []


def test_an_engine_says_what_it_did(hand_farm: HandFarm) -> None:
    """All chunks of a recording are as long as it is; nothing is told twice, and at its end all of it is told."""
    hand_farm.submit(6)
    hand_farm.ingest()
    hand_farm.admit()
    [(key, lane)] = hand_farm.window.ready()
    chunks = [(hint.transcript, hint.index) for hint in hand_farm.window.hints(key, lane, 100, -1)]
    me = Worker(id="engine", role="engine", host="h", pid=1, version="1", model="pocket")
    work = EngineWorker(hand_farm.farm, me.id, StandIn(), key)  # type: ignore[arg-type]

    with alive(hand_farm.farm, me, done=lambda: work.done):
        work.transcribe(chunks[:1], suspect=False)
        assert work.done.audio == pytest.approx(2.0)
        work.transcribe(chunks[1:], suspect=False)
    work.close()

    told = hand_farm.farm.throughput.of("pocket")
    assert sum(one.audio for one in told) == pytest.approx(6.0)
    assert 0 < sum(one.busy for one in told) <= work.done.busy
