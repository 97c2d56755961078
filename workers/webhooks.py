"""Delivering: events go from the outbox to the endpoints that are to be told of them.

An endpoint has one turn at a time, in a thread of its own, and so many at most have theirs at once: who is slow or dead
keeps one thread for as long as a request may take, and is then left alone for a while. What was sent is kept after it
was sent: whoever dies in between has it sent again, under the same id.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from scheduler.dispatch import Leadership
from scheduler.webhooks import Answer, body_of, headers_of, judge
from stenopool.errors import LedgerError, StenopoolError, UsageError
from stenopool.logs import about
from storage.webhook_tables import DeliveryState, EndpointState
from storage.webhooks import Delivery, Outcome, Webhooks

_log = logging.getLogger(__name__)

#: Advisory lock, "stew" in ASCII: who holds it delivers.
DELIVERING = 0x73746577

#: Seconds between two looks, and between two at what can be forgotten.
EVERY, FORGET_EVERY = 0.5, 3600.0
#: Endpoints that have their turn at once, and deliveries of a turn.
AT_ONCE, TURN = 16, 50


class Courier:
    """Delivers.

    Args:
        post: how something is sent.
        at_once: endpoints that have their turn at the same time.
    """

    def __init__(self, database: Engine, post: Callable[..., Answer], *, at_once: int = AT_ONCE) -> None:
        self._database = database
        self._webhooks = Webhooks(database)
        self._post = post
        self._at_once = at_once
        self._turns: dict[int, threading.Thread] = {}

    def run(self, stop: threading.Event) -> None:
        """Look after look until `stop` is set. Where the database does not answer, it is tried again."""
        leadership = Leadership(self._database, DELIVERING)
        said, forget_at = "", 0.0
        while not stop.is_set():
            busy = False
            try:
                if leadership.held():
                    busy = self._webhooks.spread()
                    self.begin()
                    if time.monotonic() >= forget_at:
                        self._webhooks.forget()
                        forget_at = time.monotonic() + FORGET_EVERY
                said = ""
            except StenopoolError as error:
                if str(error) != said:  # once, not twice a second
                    _log.warning("%s", said := str(error))
            stop.wait(0 if busy else EVERY)
        leadership.release()

    def begin(self) -> None:
        """Give those a turn who have something to be told, as far as there is room."""
        self._turns = {id: thread for id, thread in self._turns.items() if thread.is_alive()}
        for id in self._webhooks.due(self._at_once - len(self._turns), self._turns):
            self._turns[id] = threading.Thread(target=self._turn, args=(id,), name=f"webhook-{id}", daemon=True)
            self._turns[id].start()

    def join(self, seconds: float) -> None:
        """Wait for the turns that were begun, so long at most; the rest is sent again."""
        deadline = time.monotonic() + seconds
        for thread in self._turns.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _turn(self, endpoint: int) -> None:
        with about(endpoint=endpoint):
            try:
                self.deliver(endpoint)
            except LedgerError as error:
                _log.warning("webhook %d: what was sent is sent again (%s)", endpoint, error)

    def deliver(self, endpoint: int) -> None:
        """A turn of an endpoint: until there is nothing more, or it fails.

        Raises:
            LedgerError: what was sent last is not known to be, and is sent again.
        """
        for delivery in self._webhooks.turn(endpoint, TURN):
            outcome = send(self._post, delivery)
            state = self._webhooks.record(delivery, outcome)
            if outcome.state == DeliveryState.GIVEN_UP:
                _log.error("webhook %d: event %d is given up (%s)", endpoint, delivery.event.position, outcome.error)
            if state in (EndpointState.PAUSED, EndpointState.DISABLED):
                _log.error("webhook %d is %s (%s)", endpoint, state.value, outcome.error)
            if outcome.rest is not None or state != EndpointState.ENABLED:
                return


def send(post: Callable[..., Answer], delivery: Delivery) -> Outcome:
    """Send a delivery once; what comes of it."""
    body = body_of(delivery.event)
    try:
        answer = post(delivery.url, body, headers_of(delivery, body, int(time.time())))
    except UsageError as error:  # a URL that an earlier release took
        answer = Answer(None, str(error))
    return judge(answer, attempts=delivery.attempts, failures=delivery.failures, chance=random.random())


@contextmanager
def delivering(database: Engine, post: Callable[..., Answer]) -> Iterator[None]:
    """Webhooks are delivered meanwhile, by threads of their own: an endpoint may keep them waiting.

    Args:
        post: how something is sent.
    """
    stop = threading.Event()
    courier = Courier(database, post)
    thread = threading.Thread(target=courier.run, args=(stop,), name="courier", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5.0)
        courier.join(5.0)
