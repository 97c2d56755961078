"""The threads that answer: of few, each does more.

Python runs one of them at a time, and each that waits for its turn wakes every few milliseconds to ask for it. Who only
waits for time to pass takes none (events, texts of `/v1/audio`); who uploads to the object store has others (hand_in).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI

from storage.database import CONNECTIONS

#: In a process. More of them would wait for a connection to the database.
THREADS = CONNECTIONS


@asynccontextmanager
async def few_threads(_: FastAPI) -> AsyncIterator[None]:
    """An application's life, in which no more than these answer."""
    to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield
