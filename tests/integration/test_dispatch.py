"""The dispatcher and the broker: what is ready is told of, in its lane; what is lost is told again."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine

from scheduler import dispatch
from scheduler.broker import INGEST, MERGE, PREFIX, Broker, engine_queue
from scheduler.dispatch import Dispatcher, Leadership, grouped
from stenopool.errors import BrokerUnreachable
from storage.database import open_database
from storage.fleet import Fleet, Worker
from storage.tables import Lane
from storage.window import Hint
from tests.integration.test_desk import ENGINE, Farm


@pytest.fixture
def engine(ledger_url: str) -> Iterator[Engine]:
    """A farm's database."""
    engine = open_database(ledger_url)
    yield engine
    engine.dispose()


@pytest.fixture
def farm(engine: Engine) -> Farm:
    """Shortcuts on it."""
    return Farm(engine)


@pytest.fixture
def broker(redis_url: str) -> Iterator[Broker]:
    """A farm's broker, without a hint."""
    broker = Broker(redis_url)
    yield broker
    broker.close()


@pytest.fixture
def hints(redis_url: str) -> Callable[[str], list[Any]]:
    """Takes the hints out of a queue, first in first out: their arguments."""
    redis = Redis.from_url(redis_url)

    def take(queue: str) -> list[Any]:
        found = []
        while (message := redis.rpop(f"{PREFIX}{queue}")) is not None:
            assert isinstance(message, bytes)
            body = json.loads(message)
            assert body["headers"]["expires"] is None  # by whose clock?
            found.append(json.loads(base64.b64decode(body["body"]))[0])
        return found

    return take


def test_a_tick_tells_of_all_there_is(farm: Farm, broker: Broker, hints: Callable[[str], list[Any]]) -> None:
    """Submissions to ingest, and chunks in batches as large as the engine's, by lane; a second tick says nothing."""

    Fleet(farm.engine).join(Worker(id="e", role="engine", host="h", pid=1, version="0", engine_key=ENGINE, slots=4))
    waiting = farm.submit().id
    normal = farm.planned(chunks=6).transcripts[0][1]
    urgent = farm.planned("bob", 1, lane=Lane.URGENT).transcripts[0][1]
    dispatcher = Dispatcher(farm.engine, broker)

    dispatcher.tick()
    dispatcher.tick()

    assert hints(INGEST) == [[waiting]]
    assert hints(engine_queue(ENGINE, Lane.URGENT)) == [[[[urgent, 0]], False]]
    assert hints(engine_queue(ENGINE, Lane.NORMAL)) == [
        [[[normal, 0], [normal, 1], [normal, 2], [normal, 3]], False],
        [[[normal, 4], [normal, 5]], False],
    ]
    assert hints(MERGE) == []


def test_what_redis_has_lost_is_told_again(
    farm: Farm, broker: Broker, hints: Callable[[str], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon where the queue is empty; not while hints are still in it."""
    monkeypatch.setattr(dispatch, "LOST_AFTER", 0.2)
    queue = engine_queue(ENGINE, Lane.NORMAL)
    farm.planned(chunks=2)
    dispatcher = Dispatcher(farm.engine, broker)
    dispatcher.tick()
    time.sleep(0.3)
    dispatcher.tick()
    assert len(told := hints(queue)) == 1

    time.sleep(0.3)
    dispatcher.tick()

    assert hints(queue) == told


def test_a_broker_that_is_gone_is_a_line(farm: Farm, redis_url: str) -> None:
    """Nothing is lost by it: the ledger has all."""
    broker = Broker("redis://127.0.0.1:1/0")
    farm.submit()

    with pytest.raises(BrokerUnreachable, match=r"^the broker does not answer \(.*\); see that Redis runs$"):
        Dispatcher(farm.engine, broker).tick()
    broker.close()


def test_only_one_leads(engine: Engine, ledger_url: str) -> None:
    """Until it ends, however it ends."""
    other = open_database(ledger_url)
    first, second = Leadership(engine), Leadership(other)
    assert first.held()
    assert not second.held()
    assert first.held()

    first.release()

    until = time.monotonic() + 10  # Postgres sees in a moment that the connection has ended
    while not second.held():
        assert time.monotonic() < until
    second.release()
    other.dispose()


def test_two_at_once_admit_and_tell_of_each_chunk_once(
    farm: Farm, broker: Broker, hints: Callable[[str], list[Any]]
) -> None:
    """Though neither minds who leads."""
    transcript = farm.planned(chunks=200).transcripts[0][1]
    dispatchers = [Dispatcher(farm.engine, broker) for _ in range(4)]
    threads = [threading.Thread(target=one.tick) for one in dispatchers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    told = [tuple(chunk) for chunks, _ in hints(engine_queue(ENGINE, Lane.NORMAL)) for chunk in chunks]
    assert len(told) == len(set(told)) >= 64
    assert all(of == transcript for of, _ in told)


def test_deaths_are_judged_by_the_farms_own_lease(farm: Farm, broker: Broker) -> None:
    """Another has died of nothing, five leases ago: then the third death with a chunk is no proof."""
    transcript = farm.planned(chunks=2).transcripts[0][1]
    farm.window.admit(ENGINE, Lane.NORMAL, 2)
    farm.ledger.claim_queued("w", ENGINE, 1)
    farm.another_dies(ago=5.0)
    for _ in range(2):
        [claim] = farm.ledger.claim_suspects("w", ENGINE)
        farm.expire()
        Dispatcher(farm.engine, broker, lease=1.0).tick()

    assert claim.index == 0
    assert farm.ledger.parts(transcript).results == [{}], "what the other had, and no gap"


def test_a_suspect_has_a_hint_of_its_own() -> None:
    """The others are grouped around it."""
    hints = [Hint(1, index, suspect=index == 2) for index in range(5)]

    assert [[hint.index for hint in group] for group in grouped(hints, 2)] == [[0, 1], [2], [3, 4]]
    assert grouped([], 2) == []
