"""The broker: hints on Redis, by Celery. A hint names what there is to do; it may be lost, doubled or late."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from stenopool.errors import BrokerUnreachable, UsageError

#: Of all our keys on Redis.
PREFIX = "stenopool:"

INGEST, MERGE, PUBLISH = "ingest", "merge", "publish"


def engine_queue(engine_key: str, lane: int) -> str:
    """Hints for the engines of that key, lane by lane."""
    return f"engine.{engine_key}.{lane}"


def make_app(url: str) -> Celery:
    """Celery, set up so that nothing depends on it: no results, no retries, no limits of its own."""
    app = Celery("stenopool", set_as_current=False)
    app.conf.update(
        broker_url=url,
        broker_transport="scheduler.transport:Transport",
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        # A worker that dies leaves its chunks to the sweep; a hint that is delivered again finds nothing to do.
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        task_create_missing_queues=False,
        task_queues=[Queue(name) for name in (INGEST, MERGE, PUBLISH)],
        task_default_queue=MERGE,
        task_publish_retry=True,
        task_publish_retry_policy={"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1},
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,
        worker_soft_shutdown_timeout=0,  # it sleeps for as long as it is, whether the tasks have ended or not
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        broker_transport_options={
            "queue_order_strategy": "priority",  # lanes before each other, in the order in which they are consumed
            "global_keyprefix": PREFIX,
            "visibility_timeout": 300,
            "unacked_restore_interval": 15,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 30,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 15,
            "retry_on_timeout": False,
        },
    )
    return app


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerCondition:
    """What a Redis says of itself."""

    version: str
    #: Bytes that it holds, and those that it may; None where it may hold any number.
    used: int
    most: int | None
    #: What it does when it is full.
    policy: str
    #: Why it takes no writes; None where it does.
    refusal: str | None


class Broker:
    """Tells workers what there is to do.

    Every method raises BrokerUnreachable where Redis does not take it; what was to be told is in the ledger all the
    same, and is told again.

    Raises:
        UsageError: there can be no Redis at that URL.
    """

    def __init__(self, url: str) -> None:
        self.app = make_app(url)
        try:
            self._redis = Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)
        except ValueError:  # not repeated: there may be a password in it
            raise UsageError("STENOPOOL_BROKER is no URL of a Redis: redis://:password@host:6379/0") from None

    def ingest(self, submission: int) -> None:
        """A submission is to be decoded and planned."""
        self._tell("ingest", INGEST, submission)

    def transcribe(self, engine_key: str, lane: int, chunks: Sequence[tuple[int, int]], *, suspect: bool) -> None:
        """Chunks are to be decoded, transcript and index of each; a suspect, alone."""
        self._tell("transcribe", engine_queue(engine_key, lane), [list(chunk) for chunk in chunks], suspect)

    def detect(self, engine_key: str, lane: int, transcript: int) -> None:
        """A transcript's language is to be detected."""
        self._tell("detect", engine_queue(engine_key, lane), transcript)

    def merge(self, transcript: int) -> None:
        """A transcript is to be merged."""
        self._tell("merge", MERGE, transcript)

    def publish(self, submission: int) -> None:
        """A submission is to be published."""
        self._tell("publish", PUBLISH, submission)

    def length(self, queue: str) -> int:
        """Hints that nobody has taken yet."""
        try:
            return int(self._redis.llen(f"{PREFIX}{queue}"))
        except RedisError as error:
            raise _unreachable(error) from error

    def condition(self) -> BrokerCondition:
        """What it says of itself, and whether it takes what is written."""
        try:
            told: dict[str, Any] = self._redis.info()
            return BrokerCondition(
                version=str(told["redis_version"]),
                used=int(told["used_memory"]),
                most=int(told["maxmemory"]) or None,
                policy=str(told["maxmemory_policy"]),
                refusal=self._refusal(),
            )
        except RedisError as error:
            raise _unreachable(error) from error

    def _refusal(self) -> str | None:
        key = f"{PREFIX}doctor.{uuid.uuid4().hex}"
        try:
            self._redis.set(key, 1, ex=60)
            self._redis.delete(key)
        except ResponseError as error:
            return _reason(error)
        return None

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()
        self.app.close()

    def _tell(self, task: str, queue: str, *arguments: Any) -> None:
        try:
            self.app.send_task(f"stenopool.{task}", arguments, queue=Queue(queue))
        except (OperationalError, RedisError) as error:
            raise _unreachable(error) from error


def _unreachable(error: Exception) -> BrokerUnreachable:
    way = "correct STENOPOOL_BROKER" if isinstance(error, AuthenticationError) else "see that Redis runs"
    return BrokerUnreachable(f"the broker does not answer ({_reason(error)}); {way}")


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
