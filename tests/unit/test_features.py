"""Log-mel features; their numbers against openai/whisper's are in tests/parity."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.features import HOP_LENGTH, N_FFT, log_mel, mel_filters
from models.tokens import quiet_transformers

SILENCE = (-10 + 4) / 4  # log10 of the floor 1e-10, scaled


def sine(hz: float, seconds: float = 1.0, amplitude: int = 16_000) -> np.ndarray:
    """int16 [samples]; `hz` a multiple of 40 is a bin of the transform."""
    t = np.arange(round(seconds * 16_000)) / 16_000
    wave = amplitude * np.sin(2 * np.pi * hz * t)
    return np.asarray(np.rint(wave), np.int16)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_mel_filters_are_the_fields(n_mels: int) -> None:
    """The bands are those of transformers (and librosa), Slaney's scale and normalisation."""
    quiet_transformers()
    from transformers.audio_utils import mel_filter_bank

    theirs = mel_filter_bank(
        num_frequency_bins=201,
        num_mel_filters=n_mels,
        min_frequency=0.0,
        max_frequency=8000.0,
        sampling_rate=16_000,
        norm="slaney",
        mel_scale="slaney",
    )

    assert mel_filters(n_mels).shape == theirs.shape == (201, n_mels)
    np.testing.assert_allclose(mel_filters(n_mels), theirs, atol=1e-6)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_mel_bands_are_triangles(n_mels: int) -> None:
    """Every band hears something, rises to one peak and falls; the peaks ascend; 0 Hz and 8 kHz belong to none."""
    filters = mel_filters(n_mels)
    peaks = filters.argmax(axis=0)

    assert filters.dtype == np.float32
    assert (filters >= 0).all()
    assert (filters.max(axis=0) > 0).all()
    assert (np.diff(peaks) >= 0).all()
    for band, peak in zip(filters.T, peaks, strict=True):
        assert (np.diff(band[: peak + 1]) >= 0).all()
        assert (np.diff(band[peak:]) <= 0).all()
    assert not filters[[0, 200]].any()


def test_frames_are_every_ten_milliseconds() -> None:
    """A second is 100 frames of each row of the batch."""
    pcm = jnp.asarray(np.stack([sine(440), sine(880)]))

    features = log_mel(pcm, 80)

    assert features.shape == (2, 100, 80)
    assert features.dtype == jnp.float32


def test_silence_is_the_floor() -> None:
    """Nothing is heard as the smallest value, everywhere."""
    assert np.unique(log_mel(jnp.zeros((1, 4800), jnp.int16), 80)).tolist() == [SILENCE]


def test_a_tone_is_in_its_band() -> None:
    """The loudest band of a sine is the one around its frequency."""
    for hz in (320, 1000, 3000):
        loudest = np.asarray(log_mel(jnp.asarray(sine(hz))[None], 80))[0, 10:90].argmax(axis=-1)
        nearest = mel_filters(80)[round(hz / 40)].argmax()

        assert np.unique(loudest).tolist() == [nearest]


def test_rows_do_not_hear_each_other() -> None:
    """Loudness is clamped 8 powers of ten below the row's own maximum, not the batch's."""
    silence = np.zeros(8000, np.int16)
    loud, quiet = (np.concatenate([sine(1000, amplitude=amplitude), silence]) for amplitude in (16_000, 2_000))
    both = log_mel(jnp.asarray(np.stack([loud, quiet])), 80)

    np.testing.assert_allclose(both[1], log_mel(jnp.asarray(quiet)[None], 80)[0], atol=1e-6)
    assert [float(row.max() - row.min()) for row in both] == pytest.approx([8 / 4, 8 / 4], abs=1e-6)
    assert float(both[0].max() - both[1].max()) == pytest.approx(np.log10(8**2) / 4, abs=1e-3)


def test_a_click_is_in_the_frames_around_it() -> None:
    """Windows of 25 ms are centred on their frames: a click is heard 12.5 ms to either side."""
    pcm = np.zeros(8000, np.int16)
    at = 20 * HOP_LENGTH
    pcm[at] = 30_000

    heard = np.flatnonzero(np.asarray(log_mel(jnp.asarray(pcm)[None], 80))[0].max(axis=-1) > SILENCE + 1)

    assert heard.tolist() == [19, 20, 21]
    assert N_FFT // 2 // HOP_LENGTH == 1


def test_edges_are_reflected() -> None:
    """Sound that is symmetric about the first sample has no edge there: a cosine is as loud at once as later."""
    t = np.arange(16_000) / 16_000
    cosine = np.rint(16_000 * np.cos(2 * np.pi * 400 * t)).astype(np.int16)
    band = mel_filters(80)[10].argmax()

    features = np.asarray(jax.jit(log_mel, static_argnums=1)(jnp.asarray(cosine)[None], 80))[0, :, band]

    np.testing.assert_allclose(features[:50], features[50], atol=1e-3)
