"""Voice activity: where there is speech, as a stream beside the decoding of a recording.

Silero VAD v6 (MIT, Silero Team) in the form that takes a whole sequence of frames at once: the convolutions run over
all frames together and only the small recurrent part goes step by step, so that one core hears hundreds of times real
time. Turning probabilities into runs of speech follows Silero's own `get_speech_timestamps` (two thresholds).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stenopool.domain import Span

MODEL = Path(__file__).parent / "silero" / "silero_vad_v6.onnx"

FRAME = 512  # samples: 32 ms, one probability each
_CONTEXT = 64  # samples of the frame before that the model sees as well
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
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        self._h = np.zeros(_STATE, np.float32)
        self._c = np.zeros(_STATE, np.float32)
        self._context = np.zeros(_CONTEXT, np.float32)
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
        frames = (pcm.astype(np.float32) / 32768.0).reshape(-1, FRAME)
        tails = frames[:, -_CONTEXT:]
        before = np.concatenate([self._context[None], tails[:-1]])
        self._context = tails[-1].copy()
        inputs = {"input": np.concatenate([before, frames], axis=1), "h": self._h, "c": self._c}
        heard, self._h, self._c = self._session.run(None, inputs)
        self._heard.append(heard.reshape(-1))
