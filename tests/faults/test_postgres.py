"""A Postgres that crashes, sends its clients away, is locked, or has no room for another: all waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from stenopool.servers import Postgres
from storage.database import make_or_migrate
from tests.faults.storm import PATIENT, Storm, as_if_nothing_had_been
from tests.servers import ask, server_folder
from workers.farm import Places


@pytest.fixture
def own_storm(places: Places, own_postgres: Postgres, tmp_path: Path, seed: int) -> Iterator[Storm]:
    """A farm with a Postgres for itself, and a lease that outlives what befalls it."""
    with Storm(replace(places, database=own_postgres.url), tmp_path, seed=seed, batch=0.2, lease=6.0) as storm:
        yield storm


def test_a_postgres_that_crashes(own_storm: Storm, own_postgres: Postgres, long: bool) -> None:
    """kill -9 again and again: nobody is blamed for it, what was heard meanwhile is kept, and no worker ends."""
    submissions = own_storm.hand_in(40 if long else 8, seconds=120)
    workers = list(own_storm.workers(2))
    for turn in range(10 if long else 2):
        own_storm.until_more_is_done(within=60)
        own_postgres.kill()
        time.sleep(1 if turn % 2 else own_storm.lease + 2)
        own_postgres.start()
    own_storm.until_ended(submissions, workers=2, within=90)

    as_if_nothing_had_been(own_storm, submissions)
    assert own_storm.attempts() == own_storm.done()
    assert own_storm.crashes() == 0
    assert [worker.poll() for worker in workers] == [None, None]


@pytest.mark.drill
def test_clients_that_are_sent_away(places: Places, tmp_path: Path, seed: int, long: bool) -> None:
    """All connections end every two seconds, in the middle of whatever they did."""
    with Storm(places, tmp_path, seed=seed, lease=PATIENT, batch=0.2) as storm:
        submissions = storm.hand_in(60 if long else 10, seconds=120)
        workers = list(storm.workers(2))
        storm.until(lambda: storm.done() > 0, within=90)
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname ="
        others += " current_database()"
        for _ in range(30 if long else 4):
            ask(storm.places.database, others)
            time.sleep(2)
        storm.until_ended(submissions, workers=2, within=90)

        as_if_nothing_had_been(storm, submissions)
        assert storm.crashes() == 0
        assert [worker.poll() for worker in workers] == [None, None]


@pytest.mark.drill
def test_a_table_that_is_locked(places: Places, tmp_path: Path, seed: int, long: bool) -> None:
    """By somebody who looks at it for long: all wait, and go on."""
    with Storm(places, tmp_path, seed=seed, batch=0.2, lease=60.0) as storm:
        submissions = storm.hand_in(8, seconds=120)
        storm.workers(2)
        storm.until(lambda: storm.done() > 0, within=90)
        with create_engine(places.database, poolclass=NullPool).begin() as connection:
            connection.execute(text("LOCK TABLE chunks"))
            time.sleep(30 if long else 5)
        storm.until_ended(submissions, workers=2, within=60)

        as_if_nothing_had_been(storm, submissions)
        assert storm.attempts() == storm.done()


@pytest.mark.drill
def test_more_clients_than_postgres_takes(places: Places, tmp_path: Path, seed: int) -> None:
    """Of sixty that ask at once, each has its turn; a farm at work among them does not end."""
    with server_folder() as folder, Postgres(folder / "postgres", max_connections=20) as server:
        make_or_migrate(server.url)
        with Storm(replace(places, database=server.url), tmp_path, seed=seed, lease=PATIENT, batch=0.2) as storm:
            submissions = storm.hand_in(4, seconds=120)
            workers = list(storm.workers(2))
            storm.until(lambda: storm.done() > 0, within=90)
            refused: list[str] = []
            stop = threading.Event()

            def crowd() -> None:
                engine = create_engine(server.url, poolclass=NullPool)
                while not stop.is_set():
                    try:
                        with closing(engine.connect()):
                            stop.wait(1)
                    except Exception as error:
                        refused.append(str(error))
                        stop.wait(0.2)

            threads = [threading.Thread(target=crowd) for _ in range(60)]
            for thread in threads:
                thread.start()
            time.sleep(6)
            late = storm.worker()  # it begins in the crowd
            time.sleep(6)
            stop.set()
            for thread in threads:
                thread.join()
            storm.until_ended(submissions, workers=3, within=60)

            assert any("too many clients" in one for one in refused)
            as_if_nothing_had_been(storm, submissions)
            assert [worker.poll() for worker in (*workers, late)] == [None, None, None]
