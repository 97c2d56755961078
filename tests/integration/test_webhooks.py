"""Webhooks end to end: real requests to a program of this machine, which behaves as programs do."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from sqlalchemy import Engine, update
from standardwebhooks import Webhook

from scheduler.webhooks import SCHEDULE, body_of
from storage import webhooks as views
from storage.outbox import Outbox
from storage.webhook_tables import DeliveryRow, DeliveryState, EndpointRow, EndpointState
from storage.webhooks import Endpoint, Webhooks
from tests.integration.test_desk import Farm
from tests.receiver import Receiver, Request, status
from workers.post import Post
from workers.webhooks import Courier

DAY = 86_400.0

ANYWHERE = Post(lambda _: True, seconds=5.0)


class World:
    """A ledger, what happens in it, and who tells of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.farm = Farm(engine)
        self.webhooks = Webhooks(engine)
        self.outbox = Outbox(engine)
        self.courier = Courier(engine, ANYWHERE)

    def happen(self, n: int = 1, tenant: str = "ada") -> None:
        """So many events."""
        for _ in range(n):
            self.farm.submit(tenant)
        self.outbox.number()

    def deliver(self) -> None:
        """All that is due now, whoever it is for."""
        while self.webhooks.spread():
            pass
        for id in self.webhooks.due(100):
            self.courier.deliver(id)

    def later(self) -> None:
        """All that is waited for has passed."""
        with self.engine.begin() as connection:
            connection.execute(update(DeliveryRow).values(not_before=None))
            connection.execute(update(EndpointRow).values(not_before=None))

    def add(self, receiver: Receiver, **other: object) -> Endpoint:
        """An endpoint of ada's."""
        return self.webhooks.add("ada", receiver.url, **other)[0]  # type: ignore[arg-type]

    def state(self, endpoint: Endpoint) -> tuple[EndpointState, list[tuple[DeliveryState, int]]]:
        """Of it, and of its deliveries, with their attempts."""
        sent = self.webhooks.sent(endpoint=endpoint.id)
        return self.webhooks.endpoint(endpoint.id).state, [(one.state, one.attempts) for one in reversed(sent)]


@pytest.fixture
def world(any_database: Engine) -> World:
    """Where nothing has happened yet."""
    return World(any_database)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Takes all."""
    with Receiver() as receiver:
        yield receiver


def answering(answer: Callable[[Request, BaseHTTPRequestHandler], object]) -> Receiver:
    """One that does that with each request."""
    return Receiver(answer)


def test_what_happens_is_told(world: World, receiver: Receiver) -> None:
    """In order, once, signed, to those whose it is; not what was before."""
    world.happen(2)
    endpoint, secret = world.webhooks.add("ada", receiver.url)
    world.happen(2)
    world.happen(1, tenant="bob")
    world.happen(1)

    world.deliver()
    world.deliver()

    assert receiver.positions == [3, 4, 6]
    [first, *_] = receiver.requests
    assert Webhook(secret).verify(first.body, first.headers) == {
        "type": "submission.accepted",
        "position": 3,
        "at": first.event["at"],
        "tenant": "ada",
        "data": {"submission": 3, "state": "accepted", "error": None},
    }
    assert abs(first.event["at"] - time.time()) < 60
    assert first.headers["content-type"] == "application/json"
    assert re.fullmatch(r"msg_[0-9a-f]{32}_3", first.id)
    assert world.state(endpoint) == (EndpointState.ENABLED, [(DeliveryState.DELIVERED, 1)] * 3)


def test_states_are_chosen(world: World, receiver: Receiver) -> None:
    """Of others nothing is told, and nothing is kept."""
    endpoint = world.add(receiver, types=["submission.cancelled"])
    world.happen(3)
    world.farm.desk.cancel(2)
    world.outbox.number()

    world.deliver()

    assert [one.event["data"]["submission"] for one in receiver.requests] == [2]
    assert world.state(endpoint)[1] == [(DeliveryState.DELIVERED, 1)]


def test_it_is_sent_again_with_the_same_id_and_body(world: World) -> None:
    """Until it is taken; meanwhile it waits its time."""
    answers = iter([500, 503, 200])
    with answering(lambda _, handler: status(handler, next(answers))) as receiver:
        endpoint = world.add(receiver)
        world.happen()
        world.deliver()
        world.deliver()
        assert world.state(endpoint)[1] == [(DeliveryState.WAITING, 1)]
        for _ in range(3):
            world.later()
            world.deliver()

    assert len(receiver.requests) == 3
    assert len({(one.id, one.body) for one in receiver.requests}) == 1
    assert world.state(endpoint) == (EndpointState.ENABLED, [(DeliveryState.DELIVERED, 3)])
    assert world.webhooks.endpoint(endpoint.id).failing_since is None


#: A process that delivers, and is killed after it has sent and before it has kept that.
_KILLED = """
import os, signal, sys
from pathlib import Path
from storage.database import open_database
from workers.post import Post
from workers.webhooks import Courier

where, endpoint = sys.argv[1], int(sys.argv[2])

