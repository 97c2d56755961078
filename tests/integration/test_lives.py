"""Submissions that are cancelled, paused and done again in every state of their life."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from storage.chunks import Claim
from storage.desk import Submission
from storage.tables import SubmissionState, TranscriptRow
from tests.farms import HandFarm
from tests.faults.history import violations
from tests.standin import StandIn
from workers import shown, stages
from workers.engine import EngineWorker

#: What happens to it, given its id.
Act = Callable[[int], object]
#: What somebody who was at it brings to its end, after all that.
Late = Callable[[], object]


def nothing() -> None:
    """Nobody is at it."""


def accepted(farm: HandFarm, one: Submission, act: Act) -> Late:
    """Handed in; a hint is on its way."""
    farm.farm.desk.ingests(one.lane, 100, -1)
    act(one.id)
    return lambda: farm.stages.ingest(one.id)


def decoded(farm: HandFarm, one: Submission, act: Act) -> Late:
    """While its file is decoded: nothing of it is planned yet."""
    farm.decoders.meanwhile = lambda: act(one.id)
    farm.ingest()
    farm.decoders.meanwhile = nothing
    return nothing


def planned(farm: HandFarm, one: Submission, act: Act) -> Late:
    """Between the plan and the word that it is made."""
    transcribing = farm.farm.desk.transcribing

    def first(*given: Any, **named: Any) -> bool:
        act(one.id)
        return transcribing(*given, **named)

    vars(farm.farm.desk)["transcribing"] = first
    farm.ingest()
    del vars(farm.farm.desk)["transcribing"]
    return nothing


def waiting(farm: HandFarm, one: Submission, act: Act) -> Late:
    """Planned, and nothing of it ready."""
    farm.ingest()
    act(one.id)
    return nothing


def ready(farm: HandFarm, one: Submission, act: Act) -> Late:
    """Every chunk may be claimed, and somebody was told so."""
    farm.ingest()
    farm.admit()
    for key, lane in sorted(farm.window.ready()):
        farm.window.hints(key, lane, 100, -1)
    act(one.id)
    return nothing


def leased(farm: HandFarm, one: Submission, act: Act) -> Late:
    """One chunk is heard, one is being, one will be given back."""
    farm.ingest()
    farm.admit()
    heard, late, given_back = farm.claim()
    farm.finish([heard])
    act(one.id)
    farm.farm.ledger.give_back([given_back])
    return lambda: farm.finish([late], "late")


def dying(farm: HandFarm, one: Submission, act: Act) -> Late:
    """Its chunks are with a worker who dies, and who comes back."""
    farm.ingest()
    farm.admit()
    claims: list[Claim] = farm.claim()
    act(one.id)
    farm.expire()
    return lambda: farm.finish(claims, "late")


def heard(farm: HandFarm, one: Submission, act: Act) -> Late:
    """All is heard, and somebody was told to merge it."""
    farm.ingest()
    farm.hear()
    ids = farm.window.merges(100, -1)
    act(one.id)

    def late() -> None:
        for id in ids:
            farm.stages.merge(id)

    return late


def merging(farm: HandFarm, one: Submission, act: Act) -> Late:
    """Somebody merges it, and dies."""
    farm.ingest()
    farm.hear()
    [id] = farm.window.merges(100, -1)
    assert farm.farm.ledger.begin_merge(id)
    act(one.id)
    farm.expire()
    return farm.merge


def merged(farm: HandFarm, one: Submission, act: Act) -> Late:
    """Somebody was told to publish it."""
    farm.ingest()
    farm.hear()
    farm.merge()
    [id] = farm.farm.desk.publishes(100, -1)
    act(one.id)
    return lambda: farm.stages.publish(id)


def publishing(farm: HandFarm, one: Submission, act: Act) -> Late:
    """Its files are there, and nobody was told so yet."""
    farm.ingest()
    farm.hear()
    farm.merge()
    put_files = shown.put_files

    def first(*given: object) -> object:
        put = put_files(*given)  # type: ignore[arg-type]
        act(one.id)
        return put

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "put_files", first)
        farm.publish()
    return nothing


STATES = [accepted, decoded, planned, waiting, ready, leased, dying, heard, merging, merged, publishing]

#: The states are walked on one of the databases each: that the statements mean the same on both is tested elsewhere.
ON_POSTGRES = pytest.mark.parametrize("any_database", ["postgres"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("any_database", ["sqlite"], indirect=True)


@ON_POSTGRES
@pytest.mark.parametrize("state", STATES)
def test_what_is_cancelled_stays_so(hand_farm: HandFarm, state: Callable[[HandFarm, Submission, Act], Late]) -> None:
    """In whatever state it was: nothing of it is handed out, whoever comes late is not heard, and nothing is left."""
    farm = hand_farm
    one = farm.submit()
    late = state(farm, one, farm.farm.desk.cancel)
    bystander = farm.submit(tenant="bob")
    assert farm.now(one).state == SubmissionState.CANCELLED

    late()
    farm.expire()
    farm.ingest()
    mine = {id for _, id in farm.now(one).transcripts} | _made_for(farm, "ada")
    farm.admit()
    claims = farm.claim()
    assert mine.isdisjoint(claim.transcript for claim in claims)
    farm.finish(claims)
    farm.merge()
    farm.publish()

    assert farm.now(one).state == SubmissionState.CANCELLED
    assert not farm.farm.desk.cancel(one.id)
    assert farm.now(bystander).state == SubmissionState.COMPLETED
    farm.collect()
    farm.collect()  # what was begun for nobody is given up in the first round, and its samples go in the second
    assert farm.keys() == farm.keys(f"transcripts/{bystander.id}")
    assert violations(farm.farm.database) == []


@ON_SQLITE
@pytest.mark.parametrize("state", STATES)
def test_what_is_cancelled_can_be_done_again(
    hand_farm: HandFarm, state: Callable[[HandFarm, Submission, Act], Late]
) -> None:
    """At once, while those who were at it go on: it is whole in the end, and there once."""
    farm = hand_farm

    def cancel_and_retry(id: int) -> None:
        assert farm.farm.desk.cancel(id)
        assert farm.farm.desk.retry(id)

    one = farm.submit()
    late = state(farm, one, cancel_and_retry)
    late()
    farm.expire()
    farm.go()
    farm.go()

    assert farm.now(one).state == SubmissionState.COMPLETED
    [text] = farm.texts(one)
    assert [word[-1] for word in text.split()] == ["0", "1", "2"]
    farm.collect()
    farm.collect()
    assert len(farm.keys()) == len(farm.keys(f"transcripts/{one.id}")) == 5
    assert violations(farm.farm.database) == []


@ON_SQLITE
@pytest.mark.parametrize("state", STATES)
def test_what_is_paused_waits(hand_farm: HandFarm, state: Callable[[HandFarm, Submission, Act], Late]) -> None:
    """In whatever state it was: no chunk of it is handed out until it is resumed; then it goes on to its end."""
    farm = hand_farm
    one = farm.submit()
    late = state(farm, one, farm.farm.desk.pause)
    late()
    farm.expire()
    farm.ingest()
    farm.admit()
    assert farm.claim() == []

    if not farm.now(one).ended:  # all was heard already
        assert farm.farm.desk.resume(one.id)
    farm.go()
    farm.go()

    assert farm.now(one).state == SubmissionState.COMPLETED
    assert violations(farm.farm.database) == []


def _made_for(farm: HandFarm, tenant: str) -> set[int]:
    with farm.farm.database.connect() as connection:
        return set(connection.scalars(select(TranscriptRow.id).where(TranscriptRow.tenant == tenant)))


def test_two_who_wait_for_the_same(hand_farm: HandFarm) -> None:
    """One of them paused, the other cancelled: it is kept for the one, and goes on when that one is resumed."""
    farm = hand_farm
    first = farm.submit()
    second = farm.again(first)
    farm.ingest()
    assert farm.now(first).transcripts == farm.now(second).transcripts
    farm.farm.desk.pause(first.id)
    farm.farm.desk.cancel(second.id)
    farm.admit()
    assert farm.claim() == []

    farm.farm.desk.resume(first.id)
    farm.go()

    assert farm.now(first).state == SubmissionState.COMPLETED
    assert violations(farm.farm.database) == []


def test_samples_that_are_gone_make_no_gap(hand_farm: HandFarm) -> None:
    """An engine that finds them gone has the file decoded again; its chunks wait for that."""
    farm = hand_farm
    one = farm.submit()
    farm.ingest()
    farm.admit()
    [(key, _)] = farm.window.ready()
    for found in farm.keys("pcm"):
        farm.store.delete(found)
    worker = EngineWorker(farm.farm, "engine", StandIn(), key)  # type: ignore[arg-type]
    try:
        worker.transcribe([(farm.now(one).transcripts[0][1], 0)], suspect=False)
    finally:
        worker.close()

    assert farm.now(one).state == SubmissionState.ACCEPTED
    assert farm.states(one) == ["waiting"] * 3
    farm.go()
    assert farm.now(one).state == SubmissionState.COMPLETED
    assert violations(farm.farm.database) == []


def test_all_of_it_at_once(hand_farm: HandFarm) -> None:
    """Users who change their minds, workers who die and the dispatcher: nobody fails, and all is whole in the end."""
    farm = hand_farm
    mine = [farm.submit(8) for _ in range(3)]
    mine += [farm.again(mine[0]), farm.again(mine[0], priority=1)]
    desk, ledger = farm.farm.desk, farm.farm.ledger

    def user(dice: random.Random) -> None:
        act = dice.choice([desk.cancel, desk.retry, desk.pause, desk.resume, desk.retry, desk.resume])
        act(dice.choice(mine).id)

    def worker(dice: random.Random) -> None:
        claims = farm.claim(dice.randint(1, 3))
        fate = dice.random()
        if fate < 0.6:
            farm.finish(claims)
        elif fate < 0.8:
            ledger.give_back(claims)

    def dispatcher(_: random.Random) -> None:
        farm.go()

    def sweeper(_: random.Random) -> None:
        farm.expire()

    def run(seed: int, act: Callable[[random.Random], None]) -> None:
        dice = random.Random(seed)
        for _ in range(25):
            act(dice)

    with ThreadPoolExecutor(6) as threads:
        for future in [
            threads.submit(run, *one) for one in enumerate([user, user, worker, worker, dispatcher, sweeper])
        ]:
            future.result()

    for one in mine:
        desk.resume(one.id)
        desk.retry(one.id)
    farm.expire()
    for _ in range(3):
        farm.go()
    assert {farm.now(one).state for one in mine} <= {SubmissionState.COMPLETED, SubmissionState.COMPLETED_WITH_GAPS}
    farm.collect()
    farm.collect()
    assert farm.keys() == farm.keys("transcripts")
    assert violations(farm.farm.database) == []
