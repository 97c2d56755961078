"""Voice activity: probabilities as a stream, and runs of speech from them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vad import ENTER, FRAME, LEAVE, MIN_PAUSE, SpeechActivity, SpeechDetector
from stenopool.domain import Span
from tests import sounds

S = 16_000  # one second
RECORDED = Path(__file__).parents[1] / "references" / "vad.npz"


def hear(*blocks: np.ndarray) -> SpeechActivity:
    """What the detector makes of the blocks."""
    detector = SpeechDetector()
    for block in blocks:
        detector.feed(block)
    return detector.finish()


@pytest.fixture(scope="module")
def jfk(shared_audio: Path) -> np.ndarray:
    """Eleven seconds of a speech."""
    return sounds.read(shared_audio / "jfk.flac")


@pytest.fixture(scope="module")
def meeting() -> np.ndarray:
    """The first twenty seconds of the bundled sample."""
    return sounds.read(sounds.SAMPLE)[: 20 * S]


def test_it_hears_what_the_model_heard_before_it_was_arranged(meeting: np.ndarray) -> None:
    """Its products stand in another order than in Silero's own file, whose probabilities are recorded."""
    recorded = np.load(RECORDED)["probabilities"]

    heard = hear(sounds.read(sounds.SAMPLE)[: len(recorded) * FRAME]).probabilities

    assert recorded.min() < 0.01 < 0.99 < recorded.max()
    np.testing.assert_allclose(heard, recorded, atol=1e-5)


@pytest.mark.parametrize("size", [1, 511, 512, 513, 12_345])
def test_the_size_of_blocks_does_not_matter(meeting: np.ndarray, size: int) -> None:
    """Fed in blocks of any size, the probabilities are those of the whole."""
    sound = meeting[: 2 * S + 100] if size == 1 else meeting
    blocks = [sound[at : at + size] for at in range(0, len(sound), size)]

    whole, pieces = hear(sound), hear(*blocks)

    assert whole.duration == pieces.duration == len(sound)
    assert len(whole.probabilities) == -(-len(sound) // FRAME)
    np.testing.assert_allclose(pieces.probabilities, whole.probabilities, atol=1e-6)


def test_empty_blocks_do_not_matter() -> None:
    """A block of nothing is heard as nothing."""
    nothing, sound = np.zeros(0, np.int16), np.ones(1000, np.int16)

    assert hear().duration == hear(nothing).duration == 0
    assert list(hear(nothing).runs()) == []
    np.testing.assert_array_equal(hear(nothing, sound, nothing).probabilities, hear(sound).probabilities)


def test_detectors_do_not_share_what_they_heard(meeting: np.ndarray) -> None:
    """A second detector begins anew."""
    first, second = hear(meeting[:S]), hear(meeting[:S])

    np.testing.assert_array_equal(first.probabilities, second.probabilities)


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(5 * S, np.int16),
        np.random.default_rng(0).integers(-12_000, 12_000, 5 * S, np.int16),
        np.random.default_rng(0).integers(-50, 50, 5 * S, np.int16),
        np.rint(8000 * np.sin(np.arange(5 * S) * 2 * np.pi * 440 / S)).astype(np.int16),
    ],
    ids=["silence", "noise", "faint noise", "tone"],
)
def test_what_is_no_speech_has_no_runs(sound: np.ndarray) -> None:
    """Silence, noise and a tone stay below the threshold throughout."""
    activity = hear(sound)

    assert list(activity.runs()) == []
    assert activity.peak(Span(0, len(sound))) < ENTER


def test_synthetic_speech_is_found(meeting: np.ndarray) -> None:
    """The sample speaks from half a second on; its first half second is silence."""
    spans = [span for span, _ in hear(meeting).runs()]

    assert 0.4 * S < spans[0].start < 0.7 * S
    assert sum(map(len, spans)) > 14 * S


def test_real_speech_is_found(jfk: np.ndarray) -> None:
    """Kennedy speaks from 0.3 s to 10.6 s, and pauses after "Americans", "not" and "for you"."""
    runs = list(hear(jfk).runs())
    spans = [span for span, _ in runs]

    assert 0.2 * S < spans[0].start < 0.5 * S
    assert 10.2 * S < spans[-1].end < 10.8 * S
    for pause in (2.7, 4.9, 8.0):
        assert not [span for span in spans if span.start <= pause * S < span.end]
    for speech in (1.0, 2.0, 3.5, 6.0, 7.0, 9.0, 10.0):
        assert [span for span in spans if span.start <= speech * S < span.end]
    assert all(LEAVE < mean <= 1 for _, mean in runs)


