"""Augmentation: the same sentence faster, higher, in noise, in a hall, with holes. Pure functions on numpy arrays.

Sound is float32 [samples] at 16 kHz, -1 to 1. What is random comes from the generator that is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from stenopool.domain import SAMPLE_RATE

_FFT = 512  # samples in a window of the vocoder: 32 ms
_HOP = _FFT // 4
#: Of the ratio that stands for a factor, the largest denominator.
_FINE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How often each is done, 0 to 1, and how much. The defaults do nothing."""

    #: Faster or slower, the pitch with it: one of these factors.
    speeds: tuple[float, ...] = (1.0,)
    #: Higher or lower by up to so many semitones, as fast as before.
    pitch: float = 0.0
    semitones: float = 2.0
    #: Noise between so many decibels below the speech.
    noise: float = 0.0
    snr: tuple[float, float] = (10.0, 40.0)
    #: A room, whose sound falls by 60 dB in up to so many seconds.
    reverberation: float = 0.0
    decay: float = 0.6
    #: Bands and times of the features that are taken away (SpecAugment, Park et al. 2019).
    masking: float = 0.0
    #: The widest of them, in mels and in frames of 10 ms.
    bands: int = 10
    frames: int = 12


def resampled(sound: np.ndarray, factor: float) -> np.ndarray:
    """As if played `factor` times as fast, to a ten-thousandth; band-limited, so that nothing folds back."""
    length = stretched(len(sound), factor)
    if length == len(sound):
        return sound
    ratio = Fraction(factor).limit_denominator(_FINE)
    parts = _smooth(-(-len(sound) // ratio.numerator))
    n, m = parts * ratio.numerator, parts * ratio.denominator
    spectrum = np.fft.rfft(sound, n)[: m // 2 + 1]
    faster = np.fft.irfft(spectrum, m)[:length] * np.float32(m / n)
    return np.pad(faster, (0, length - len(faster)))  # where the ratio is a little more than the factor


@lru_cache(4096)
def _smooth(n: int) -> int:
    """The least number from n on without a prime factor above 5: transforms of others take several times as long."""
    best = 1 << (n - 1).bit_length()
    fives = 1
    while fives < best:
        product = fives
        while product < best:
            best = min(best, product << (-(-n // product) - 1).bit_length())
            product *= 3
        fives *= 5
    return best


def stretched(length: int, factor: float) -> int:
    """Samples of a sound of this length, played `factor` times as fast."""
    return max(1, round(length / factor))


def pitched(sound: np.ndarray, semitones: float) -> np.ndarray:
    """Higher by so many semitones, and as long: stretched by a phase vocoder, then played faster."""
    factor = 2.0 ** (semitones / 12)
    longer = _stretched(sound, factor)
    higher = resampled(longer, factor)
    if len(higher) < len(sound):
        higher = np.pad(higher, (0, len(sound) - len(higher)))
    return higher[: len(sound)]


def _stretched(sound: np.ndarray, factor: float) -> np.ndarray:
    """`factor` times as long, the pitch as it was: frames further apart, their phases carried on (Flanagan 1966)."""
    window = np.hanning(_FFT + 1)[:-1].astype(np.float32)
    padded = np.pad(sound, (_FFT // 2, _FFT))
    starts = np.arange(0, len(padded) - _FFT - _HOP, _HOP / factor)
    whole = starts.astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _FFT)
    here, ahead = (np.fft.rfft(windows[at] * window) for at in (whole, whole + _HOP))
    # What a band turns by in a hop; from one frame of the result to the next it turns by as much.
    turns = np.angle(ahead) - np.angle(here)
    turned = np.concatenate([np.zeros((1, turns.shape[1])), np.cumsum(turns[:-1], axis=0, dtype=float)])
    phases = (np.angle(here[0]) + turned).astype(np.float32)
    frames = np.fft.irfft(np.abs(here) * np.exp(1j * phases), _FFT) * window
    weight = _added(np.broadcast_to(window**2, frames.shape))
    longer: np.ndarray = _added(frames) / np.maximum(weight, np.float32(1e-3))
    return longer[round(_FFT / 2 * factor) :][: round(len(sound) * factor)]


def _added(frames: np.ndarray) -> np.ndarray:
    """Frames [n, 512], each a hop after the one before it, as one sound."""
    sound = np.zeros((len(frames) + _FFT // _HOP - 1, _HOP), np.float32)
    for part in range(_FFT // _HOP):
        sound[part : part + len(frames)] += frames[:, part * _HOP : (part + 1) * _HOP]
    return sound.reshape(-1)


def noise(rng: np.random.Generator, length: int, colour: float = 0.0) -> np.ndarray:
    """Noise of mean power 1, whose power falls with the frequency to the power of `colour`: 0 is white, 1 is pink."""
    size = _smooth(length)
    spectrum = np.fft.rfft(rng.standard_normal(size, np.float32))
    spectrum *= np.maximum(np.arange(len(spectrum), dtype=np.float32), 1.0) ** np.float32(-colour / 2)
    sound = np.fft.irfft(spectrum, size)[:length]
    louder: np.ndarray = sound / np.float32(max(float(np.sqrt(np.mean(sound**2))), 1e-9))
    return louder


def noisy(sound: np.ndarray, rng: np.random.Generator, snr: float) -> np.ndarray:
    """With noise of a random colour, `snr` decibels below the sound's mean power."""
    power = float(np.mean(sound**2))
    loudness = np.float32(np.sqrt(power / 10 ** (snr / 10)))
    louder: np.ndarray = sound + noise(rng, len(sound), float(rng.uniform(0, 2))) * loudness
    return louder


def reverberant(sound: np.ndarray, rng: np.random.Generator, decay: float) -> np.ndarray:
    """In a room where sound falls by 60 dB in `decay` seconds; as long and as strong as before."""
    n = max(2, round(decay * SAMPLE_RATE))
    tail = rng.standard_normal(n, np.float32) * np.float32(10) ** (np.float32(-3 / n) * np.arange(n, dtype=np.float32))
    # As much of the power comes from the walls as straight from the mouth.
    tail *= 1 / np.sqrt(np.sum(tail**2))
    response = np.concatenate([np.ones(1, np.float32), tail])
    size = _smooth(len(sound) + len(response) - 1)
    wet = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]
    power = float(np.mean(wet**2))
    return wet * np.float32(np.sqrt(float(np.mean(sound**2)) / power)) if power else wet


def holes(rng: np.random.Generator, n_frames: int, n_mels: int, how: Augmentation) -> tuple[np.ndarray, np.ndarray]:
    """Where features are taken away: bool [frames] and bool [mels]; two bands, and a time for every four seconds."""
    times, bands = np.zeros(n_frames, bool), np.zeros(n_mels, bool)
    for mask, widest, number in ((bands, how.bands, 2), (times, how.frames, max(1, n_frames // 400))):
        for _ in range(number):
            width = int(rng.integers(0, min(widest, len(mask)) + 1))
            start = int(rng.integers(0, len(mask) - width + 1))
            mask[start : start + width] = True
    return times, bands


def voice(sound: np.ndarray, rng: np.random.Generator, how: Augmentation) -> np.ndarray:
    """One utterance, as another might have said it."""
    if rng.random() < how.pitch:
        return pitched(sound, float(rng.uniform(-how.semitones, how.semitones)))
    return sound


def place(sound: np.ndarray, rng: np.random.Generator, how: Augmentation) -> np.ndarray:
    """A window, as it might have sounded elsewhere."""
    if rng.random() < how.reverberation:
        sound = reverberant(sound, rng, float(rng.uniform(0.1, how.decay)))
    if rng.random() < how.noise:
        sound = noisy(sound, rng, float(rng.uniform(*how.snr)))
    return sound


def to_int16(sound: np.ndarray) -> np.ndarray:
    """As samples; what is too loud is cut off."""
    return np.clip(np.rint(sound * 32768.0), -32768, 32767).astype(np.int16)
