"""Logs of a farm's processes: lines for people, or a JSON object a line for programs.

What a line is about stands in fields of its own: submission, transcript, chunk, worker, campaign. No line has a
password, or what signs a URL; and nobody who logs hands over what was said in a recording.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

LogStyle = Literal["text", "json"]

#: What a line may be about.
ABOUT = ("worker", "role", "task", "submission", "campaign", "transcript", "chunk", "endpoint")

#: Those of others that tell of every step.
_CHATTY = ("celery", "kombu", "amqp", "jax", "alembic", "botocore", "boto3", "httpx")

#: A password in a URL, and whatever stands behind its question mark: signatures and tokens are there.
_PASSWORD = re.compile(r"(?<=://)[^/\s@'\"]*@")
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?'\"<>]*)\?[^\s'\"<>)]+", re.IGNORECASE)
_BEARER = re.compile(r"(?i)\b(bearer|basic) [A-Za-z0-9._~+/=-]{8,}")

_about: ContextVar[dict[str, object]] = ContextVar("about")
#: Of this process, in each of its lines.
_process: dict[str, object] = {}


@contextmanager
def about(**ids: object) -> Iterator[None]:
    """What this thread logs meanwhile is about these; those that are None are left out."""
    token = _about.set({**_about.get({}), **{name: id for name, id in ids.items() if id is not None}})
    try:
        yield
    finally:
        _about.reset(token)


def process_is(**ids: object) -> None:
    """Whatever this process logs from now on is about these."""
    _process.update(ids)


def without_secrets(text: str) -> str:
    """A text without passwords and signatures of URLs."""
    return _BEARER.sub(r"\1 ***", _QUERY.sub(r"\1?***", _PASSWORD.sub("***@", text)))


def set_up(style: LogStyle) -> None:
    """Log to standard error from now on, what others and Python itself have to say as well."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_note)
    handler.setFormatter(_Json() if style == "json" else _Text("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    if style == "json":
        sys.excepthook = lambda kind, error, trace: logging.getLogger("stenopool").critical(
            "it ends by an error of its own", exc_info=(kind, error, trace)
        )
        threading.excepthook = lambda lost: logging.getLogger("stenopool").critical(
            "a thread ends by an error of its own",
            exc_info=None if lost.exc_value is None else (lost.exc_type, lost.exc_value, lost.exc_traceback),
        )


def speaks_json() -> bool:
    """Whether this process logs JSON: then its last words are to be some, too."""
    return any(isinstance(handler.formatter, _Json) for handler in logging.getLogger().handlers)


def _note(record: logging.LogRecord) -> bool:
    """Keep with a line what it is about: it may be written elsewhere, by another thread."""
    for name, id in {**_process, **_about.get({})}.items():
        if not hasattr(record, name):
            setattr(record, name, id)
    return True


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        line |= {name: getattr(record, name) for name in ABOUT if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)
