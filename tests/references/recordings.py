"""The bundled sample as samples, for scripts that run in an environment without Stenopool."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "meeting.mp3"
RATE = 16_000  # samples per second
WINDOW = 30 * RATE  # samples that the model hears at once


def decode(path: Path = SAMPLE) -> np.ndarray:
    """int16 at 16 kHz, channels mixed."""
    resampler = av.AudioResampler("s16", "mono", RATE)
    with av.open(str(path)) as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def as_float(pcm: np.ndarray) -> np.ndarray:
    """float32 from -1 to 1."""
    return pcm.astype(np.float32) / 32768
