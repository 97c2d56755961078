"""Voice activity: where there is speech, as a stream beside the decoding of a recording.

Silero VAD v6 (MIT, Silero Team) in the form that takes a whole sequence of frames at once: the convolutions run over
all frames together and only the small recurrent part goes step by step, so that one core hears hundreds of times real
time. The windows of its spectrum are given folded in the middle, which leaves a quarter of the spectrum's products
(`tests/references/make_vad_model.py`). Turning probabilities into runs of speech follows Silero's own
`get_speech_timestamps` (two thresholds).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stenopool.domain import Span

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MODEL = Path(__file__).parent / "silero" / "silero_vad_v6.onnx"

FRAME = 512  # samples: 32 ms, one probability each
_CONTEXT = 64  # samples of the frame before that the model sees as well
_HOP, _WINDOW = 128, 256  # samples between the windows of the model's spectrum, and of each
_PLACES = 4  # windows per frame
_STATE = (1, 1, 128)

#: Frames that are heard at once. What the products of these need stays in a core's own cache.
_ROUND = 128
_HALF = (_PLACES, _ROUND, _HOP // 2)

#: Speech begins at this probability ...
ENTER = 0.5
#: ... and lasts while it stays above this one.
LEAVE = 0.35
#: Frames: a shorter dip does not end a run. 96 ms is a stop consonant, not a pause.
MIN_PAUSE = 3


@dataclass(frozen=True)
class SpeechActivity:
    """Speech probabilities of a whole recording."""

    #: float32 [frame], one per 512 samples; the last frame may reach beyond the end.
    probabilities: np.ndarray
    #: Samples.
    duration: int

    def runs(self) -> Iterator[tuple[Span, float]]:
        """Runs of speech in order, with their mean probability; pauses between them are at least 96 ms."""
        frames = self.probabilities
        starts = frames >= ENTER
        ends = frames < LEAVE
        first = last = -1  # first and last frame of speech in the current run
        for i in np.flatnonzero(starts | ~ends):
            if first >= 0 and i - last > MIN_PAUSE:
                yield self._run(first, last)
                first = -1
            if first < 0 and not starts[i]:
                continue  # between the thresholds: goes on with a run, does not begin one
            first = int(i) if first < 0 else first
            last = int(i)
        if first >= 0:
            yield self._run(first, last)

    def _run(self, first: int, last: int) -> tuple[Span, float]:
        span = Span(first * FRAME, min((last + 1) * FRAME, self.duration))
        return span, float(self.probabilities[first : last + 1].mean())

    def peak(self, span: Span) -> float:
        """The highest probability inside a span, 0 where it holds no frame."""
        inside = self.probabilities[span.start // FRAME : -(-span.end // FRAME)]
        return float(inside.max()) if len(inside) else 0.0


class SpeechDetector:
    """Hears a recording block by block; memory grows by 4 bytes per 32 ms."""

    def __init__(self) -> None:
        self._session = _session()
        self._windows = _Windows()
        self._h = np.zeros(_STATE, np.float32)
        self._c = np.zeros(_STATE, np.float32)
        self._round = np.zeros((_ROUND, FRAME), np.int16)
        self._waiting = 0  # samples that are in the round so far
        self._heard: list[np.ndarray] = []
        self._samples = 0

    def feed(self, pcm: np.ndarray) -> None:
        """Hear the next int16 [samples]; less than a round of them waits for the next ones."""
        self._samples += len(pcm)
        waiting = self._round.reshape(-1)
        while len(pcm):
            part = pcm[: len(waiting) - self._waiting]
            waiting[self._waiting : self._waiting + len(part)] = part
            self._waiting += len(part)
            if self._waiting == len(waiting):
                self._hear(self._round)
            pcm = pcm[len(part) :]

    def finish(self) -> SpeechActivity:
        """Hear what is left, padded with silence, and return everything."""
        if self._waiting:
            frames = -(-self._waiting // FRAME)
            self._round.reshape(-1)[self._waiting : frames * FRAME] = 0
            self._hear(self._round[:frames])
        probabilities = np.concatenate(self._heard) if self._heard else np.zeros(0, np.float32)
        return SpeechActivity(probabilities, self._samples)

    def _hear(self, frames: np.ndarray) -> None:
        inputs = {**self._windows.folded(frames), "h": self._h, "c": self._c}
        heard, self._h, self._c = self._session.run(None, inputs)
        self._heard.append(heard.reshape(-1))
        self._waiting = 0


@cache
def _session() -> InferenceSession:
    """The model. It holds nothing of what it hears, so that one is enough for all, and for all threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])


class _Windows:
    """Folds windows, in memory of its own: to be given pages anew for each round took as long as a third of hearing it.

    A window's sample n from 1 to 128 meets sample 256 - n, in a sum and a difference; odd and even n apart.
    """

    def __init__(self) -> None:
        #: Each frame with the end of the one before it, and its own end once more, backwards.
        self._sound = np.zeros((_ROUND, _CONTEXT + FRAME + _CONTEXT), np.float32)
        self._end = np.zeros(_CONTEXT, np.float32)  # of the last frame of the round before
        row, sample = self._sound.strides
        shape, steps = (_PLACES, _ROUND, _WINDOW), (_HOP * sample, row, sample)
        windows = np.lib.stride_tricks.as_strided(self._sound, shape, steps, writeable=False)
        rising, falling = windows[..., 1 : _HOP + 1], windows[..., : _HOP - 1 : -1]
        #: By the name of the model's input: what makes it, of what, and where it goes.
        self._folds = {
            f"{name}.{kind}": (fold, rising[..., first::2], falling[..., first::2], np.empty(_HALF, np.float32))
            for name, fold in (("sums", np.add), ("differences", np.subtract))
            for first, kind in enumerate(("odd", "even"))
        }

    def folded(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """int16 [frame, 512] as the model's inputs: float32 [place, frame, 64] each, good until the next call."""
        n, sound = len(frames), self._sound[: len(frames)]
        sound[0, :_CONTEXT] = self._end
        sound[1:, :_CONTEXT] = frames[:-1, -_CONTEXT:]
        sound[:, _CONTEXT:-_CONTEXT] = frames
        sound[:, -_CONTEXT:] = frames[:, -2 : -2 - _CONTEXT : -1]
        self._end[:] = frames[-1, -_CONTEXT:]
        return {
            name: fold(rising[:, :n], falling[:, :n], out=half[:, :n])
            for name, (fold, rising, falling, half) in self._folds.items()
        }
