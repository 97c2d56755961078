"""A Redis that dies, hangs, is full, forgets, or is lied to: it only ever carried hints."""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as Client

from scheduler.broker import INGEST, MERGE, PREFIX, PUBLISH
from stenopool.servers import Redis
from storage.tables import Lane
from tests.faults.storm import PATIENT, Storm, as_if_nothing_had_been
from tests.proxy import Proxy, drop
from workers.farm import Places


@pytest.fixture
def storm(places: Places, tmp_path: Path, seed: int) -> Iterator[Storm]:
    """A farm in which nobody dies."""
    with Storm(places, tmp_path, seed=seed, lease=PATIENT) as storm:
        yield storm


@pytest.fixture
def own_storm(places: Places, own_redis: Redis, tmp_path: Path, seed: int) -> Iterator[Storm]:
    """A farm with a Redis for itself."""
    with Storm(replace(places, broker=own_redis.url), tmp_path, seed=seed, lease=PATIENT, batch=0.2) as storm:
        yield storm


def test_what_redis_forgets_is_told_again(storm: Storm) -> None:
    """FLUSHALL again and again, and hints that are doubled: no chunk is left out, and none is begun twice."""
    submissions = storm.hand_in(4, seconds=120)
    redis = Client.from_url(storm.places.broker)
    storm.batch = 0.2
    storm.workers(2)
    storm.until_more_is_done(within=90)
    for at in range(6):
        time.sleep(0.5)
        if at % 2:
            redis.flushall()
            continue
        for key in redis.scan_iter(f"{PREFIX}engine.*"):
            for message in redis.lrange(key, 0, -1) if redis.type(key) == b"list" else ():
                redis.lpush(key, *[message] * 10)
    storm.until_ended(submissions, workers=2, within=60)

    as_if_nothing_had_been(storm, submissions)
    assert storm.attempts() == storm.done() == 240


@pytest.mark.drill
def test_a_redis_that_is_killed_and_comes_back_empty(own_storm: Storm, own_redis: Redis) -> None:
    """Work goes on within ten seconds, by the same workers."""
    submissions = own_storm.hand_in(8, seconds=120)
    workers = list(own_storm.workers(2))
    own_storm.until_more_is_done(within=90)

    own_redis.kill()
    time.sleep(2)
    own_redis.start()
    own_storm.until_more_is_done(within=10)
    own_storm.until_ended(submissions, workers=2, within=60)

    as_if_nothing_had_been(own_storm, submissions)
    assert own_storm.attempts() == own_storm.done()
    assert [worker.poll() for worker in workers] == [None, None]


@pytest.mark.drill
def test_a_redis_that_hangs(own_storm: Storm, own_redis: Redis, long: bool) -> None:
    """Stopped, paused, or with all its clients sent away: work goes on within a minute, by the same workers."""
    submissions = own_storm.hand_in(12, seconds=120)
    workers = list(own_storm.workers(2))
    own_storm.until_more_is_done(within=90)
    client = Client.from_url(own_redis.url)
    assert own_redis.pid is not None

    os.kill(own_redis.pid, signal.SIGSTOP)
    time.sleep(45 if long else 6)
    os.kill(own_redis.pid, signal.SIGCONT)
    own_storm.until_more_is_done(within=60)
    for _ in range(6 if long else 2):
        client.client_kill_filter(_type="normal", skipme=True)
        time.sleep(0.5)
    own_storm.until_more_is_done(within=60)
    client.client_pause(2000, all=True)
    own_storm.until_ended(submissions, workers=2, within=90)

    as_if_nothing_had_been(own_storm, submissions)
    assert own_storm.attempts() == own_storm.done()
    assert [worker.poll() for worker in workers] == [None, None]


