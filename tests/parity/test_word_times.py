"""Word times against openai/whisper's, step by step; `references/make_decoding_references.py` recorded them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.alignment.dtw import warp
from models.alignment.locate import attention, locate
from models.alignment.median import median_filter
from models.alignment.words import Spoken, merge_punctuation, timed_words
from models.checkpoint import Checkpoint, find_checkpoint
from models.decoding.requests import TokenTimes
from models.decoding.segments import split_segments
from models.features import log_mel
from models.tokens import TIMESTAMP_STEP, Vocabulary
from models.whisper.modules import Whisper
from models.whisper.weights import load_whisper
from stenopool.domain import APPENDED, PREPENDED, SAMPLE_RATE
from tests import sounds

REFERENCES = Path(__file__).parents[1] / "references"
FRAME = 0.02  # seconds
STEP = 10  # every tenth frame of a matrix is recorded


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """Everything that is text."""
    loaded: dict[str, Any] = json.loads((REFERENCES / "decoding.json").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def arrays() -> Iterator[Any]:
    """Everything else."""
    with np.load(REFERENCES / "decoding.npz") as loaded:
        yield loaded


def first_frames(aligned: dict[str, Any]) -> list[int]:
    """At which frame each token of an alignment begins."""
    found: dict[int, int] = {}
    for token, frame in zip(aligned["text_indices"], aligned["time_indices"], strict=True):
        found.setdefault(token, frame)
    return list(found.values())


def test_ways_are_those_of_the_reference(arrays: Any) -> None:
    """Random matrices, matrices full of ties and one of real attention, all in one batch: cell by cell the same way."""
    names = [key.removesuffix("/path") for key in arrays.files if key.endswith("/path")]
    assert len(names) > 20
    costs = [arrays[f"{name}/cost"].astype(np.float32) for name in names]
    sizes = np.array([matrix.shape for matrix in costs], np.int32)
    batch = np.zeros((len(costs), *sizes.max(0)), np.float32)
    for row, matrix in enumerate(costs):
        batch[row, : matrix.shape[0], : matrix.shape[1]] = matrix

    first, last = map(np.asarray, jax.jit(warp)(batch, *sizes.T))

    for row, (name, (n_tokens, _)) in enumerate(zip(names, sizes, strict=True)):
        cells = [(i, j) for i in range(n_tokens) for j in range(first[row, i], last[row, i] + 1)]
        assert np.array_equal(np.transpose(cells), arrays[f"{name}/path"]), name


def test_medians_are_those_of_the_reference(arrays: Any) -> None:
    """Of several widths and ranks, and of rows too short to be mirrored."""
    names = [key.removesuffix("/given") for key in arrays.files if key.endswith("/given")]
    assert len(names) > 5
    for name in names:
        given = np.atleast_2d(arrays[f"{name}/given"])
        lengths = jnp.full(len(given), given.shape[-1], jnp.int32)
        ours = median_filter(jnp.asarray(given), lengths, int(arrays[f"{name}/width"]))
        assert np.array_equal(np.reshape(ours, -1), np.reshape(arrays[f"{name}/filtered"], -1)), name


def test_signs_are_merged_as_the_reference_does(recorded: dict[str, Any]) -> None:
    """The same words, each where its main word was; what the reference leaves empty is gone."""
    for case in recorded["punctuation"]:
        spoken = [Spoken(word, i, i + 1, 1.0) for i, word in enumerate(case["words"])]
        merged = merge_punctuation(spoken, PREPENDED, APPENDED)
        kept = [(i, word["word"]) for i, word in enumerate(case["merged"]) if word["word"]]

        assert [(word.start, word.text) for word in merged] == kept


@pytest.mark.parametrize("window", [1, 2])
def test_words_of_segments_are_those_of_the_reference(recorded: dict[str, Any], window: int) -> None:
    """From the same alignment, the same words at the same times in the same segments, pauses left out as there."""
    aligned = recorded["alignment"]["pocket"][f"window_{window}"]
    times = TokenTimes(
        tokens=tuple(aligned["text_tokens"]),
        starts=tuple(first * TIMESTAMP_STEP for first in first_frames(aligned)),
        probabilities=tuple(word["probability"] for word in aligned["words"] for _ in word["tokens"]),
    )
    vocabulary = Vocabulary(find_checkpoint("pocket"))
    [run, *_] = [run for run in recorded["transcribe"] if run["case"] == "words_no_previous_text"]
    before, expected = ([s for s in run["segments"] if s["seek"] == 3000 * at] for at in (window - 1, window))
    length, tokens = 30 * SAMPLE_RATE, run["windows"][window]["tokens"]

    timed, last = timed_words(
        times,
        list(split_segments(tokens, vocabulary.special.timestamp_begin, length)),
        partial(vocabulary.split_to_words, language="en"),
        begin=window * length,
        last_speech=round(before[-1]["words"][-1]["end"] * SAMPLE_RATE),
    )

    assert len(timed) == len(expected)
    for ours, theirs in zip(timed, expected, strict=True):
        assert (ours.span.start, ours.span.end) == samples(theirs)
        assert [word.text for word in ours.words] == [word["word"] for word in theirs["words"]]
        assert [(word.span.start, word.span.end) for word in ours.words] == list(map(samples, theirs["words"]))
        assert [word.probability for word in ours.words] == pytest.approx(
            [word["probability"] for word in theirs["words"]], abs=1e-4
        )
    assert last == samples(expected[-1]["words"][-1])[1]


def samples(timed: dict[str, Any]) -> tuple[int, int]:
    """Of a segment or word of the reference."""
    return round(timed["start"] * SAMPLE_RATE), round(timed["end"] * SAMPLE_RATE)


#: A matrix, first frames and probabilities.
Found = tuple[np.ndarray, np.ndarray, np.ndarray]


class Aligner:
    """A model of the references."""

    def __init__(self, checkpoint: Checkpoint, recorded: dict[str, Any]) -> None:
        special = recorded["special"][checkpoint.name]
        self._whisper = load_whisper(checkpoint.dims, checkpoint.weights, jnp.float32)
        self._window = checkpoint.dims.window
        self._room = max(len(case["text_tokens"]) for case in recorded["alignment"][checkpoint.name].values())
        self._start = (special["start_of_transcript"], special["languages"]["en"], special["tasks"]["transcribe"])
        self._no_timestamps, self._end_of_text = special["no_timestamps"], special["end_of_text"]
        n_start, heads, n_mels = len(self._start), checkpoint.alignment_heads, checkpoint.dims.n_mels

        @nnx.jit
        def run(whisper: Whisper, pcm: jax.Array, tokens: jax.Array, lengths: jax.Array, frames: jax.Array) -> Any:
            decoder = whisper.decoder
            cross = decoder.cross_keys_values(whisper.encoder(log_mel(pcm, n_mels)))
            scores = decoder.listen(tokens, cross, heads)[1]
            end = self._end_of_text
            located = locate(decoder, heads, cross, tokens, lengths, frames, n_start=n_start, end_of_text=end)
            return attention(scores, lengths, frames, n_start), *located

        self._run = run

    def align(self, pcm: np.ndarray, case: dict[str, Any]) -> Found:
        """A text in a sound that may be shorter than the window."""
        text, n_frames = case["text_tokens"], case["num_frames"] // 2
        padded = np.zeros((1, self._window), np.int16)
        padded[0, : len(pcm)] = pcm
        tokens = np.zeros((1, len(self._start) + self._room + 2), np.int32)
        whole = [*self._start, self._no_timestamps, *text, self._end_of_text]
        tokens[0, : len(whole)] = whole
        sizes = jnp.array([len(text)], jnp.int32), jnp.array([n_frames], jnp.int32)
        found = self._run(self._whisper, jnp.asarray(padded), jnp.asarray(tokens), *sizes)
        matrix, starts, probabilities = (np.asarray(array)[0] for array in found)
        return matrix[: len(text) + 1, :n_frames], starts[: len(text) + 1], probabilities[: len(text)]


def assert_aligned(found: Found, case: dict[str, Any], matrix: np.ndarray) -> None:
    """The same matrix, as far as dividing by small deviations leaves float32 exact, and the same frames."""
    ours, starts, probabilities = found
    np.testing.assert_allclose(ours[:, ::STEP], matrix, atol=0.02)
    assert starts.tolist() == first_frames(case)
    at = 0
    for word in case["words"]:
        end = at + len(word["tokens"])
        assert (starts[at] * FRAME, starts[end] * FRAME) == pytest.approx((word["start"], word["end"]))
        assert probabilities[at:end].mean() == pytest.approx(word["probability"], abs=1e-3)
        at = end
    assert at == len(case["text_tokens"])


def test_words_are_heard_where_the_reference_hears_them(recorded: dict[str, Any], arrays: Any) -> None:
    """Windows of the sample and a part of one: the same first frame for every token, the same words."""
    checkpoint = find_checkpoint("pocket")
    assert recorded["model"] == checkpoint.digest, "record anew: tests/references/make_decoding_references.py"
    assert checkpoint.alignment_heads == tuple(map(tuple, recorded["heads"]["pocket"]))
    pocket, vocabulary = Aligner(checkpoint, recorded), Vocabulary(checkpoint)
    pcm = sounds.read(sounds.SAMPLE)

    for name in ("window_0", "window_1", "part"):
        case = recorded["alignment"]["pocket"][name]
        start = case["window"] * checkpoint.dims.window
        found = pocket.align(pcm[start : start + case["num_frames"] * 160], case)

        assert_aligned(found, case, arrays[f"pocket/alignment/{name}/matrix"])
        words = [(text, list(tokens)) for text, tokens in vocabulary.split_to_words(case["text_tokens"], "en")]
        assert words == [(word["word"], word["tokens"]) for word in case["words"]]


def test_random_weights_are_aligned_as_the_reference_does(
    recorded: dict[str, Any], arrays: Any, tmp_path: Path
) -> None:
    """Published sizes and the upper half of the heads, on attention that follows nothing."""
    weights = importlib.import_module("tests.references.weights")
    checkpoint = Checkpoint("tiny", weights.write_checkpoint("tiny", tmp_path))
    assert checkpoint.alignment_heads == tuple(map(tuple, recorded["heads"]["tiny"]))
    tiny, pcm = Aligner(checkpoint, recorded), weights.sound()

    for name, n_samples in (("whole", len(pcm)), ("part", 9 * 16_000)):
        case = recorded["alignment"]["tiny"][name]
        found = tiny.align(pcm[:n_samples], case)

        assert_aligned(found, case, arrays[f"tiny/alignment/{name}/matrix"])
