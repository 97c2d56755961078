"""A stand-in for the engine where only the queue is tested: what it hears is a function of the samples' hash.

    python -m tests.standin [SECONDS]

is a worker of the farm that the environment names, with such an engine, which takes so long for a batch. A chunk that
begins with `POISON` kills the process that decodes it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from models.checkpoint import Checkpoint, find_checkpoint
from models.decoding.requests import Decoding, Heard, Request, Stop
from models.tokens import Vocabulary

#: The first samples of a chunk that kills its worker.
POISON = np.array([12_345, -12_345] * 8, np.int16)

WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")


@cache
def pocket() -> tuple[Checkpoint, Vocabulary]:
    """What the stand-in claims to be."""
    checkpoint = find_checkpoint("pocket")
    return checkpoint, Vocabulary(checkpoint)


def text_of(pcm: np.ndarray) -> str:
    """What is heard in samples."""
    return " " + " ".join(WORDS[byte % len(WORDS)] for byte in hashlib.sha256(pcm.tobytes()).digest()[:6])


class StandIn:
    """As much of `Engine` as a worker uses; `seconds` for each batch."""

    dtype = "float32"
    assistant = None
    n_slots = 16
    #: It has no steps, no programs and no weights.
    slot_steps = active_steps = programs = 0
    load_seconds = compile_seconds = model_seconds = 0.0

    def __init__(self, seconds: float = 0.0) -> None:
        self.checkpoint, self.vocabulary = pocket()
        self.dims = self.checkpoint.dims
        self._seconds = seconds
        self._in_slots: list[Request] = []

    @property
    def room(self) -> int:
        """Free slots."""
        return self.n_slots - len(self._in_slots)

    @property
    def busy(self) -> bool:
        """Whether any slot is taken."""
        return bool(self._in_slots)

    def warm(self, _: Decoding | None = None) -> None:
        """Nothing is to be compiled."""

    def drop(self) -> None:
        """Forget what is in the slots."""
        self._in_slots.clear()

    def submit(self, requests: Sequence[Request]) -> None:
        """Take chunks in; a poisoned one is the end."""
        assert len(requests) <= self.room
        for request in requests:
            if np.array_equal(request.pcm[: len(POISON)], POISON):
                os._exit(99)
        self._in_slots += requests

    def step(self) -> list[Heard]:
        """All that is in the slots, after a while."""
        time.sleep(self._seconds)
        done, self._in_slots = self._in_slots, []
        return [self._heard(request) for request in done]

    def run(self, requests: Sequence[Request]) -> Iterator[Heard]:
        """One after the other."""
        for request in requests:
            yield self._heard(request)

    def _heard(self, request: Request) -> Heard:
        begin = self.vocabulary.special.timestamp_begin
        tokens: tuple[int, ...] = ()
        if request.decoding is not None:
            end = begin + min(len(request.pcm), self.dims.window) // 320
            tokens = (begin, *self.vocabulary.encode(text_of(request.pcm)), end)
        return Heard(
            key=request.key,
            tokens=tokens,
            avg_logprob=-0.1,
            no_speech_prob=0.0,
            compression_ratio=1.0,
            temperature=0.0,
            language=request.decoding.language if request.decoding else None,
            languages={"en": 1.0},
            stop=Stop.END,
            rejected=(),
            times=None,
        )


def main(seconds: float) -> int:
    """Be a worker."""
    from stenopool.config import Config
    from workers.farm import Farm
    from workers.tasks import run_engine

    logging.basicConfig(level=logging.WARNING)
    make: Callable[[], Any] = lambda: StandIn(seconds)  # noqa: E731
    farm = Farm.find(Config.from_env())
    try:
        return run_engine(farm, make)
    finally:
        farm.close()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.05))