@pytest.mark.drill
def test_a_network_that_swallows_what_redis_says(places: Places, own_redis: Redis, tmp_path: Path, seed: int) -> None:
    """Half-open connections are given up, and others are made."""
    url = own_redis.url
    host, port = "127.0.0.1", int(url.rpartition(":")[2].partition("/")[0])
    with Proxy(host, port) as proxy:
        through = replace(places, broker=url.replace(f":{port}/", f":{proxy.port}/"))
        with Storm(through, tmp_path, seed=seed, lease=PATIENT, batch=0.2) as storm:
            submissions = storm.hand_in(8, seconds=120)
            workers = list(storm.workers(2))
            storm.until_more_is_done(within=90)

            proxy.always(drop())
            proxy.sever()
            time.sleep(3)
            proxy.always()
            storm.until_more_is_done(within=60)
            storm.until_ended(submissions, workers=2, within=60)

            as_if_nothing_had_been(storm, submissions)
            assert [worker.poll() for worker in workers] == [None, None]


@pytest.mark.drill
def test_a_redis_that_is_full(own_storm: Storm, own_redis: Redis) -> None:
    """What is handed in is accepted all the same, and done when there is room again; somebody is told meanwhile."""
    client = Client.from_url(own_redis.url)
    [worker] = own_storm.workers(1)
    own_storm.until_at_work(3)
    client.config_set("maxmemory", "1mb")

    submissions = own_storm.hand_in(3, seconds=60)
    own_storm.until(lambda: "used memory > 'maxmemory'" in own_storm.said(), within=90)
    client.config_set("maxmemory", "0")
    own_storm.until_ended(submissions, workers=1, within=60)

    as_if_nothing_had_been(own_storm, submissions)
    assert worker.poll() is None


def envelope(task: str, body: Any, **changes: Any) -> bytes:
    """A message as Celery sends it, or nearly."""
    message = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": str(uuid.uuid4()), "argsrepr": "", "kwargsrepr": "{}"},
        "properties": {
            "correlation_id": str(uuid.uuid4()),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "x"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }
    return json.dumps(message | changes).encode()


class Bomb:
    """What a pickle can do."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_forged_messages_have_no_effect(storm: Storm, tmp_path: Path) -> None:
    """Ids that are none, tasks that are none, pickles, and no messages at all: the same workers end the work."""
    storm.batch = 0.2
    worker = storm.worker()
    stage = storm.stage("merge+publish")
    storm.until_at_work(4)
    [engine] = [one.engine_key for one in storm.farm.fleet.workers() if one.engine_key]
    pickled = base64.b64encode(pickle.dumps(Bomb(str(tmp_path / "bombed")))).decode()
    nothing: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

    def forged(task: str, arguments: list[Any]) -> bytes:
        return envelope(f"stenopool.{task}", [arguments, {}, nothing])

    messages = {
        f"engine.{engine}.{int(Lane.NORMAL)}": [
            forged("transcribe", [[[10**9, 0], [1, 10**6]], False]),
            forged("transcribe", [[[10**30, 0]], False]),
            forged("transcribe", ["all", None]),
            forged("transcribe", []),
            forged("detect", [-1]),
            forged("detect", ["1; DROP TABLE chunks"]),
            envelope("os.system", [["true"], {}, nothing]),
            envelope("stenopool.transcribe", pickled, **{"content-type": "application/x-python-serialize"}),
        ],
        MERGE: [forged("merge", [10**9]), forged("merge", [None]), b"no message", b"{}", b"\xff" * 100],
        PUBLISH: [forged("publish", [10**9]), forged("publish", [[1]])],
        INGEST: [forged("ingest", [10**9])],
    }
    redis = Client.from_url(storm.places.broker)
    for queue, forgeries in messages.items():
        redis.lpush(f"{PREFIX}{queue}", *forgeries)
    submissions = storm.hand_in(3, seconds=60)
    storm.until_ended(submissions, workers=1, within=60)

    as_if_nothing_had_been(storm, submissions)
    assert storm.attempts() == storm.done()
    assert not (tmp_path / "bombed").exists()
    assert (worker.poll(), stage.poll()) == (None, None)
