"""Log-mel features on the device, from int16 PCM.

The definition is openai/whisper's (`whisper/audio.py`, `log_mel_spectrogram`): 25 ms Hann windows every 10 ms, centred
with reflected edges; power spectrum; Slaney mel bands; log10 clamped to 8 below the window's maximum; (x + 4) / 4.
The short-time Fourier transform is a product with a 400 x 201 cosine and sine table: no FFT is faster on an
accelerator at this size, and the table keeps full float32 precision.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from stenopool.domain import SAMPLE_RATE

N_FFT = 400  # samples in a window: 25 ms
HOP_LENGTH = 160  # samples from one frame to the next: 10 ms
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH  # 100
N_FREQS = N_FFT // 2 + 1  # 201

_BLOCK = 80  # samples; the largest length that divides both the window and the hop


@functools.cache
def mel_filters(n_mels: int) -> np.ndarray:
    """Slaney-style triangular mel bands with area normalisation, as `librosa.filters.mel` makes them.

    Returns:
        float32 [n_freqs=201, n_mels].
    """
    # Slaney's scale: linear below 1 kHz (200/3 Hz a mel), logarithmic above.
    linear_hz, mel_1khz, log_step = 200 / 3, 15.0, np.log(6.4) / 27

    def to_mel(hz: float) -> float:
        return hz / linear_hz if hz < 1000 else mel_1khz + float(np.log(hz / 1000)) / log_step

    mels = np.linspace(to_mel(0), to_mel(SAMPLE_RATE / 2), n_mels + 2)
    edges = np.where(mels < mel_1khz, mels * linear_hz, 1000 * np.exp(log_step * (mels - mel_1khz)))
    freqs = np.linspace(0, SAMPLE_RATE / 2, N_FREQS)
    rising = (freqs[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - freqs[:, None]) / (edges[2:] - edges[1:-1])
    bands = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))
    return np.asarray(bands, np.float32)


@functools.cache
def _fourier_table() -> np.ndarray:
    """Windowed cosines and sines, float32 [400, 402]; computed in float64, rounded once."""
    n = np.arange(N_FFT)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / N_FFT)  # periodic, as torch.hann_window
    angle = 2 * np.pi * np.outer(n, np.arange(N_FREQS)) / N_FFT
    table = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * hann[:, None]
    return table.astype(np.float32)


def log_mel(pcm: Array, n_mels: int) -> Array:
    """Log-mel features of whole windows.

    Args:
        pcm: int16 [batch, samples], padded with zeros to the window; `samples` a multiple of 160.
        n_mels: 80, or 128 for large-v3 and its children.

    Returns:
        float32 [batch, frames=samples/160, n_mels].
    """
    sound = pcm.astype(jnp.float32) / 32768.0
    sound = jnp.pad(sound, ((0, 0), (N_FFT // 2, N_FFT // 2)), mode="reflect")
    # Frames without a gather: frame t is blocks 2t .. 2t+4 of 80 samples.
    # In:  blocks [b0 b1 b2 b3 b4 b5 b6 ...]
    # Out: frame 0 = b0..b4, frame 1 = b2..b6, ...
    n_frames = pcm.shape[1] // HOP_LENGTH
    blocks = sound.reshape(sound.shape[0], -1, _BLOCK)
    frames = jnp.concatenate([blocks[:, i : i + 2 * n_frames : 2] for i in range(N_FFT // _BLOCK)], axis=-1)
    precise = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    spectrum = precise(frames, _fourier_table())
    power = spectrum[..., :N_FREQS] ** 2 + spectrum[..., N_FREQS:] ** 2
    logs = jnp.log10(jnp.maximum(precise(power, mel_filters(n_mels)), 1e-10))
    loudest = jnp.max(logs, axis=(1, 2), keepdims=True)
    return (jnp.maximum(logs, loudest - 8.0) + 4.0) / 4.0