def test_the_end_is_heard_with_the_recording_cut_short(jfk: np.ndarray) -> None:
    """A run that lasts to the end ends with the last sample, not with the frame."""
    cut = jfk[: 7 * S + 100]

    *_, (last, _) = hear(cut).runs()

    assert last.end == len(cut)


def activity(*probabilities: float, short: int = 0) -> SpeechActivity:
    """One probability per frame; the recording ends `short` samples before the last frame does."""
    return SpeechActivity(np.array(probabilities, np.float32), len(probabilities) * FRAME - short)


YES, MAYBE, NO = 0.9, 0.4, 0.1


@pytest.mark.parametrize(
    ("probabilities", "frames"),
    [
        ([], []),
        ([NO, NO], []),
        ([NO, YES, YES, NO], [(1, 3)]),
        # two thresholds: what is in between goes on with a run ...
        ([YES, MAYBE, MAYBE, MAYBE, MAYBE, YES, NO], [(0, 6)]),
        ([YES, MAYBE, NO, NO, NO, NO], [(0, 2)]),
        # ... but begins none
        ([MAYBE, MAYBE, YES, NO], [(2, 3)]),
        ([MAYBE] * 10, []),
        ([YES, NO, NO, NO, MAYBE, MAYBE, NO, YES], [(0, 1), (7, 8)]),
        # the thresholds themselves
        ([ENTER, NO], [(0, 1)]),
        ([YES, 0.3501, NO], [(0, 2)]),
        ([YES, 0.3499, NO, NO], [(0, 1)]),
        # a dip of less than three frames is no pause
        ([YES, NO, NO, YES], [(0, 4)]),
        ([YES, NO, NO, MAYBE, NO, NO, YES], [(0, 7)]),
        ([YES, NO, NO, NO, YES], [(0, 1), (4, 5)]),
        ([NO, NO, NO, YES], [(3, 4)]),
        ([YES, NO, NO], [(0, 1)]),
    ],
)
def test_runs(probabilities: list[float], frames: list[tuple[int, int]]) -> None:
    """Runs begin at one threshold, last to a lower one, and go on over dips."""
    spans = [(span.start // FRAME, span.end // FRAME) for span, _ in activity(*probabilities).runs()]

    assert spans == frames


def test_runs_say_how_sure_they_are() -> None:
    """The mean is over the whole run, its dips included."""
    ((_, mean),) = activity(0.1, 0.8, 0.2, 0.6, 0.1).runs()

    assert mean == pytest.approx((0.8 + 0.2 + 0.6) / 3, abs=1e-6)


def test_the_last_run_ends_with_the_recording() -> None:
    """The last frame may reach beyond the end."""
    assert [span for span, _ in activity(NO, YES, short=500).runs()] == [Span(FRAME, FRAME + 12)]


@given(st.lists(st.sampled_from([0.0, 0.3, LEAVE, 0.4, ENTER, 0.9, 1.0]), max_size=60))
def test_runs_hold_all_speech_and_are_apart(probabilities: list[float]) -> None:
    """Every frame of speech is in a run, every run begins with one, and pauses last three frames at least."""
    heard = activity(*probabilities)
    spans = [span for span, _ in heard.runs()]

    for frame in np.flatnonzero(heard.probabilities >= ENTER):
        assert [span for span in spans if span.start <= frame * FRAME < span.end]
    assert all(heard.probabilities[span.start // FRAME] >= ENTER for span in spans)
    assert all(heard.probabilities[span.end // FRAME - 1] >= LEAVE for span in spans)
    assert all(b.start - a.end >= MIN_PAUSE * FRAME for a, b in pairwise(spans))


def test_peak_is_of_every_frame_that_the_span_touches() -> None:
    """The highest probability inside a span; a part of a frame counts."""
    heard = activity(0.1, 0.7, 0.2, 0.6)

    assert heard.peak(Span(0, 4 * FRAME)) == pytest.approx(0.7)
    assert heard.peak(Span(0, FRAME)) == pytest.approx(0.1)
    assert heard.peak(Span(0, FRAME + 1)) == pytest.approx(0.7)
    assert heard.peak(Span(2 * FRAME - 1, 3 * FRAME)) == pytest.approx(0.7)
    assert heard.peak(Span(2 * FRAME, 3 * FRAME)) == pytest.approx(0.2)
    assert heard.peak(Span(4 * FRAME, 4 * FRAME)) == 0.0
    assert heard.peak(Span(9 * FRAME, 10 * FRAME)) == 0.0
