"""Webhooks: what is sent, how it is signed, and what becomes of it by the answer. As Standard Webhooks has it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass

from stenopool.version import __version__
from storage.outbox import Event
from storage.watching import without_text
from storage.webhook_tables import DeliveryState
from storage.webhooks import Delivery, Outcome, Probe

_MINUTE, _HOUR = 60.0, 3600.0

#: Seconds after each failed attempt until the next; after the last of them it is given up, 26 hours after the first.
SCHEDULE = (
    5.0,
    30.0,
    2 * _MINUTE,
    10 * _MINUTE,
    30 * _MINUTE,
    _HOUR,
    2 * _HOUR,
    4 * _HOUR,
    6 * _HOUR,
    6 * _HOUR,
    6 * _HOUR,
)
#: By so much of itself at most a pause is longer, so that not all come back at the same moment.
JITTER = 0.2
#: Seconds that an answer can put off the next attempt, at most.
LONGEST_RETRY_AFTER = 6 * _HOUR
#: Seconds that an endpoint which fails is left alone, at most: one delivery then finds out whether it has recovered.
LONGEST_REST = 10 * _MINUTE

#: 4xx by which somebody says that it may go better later.
_LATER = (408, 429)
_GONE = 410


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered."""

    #: None where it did not.
    status: int | None
    #: Why it did not, in one line.
    error: str | None = None
    #: Seconds after which it wants to be asked again.
    retry_after: float | None = None


def body_of(event: Event | Probe) -> bytes:
    """An event as it is sent: always the same bytes. Kinds of events differ by their type and their data alone.

    Of a phrase that was heard it tells where; what was said around it stays with those who may read the transcript.
    """
    data = dict(event.data)
    if isinstance(detail := data.get("detail"), dict) and "hits" in detail:
        data["detail"] = {**detail, "hits": without_text(detail["hits"])}
    record = {
        "type": event.type,
        "position": event.position,
        "at": event.at,
        "tenant": event.tenant,
        "data": data,
    }
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def headers_of(delivery: Delivery, body: bytes, at: int) -> dict[str, str]:
    """The headers of a delivery that is sent at that time, in seconds since 1970."""
    return {
        "Content-Type": "application/json",
        "User-Agent": f"stenopool/{__version__}",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signatures(delivery.secrets, delivery.id, at, body)),
    }


def signatures(secrets: Sequence[str], id: str, at: int, body: bytes) -> list[str]:
    """One with each secret: of id, time and body."""
    signed = f"{id}.{at}.".encode() + body
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
    return [f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}" for key in keys]


def judge(answer: Answer, *, attempts: int, failures: int, chance: float) -> Outcome:
    """What becomes of a delivery.

    Args:
        attempts: how often it was sent before.
        failures: how often its endpoint failed since it took something.
        chance: of [0, 1): how much of the jitter.
    """
    status = answer.status
    if status is not None and 200 <= status < 300:
        return Outcome(state=DeliveryState.DELIVERED, status=status)
    error = answer.error or f"it answered {status}"
    if status is not None and 400 <= status < 500 and status not in _LATER:
        return Outcome(state=DeliveryState.REFUSED, status=status, error=error, gone=status == _GONE)
    asked = min(answer.retry_after or 0.0, LONGEST_RETRY_AFTER)
    rest = max(asked, min(_scheduled(failures), LONGEST_REST) * (1 + JITTER * chance))
    if attempts >= len(SCHEDULE):
        return Outcome(state=DeliveryState.GIVEN_UP, status=status, error=error, rest=rest)
    pause = max(asked, _scheduled(attempts) * (1 + JITTER * chance))
    return Outcome(state=DeliveryState.WAITING, status=status, error=error, pause=pause, rest=rest)


def _scheduled(failed: int) -> float:
    """Seconds after the failure that comes after so many others."""
    return SCHEDULE[min(failed, len(SCHEDULE) - 1)]
