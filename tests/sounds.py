"""Test media made on the fly with PyAV: a tone, and any container or codec that FFmpeg's wheel can write.

And media read back without our own decoder: the tests' second opinion.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

#: The bundled recording.
SAMPLE = Path(__file__).parents[1] / "samples" / "meeting.mp3"

#: What FFmpeg's encoders take, from the dtype of the samples given.
_FORMATS = {"uint8": "u8", "int16": "s16", "int32": "s32", "float32": "flt", "float64": "dbl"}

#: The encoder for a file name's suffix, where the container's own default is not what a person would expect.
_ENCODERS = {
    ".aac": "aac",
    ".ac3": "ac3",
    ".aiff": "pcm_s16be",
    ".avi": "libmp3lame",
    ".caf": "pcm_s16le",
    ".flac": "flac",
    ".flv": "libmp3lame",
    ".m4a": "aac",
    ".mka": "libopus",
    ".mkv": "libopus",
    ".mov": "aac",
    ".mp2": "mp2",
    ".mp3": "libmp3lame",
    ".mp4": "aac",
    ".ogg": "vorbis",
    ".opus": "libopus",
    ".ts": "aac",
    ".wav": "pcm_s16le",
    ".webm": "libopus",
    ".wma": "wmav2",
    ".wv": "wavpack",
}

_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 6: "5.1", 8: "7.1"}


def tone(seconds: float, *, rate: int = 16_000, hz: float = 440.0, amplitude: float = 0.5) -> npt.NDArray[np.int16]:
    """A sine as int16 `[n]`, beginning at phase 0."""
    t = np.arange(round(seconds * rate)) / rate
    return np.rint(32767 * amplitude * np.sin(2 * math.pi * hz * t)).astype(np.int16)


def beep(
    seconds: float, *, at: float, length: float = 0.5, rate: int = 16_000, hz: float = 1000.0
) -> npt.NDArray[np.int16]:
    """Silence as int16 `[n]` with one tone of `length` seconds that begins at second `at`."""
    sound = np.zeros(round(seconds * rate), np.int16)
    burst = tone(length, rate=rate, hz=hz)
    start = round(at * rate)
    sound[start : start + len(burst)] = burst
    return sound


def noise(seconds: float, *, rate: int = 16_000, channels: int = 1, seed: int = 0) -> npt.NDArray[np.int16]:
    """White noise as int16 `[channels, n]`, the same for the same seed."""
    shape = (channels, round(seconds * rate))
    return np.random.default_rng(seed).integers(-12_000, 12_000, shape, dtype=np.int16)


def read(path: Path) -> npt.NDArray[np.int16]:
    """A file as int16 `[n]` at 16 kHz, channels mixed."""
    resampler = av.AudioResampler("s16", "mono", 16_000)
    with av.open(str(path)) as source:
        frames = [*source.decode(audio=0), None]
        return np.concatenate([piece.to_ndarray()[0] for frame in frames for piece in resampler.resample(frame)])


def write(
    path: Path,
    samples: npt.NDArray[Any],
    *,
    rate: int = 16_000,
    encoder: str | None = None,
    layout: str | None = None,
    container: str | None = None,
    bit_rate: int | None = None,
    video: float | None = None,
    audio_from: float = 0.0,
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write `samples` (`[n]` or `[channels, n]`; int16, int32, uint8 or float) and return `path`.

    The suffix chooses container and encoder unless they are given. `video` adds a picture track of that many
    seconds before the sound; `audio_from` lets the sound begin later on the time line, in seconds.
    """
    samples = np.atleast_2d(samples)
    layout = layout or _LAYOUTS[len(samples)]
    with av.open(str(path), "w", format=container, container_options=options or {}) as out:
        out.metadata.update(metadata or {})
        picture = out.add_stream("mpeg4", rate=10) if video is not None else None
        sound: Any = out.add_stream(encoder or _ENCODERS[path.suffix], rate=rate)
        sound.layout = layout
        format_ = _FORMATS[samples.dtype.name]
        known = {known.name for known in sound.codec_context.codec.audio_formats or ()}
        sound.format = next((name for name in (format_, format_ + "p") if name in known), sound.format.name)
        if bit_rate or path.suffix == ".wma":  # FFmpeg's WMA encoder has no default
            sound.bit_rate = bit_rate or 128_000
        if path.suffix == ".ogg":  # FFmpeg calls its own Vorbis encoder experimental
            sound.options = {"strict": "experimental"}
        if picture is not None:
            picture.width = picture.height = 32
            picture.pix_fmt = "yuv420p"
            for i in range(round((video or 0) * 10)):
                image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), i % 256, np.uint8), format="rgb24")
                image.pts = i
                out.mux(picture.encode(image))
            out.mux(picture.encode(None))
        for start in range(0, samples.shape[1], rate):
            piece = samples[:, start : start + rate]
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(piece.T).reshape(1, -1), format=format_, layout=layout
            )
            frame.sample_rate = rate
            frame.time_base = Fraction(1, rate)
            frame.pts = start + round(audio_from * rate)
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return path
