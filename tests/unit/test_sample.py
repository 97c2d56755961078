"""The bundled recording is what samples/README.md says it is; nothing here needs a speech synthesizer."""

from __future__ import annotations

import json
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from stenopool.domain import SAMPLE_RATE
from stenopool.errors import UsageError

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
sys.path.insert(0, str(SAMPLES))  # scripts that are run by path, not a package

from script import Pause, Utterance, parse_script, read_script, reference_text  # noqa: E402

FRAME = 0.01  # seconds that a level is measured over
QUIET = 10 ** (-45 / 20)  # RMS: speech is levelled to -20 dBFS, the room to -66


@cache
def sound() -> tuple[npt.NDArray[np.float32], int]:
    """The decoded file and its rate in Hz."""
    with av.open(str(SAMPLES / "meeting.mp3")) as container:
        frames = list(container.decode(audio=0))
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]), frames[0].sample_rate


@cache
def truth() -> dict[str, Any]:
    """The times that the file was made by."""
    times: dict[str, Any] = json.loads((SAMPLES / "meeting.json").read_text(encoding="utf-8"))
    return times


@cache
def quiet_frames() -> npt.NDArray[np.bool_]:
    """For each 10 ms of the sound, whether nobody is heard in it."""
    samples, rate = sound()
    size = round(rate * FRAME)
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    quiet: npt.NDArray[np.bool_] = np.sqrt(np.mean(np.square(frames), axis=1)) < QUIET
    return quiet


def hushes() -> list[tuple[float, float]]:
    """The stretches in which nobody is heard, in seconds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet_frames().astype(np.int8), [0]])))
    return [(start * FRAME, end * FRAME) for start, end in edges.reshape(-1, 2)]


def test_file_is_a_small_recording_of_over_four_minutes_that_has_to_be_resampled() -> None:
    """Four minutes or more at 44.1 kHz in under 2 MB, and as long as its times say, to a millisecond."""
    samples, rate = sound()
    assert rate == 44_100
    assert len(samples) / rate >= 240
    assert len(samples) / rate == pytest.approx(truth()["duration"] / SAMPLE_RATE, abs=0.001)
    assert (SAMPLES / "meeting.mp3").stat().st_size < 2_000_000


def test_times_give_a_long_unbroken_stretch_and_a_long_pause() -> None:
    """One stretch of speech is longer than any model window, and one pause is 6 s or more."""
    (start, end), *others = truth()["unbroken"]
    assert not others
    assert end - start >= 35 * SAMPLE_RATE
    assert max(end - start for start, end in truth()["pauses"]) >= 6 * SAMPLE_RATE


def test_sound_has_no_pause_in_the_unbroken_stretch() -> None:
    """Somebody is heard in at least one of any nine frames of it, so no pause in it exceeds 80 ms."""
    [[start, end]] = truth()["unbroken"]
    inside = [
        min(hush[1], end / SAMPLE_RATE) - max(hush[0], start / SAMPLE_RATE)
        for hush in hushes()
        if hush[0] < end / SAMPLE_RATE and hush[1] > start / SAMPLE_RATE
    ]
    assert max(inside) <= 0.080 + 1e-9


def test_sound_alone_shows_a_long_unbroken_stretch() -> None:
    """Between two pauses of over 80 ms, measured without the times, there are 35 s or more."""
    pauses = [hush for hush in hushes() if hush[1] - hush[0] > 0.080 + 1e-9]
    assert max(after[0] - before[1] for before, after in pairwise(pauses)) >= 35


def test_sound_is_silent_where_the_times_say_pause_and_nowhere_else_for_that_long() -> None:
    """The one hush of 6 s or more is the long pause, and it is not digital silence."""
    start, end = max(truth()["pauses"], key=lambda pause: pause[1] - pause[0])
    [(heard_start, heard_end)] = [hush for hush in hushes() if hush[1] - hush[0] >= 6]
    assert heard_start <= start / SAMPLE_RATE + FRAME
    assert heard_end >= end / SAMPLE_RATE - FRAME
    samples, rate = sound()
    room = samples[round(rate * (heard_start + 1)) : round(rate * (heard_end - 1))]
    assert 0.0001 < np.sqrt(np.mean(np.square(room))) < 0.001


def test_every_utterance_is_heard_where_its_time_says() -> None:
    """Speech begins within 100 ms of an utterance's start and ends within 100 ms of its end."""
    quiet = quiet_frames()
    for utterance in truth()["utterances"]:
        first, last = (round(utterance[edge] / SAMPLE_RATE / FRAME) for edge in ("start", "end"))
        heard = np.flatnonzero(~quiet[first:last])
        assert heard[0] <= 10, utterance["text"]
        assert heard[-1] >= last - first - 10, utterance["text"]


def test_utterances_in_order_are_the_script() -> None:
    """The times and the script name the same speakers and words, and no two utterances overlap."""
    said = [item for item in read_script(SAMPLES / "script.txt") if isinstance(item, Utterance)]
    timed = truth()["utterances"]
    assert [(one["speaker"], one["text"]) for one in timed] == [(one.speaker, one.text) for one in said]
    assert all(before["end"] <= after["start"] for before, after in pairwise(timed))


def test_script_is_a_conversation() -> None:
    """Three speakers, none of whom says nearly everything."""
    words: dict[str, int] = {}
    for utterance in truth()["utterances"]:
        words[utterance["speaker"]] = words.get(utterance["speaker"], 0) + len(utterance["text"].split())
    assert len(words) == 3
    assert max(words.values()) < 0.6 * sum(words.values())


def test_reference_text_is_words_without_digits_or_directives() -> None:
    """Over 500 words, numbers spelled out, no speaker names in capitals and no brackets."""
    text = reference_text(SAMPLES / "script.txt")
    assert len(text.split()) > 500
    assert not any(character.isdigit() or character in "[]:#" for character in text)
    assert not any(word.isupper() and len(word) > 1 for word in text.split())


def test_script_gives_its_utterances_and_pauses_in_order() -> None:
    """Comments and empty lines mean nothing; what stands between [no pauses] and [end] is unbroken."""
    text = "# why\n\nANN: One, two.\n[pause 2.5]\n[no pauses]\nBEN: Is it?\n[end]\nANN: It is.\n"
    assert parse_script(text, "a.txt") == (
        Utterance("ANN", "One, two.", unbroken=False),
        Pause(2.5),
        Utterance("BEN", "Is it?", unbroken=True),
        Utterance("ANN", "It is.", unbroken=False),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ANN: There are 3.", "line 1: 'ANN: There are 3.'"),
        ("ANN: One.\nTwo.", "line 2: 'Two.'"),
        ("[no pauses]\n[pause 2]\n[end]", "line 2: '[pause 2]'"),
        ("ANN: One.\n[end]", "line 2: '[end]'"),
        ("[no pauses]\nANN: One.", "[no pauses] has no [end]"),
    ],
)
def test_what_is_not_a_script_is_refused_by_name_and_line(text: str, message: str) -> None:
    """The error names the file, the line and what stands there."""
    with pytest.raises(UsageError) as refused:
        parse_script(text, "a.txt")
    assert str(refused.value).startswith("a.txt")
    assert message in str(refused.value)


def test_missing_script_is_refused_by_name(tmp_path: Path) -> None:
    """A file that is not there is named in a single line."""
    with pytest.raises(UsageError, match=r"none\.txt: cannot be read as a script") as refused:
        reference_text(tmp_path / "none.txt")
    assert "\n" not in str(refused.value)
