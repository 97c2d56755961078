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
        self._h = np.zeros(_STATE, np.float32)
        self._c = np.zeros(_STATE, np.float32)
        self._context = np.zeros(_CONTEXT, np.int16)
        self._rest = np.zeros(0, np.int16)  # samples that do not fill a frame yet
        self._heard: list[np.ndarray] = []
        self._samples = 0

    def feed(self, pcm: np.ndarray) -> None:
        """Hear the next int16 [samples]."""
        self._samples += len(pcm)
        sound = np.concatenate([self._rest, pcm])
        whole = len(sound) // FRAME * FRAME
        self._rest = sound[whole:]
        if whole:
            self._hear(sound[:whole])

    def finish(self) -> SpeechActivity:
        """Hear what is left, padded with silence, and return everything."""
        if len(self._rest):
            self._hear(np.pad(self._rest, (0, FRAME - len(self._rest))))
            self._rest = self._rest[:0]
        probabilities = np.concatenate(self._heard) if self._heard else np.zeros(0, np.float32)
        return SpeechActivity(probabilities, self._samples)

    def _hear(self, pcm: np.ndarray) -> None:
        frames = pcm.reshape(-1, FRAME)
        inputs = {**_folded(frames, self._context), "h": self._h, "c": self._c}
        heard, self._h, self._c = self._session.run(None, inputs)
        self._context = frames[-1, -_CONTEXT:]
        self._heard.append(heard.reshape(-1))


@cache
def _session() -> InferenceSession:
    """The model. It holds nothing of what it hears, so that one is enough for all, and for all threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])


def _folded(frames: np.ndarray, context: np.ndarray) -> dict[str, np.ndarray]:
    """The windows of int16 [frame, 512], folded: float32 [place, frame, 64] for each input of the model.

    A window's sample n from 1 to 128 meets sample 256 - n, in a sum and a difference; odd and even n apart.
    """
    # Each frame with the end of the one before it, and its own end once more, backwards.
    sound = np.empty((len(frames), _CONTEXT + FRAME + _CONTEXT), np.float32)
    sound[0, :_CONTEXT] = context
    sound[1:, :_CONTEXT] = frames[:-1, -_CONTEXT:]
    sound[:, _CONTEXT:-_CONTEXT] = frames
    sound[:, -_CONTEXT:] = frames[:, -2 : -2 - _CONTEXT : -1]
    row, sample = sound.strides
    shape = (_PLACES, len(frames), _WINDOW)
    windows = np.lib.stride_tricks.as_strided(sound, shape, (_HOP * sample, row, sample), writeable=False)
    rising, falling = windows[..., 1 : _HOP + 1], windows[..., : _HOP - 1 : -1]
    return {
        f"{name}.{kind}": fold(rising[..., first::2], falling[..., first::2])
        for name, fold in (("sums", np.add), ("differences", np.subtract))
        for first, kind in enumerate(("odd", "even"))
    }
