"""Where tokens are in the sound: what attention is turned into before it is warped, and that rows are alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.alignment.locate import locate
from models.alignment.median import median_filter
from models.checkpoint import BUNDLED, Checkpoint
from models.whisper.attention import KeysValues
from models.whisper.dims import ModelDimensions
from models.whisper.modules import Decoder
from stenopool.errors import CheckpointError
from tests.warping import cheapest, slid

DIMS = ModelDimensions(
    n_mels=80, n_audio_ctx=40, d_model=16, n_audio_head=2, n_audio_layer=1, n_audio_ffn=16,
    n_vocab=60, n_text_ctx=24, n_text_head=2, n_text_layer=2, n_text_ffn=16,
)  # fmt: skip
HEADS = ((0, 1), (1, 0), (1, 1))
END, NO_TIMESTAMPS, START = 50, 51, 52
ROOM = 16


ROWS = (((1, 10), 3), ((1, 1, 15), 13), ((4, 5, 345), 7), ((2, 3, 4, 51), 5), ((3, 6), 1), ((2, 6), 13))


@pytest.mark.parametrize(("shape", "width"), ROWS)
def test_the_median_slides_over_mirrored_ends(shape: tuple[int, ...], width: int) -> None:
    """As a median of every window of the mirrored row."""
    x = np.random.default_rng(width).standard_normal(shape).astype(np.float32)
    lengths = jnp.full(shape[0], shape[-1], jnp.int32)

    np.testing.assert_array_equal(median_filter(jnp.asarray(x), lengths, width), slid(x, width))


def test_each_row_is_mirrored_at_its_own_end() -> None:
    """Rows of every length in one batch, amid what means nothing; those too short to be mirrored stay as they are."""
    lengths = np.arange(1, 21, dtype=np.int32)
    x = np.random.default_rng(0).standard_normal((20, 2, 20)).astype(np.float32)
    padded = np.where(np.arange(20) < lengths[:, None, None], x, np.nan)

    filtered = np.asarray(median_filter(jnp.asarray(padded), jnp.asarray(lengths), 7))

    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(filtered[row, :, :length], slid(x[row, :, :length], 7))


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    """A small one that has learnt nothing."""
    decoder = Decoder(DIMS, dtype=jnp.float32, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(1)
    decoder.positions[...] = jnp.asarray(rng.standard_normal((DIMS.n_text_ctx, DIMS.d_model)), jnp.float32)
    return decoder


@pytest.fixture(scope="module")
def cross(decoder: Decoder) -> KeysValues:
    """What it hears in three chunks; loud enough that its attention is not flat."""
    audio = np.random.default_rng(2).standard_normal((3, DIMS.n_audio_ctx, DIMS.d_model)).astype(np.float32)
    return decoder.cross_keys_values(jnp.asarray(3 * audio))


def tokens_of(texts: list[list[int]], n_start: int) -> jax.Array:
    """Each text between what begins it and its end, then anything."""
    rows = np.random.default_rng(3).integers(0, DIMS.n_vocab, (len(texts), ROOM)).astype(np.int32)
    for row, text in zip(rows, texts, strict=True):
        whole = [*range(START, START + n_start), NO_TIMESTAMPS, *text, END]
        row[: len(whole)] = whole
    return jnp.asarray(rows)


def first_frames(costs: np.ndarray) -> list[int]:
    """At which each token begins, on the cheapest way."""
    return [min(j for i, j in cheapest(costs) if i == token) for token in range(len(costs))]


@nnx.jit
def listen(decoder: Decoder, tokens: jax.Array, cross: KeysValues) -> tuple[jax.Array, jax.Array]:
    """Logits, and the scores of the heads."""
    return decoder.listen(tokens, cross, HEADS)


@cache
def compiled(n_start: int) -> Callable[..., Any]:
    """`locate` for so many steering tokens."""
    return nnx.jit(partial(locate, heads=HEADS, n_start=n_start, end_of_text=END))


def located(
    decoder: Decoder, cross: KeysValues, texts: list[list[int]], frames: list[int], n_start: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """`locate` on whole texts."""
    lengths, tokens = jnp.array(list(map(len, texts)), jnp.int32), tokens_of(texts, n_start)
    found = compiled(n_start)(decoder, cross=cross, tokens=tokens, lengths=lengths, frames=jnp.array(frames))
    starts, probabilities = map(np.asarray, found)
    return starts, probabilities


TEXTS = [[4, 8, 15, 16, 23, 42], [7, 7, 7], [1, 2, 3, 4, 5, 6, 7, 8]]
FRAMES = [40, 23, 9]


@pytest.mark.parametrize("n_start", [1, 3])
def test_attention_is_sharpened_as_written_down(decoder: Decoder, cross: KeysValues, n_start: int) -> None:
    """One row at a time without any padding, step by step in numpy, gives the same frames and probabilities."""
    starts, probabilities = located(decoder, cross, TEXTS, FRAMES, n_start)

    logits, scores = map(np.asarray, listen(decoder, tokens_of(TEXTS, n_start), cross))
    for row, (text, n_frames) in enumerate(zip(TEXTS, FRAMES, strict=True)):
        n_tokens = n_start + len(text) + 2
        weights = np.exp(scores[row, :, :n_tokens, :n_frames], dtype=np.float64)
        weights /= weights.sum(-1, keepdims=True)
        weights = (weights - weights.mean(1, keepdims=True)) / weights.std(1, keepdims=True)
        matrix = slid(weights, 7).mean(0)[n_start:-1].astype(np.float32)
        chances = np.exp(logits[row, n_start:, :END], dtype=np.float64)
        chances /= chances.sum(-1, keepdims=True)

        assert starts[row, : len(text) + 1].tolist() == first_frames(-matrix)
        np.testing.assert_allclose(
            probabilities[row, : len(text)], [chances[i, token] for i, token in enumerate(text)], rtol=1e-5
        )


def test_rows_see_neither_their_padding_nor_each_other(decoder: Decoder, cross: KeysValues) -> None:
    """In another order, before other tokens that mean nothing, every text is where it was."""
    starts, probabilities = located(decoder, cross, TEXTS, FRAMES)

    turned = jax.tree.map(lambda x: x[::-1], cross)
    back, chances = located(decoder, turned, TEXTS[::-1], FRAMES[::-1])

    for row, text in enumerate(TEXTS):
        np.testing.assert_array_equal(back[2 - row, : len(text) + 1], starts[row, : len(text) + 1])
        np.testing.assert_allclose(chances[2 - row, : len(text)], probabilities[row, : len(text)], rtol=1e-5)
    assert starts.shape == (3, ROOM - 3 - 1)
    assert probabilities.shape == (3, ROOM - 3 - 2)
    assert not starts[1, 4:].any()
    assert not probabilities[1, 3:].any()


def test_a_text_without_tokens_or_a_sound_of_one_frame_is_no_trouble(decoder: Decoder, cross: KeysValues) -> None:
    """Everything begins with the only frame, and nothing is not a number."""
    starts, probabilities = located(decoder, cross, [[], [5, 6], [5]], [40, 1, 2])

    assert starts[0, 0] == 0
    assert not starts[1].any()
    assert starts[2, :2].tolist() == sorted(starts[2, :2])
    assert np.isfinite(probabilities).all()


def with_heads(folder: Path, heads: object) -> Checkpoint:
    """The bundled model's sizes, two decoder layers of four heads, with that list."""
    shutil.copy(BUNDLED["pocket"] / "config.json", folder)
    (folder / "generation_config.json").write_text(json.dumps({"alignment_heads": heads}))
    return Checkpoint("given", folder)


UPPER = ((1, 0), (1, 1), (1, 2), (1, 3))


@pytest.mark.parametrize(
    ("given", "heads"),
    [
        ([[1, 2], [0, 3]], ((0, 3), (1, 2))),
        ([[1, 2], [1, 2]], ((1, 2),)),
        (None, UPPER),
        ([], UPPER),
        ([[3, 1], [1, 2]], UPPER),  # a teacher's, who has four layers
        ([[1, 4]], UPPER),
        ([[-1, 0]], UPPER),
    ],
)
def test_the_checkpoint_says_which_heads_follow_the_words(
    tmp_path: Path, given: object, heads: tuple[tuple[int, int], ...]
) -> None:
    """Each once; all of the upper half of the layers where it says nothing, or speaks of heads that it has not."""
    assert with_heads(tmp_path, given).alignment_heads == heads


@pytest.mark.parametrize("given", [7, "upper", [1, 2], [[1, 2, 3]], [["a", "b"]], {"layers": [1]}])
def test_a_list_of_something_else_is_refused(tmp_path: Path, given: object) -> None:
    """In one line that names the file."""
    with pytest.raises(CheckpointError, match=r"given: alignment_heads of generation_config.json is not a list"):
        _ = with_heads(tmp_path, given).alignment_heads
