"""From decoded frames of any rate, sample format and layout to int16 at 16 kHz, sample-exact and streamed.

    frames ─► float32 rows ─► mix ─► libswresample ─► round, clip ─► int16
              in int16's range       one per row, only where the rate differs

libswresample changes the rate only. It is a well-kept filter, but its number of samples out depends on its inner
delay; here the count is computed from the time that went in, and the tail is trimmed or padded to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.plane import AudioPlane

from stenopool.domain import SAMPLE_RATE

Pcm = npt.NDArray[np.int16]
Rows = npt.NDArray[np.float32]

#: FFmpeg's name of a sample format, without the p for planar: numpy's type, and the factor to int16's range.
_FORMATS: dict[str, tuple[np.dtype[Any], float]] = {
    "u8": (np.dtype("u1"), 2.0**8),
    "s16": (np.dtype("i2"), 1.0),
    "s32": (np.dtype("i4"), 2.0**-16),
    "s64": (np.dtype("i8"), 2.0**-48),
    "flt": (np.dtype("f4"), 2.0**15),
    "dbl": (np.dtype("f8"), 2.0**15),
}
#: Samples that are turned at once: so many that calls no longer count, and so few that a core's cache holds them.
_BATCH = 1 << 16

#: Weights of the speakers in a mix to one, as ITU-R BS.775 has them: dialogue sits in the centre, the bass channel
#: carries none. They count only where there is a centre; any other layout is averaged.
_WEIGHTS = {"FC": 1.0, "FL": math.sqrt(0.5), "FR": math.sqrt(0.5), "LFE": 0.0, "LFE2": 0.0}
_SURROUND = 0.5


def mix_weights(speakers: tuple[str, ...]) -> tuple[float, ...]:
    """The share of each channel in the mix to one. They sum to 1, so that the mix cannot clip."""
    raw = [_WEIGHTS.get(name, _SURROUND) if "FC" in speakers else 1.0 for name in speakers]
    return tuple(weight / sum(raw) for weight in raw)


def exact_count(seconds: Fraction) -> int:
    """How many samples at 16 kHz that time is, halves rounded up."""
    return math.floor(seconds * SAMPLE_RATE + Fraction(1, 2))


def rows(frames: list[av.AudioFrame]) -> Rows:
    """The samples of frames of one kind as float32 `[channels, n]`, scaled to int16's range, not clipped to it."""
    kind, factor = _FORMATS[frames[0].format.name.removesuffix("p")]
    channels, planar = frames[0].layout.nb_channels, frames[0].format.is_planar
    n_planes, per_sample = (channels, 1) if planar else (1, channels)
    values = np.empty((n_planes, sum(frame.samples for frame in frames) * per_sample), kind)
    for i, row in enumerate(values):
        # not frame.planes: from 8 planar channels on, PyAV 18 runs past the end of FFmpeg's list of them
        planes: list[Any] = [AudioPlane(frame, i) for frame in frames]
        parts = [
            np.frombuffer(plane, kind, frame.samples * per_sample) for plane, frame in zip(planes, frames, strict=True)
        ]
        np.concatenate(parts, out=row)
    if not planar:
        values = values.reshape(-1, channels).T
    # Broken float sources hold NaN or infinity, which would spread through the filter: to look is cheaper than to clip.
    if kind.kind == "f" and not (values.min() >= -16.0 and values.max() <= 16.0):
        values = np.nan_to_num(np.clip(values, -16.0, 16.0))
    scaled = values.astype(np.float32, copy=False)
    scaled *= np.float32(factor)
    return scaled - np.float32(2.0**15) if kind.kind == "u" else scaled


class Resampler:
    """Turns frames into int16 PCM; `channels` rows come out: the mix where it is 1, the source's channels otherwise."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._batch: list[av.AudioFrame] = []
        self._batched = 0
        #: Format and layout of the frames in the batch, which are alike.
        self._kind = ("", "")
        self._weights: tuple[float, ...] = ()
        self._rate = 0
        self._filters: list[av.AudioResampler] = []
        #: Time of the stretches at earlier rates.
        self._before = Fraction(0)
        #: Samples that went in at the present rate.
        self._taken = 0
        #: Samples that came out, of all stretches.
        self._given = 0

    def push(self, frame: av.AudioFrame) -> list[Pcm]:
        """Take a frame; give what is ready, as `[channels, n]`."""
        ready: list[Pcm] = []
        kind = (frame.format.name, frame.layout.name)
        if frame.sample_rate != self._rate:
            ready += self.finish()
            self._start(frame.sample_rate)
        if kind != self._kind:
            ready += self._run()
            self._kind = kind
            self._weights = mix_weights(tuple(speaker.name for speaker in frame.layout.channels))
        self._batch.append(frame)
        self._batched += frame.samples
        if self._batched >= _BATCH:
            ready += self._run()
        return ready

    def push_silence(self, samples: int, rate: int) -> Iterator[Pcm]:
        """Take that many samples of silence at `rate`; give what is ready."""
        if rate != self._rate:
            yield from self.finish()
            self._start(rate)
        yield from self._run()
        for start in range(0, samples, rate):
            yield self._filter(np.zeros((self._channels, min(rate, samples - start)), np.float32))

    def finish(self) -> list[Pcm]:
        """Give what is still inside, so that the count of all that came out is exact."""
        if not self._rate:
            return []
        ready = self._run()
        due = exact_count(self._before + Fraction(self._taken, self._rate)) - self._given
        tail = np.zeros((self._channels, due), np.int16)
        for row, filter_ in zip(tail, self._filters, strict=bool(self._filters)):
            rest = _joined(filter_.resample(None))[:due]
            row[: len(rest)] = _rounded(rest)
        self._given += due
        self._before += Fraction(self._taken, self._rate)
        self._rate = self._taken = 0
        return [*ready, tail]

    def _start(self, rate: int) -> None:
        self._rate = rate
        self._filters = [
            av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
            for _ in range(self._channels if rate != SAMPLE_RATE else 0)
        ]

    def _run(self) -> list[Pcm]:
        if not self._batch:
            return []
        source = rows(self._batch)
        self._batch, self._batched = [], 0
        return [self._filter(self._mapped(source))]

    def _mapped(self, source: Rows) -> Rows:
        """The source's channels on the rows that are wanted."""
        if self._channels == 1:
            if len(source) == 1:
                return source
            mix = np.zeros((1, source.shape[1]), np.float32)
            for weight, row in zip(self._weights, source, strict=True):
                mix[0] += np.float32(weight) * row
            return mix
        if len(source) == self._channels:
            return source
        # the channel count changed on the way: one channel is heard on all rows, others keep their places
        out = np.zeros((self._channels, source.shape[1]), np.float32)
        out[: len(source)] = source[: self._channels]
        if len(source) == 1:
            out[:] = source
        return out

    def _filter(self, source: Rows) -> Pcm:
        self._taken += source.shape[1]
        if not self._filters:
            self._given += source.shape[1]
            return _rounded(source)
        out = [
            _joined(filter_.resample(_frame(row, self._rate)))
            for row, filter_ in zip(source, self._filters, strict=True)
        ]
        self._given += len(out[0])
        return _rounded(np.stack(out))


def _frame(row: npt.NDArray[np.float32], rate: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(row)[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    return frame


def _joined(frames: list[av.AudioFrame]) -> npt.NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *(frame.to_ndarray()[0] for frame in frames)])


def _rounded(values: npt.NDArray[np.float32]) -> Pcm:
    rounded = np.rint(values)
    return np.clip(rounded, -32_768, 32_767, out=rounded).astype(np.int16)
