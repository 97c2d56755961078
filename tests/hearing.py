"""Stretches of the bundled recording, heard under options as a worker would ask for them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from models.decoding.requests import Heard, Request
from models.engine import Engine
from stenopool.domain import Chunk, ChunkResult, Options, Span
from stenopool.options import options_of, resolved
from tests import sounds
from workers.decoding import decoding_of
from workers.transcribe import chunk_result

RATE = 16_000


@cache
def sample() -> np.ndarray:
    """The bundled recording, int16 at 16 kHz."""
    return sounds.read(sounds.SAMPLE)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A stretch of sound, and the options to hear it under."""

    options: Mapping[str, Any] = field(default_factory=dict)
    #: Seconds of the sample.
    start: float = 0.0
    end: float = 10.0
    #: Instead of the sample: int16 at 16 kHz.
    sound: np.ndarray | None = None
    #: None to detect it.
    language: str | None = "en"

    @property
    def chunk(self) -> Chunk:
        """Where in its recording it is."""
        if self.sound is not None:
            return Chunk(index=0, span=Span(0, len(self.sound)))
        return Chunk(index=0, span=Span(round(self.start * RATE), round(self.end * RATE)))

    @property
    def pcm(self) -> np.ndarray:
        """The sound itself."""
        return sample()[self.chunk.span.start : self.chunk.span.end] if self.sound is None else self.sound

    @property
    def resolved(self) -> Options:
        """The options as workers have them."""
        return resolved(options_of(self.options))

    def request(self, engine: Engine, key: Hashable) -> Request:
        """What the engine is asked."""
        decoding = decoding_of(self.resolved, self.chunk, engine.vocabulary, self.language)
        return Request(key=key, pcm=self.pcm, decoding=decoding)


@dataclass(frozen=True)
class Told:
    """What the engine heard, and the timed text that becomes of it."""

    heard: Heard
    result: ChunkResult

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(segment.text for segment in self.result.segments)


def hear(engine: Engine, asks: Mapping[str, Ask]) -> dict[str, Told]:
    """All of them at once, in the slots of one engine."""
    requests = [ask.request(engine, name) for name, ask in asks.items()]
    return {str(heard.key): told(engine, asks[str(heard.key)], heard) for heard in engine.run(requests)}


def told(engine: Engine, ask: Ask, heard: Heard) -> Told:
    """What becomes of what was heard."""
    language = heard.language or ""
    return Told(
        heard,
        chunk_result(heard, ask.chunk, language=language, vocabulary=engine.vocabulary, options=ask.resolved),
    )
