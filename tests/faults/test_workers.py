"""Workers that die, hang, are stopped, deployed anew, or have a wrong clock: nothing is lost, and nothing is twice."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from storage.blame import DEATHS
from tests.faults.history import gaps, violations
from tests.faults.storm import HELD, Storm, as_if_nothing_had_been
from workers.farm import Places
from workers.lifecycle import HUNG


def test_killed_workers_lose_nothing(storm: Storm, long: bool) -> None:
    """kill -9 of random workers under load: every text is there once, and little was done twice."""
    storm.batch = 0.2
    submissions = storm.hand_in(60 if long else 6, seconds=400 if long else 200)
    storm.workers(3)
    for _ in range(100 if long else 6):
        storm.kill_one()
        storm.workers(3)
    storm.until_ended(submissions, workers=3, within=300)

    as_if_nothing_had_been(storm, submissions)
    assert storm.attempts() - storm.done() <= storm.kills * HELD


#: Steps of each role, the most delicate one first.
DEATHS_OF = {
    "ingest": ("planned", "ingest claimed", "samples put", "sources kept", "ingested"),
    "engine": ("kept, not committed", "claimed", "heard", "kept"),
    "merge": ("merged", "merge begun", "merge kept"),
    "publish": ("published", "transcript put:2", "all published"),
}


def test_a_death_at_any_step_loses_nothing(places: Places, tmp_path: Path, seed: int, long: bool) -> None:
    """A process for each step ends there; who comes after them ends the work."""
    steps = {role: points if long else points[:1] for role, points in DEATHS_OF.items()}
    for turn in range(20 if long else 1):
        with Storm(places, tmp_path, seed=seed + turn, stages=()) as storm:
            dying = {
                role: [
                    storm.worker(f"die:{point}") if role == "engine" else storm.stage(role, f"die:{point}")
                    for point in points
                ]
                for role, points in steps.items()
            }
            storm.until_at_work(1 + sum(map(len, steps.values())))
            submissions = storm.hand_in(12, seconds=40, ingested=False)
            for role, processes in dying.items():
                storm.until_dead(*processes)
                if role != "engine":
                    storm.stage(role)
                else:
                    storm.workers(1)
            storm.until_ended(submissions, workers=1, within=60)

            as_if_nothing_had_been(storm, submissions)


@pytest.mark.drill
def test_a_worker_that_was_stopped_past_its_lease_comes_too_late(storm: Storm) -> None:
    """Others did its chunks meanwhile: what it heard is refused, and it works on."""
    storm.batch = 1.0
    submissions = storm.hand_in(2, seconds=120)
    late = storm.worker()
    storm.until(lambda: storm.done() > 0, within=90)
    late.send_signal(signal.SIGSTOP)
    storm.batch = 0.1
    storm.until_ended(submissions, workers=2, within=60)

    late.send_signal(signal.SIGCONT)
    storm.until(lambda: "came too late" in storm.said(), within=90)

    as_if_nothing_had_been(storm, submissions)
    assert storm.attempts() - storm.done() <= HELD
    assert late.poll() is None


@pytest.mark.drill
def test_a_deployment_wastes_nothing(storm: Storm, long: bool) -> None:
    """SIGTERM to one after the other under load: each ends what it has begun, and gives nothing back."""
    storm.batch = 0.5
    submissions = storm.hand_in(4 if not long else 40, seconds=120)
    for _ in range(20 if long else 2):
        old = list(storm.workers(2))
        storm.until_at_work(4)
        storm.until_more_is_done(within=90)
        storm.worker()
        for worker in old:
            worker.terminate()
        assert [worker.wait(30) for worker in old] == [0, 0]
    storm.until_ended(submissions, workers=2, within=60)

    as_if_nothing_had_been(storm, submissions)
    assert storm.attempts() == storm.done()


def test_poison_kills_three_workers_at_most(storm: Storm, long: bool) -> None:
    """Each poisoned chunk becomes a gap with its reason; all others are heard."""
    submissions = storm.hand_in(10 if long else 3, seconds=400 if long else 120, poisoned=0.01 if long else 0.02)
    storm.until_ended(submissions, workers=2, within=900 if long else 240)

    assert violations(storm.farm.database) == []
    assert storm.differences(submissions) == []
    assert storm.crashes() == DEATHS
    found = [
        gap
        for one in submissions
        for _, transcript in storm.farm.desk.submission(one.id).transcripts
        for gap in gaps(storm.farm.database, transcript)
    ]
    assert found
    assert set(found) == {"3 workers died with it"}


@pytest.mark.drill
def test_a_device_that_hangs_ends_its_worker(storm: Storm) -> None:
    """Its leases are not renewed, others do its chunks, and it makes room for one that works."""
    submissions = storm.hand_in(3, seconds=120)
    hung = storm.worker("hang:decoding:3", "watched:2")
    storm.until(lambda: hung.poll() is not None, within=60)
    assert hung.returncode == HUNG
    storm.until_ended(submissions, workers=1, within=60)

    as_if_nothing_had_been(storm, submissions)
    assert "the device has not come back for 2 s; this worker ends" in storm.said()


@pytest.mark.drill
def test_a_device_without_memory_is_tried_again(storm: Storm) -> None:
    """Chunk by chunk alone; nobody is to blame, and the worker lives."""
    submissions = storm.hand_in(2, seconds=60)
    worker = storm.worker("full:decoding:2")
    storm.until_ended(submissions, workers=1, within=60)

    as_if_nothing_had_been(storm, submissions)
    assert worker.poll() is None
    assert storm.crashes() == 0


@pytest.mark.drill
@pytest.mark.parametrize("ahead", [7200, -7200])
def test_a_clock_that_is_wrong_does_no_harm(storm: Storm, ahead: int) -> None:
    """Leases are measured by the database's: the worker neither takes what is another's, nor is left without work."""
    submissions = storm.hand_in(3, seconds=120)
    wrong = storm.worker(f"ahead:{ahead}")
    storm.until(lambda: storm.done() >= 16, within=90)  # it alone is there
    storm.until_ended(submissions, workers=2, within=60)

    as_if_nothing_had_been(storm, submissions)
    assert storm.attempts() == storm.done()
    assert wrong.poll() is None


@pytest.mark.drill
def test_many_of_every_role_at_once(storm: Storm, long: bool) -> None:
    """Eight that merge and publish, and three schedulers, of which one leads: each thing is done once."""
    schedulers = [storm.scheduler() for _ in range(2)]
    for _ in range(7 if long else 2):
        storm.stage("merge+publish")
    storm.until_at_work(4)
    submissions = storm.hand_in(12, seconds=20)
    for scheduler in schedulers:
        storm.workers(2)
        scheduler.kill()
        time.sleep(0.5)
    storm.until_ended(submissions, workers=2, within=60)

    as_if_nothing_had_been(storm, submissions)
    assert storm.attempts() == storm.done() == 120
