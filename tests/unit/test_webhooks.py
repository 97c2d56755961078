"""Webhooks: what is signed, and what becomes of a delivery by its answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import pytest
from standardwebhooks import Webhook

from scheduler.webhooks import JITTER, LONGEST_REST, LONGEST_RETRY_AFTER, SCHEDULE, Answer, body_of, judge, signatures
from storage.outbox import Event
from storage.tables import Heard
from storage.webhook_tables import DeliveryState
from storage.webhooks import Outcome, new_secret

DAY = 86_400.0


def judged(answer: Answer, attempts: int = 0, failures: int = 0, chance: float = 0.0) -> Outcome:
    """What becomes of it, without jitter."""
    return judge(answer, attempts=attempts, failures=failures, chance=chance)


def test_the_example_of_the_standard() -> None:
    """Secret, id, time and body as its own documents have them."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'

    signed = signatures([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)

    assert signed == ["v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="]


def test_each_secret_signs_and_either_verifies() -> None:
    """Whoever has the former one, and whoever has the new one."""
    former, new = new_secret(), new_secret()
    body = json.dumps({"type": "submission.completed"}).encode()
    at = int(time.time())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signatures([new, former], "msg_1", at, body)),
    }

    for secret in (former, new):
        assert Webhook(secret).verify(body, headers) == {"type": "submission.completed"}
    key = base64.b64decode(new.removeprefix("whsec_"))
    assert len(key) == 32
    signed = hmac.new(key, f"msg_1.{at}.".encode() + body, hashlib.sha256).digest()
    assert headers["webhook-signature"].split()[0] == f"v1,{base64.b64encode(signed).decode()}"


def test_what_was_said_is_not_sent() -> None:
    """Of a phrase that was heard it is told where, and in which recording."""
    hits = [{"start": 16_000, "end": 48_000, "text": "the falcon has landed"}]
    detail = {"watch": 1, "phrase": "falcon", "transcript": 2, "hits": hits}
    event = Event(position=1, tenant="ada", submission=7, state=Heard.PHRASE, error=None, detail=detail, at=0.0)

    sent = json.loads(body_of(event))

    assert sent["data"]["detail"] == detail | {"hits": [{"start": 16_000, "end": 48_000}]}
    assert "landed" not in str(sent)


def test_it_is_tried_for_more_than_a_day() -> None:
    """With pauses that never get shorter; then it is given up."""
    assert sum(SCHEDULE) >= DAY
    assert list(SCHEDULE) == sorted(SCHEDULE)
    for attempts, pause in enumerate(SCHEDULE):
        outcome = judged(Answer(503), attempts)
        assert (outcome.state, outcome.pause, outcome.status) == (DeliveryState.WAITING, pause, 503)
    last = judged(Answer(503), len(SCHEDULE))
    assert (last.state, last.pause) == (DeliveryState.GIVEN_UP, None)


def test_jitter_makes_a_pause_longer() -> None:
    """Never shorter, and not by more than a part of it."""
    pause = judged(Answer(None, "closed"), 4, chance=1.0).pause
    assert pause == pytest.approx(SCHEDULE[4] * (1 + JITTER))


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_taken(status: int) -> None:
    """All of them."""
    assert judged(Answer(status)).state == DeliveryState.DELIVERED


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_4xx_ends_a_delivery(status: int) -> None:
    """Nobody has to wait for that; who is gone is told nothing more."""
    outcome = judged(Answer(status))
    assert (outcome.state, outcome.rest, outcome.gone) == (DeliveryState.REFUSED, None, status == 410)


@pytest.mark.parametrize("status", [None, 100, 301, 302, 307, 408, 429, 500, 503])
def test_the_rest_is_tried_again(status: int | None) -> None:
    """Also where it is said to be elsewhere: nobody goes there."""
    assert judged(Answer(status)).state == DeliveryState.WAITING


def test_who_asks_for_more_time_has_it() -> None:
    """Within bounds; not for less than is waited anyway."""
    asked = judged(Answer(429, retry_after=900.0))
    assert (asked.pause, asked.rest) == (900.0, 900.0)
    assert judged(Answer(429, retry_after=1.0), 3).pause == SCHEDULE[3]
    assert judged(Answer(503, retry_after=1e9)).pause == LONGEST_RETRY_AFTER


def test_who_fails_is_left_alone_for_a_while() -> None:
    """For longer each time, but not for so long that he has to wait for his recovery to be found out."""
    rests = [judged(Answer(None, "closed"), 0, failures).rest or 0 for failures in range(20)]
    assert rests == sorted(rests)
    assert (rests[0], rests[-1]) == (SCHEDULE[0], LONGEST_REST)
