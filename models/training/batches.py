"""Batches: windows as arrays of few shapes, made ahead by threads, the same ones whenever training goes on from a step.

What step 812 learns from follows from the seed and from where its stream of windows stands (`Cursor`), never from the
time or from another thread: whoever resumes hears what the undisturbed run would have heard.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.features import HOP_LENGTH
from models.tokens import Vocabulary
from models.training.augment import Augmentation, holes, noise, place, resampled, to_int16, voice
from models.training.windows import Kind, Packing, Utterance, Window, Written, cost, packed, written
from models.whisper.dims import ModelDimensions
from stenopool.domain import Span
from stenopool.errors import UsageError

#: Samples of a stretch of a file, int16.
Read = Callable[[Path, Span], np.ndarray]

#: numpy's on the host, JAX's on the device.
Numbers = Any

AHEAD = 2  # batches of each thread that are made while the device computes
IGNORED = -1  # a target that is not asked for


class Batch(NamedTuple):
    """What one step learns from. A: parts that follow each other; B: windows of a part; T: 20 ms positions."""

    pcm: Numbers  # int16 [A, B, samples]
    #: True where features are taken away.
    no_times: Numbers  # bool [A, B, 2 T]
    no_bands: Numbers  # bool [A, B, n_mels]
    #: The encoder's first position: windows shorter than the model's are learnt at all of them.
    offset: Numbers  # int32 [A, B]
    tokens: Numbers  # int32 [A, B, length]
    targets: Numbers  # int32 [A, B, length]; IGNORED where nothing is asked
    #: Of each target.
    times: Numbers  # float32 [A, B, length]; -1 where there is none
    #: 0 is none.
    phonemes: Numbers  # int32 [A, B, n]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeding:
    """How utterances become batches."""

    #: Windows of a step that has windows of the model's length; of shorter ones there are more.
    batch: int
    #: Parts that a step is computed in, one after the other.
    accumulate: int = 1
    #: Seconds of windows, and how often there are such: [(30, 1.0)] is the model's own.
    lengths: tuple[tuple[float, float], ...] = ((30.0, 1.0),)
    seed: int = 0
    #: Share of windows whose times are learnt.
    timestamps: float = 0.5
    #: Share of windows that are told the text before.
    previous: float = 0.3
    quiet: float = 0.03
    #: Share of tokens that are told wrong: who cannot trust what was written has to listen.
    confusion: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)


#: Where a stream of windows stands: its epoch, and the windows of it that are used.
Cursor = dict[str, list[int]]


class Batches:
    """Batches without end.

    Args:
        utterances: what to learn from.
        read: a file's samples.
        vocabulary: of the model.
        dims: of the model.
        feeding: how.
        step: the next to be made.
        cursor: where its windows stand, as it was yielded with the step before.
        threads: that make them; None for as many as there are cores.

    Raises:
        UsageError: no utterance fits into any window.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        read: Read,
        vocabulary: Vocabulary,
        dims: ModelDimensions,
        feeding: Feeding,
        *,
        step: int = 0,
        cursor: Cursor | None = None,
        threads: int | None = None,
    ) -> None:
        self._utterances = utterances
        self._read = read
        self._vocabulary = vocabulary
        self._dims = dims
        self._feeding = feeding
        self._step = step
        self._cursor: Cursor = {name: list(at) for name, at in (cursor or {}).items()}
        self._lengths = [len(one.span) for one in utterances]
        self._costs = [cost(one, vocabulary) for one in utterances]
        self._windows: dict[str, tuple[int, list[Window]]] = {}
        threads = threads or os.cpu_count() or 1
        self._ahead = AHEAD * threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="batches")
        self._symbols = symbols_of(utterances)
        self._samples = [min(round(seconds * 50) * 2 * HOP_LENGTH, dims.window) for seconds, _ in feeding.lengths]
        shares = np.array([share for _, share in feeding.lengths], float)
        self._shares = shares / shares.sum()
        for samples in self._samples:
            if not any(map(self._fits(samples), range(len(utterances)))):
                raise UsageError(
                    f"nothing to learn from fits into a window of {samples / 16_000:g} s; give texts with times"
                )

    def _fits(self, samples: int) -> Callable[[int], bool]:
        return lambda index: self._lengths[index] <= samples and self._costs[index] <= self._packing(samples).room

    def _packing(self, samples: int) -> Packing:
        half = self._dims.n_text_ctx // 2
        return Packing(
            window=samples, room=half - 8, speeds=self._feeding.augmentation.speeds, quiet=self._feeding.quiet
        )

    def __iter__(self) -> Iterator[tuple[Batch, Cursor]]:
        """Each batch, with where the windows stand after it."""
        waiting: deque[tuple[Future[Batch], Cursor]] = deque()
        try:
            while True:
                while len(waiting) < self._ahead:
                    samples, rows = self._plan()
                    after = {name: list(at) for name, at in self._cursor.items()}
                    waiting.append((self._pool.submit(self._made, self._step, samples, rows), after))
                    self._step += 1
                batch, after = waiting.popleft()
                yield batch.result(), after
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _plan(self) -> tuple[int, list[tuple[int, int, Window]]]:
        """The length of this step's windows, and which they are: epoch, number, window."""
        rng = np.random.default_rng([self._feeding.seed, 1, self._step])
        samples = self._samples[int(rng.choice(len(self._samples), p=self._shares))]
        n = self._feeding.batch * max(1, round(self._dims.window / samples))
        return samples, [self._next(samples) for _ in range(n * self._feeding.accumulate)]

    def _next(self, samples: int) -> tuple[int, int, Window]:
        name = str(samples)
        at = self._cursor.setdefault(name, [0, 0])
        epoch, windows = self._windows.get(name, (-1, []))
        if epoch != at[0]:
            windows = self._epoch(samples, at[0])
        elif at[1] >= len(windows):
            at[0], at[1] = at[0] + 1, 0
            windows = self._epoch(samples, at[0])
        number = at[1]
        at[1] += 1
        return at[0], number, windows[number % len(windows)]

    def _epoch(self, samples: int, epoch: int) -> list[Window]:
        rng = np.random.default_rng([self._feeding.seed, 2, samples, epoch])
        windows = packed(self._lengths, self._costs, self._packing(samples), rng)
        self._windows[str(samples)] = (epoch, windows)
        return windows

    def _made(self, step: int, samples: int, rows: Sequence[tuple[int, int, Window]]) -> Batch:
        feeding, dims = self._feeding, self._dims
        sounds, texts, masks, phonemes, offsets = [], [], [], [], []
        for epoch, number, window in rows:
            rng = np.random.default_rng([feeding.seed, 3, samples, epoch, number])
            sounds.append(self._sound(window, samples, rng))
            positions = samples // (2 * HOP_LENGTH)
            offsets.append(int(rng.integers(0, dims.n_audio_ctx - positions + 1)) if rng.random() < 0.5 else 0)
            texts.append(self._text(window, offsets[-1], rng))
            masks.append(self._holes(samples // HOP_LENGTH, rng))
            phonemes.append([number for one in window.placed for number in self._spelt(one.utterance)])
        rng = np.random.default_rng([feeding.seed, 4, step])
        tokens, targets, times = self._padded(texts, rng)
        spelt = np.zeros((len(rows), samples // (2 * HOP_LENGTH) * 2 // 5), np.int32)  # nobody says 20 in a second
        for row, one in zip(spelt, phonemes, strict=True):
            if len(one) <= len(row):
                row[: len(one)] = one
        arrays = (
            np.stack(sounds),
            np.stack([times for times, _ in masks]),
            np.stack([bands for _, bands in masks]),
            np.array(offsets, np.int32),
            tokens,
            targets,
            times,
            spelt,
        )
        return Batch(*(one.reshape(feeding.accumulate, -1, *one.shape[1:]) for one in arrays))

    def _sound(self, window: Window, samples: int, rng: np.random.Generator) -> np.ndarray:
        how = self._feeding.augmentation
        if window.kind is Kind.SILENCE:
            return np.zeros(samples, np.int16)
        if window.kind is Kind.NOISE:
            loudness = 10 ** rng.uniform(-4, -1)
            return to_int16(noise(rng, samples, float(rng.uniform(0, 2))) * loudness)
        sound = np.zeros(samples, np.float32)
        for one in window.placed:
            utterance = self._utterances[one.utterance]
            said = self._read(utterance.audio, utterance.span).astype(np.float32) / 32768.0
            said = voice(resampled(said, one.speed), rng, how)[: samples - one.start]
            sound[one.start : one.start + len(said)] = said
        return to_int16(place(sound, rng, how))

    def _text(self, window: Window, offset: int, rng: np.random.Generator) -> Written:
        feeding = self._feeding
        told = self._dims.n_text_ctx // 2 - 1
        return written(
            window,
            self._utterances,
            self._vocabulary,
            timestamps=bool(rng.random() < feeding.timestamps),
            previous=told if rng.random() < feeding.previous else 0,
            offset=offset,
        )

    def _holes(self, n_frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        how, n_mels = self._feeding.augmentation, self._dims.n_mels
        if rng.random() < how.masking:
            return holes(rng, n_frames, n_mels, how)
        return np.zeros(n_frames, bool), np.zeros(n_mels, bool)

    def _spelt(self, utterance: int) -> list[int]:
        """Phonemes as numbers, with a space before each utterance."""
        text = self._utterances[utterance].phonemes
        return [self._symbols[one] for one in f" {text}"] if text else []

    def _padded(self, texts: Sequence[Written], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        special = self._vocabulary.special
        length = _rounded(max(len(one.tokens) for one in texts) - 1, self._dims.n_text_ctx)
        tokens = np.full((len(texts), length), special.end_of_text, np.int32)
        targets = np.full((len(texts), length), IGNORED, np.int32)
        times = np.full((len(texts), length), -1.0, np.float32)
        for row, one in enumerate(texts):
            n = len(one.tokens) - 1
            tokens[row, :n] = one.tokens[:-1]
            targets[row, one.first - 1 : n] = one.tokens[one.first :]
            times[row, :n] = one.times[1:]
        wrong = (rng.random(tokens.shape) < self._feeding.confusion) & (tokens < special.end_of_text)
        return (
            np.where(wrong, rng.integers(0, special.end_of_text, tokens.shape), tokens).astype(np.int32),
            targets,
            times,
        )


def symbols_of(utterances: Sequence[Utterance]) -> dict[str, int]:
    """A number from 1 for each sign of the phonemes; the space is one where there are any."""
    signs = sorted({sign for one in utterances for sign in one.phonemes} | {" "})
    return {sign: number for number, sign in enumerate(signs, start=1)} if len(signs) > 1 else {}


def _rounded(length: int, most: int) -> int:
    """One of four lengths, none below 32: each is a program to be compiled."""
    quarter = max(32, -(-most // 4))
    return min(most, max(1, -(-length // quarter)) * quarter)
