"""Processes that a test has started, apart from the servers that are shared by all tests of a session."""

from __future__ import annotations

import psutil

_BEFORE: list[psutil.Process] = []


def remember() -> None:
    """What runs now is nothing of the test that begins."""
    _BEFORE[:] = psutil.Process().children()


def children() -> list[psutil.Process]:
    """Children of this process that were started since, and that nobody has looked after yet."""
    return [child for child in psutil.Process().children() if child not in _BEFORE]
