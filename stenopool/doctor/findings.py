"""Findings: what a check saw, how it is told, and how many are looked at without waiting for any that does not end."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from stenopool.errors import StenopoolError

#: Of the threads that look.
_NAME = "doctor"


class State(StrEnum):
    """How it stands with what was looked at."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen, and what to do about it."""

    state: State
    seen: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at."""

    name: str
    look: Callable[[], Finding]
    #: What to do where it does not come back.
    cure: str


def fine(seen: str) -> Finding:
    """Nothing is to be done."""
    return Finding(State.OK, seen)


def doubtful(seen: str, cure: str) -> Finding:
    """It works, and somebody should look at it."""
    return Finding(State.WARNING, seen, cure)


def failed(seen: str, cure: str) -> Finding:
    """It does not work."""
    return Finding(State.FAILED, seen, cure)


def failed_with(error: StenopoolError) -> Finding:
    """What an error says. All of ours end with the cure, after a semicolon."""
    seen, _, cure = str(error).rpartition("; ")
    return failed(seen, cure) if seen else failed(cure, "")


def examine(checks: Sequence[Check], seconds: float) -> Iterator[tuple[str, Finding]]:
    """Look at everything at once; names and findings in the order of the checks, the last after so many seconds."""
    answers = []
    for check in checks:
        answer: queue.SimpleQueue[Finding] = queue.SimpleQueue()
        # Nothing can end a thread that waits for a server; this one ends with the process.
        threading.Thread(
            target=lambda put, look: put(_found(look)), args=(answer.put, check.look), name=_NAME, daemon=True
        ).start()
        answers.append(answer)
    deadline = time.monotonic() + seconds
    for check, answer in zip(checks, answers, strict=True):
        try:
            yield check.name, answer.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            yield check.name, failed(f"no answer within {seconds:g} s", check.cure)


def unanswered() -> bool:
    """Whether any check is still waiting for what it looks at."""
    return any(thread.name == _NAME for thread in threading.enumerate())


def _found(look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except StenopoolError as error:
        return failed_with(error)
    except ImportError as error:
        return failed(f"a package cannot be loaded ({error})", "install Stenopool's packages anew")
    except Exception as error:
        # Not its text: whose it is and what stands in it, nobody knows.
        return failed(f"could not be looked at ({type(error).__name__})", "report this with `pip list`")
