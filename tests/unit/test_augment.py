"""Augmentation: what it does to a tone, a click, a silence."""

from __future__ import annotations

import numpy as np
import pytest

from models.training.augment import Augmentation, holes, noise, noisy, pitched, resampled, reverberant, to_int16
from stenopool.domain import SAMPLE_RATE


def _tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def _pitch(sound: np.ndarray) -> float:
    """The strongest frequency, in hertz."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.argmax(spectrum) * SAMPLE_RATE / len(sound))


def _decibels(ratio: float) -> float:
    return float(10 * np.log10(ratio))


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.5])
def test_faster_is_shorter_and_higher(factor: float) -> None:
    faster = resampled(_tone(440), factor)

    assert len(faster) == round(SAMPLE_RATE / factor)
    assert _pitch(faster) == pytest.approx(440 * factor, rel=0.01)
    assert np.std(faster) == pytest.approx(np.std(_tone(440)), rel=0.02)


def test_what_becomes_too_high_is_gone_and_does_not_fold_back() -> None:
    assert np.std(resampled(_tone(7000), 1.5)) < 0.01


@pytest.mark.parametrize("semitones", [-3.0, -1.0, 2.0, 4.0])
def test_higher_is_as_long(semitones: float) -> None:
    higher = pitched(_tone(440), semitones)

    assert len(higher) == SAMPLE_RATE
    assert _pitch(higher) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.02)


def test_a_click_stays_where_it_is_when_the_pitch_changes() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[8000:8080] = 0.9
    moved = int(np.argmax(np.abs(pitched(click, 3.0))))

    assert abs(moved - 8040) < 0.03 * SAMPLE_RATE


@pytest.mark.parametrize("snr", [0.0, 10.0, 30.0])
def test_noise_is_as_loud_as_it_is_asked_for(snr: float) -> None:
    tone = _tone(440)
    added = noisy(tone, np.random.default_rng(1), snr) - tone

    assert _decibels(np.mean(tone**2) / np.mean(added**2)) == pytest.approx(snr, abs=0.1)


def test_silence_stays_silent() -> None:
    quiet = np.zeros(SAMPLE_RATE, np.float32)
    rng = np.random.default_rng(1)

    assert not noisy(quiet, rng, 10.0).any()
    assert not reverberant(quiet, rng, 0.3).any()


def test_pink_noise_falls_by_three_decibels_an_octave() -> None:
    spectrum = np.abs(np.fft.rfft(noise(np.random.default_rng(1), 1 << 17, 1.0))) ** 2
    octave, next_octave = spectrum[1000:2000].mean(), spectrum[2000:4000].mean()

    assert _decibels(octave / next_octave) == pytest.approx(3.0, abs=0.5)


def test_a_room_rings_after_a_click_and_falls_silent_in_time() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[0] = 1.0
    ringing = reverberant(click, np.random.default_rng(1), 0.4)

    assert len(ringing) == len(click)
    assert np.sum(ringing**2) == pytest.approx(1.0, rel=1e-4)
    early, late = (np.mean(ringing[at : at + 800] ** 2) for at in (800, 4000))
    assert _decibels(early / late) == pytest.approx(60 * 3200 / (0.4 * SAMPLE_RATE), abs=3)
    assert np.abs(ringing[6500:]).max() < 1e-6


def test_holes_are_no_wider_than_they_may_be() -> None:
    how = Augmentation(bands=10, frames=12)
    for seed in range(50):
        times, bands = holes(np.random.default_rng(seed), 3000, 80, how)
        assert times.shape == (3000,)
        assert bands.sum() <= 2 * 10
        assert times.sum() <= 7 * 12


def test_the_same_seed_does_the_same() -> None:
    one, other = (noisy(_tone(440), np.random.default_rng(5), 10) for _ in range(2))

    np.testing.assert_array_equal(one, other)


def test_what_is_too_loud_is_cut_off() -> None:
    assert to_int16(np.array([-2.0, 0.0, 0.5, 2.0])).tolist() == [-32768, 0, 16384, 32767]
