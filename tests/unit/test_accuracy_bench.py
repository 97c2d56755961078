"""The parts of `bench/accuracy.py` that hear nothing: what is said, which passages go wrong, chance, and the tables."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.accuracy import compare, normal_form
from models.checkpoint import Checkpoint
from models.whisper.weights import match, read_headers

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "samples"), str(ROOT / "bench")]  # scripts that are run by path, not a package

from accuracy import write_assistant  # noqa: E402
from accuracy_measures import difference, outside, passages  # noqa: E402
from accuracy_rows import Spoken, markdown, precision, row  # noqa: E402
from script import Pause, Utterance, reference_text  # noqa: E402
from speech_script import PLANS, Plan, sentences, speech  # noqa: E402

ENGLISH = normal_form("en")
LINES = ("one blue bird", "two red cats", "four old dogs")


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_what_is_said_is_plain_words_that_synthesizers_read_in_one_way(plan: Plan) -> None:
    """Letters and plain punctuation, one capital at the beginning of a sentence, no doubled word."""
    for text in sentences(plan.style, plan.n_sentences, plan.name):
        assert re.fullmatch(r"[A-Z][A-Za-z' ,]*[.?]", text)
        assert not re.search(r"\b(\w+) \1\b", text)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_a_recording_has_its_sentences_and_a_pause_after_each_stretch(plan: Plan) -> None:
    """Nobody speaks at its end or beginning only; pauses are as long as planned."""
    items = speech(plan)
    spoken = [item for item in items if isinstance(item, Utterance)]
    pauses = [item.seconds for item in items if isinstance(item, Pause)][1:]
    assert [item.text for item in spoken] == sentences(plan.style, plan.n_sentences, plan.name)
    assert {item.speaker for item in spoken} == set(plan.speakers)
    assert all(item.unbroken is plan.unbroken for item in spoken)
    assert len(pauses) == (plan.n_sentences - 1) // plan.stretch
    assert all(plan.pause[0] <= seconds <= plan.pause[1] for seconds in pauses)


def test_what_is_said_is_the_same_every_time_and_another_for_another_seed() -> None:
    """Figures of two days are of the same sentences, and no recording repeats another."""
    said = sentences("office", 30, "a")
    assert said == sentences("office", 30, "a")
    assert len(set(said)) == 30
    assert len(set(said) & set(sentences("office", 30, "b"))) < 3


def test_the_half_hour_says_nothing_that_the_sample_says() -> None:
    """The two sets are two samples of speech."""
    sample = reference_text(ROOT / "samples" / "script.txt")
    assert not [text for plan in PLANS for text in sentences(plan.style, plan.n_sentences, plan.name) if text in sample]


@pytest.mark.parametrize(
    ("heard", "errors"),
    [
        ("one blue bird two red cats four old dogs", [0, 0, 0]),
        ("one blue bird four old dogs", [0, 3, 0]),
        ("one green bird two red cats four dogs", [1, 0, 1]),
        ("one blue bird two red cats then four old dogs", [0, 1, 0]),  # after the second line's last word
        ("so one blue bird two red cats four old dogs again", [1, 0, 1]),
        ("", [3, 3, 3]),
    ],
)
def test_each_error_counts_in_the_passage_where_it_stands(heard: str, errors: list[int]) -> None:
    """Substitutions and deletions with their word, insertions with the word before them."""
    assert passages(LINES, heard, ENGLISH, size=1).tolist() == [[count, 3] for count in errors]


def test_passages_together_have_the_errors_of_the_whole() -> None:
    """However long they are."""
    heard = "a blue bird to read cats for old old dogs"
    whole = compare(" ".join(LINES), heard, ENGLISH).words
    for size in (1, 2, 3, 4):
        counts = passages(LINES, heard, ENGLISH, size=size)
        assert len(counts) == -(-len(LINES) // size)
        assert counts.sum(0).tolist() == [whole.substitutions + whole.deletions + whole.insertions, whole.reference]


def test_the_interval_of_a_difference_holds_the_difference() -> None:
    """It is nothing for the same errors, above zero where each passage is worse, and wider where passages differ."""
    rng = np.random.default_rng(1)
    words = rng.integers(20, 40, 60)
    errors = rng.integers(0, 10, 60)
    ours, worse = np.stack([errors, words], 1), np.stack([errors + 2, words], 1)
    noisy = np.stack([errors + rng.integers(-4, 9, 60), words], 1)
    assert difference(ours, ours) == (0.0, 0.0)
    low, high = difference(worse, ours)
    assert low <= 2 * 60 / words.sum() <= high
    assert low > 0
    noisy_low, noisy_high = difference(noisy, ours)
    assert noisy_low < (noisy - ours)[:, 0].sum() / words.sum() < noisy_high
    assert noisy_high - noisy_low > high - low


def test_the_interval_holds_the_truth_about_95_times_in_100() -> None:
    """Two systems whose errors are drawn at known rates, 200 times: as often as it says, their difference is inside."""
    rng = np.random.default_rng(2)
    words = np.full(60, 30)
    inside = 0
    for _ in range(200):
        ours, theirs = rng.binomial(30, 0.35, 60), rng.binomial(30, 0.30, 60)
        low, high = difference(np.stack([ours, words], 1), np.stack([theirs, words], 1), draws=1000)
        inside += low <= 0.05 <= high
    assert 0.90 <= inside / 200 <= 0.99


@pytest.mark.parametrize(
    ("segments", "seconds"),
    [
        ([], 5.0),
        ([(0.0, 20.0)], 0.0),
        ([(1.0, 3.0)], 3.0),
        ([(2.0, 3.0), (1.0, 3.0), (2.5, 4.0)], 2.0),  # in any order, over each other
        ([(4.0, 10.0)], 5.0),
    ],
)
def test_speech_outside_of_segments_is_measured_in_seconds(segments: list[tuple[float, float]], seconds: float) -> None:
    """Three seconds are spoken from the first on, and two from the tenth on."""
    assert outside([(1.0, 4.0), (10.0, 12.0)], segments) == pytest.approx(seconds)


def _heard(text: str) -> dict[str, Any]:
    recordings = {"talk": {"text": text, "segments": [[0.0, 6.0]]}}
    return {"name": text[:3], "recordings": recordings, "wall_seconds": 2.0, "cpu_seconds": 1.0}


def test_a_row_says_how_far_a_way_is_from_the_first_of_its_table() -> None:
    """One word of nine wrong more; the table shows it in points, and says so where nothing differs."""
    spoken = [Spoken(name="talk", lines=LINES, times=((0.0, 3.0), (3.0, 6.0), (6.0, 9.0)), duration=10.0)]
    first, other = (
        _heard("one blue bird two red cats four old dogs"),
        _heard("one blue bird two red hats four old dogs"),
    )
    rows = [row(way, first, spoken) for way in (first, first, other)]
    assert [one["wer"] for one in rows] == [0.0, 0.0, pytest.approx(1 / 9)]
    assert rows[2]["difference"] == pytest.approx(1 / 9)
    assert rows[2]["seconds_outside"] == pytest.approx(3.0)
    text = markdown({"seconds": {"sample": 70.0}, "precision": [], "tables": {"sample, chunked": rows}})
    assert "### The bundled sample (1:10): many chunks at once" in text
    assert "| one | 0.0% |  |" in text
    assert "| one | 0.0% | same text |" in text
    assert "| one | 11.1% | +11.1 |" in text


def test_a_precision_is_compared_with_float32_of_the_same_engine() -> None:
    """On each set and on both: the peer's int8 with the peer's float32, ours with ours."""
    spoken = [Spoken(name="talk", lines=LINES, times=((0.0, 3.0), (3.0, 6.0), (6.0, 9.0)), duration=10.0)]
    texts = {
        "stenopool, greedy, float32": "one blue bird two red cats four old dogs",
        "stenopool, int8": "one blue bird two red hats four old dogs",
        "peer batched": "one bird two red cats four dogs",
        "peer int8": "one blue bird two red cats four old dogs",
    }
    heard = [{**_heard(text), "name": name, "group": "chunked"} for name, text in texts.items()]
    ours, theirs = precision(heard, {"sample": spoken, "half hour": spoken})
    assert (ours["name"], ours["dtype"], theirs["name"]) == ("stenopool", "int8", "peer")
    for figures, expected in ((ours["figures"], 1 / 9), (theirs["figures"], -2 / 9)):
        assert [figures[name]["difference"] for name in ("sample", "half hour", "both")] == [
            pytest.approx(expected)
        ] * 3


def test_the_assistant_is_the_model_without_its_other_decoder_layers(tmp_path: Path) -> None:
    """Every weight that its config asks for is there, and no other."""
    checkpoint = Checkpoint("assistant", write_assistant(tmp_path / "assistant"))
    assert checkpoint.dims.n_text_layer == 1
    stored = [tensor for file in checkpoint.weights for tensor in read_headers(file)]
    assert match(checkpoint.dims, stored)[1] == []
