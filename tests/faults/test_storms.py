"""Storms over a farm, the short form: nothing lost, nothing twice, and no operator."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from redis import Redis as Client
from sqlalchemy import func, select

from stenopool.servers import Postgres, Redis
from storage.chunks import DEATHS
from storage.tables import ChunkRow, SubmissionState
from tests.faults.history import gaps, violations
from tests.faults.storm import HELD, Storm
from tests.servers import empty_redis, fresh_database
from workers.farm import Places


@pytest.fixture(scope="module")
def storm(
    postgres_server: Postgres, ledger_template: str, redis_server: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Storm]:
    """A farm, on which one storm follows the other."""
    folder = tmp_path_factory.mktemp("storm")
    with fresh_database(postgres_server, ledger_template) as database, empty_redis(redis_server) as broker:
        places = Places(database=database, broker=broker, store=str(folder / "objects"))
        with Storm(places, folder, seed=7) as storm:
            yield storm


def test_killed_workers_lose_nothing(storm: Storm) -> None:
    """kill -9 of random workers under load: every text is there once, and little was done twice."""
    submissions = storm.hand_in(6, seconds=120)
    storm.workers(3)
    for _ in range(6):
        time.sleep(1.5)
        storm.kill_one()
        storm.workers(3)
    storm.until_ended(submissions, workers=3, within=120)

    assert violations(storm.farm.database) == []
    assert storm.differences(submissions) == []
    done, attempts = storm.done(submissions), storm.attempts(submissions)
    assert done == 360
    assert attempts - done <= storm.kills * HELD
    states = {storm.farm.desk.submission(one.id).state for one in submissions}
    assert states == {SubmissionState.COMPLETED}


def test_an_empty_redis_loses_nothing(storm: Storm) -> None:
    """FLUSHALL again and again, and hints that are doubled."""
    submissions = storm.hand_in(4, seconds=120)
    redis = Client.from_url(storm.places.broker)
    storm.workers(2)
    for at in range(6):
        time.sleep(1.0)
        if at % 2:
            redis.flushall()
            continue
        for key in redis.scan_iter("stenopool:engine.*"):
            if redis.type(key) == b"list":
                for message in redis.lrange(key, 0, -1):
                    redis.lpush(key, message, message)
    storm.until_ended(submissions, workers=2, within=120)

    assert violations(storm.farm.database) == []
    assert storm.differences(submissions) == []
    assert storm.attempts(submissions) == storm.done(submissions) == 240


def test_poison_kills_three_workers_at_most(storm: Storm) -> None:
    """Each poisoned chunk becomes a gap with its reason; all others are heard."""
    submissions = storm.hand_in(3, seconds=120, poisoned=0.02)
    storm.workers(2)
    storm.until_ended(submissions, workers=2, within=240)

    assert violations(storm.farm.database) == []
    assert storm.differences(submissions) == []
    with storm.farm.database.connect() as connection:
        assert (connection.scalar(select(func.max(ChunkRow.crashes))) or 0) == DEATHS
    found = [
        gap for one in submissions for _, transcript in one.transcripts for gap in gaps(storm.farm.database, transcript)
    ]
    assert found
    assert set(found) == {"3 workers died with it"}
