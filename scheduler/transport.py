"""Kombu's way to Redis, made less easily frightened: neither a Redis that refuses nor a forged message ends a worker.

Celery takes every error of the broker but a lost connection for the end of the process: one that is full, or read-only
for a while, would have all engines loaded anew again and again. And a message that is none would end whoever takes it.
"""

from __future__ import annotations

import logging
from queue import Empty
from typing import Any

from kombu.transport import redis
from redis.exceptions import ResponseError

_log = logging.getLogger(__name__)


class Channel(redis.Channel):  # type: ignore[misc]
    """Passes over what is no message."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (KeyError, TypeError, ValueError) as error:  # it is taken from the queue by now
            _log.warning("the broker held what is no message of ours (%s: %s)", type(error).__name__, error)
            raise Empty from error


class Transport(redis.Transport):  # type: ignore[misc]
    """Connects anew, after a while, where Redis refuses something."""

    Channel = Channel
    connection_errors = (*redis.Transport.connection_errors, ResponseError)
