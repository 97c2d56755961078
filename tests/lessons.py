"""Lessons for a model that is learnt in seconds: words that are tones, in windows of two seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.checkpoint import Checkpoint
from models.training.batches import Feeding
from models.training.beginning import Size, write_newborn
from models.training.listening import Heard
from models.training.losses import Weights
from models.training.state import Schedule
from models.training.trainer import Lesson, Training
from models.training.windows import Timed, Utterance
from stenopool.domain import SAMPLE_RATE, Span

#: Every word is a tone of so many hertz.
TONES = {"low": 300, "middle": 900, "high": 2700}
SPOKEN = SAMPLE_RATE // 2  # samples of a word

#: One layer each, two seconds of sound.
TINY = Size(32, 1, 1, 2, n_audio_ctx=100, n_text_ctx=32)


def tone(word: str, *, loudness: float = 0.3) -> np.ndarray:
    """A word's sound, int16."""
    return np.rint(np.sin(np.arange(SPOKEN) * 2 * np.pi * TONES[word] / SAMPLE_RATE) * loudness * 32767).astype(
        np.int16
    )


def said(words: Sequence[str]) -> Utterance:
    """An utterance of these words; its file's name is what is said in it."""
    texts = tuple(Timed(Span(at * SPOKEN, (at + 1) * SPOKEN), word) for at, word in enumerate(words))
    return Utterance(audio=Path(" ".join(words)), span=Span(0, SPOKEN * len(words)), texts=texts)


def read(path: Path, span: Span) -> np.ndarray:
    """The sound of an utterance's file."""
    return np.concatenate([tone(word) for word in str(path).split()])[span.start : span.end]


def lesson() -> Lesson:
    """All pairs of words to learn from, some single ones to listen to."""
    pairs = [said((first, second)) for first in TONES for second in TONES]
    return Lesson(utterances=[*pairs, *(said((word,)) for word in TONES)], held_out=pairs[::2], read=read)


def newborn(folder: Path) -> Checkpoint:
    """A tiny model that knows nothing."""
    return write_newborn(folder, TINY, TONES, n_pairs=300, seed=1)


def training(steps: int, **others: object) -> Training:
    """How it is taught: as `stenopool train` does, but for phonemes and places."""
    feeding = Feeding(batch=8, lengths=((2.0, 1.0),), seed=3, timestamps=0.5, previous=0.0)
    values = {
        "schedule": Schedule(steps=steps, rate=3e-3, warmup=10, optimiser="muon"),
        "feeding": feeding,
        "weights": Weights(blur=1.0),
        "clock": True,
        "keep_every": 20,
        "hear_every": 10_000,
    }
    return Training(**(values | others))  # type: ignore[arg-type]


@dataclass
class Watching:
    """An observer that remembers."""

    def __post_init__(self) -> None:
        self.losses: list[float] = []
        self.went_on: int | None = None

    def resumed(self, step: int, /) -> None:
        self.went_on = step

    def stepped(self, step: int, loss: float, seconds: float, /) -> None:
        self.losses.append(loss)

    def heard(self, step: int, heard: Heard, /) -> None:
        pass