def post(*given):
    Post(lambda _: True)(*given)
    os.kill(os.getpid(), signal.SIGKILL)

Courier(open_database(where if "//" in where else Path(where)), post).deliver(endpoint)
"""


def test_killed_between_sending_and_keeping(world: World, receiver: Receiver) -> None:
    """It is sent again, with the same id; whoever comes late with the first one changes nothing."""
    endpoint = world.add(receiver)
    world.happen()
    world.webhooks.spread()
    [delivery] = world.webhooks.turn(endpoint.id, 10)
    url = world.engine.url
    where = url.database if url.drivername == "sqlite" else url.render_as_string(hide_password=False)

    killed = subprocess.run([sys.executable, "-c", _KILLED, str(where), str(endpoint.id)], check=False, timeout=60)
    world.deliver()

    assert killed.returncode == -signal.SIGKILL
    assert len(receiver.requests) == 2
    assert len({(one.id, one.body) for one in receiver.requests}) == 1
    assert world.webhooks.record(delivery, views.Outcome(state=DeliveryState.GIVEN_UP)) is None
    assert world.state(endpoint)[1] == [(DeliveryState.DELIVERED, 1)]


def test_one_event_that_is_not_taken_keeps_no_other(world: World) -> None:
    """The others go past it."""

    def answer(request: Request, handler: BaseHTTPRequestHandler) -> None:
        status(handler, 500 if request.event["position"] == 1 else 200)

    with answering(answer) as receiver:
        endpoint = world.add(receiver)
        world.happen(3)
        world.deliver()
        assert receiver.positions == [1], "who fails is left alone for a moment"
        for _ in range(3):
            world.later()
            world.deliver()

    assert sorted(set(receiver.positions)) == [1, 2, 3]
    assert world.state(endpoint)[1] == [
        (DeliveryState.WAITING, receiver.positions.count(1)),
        (DeliveryState.DELIVERED, 1),
        (DeliveryState.DELIVERED, 1),
    ]


def test_what_is_refused_is_not_sent_again(world: World) -> None:
    """And the next one is sent at once."""
    with answering(lambda _, handler: status(handler, 404)) as receiver:
        endpoint = world.add(receiver)
        world.happen(2)
        world.deliver()
        world.later()
        world.deliver()

    assert receiver.positions == [1, 2]
    assert world.state(endpoint) == (EndpointState.ENABLED, [(DeliveryState.REFUSED, 1)] * 2)


def test_who_is_gone_is_told_nothing_more(world: World) -> None:
    """Until somebody has it go on; then from where it ended."""
    with answering(lambda _, handler: status(handler, 410)) as receiver:
        endpoint = world.add(receiver)
        world.happen(2)
        world.deliver()
        world.happen()
        world.later()
        world.deliver()
        assert receiver.positions == [1]
        assert world.webhooks.endpoint(endpoint.id).state == EndpointState.DISABLED

        receiver.answer = lambda _, handler: status(handler, 200)
        assert world.webhooks.resume(endpoint.id)
        assert not world.webhooks.resume(endpoint.id)
        world.deliver()

    assert receiver.positions == [1, 2, 3]


def test_who_asks_for_more_time_has_it(world: World) -> None:
    """429 with a Retry-After: nothing at all is sent until then."""
    with answering(lambda _, handler: status(handler, 429, Retry_After="1800")) as receiver:
        endpoint = world.add(receiver)
        world.happen(2)
        world.deliver()

    [sent] = [one for one in world.webhooks.sent(endpoint=endpoint.id, failed=True) if one.attempts]
    assert sent.not_before is not None
    assert 1700 < sent.not_before - sent.at < 1900
    assert world.webhooks.due(10) == []
    assert receiver.positions == [1]


def test_it_is_given_up_in_the_end(world: World) -> None:
    """After its last pause, and is named among what failed."""
    with answering(lambda _, handler: status(handler, 500)) as receiver:
        endpoint = world.add(receiver)
        world.happen()
        for _ in range(len(SCHEDULE) + 3):
            world.deliver()
            world.later()

    assert len(receiver.requests) == len(SCHEDULE) + 1
    [failed] = world.webhooks.sent(failed=True)
    assert (failed.state, failed.error) == (DeliveryState.GIVEN_UP, "it answered 500")
    assert world.state(endpoint)[0] == EndpointState.ENABLED


def test_who_fails_for_days_is_paused(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once; what it was not told waits, also what happens meanwhile."""
    with answering(lambda _, handler: status(handler, 500)) as receiver:
        endpoint = world.add(receiver)
        world.happen()
        world.deliver()
        with world.engine.begin() as connection:
            connection.execute(update(EndpointRow).values(failing_since=EndpointRow.failing_since - 4 * DAY))
        for _ in range(3):
            world.later()
            world.happen()
            world.deliver()
        assert len(receiver.requests) == 2
        assert world.webhooks.endpoint(endpoint.id).state == EndpointState.PAUSED
        assert [record.message for record in caplog.records] == [f"webhook {endpoint.id} is paused (it answered 500)"]

        receiver.answer = lambda _, handler: status(handler, 200)
        world.webhooks.resume(endpoint.id)
        for _ in range(2):
            world.later()
            world.deliver()

    assert sorted(set(receiver.positions)) == [1, 2, 3, 4]
    assert world.webhooks.endpoint(endpoint.id).waiting == 0


