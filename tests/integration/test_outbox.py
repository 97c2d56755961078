"""The outbox: every change of a submission is told once, in an order in which nobody who reads on misses one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from storage.desk import Desk, Order
from storage.outbox import Outbox, note
from storage.tables import SubmissionState
from tests.farms import HandFarm
from tests.integration.test_desk import Farm


def test_the_life_of_a_submission(hand_farm: HandFarm) -> None:
    """Accepted, ingested, published: an event each, with a number each, from one."""
    submission = hand_farm.submit()
    hand_farm.go()
    outbox = Outbox(hand_farm.farm.database)

    assert outbox.after(0) == []  # nobody has numbered them yet
    assert (outbox.number(), outbox.number()) == (3, 0)

    events = outbox.after(0)
    assert [(one.position, one.state.value) for one in events] == [
        (1, "accepted"),
        (2, "transcribing"),
        (3, "completed"),
    ]
    assert {(one.tenant, one.submission, one.error) for one in events} == {(submission.tenant, submission.id, None)}
    assert outbox.after(2) == events[2:]
    assert outbox.after(0, limit=1) == events[:1]
    assert outbox.after(0, tenant="nobody") == []


def test_an_end_is_told_with_its_reason_and_what_came_of_it(any_database: Engine) -> None:
    """Failed, asked for again, cancelled: each once, and nothing where nothing changed."""
    farm = Farm(any_database)
    submission = farm.submit()
    claimed = farm.desk.claim("ingester", submission.id, SubmissionState.INGESTING)
    assert claimed is not None
    assert farm.desk.failed(claimed, "talk.mp3: no sound")
    assert not farm.desk.failed(claimed, "talk.mp3: no sound")
    assert farm.desk.retry(submission.id)
    assert not farm.desk.retry(submission.id)
    assert farm.desk.cancel(submission.id)
    assert not farm.desk.cancel(submission.id)
    outbox = Outbox(any_database)
    outbox.number()

    assert [(one.state.value, one.error) for one in outbox.after(0)] == [
        ("accepted", None),
        ("failed", "talk.mp3: no sound"),
        ("accepted", None),
        ("cancelled", None),
    ]


def test_what_workers_died_with_is_told(any_database: Engine) -> None:
    """Nobody else tells of it: the sweep does."""
    farm = Farm(any_database)
    farm.desk.lease = 0
    submission = farm.submit()
    for _ in range(3):
        assert farm.desk.claim("ingester", submission.id, SubmissionState.INGESTING)
        farm.desk.sweep()
    outbox = Outbox(any_database)
    outbox.number()

    assert [(one.state.value, one.error) for one in outbox.after(0)] == [
        ("accepted", None),
        ("failed", "3 workers died ingesting it"),
    ]


def test_who_reads_on_misses_nobody_who_came_in_late(ledger_url: str) -> None:
    """A transaction that began first and ended last has the last number, not one that was read past already."""
    from storage.database import open_database

    engine = open_database(ledger_url)
    desk, outbox = Desk(engine), Outbox(engine)
    first, second = (desk.accept(order(name)) for name in ("first.mp3", "second.mp3"))
    outbox.number()
    with Session(engine) as slow:
        note(slow, [first.id])
        slow.flush()  # it has its id, and is not committed
        desk.cancel(second.id)
        assert outbox.number() == 1
        read = outbox.after(2)
        slow.commit()
    assert outbox.number() == 1

    assert [one.submission for one in read] == [second.id]
    assert [one.submission for one in outbox.after(read[-1].position)] == [first.id]
    engine.dispose()


def test_two_who_number_at_once_give_each_place_once(ledger_url: str) -> None:
    """As a dispatcher does that does not know yet that it was replaced."""
    from storage.database import open_database

    engine = open_database(ledger_url)
    desk = Desk(engine)
    for at in range(60):
        desk.accept(order(f"{at}.mp3"))
    together = threading.Barrier(4)

    def number() -> int:
        together.wait()
        return sum(Outbox(engine).number(limit=7) for _ in range(20))

    with ThreadPoolExecutor(4) as threads:
        numbered = [thread.result() for thread in [threads.submit(number) for _ in range(4)]]

    assert sum(numbered) == 60
    assert [one.position for one in Outbox(engine).after(0)] == list(range(1, 61))
    engine.dispose()


def order(name: str) -> Order:
    """A file that is there."""
    return Order(tenant="ada", name=name, source="sources/ab", file_sha256="ab" * 32, model="pocket", options={})