def test_what_was_told_is_told_once_more(world: World, receiver: Receiver) -> None:
    """What is in between only, under the same ids; also what it was not told of then."""
    endpoint = world.add(receiver)
    world.happen(4)
    world.deliver()

    assert world.webhooks.replay(endpoint.id, after=1, to=3) == 2
    world.deliver()

    assert receiver.positions == [1, 2, 3, 4, 2, 3]
    assert len({one.id for one in receiver.requests}) == 4
    assert world.webhooks.replay(endpoint.id, after=100) == 0


def test_a_new_endpoint_is_told_of_what_was_before_if_asked(world: World, receiver: Receiver) -> None:
    """By a replay."""
    world.happen(3)
    endpoint = world.add(receiver)

    assert world.webhooks.replay(endpoint.id, after=0) == 3
    world.deliver()

    assert receiver.positions == [1, 2, 3]


def test_two_secrets_sign_until_the_former_ends(world: World, receiver: Receiver) -> None:
    """Whoever has either of them is told."""
    endpoint, former = world.webhooks.add("ada", receiver.url)
    new = world.webhooks.rotate(endpoint.id, 3600)
    world.happen()
    world.deliver()
    with world.engine.begin() as connection:
        connection.execute(update(EndpointRow).values(former_until=0))
    world.happen()
    world.deliver()

    both, one = receiver.requests
    for secret in (former, new):
        Webhook(secret).verify(both.body, both.headers)
    Webhook(new).verify(one.body, one.headers)
    assert len(one.headers["webhook-signature"].split()) == 1
    assert former not in repr(world.webhooks.turn(endpoint.id, 1)) + repr(world.webhooks.endpoints())


def test_who_is_slow_delays_nobody(world: World) -> None:
    """Others are told while one keeps his request."""
    let_go = threading.Event()
    with answering(lambda *_: let_go.wait(30)) as slow, Receiver() as quick:
        world.add(slow)
        world.add(quick)
        world.happen(3)
        world.webhooks.spread()
        world.courier.begin()
        deadline = time.monotonic() + 10
        while len(quick.requests) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert quick.positions == [1, 2, 3]
        assert len(slow.requests) == 1
        assert world.webhooks.due(10, world.courier._turns) == []
        let_go.set()
        world.courier.join(10)


def test_what_is_done_is_forgotten_after_a_month(world: World, receiver: Receiver) -> None:
    """Not what waits."""
    endpoint = world.add(receiver)
    world.happen(2)
    world.deliver()
    world.happen()
    world.webhooks.spread()
    assert world.webhooks.forget() == 0
    with world.engine.begin() as connection:
        connection.execute(update(DeliveryRow).values(at=0))

    assert world.webhooks.forget() == 2
    assert world.state(endpoint)[1] == [(DeliveryState.WAITING, 0)]


def test_far_behind_is_caught_up_bit_by_bit(world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is looked at than it takes."""
    monkeypatch.setattr(views, "WINDOW", 3)
    monkeypatch.setattr(views, "MOST_WAITING", 4)
    endpoint = world.add(receiver)
    world.happen(10)

    assert world.webhooks.spread()
    assert world.webhooks.spread()
    assert not world.webhooks.spread(), "it has enough to do"
    assert world.webhooks.endpoint(endpoint.id).waiting == 6
    for _ in range(3):
        world.deliver()
    assert receiver.positions == list(range(1, 11))


def test_the_process_that_delivers(world: World, receiver: Receiver) -> None:
    """All of it, in its thread, until it is stopped."""
    world.add(receiver)
    stop = threading.Event()
    thread = threading.Thread(target=world.courier.run, args=(stop,))
    thread.start()
    world.happen(2)
    deadline = time.monotonic() + 20
    while len(receiver.requests) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(10)
    world.courier.join(10)

    assert receiver.positions == [1, 2]


def test_the_example_of_the_docs(world: World, receiver: Receiver) -> None:
    """docs/webhooks.md: what it shows for receivers verifies what is sent, and refuses what was changed."""
    page = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Callable[..., object]] = {}
    exec(code, names)
    _, secret = world.webhooks.add("ada", receiver.url)
    world.happen()
    world.deliver()
    [request] = receiver.requests

    assert names["verified"](request.body, request.headers, [secret]) == request.event
    for body, headers, keys in (
        (request.body + b" ", request.headers, [secret]),
        (request.body, request.headers, [views.new_secret()]),
        (request.body, {**request.headers, "webhook-timestamp": "1000"}, [secret]),
    ):
        with pytest.raises(ValueError, match="webhook"):
            names["verified"](body, headers, keys)
    [event] = world.outbox.after(0)
    assert body_of(event) == request.body
