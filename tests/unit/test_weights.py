"""Safetensors into our modules: the table of names, what is on disk, and what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from models.checkpoint import BUNDLED, Checkpoint, find_checkpoint
from models.tokens import Vocabulary
from models.whisper.modules import Whisper
from models.whisper.weights import WeightsMismatch, load_whisper, our_path, read_headers
from stenopool.errors import CheckpointError
from tests.checkpoints import write_checkpoint

POCKET = find_checkpoint("pocket")
Tensors = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    """Pocket's tensors as they are on disk."""
    return dict(load_file(BUNDLED["pocket"] / "model.safetensors"))


def load(file: Path, dtype: Any = jnp.float32) -> Whisper:
    """Pocket's model from one file."""
    return load_whisper(POCKET.dims, [file], dtype)


def parameters(model: Whisper) -> dict[str, jax.Array]:
    """Every parameter by its dotted path."""
    return {".".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(nnx.state(model))}


def assert_same(ours: Whisper, theirs: Whisper) -> None:
    """Every parameter is equal, bit by bit."""
    a, b = parameters(ours), parameters(theirs)
    assert a.keys() == b.keys()
    assert not [path for path in a if a[path].dtype != b[path].dtype or not jnp.array_equal(a[path], b[path])]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("model.encoder.conv1.weight", "encoder.conv1.kernel"),
        ("encoder.conv2.bias", "encoder.conv2.bias"),
        ("model.decoder.embed_tokens.weight", "decoder.embedding"),
        ("model.decoder.embed_positions.weight", "decoder.positions"),
        ("model.encoder.layers.3.self_attn.q_proj.weight", "encoder.layers.3.attention.query.kernel"),
        ("model.decoder.layers.31.encoder_attn.out_proj.bias", "decoder.layers.31.cross_attention.out.bias"),
        ("model.decoder.layers.0.encoder_attn_layer_norm.weight", "decoder.layers.0.cross_attention_norm.scale"),
        ("model.encoder.layers.0.final_layer_norm.bias", "encoder.layers.0.feed_forward_norm.bias"),
        ("model.encoder.layer_norm.weight", "encoder.norm.scale"),
        ("model.decoder.layers.0.fc2.weight", "decoder.layers.0.feed_forward.fc2.kernel"),
    ],
)
def test_their_names_have_our_paths(theirs: str, ours: str) -> None:
    """The table knows every kind of name, with and without the leading `model.`."""
    found = our_path(theirs)

    assert found is not None
    assert found[0] == ours


@pytest.mark.parametrize("theirs", ["", "model.encoder", "model.lm_head.weight", "xmodel.encoder.conv1.weight", "loss"])
def test_foreign_names_have_no_path(theirs: str) -> None:
    """Only whole names match."""
    assert our_path(theirs) is None


def test_kernels_are_turned(tensors: Tensors) -> None:
    """Theirs are [out, in], ours [in, out]; a convolution is a product over three neighbouring frames."""
    ours = parameters(load(POCKET.weights[0]))
    fc1 = tensors["model.decoder.layers.1.fc1.weight"]
    conv1 = tensors["model.encoder.conv1.weight"]  # [256 out, 80 in, 3 wide]

    np.testing.assert_array_equal(ours["decoder.layers.1.feed_forward.fc1.kernel"], fc1.T.astype(np.float32))
    assert ours["encoder.conv1.kernel"].shape == (3 * 80, 256)
    for width in range(3):
        np.testing.assert_array_equal(
            ours["encoder.conv1.kernel"][80 * width : 80 * (width + 1)], conv1[:, :, width].T.astype(np.float32)
        )


@pytest.mark.parametrize("stored", [np.float16, np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("kept", [jnp.float32, jnp.bfloat16])
def test_dtypes_on_disk_and_in_memory(tmp_path: Path, tensors: Tensors, stored: Any, kept: Any) -> None:
    """float16, float32 and bfloat16 on disk become what the engine computes in, rounded once."""
    save_file({name: value.astype(stored) for name, value in tensors.items()}, tmp_path / "model.safetensors")

    ours = parameters(load(tmp_path / "model.safetensors", kept))

    assert {value.dtype for value in ours.values()} == {jnp.dtype(kept)}
    expected = tensors["model.decoder.embed_tokens.weight"].astype(stored).astype(kept)
    assert jnp.array_equal(ours["decoder.embedding"], expected)


def write_shards(folder: Path, tensors: Tensors) -> list[str]:
    """Two shards and their index, as transformers writes large checkpoints; returns the shards' names."""
    names = sorted(tensors)
    shards = {
        "model-00001-of-00002.safetensors": names[: len(names) // 2],
        "model-00002-of-00002.safetensors": names[len(names) // 2 :],
    }
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return list(shards)


def test_shards_are_the_whole(tmp_path: Path, tensors: Tensors) -> None:
    """Two shards and their index load as the single file does."""
    shards = write_shards(tmp_path, tensors)

    sharded = Checkpoint("sharded", tmp_path).weights

    assert [file.name for file in sharded] == shards
    assert_same(load_whisper(POCKET.dims, sharded, jnp.float32), load(POCKET.weights[0]))


#: The largest error of rounding to nearest, relative to the number: half of the last bit that is kept.
ROUNDING = {"float32": 0.0, "float16": 0.0, "bfloat16": 2.0**-8}  # pocket's own weights are float16


@pytest.mark.parametrize("sharded", [False, True], ids=["single", "sharded"])
@pytest.mark.parametrize("stored", list(ROUNDING))
def test_every_precision_on_disk_is_the_same_model(
    tmp_path: Path, tensors: Tensors, stored: str, sharded: bool
) -> None:
    """Each parameter is the original within the rounding of what it was stored in, in one file or in shards."""
    written = {name: value.astype(jnp.dtype(stored)) for name, value in tensors.items()}
    if sharded:
        write_shards(tmp_path, written)
    else:
        save_file(written, tmp_path / "model.safetensors")

    ours = parameters(load_whisper(POCKET.dims, Checkpoint("copy", tmp_path).weights, jnp.float32))

    expected = parameters(load(POCKET.weights[0]))
    assert ours.keys() == expected.keys()
    for path, value in ours.items():
        np.testing.assert_allclose(value, expected[path], rtol=ROUNDING[stored], atol=0, err_msg=path)


@pytest.mark.parametrize(
    ("kind", "n_vocab", "n_mels"), [("english", 51864, 80), ("multilingual", 51865, 80), ("large-v3", 51866, 128)]
)
def test_published_vocabularies_and_mels(tmp_path: Path, kind: str, n_vocab: int, n_mels: int) -> None:
    """A checkpoint of each published kind, small but for that, loads with the tokenizer that goes with it."""
    checkpoint = write_checkpoint(kind, tmp_path)

    ours = parameters(load_whisper(checkpoint.dims, checkpoint.weights, jnp.float32))
    special = Vocabulary(checkpoint).special

    assert ours["decoder.embedding"].shape == (n_vocab, 32)
    assert ours["encoder.conv1.kernel"].shape == (3 * n_mels, 32)
    assert special.timestamp_begin + 1501 == n_vocab
    assert len(special.languages) == {"english": 0, "multilingual": 99, "large-v3": 100}[kind]


def test_other_exporters_names(tmp_path: Path, tensors: Tensors) -> None:
    """Names without the leading `model.`, and the output layer stored again, are the same model."""
    renamed = {name.removeprefix("model."): value for name, value in tensors.items()}
    renamed["proj_out.weight"] = tensors["model.decoder.embed_tokens.weight"]
    save_file(renamed, tmp_path / "model.safetensors")

    assert_same(load(tmp_path / "model.safetensors"), load(POCKET.weights[0]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:100],
        lambda content: b"",
        lambda content: b"\xff" * 64,
        lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 13392792\n",
    ],
    ids=["half", "all but a byte", "part of the header", "empty", "no header", "a pointer to the file"],
)
def test_damaged_weights(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """What is cut off or something else is named by its path, in one line."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(damage(POCKET.weights[0].read_bytes()))

    with pytest.raises(
        CheckpointError, match=rf"^{file}: damaged or incomplete weights .*; fetch the checkpoint again$"
    ):
        load(file)


def test_weights_that_are_gone(tmp_path: Path) -> None:
    """A file that vanished since it was found is named, too."""
    with pytest.raises(CheckpointError, match=r"gone\.safetensors: damaged or incomplete"):
        load(tmp_path / "gone.safetensors")


def test_all_that_does_not_fit_is_listed(tmp_path: Path, tensors: Tensors) -> None:
    """Foreign, mis-shaped, quantised, doubled and missing tensors are in one message, with names, paths and shapes."""
    wrong = dict(tensors)
    wrong["decoder.layer_norm.bias"] = tensors["model.decoder.layer_norm.bias"]
    wrong["model.lm_head.weight"] = np.zeros(3, np.float32)
    wrong["model.encoder.layers.4.fc1.bias"] = np.zeros(1024, np.float32)
    wrong["model.encoder.conv1.weight"] = np.zeros((256, 128, 3), np.float16)
    wrong["model.decoder.layers.0.fc1.weight"] = np.zeros(1024, np.float16)
    wrong["model.decoder.layers.0.fc1.bias"] = np.zeros(1024, np.int8)
    del wrong["model.decoder.layers.1.encoder_attn.k_proj.weight"]
    save_file(wrong, tmp_path / "model.safetensors")

    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "model.safetensors")

    start, _, problems = str(caught.value).partition(": weights do not match config.json: ")
    assert start == str(tmp_path)
    assert sorted(problems.split("; ")) == [
        "decoder.layers.1.cross_attention.key.kernel is missing",
        "model.decoder.layer_norm.bias is decoder.norm.bias a second time",
        "model.decoder.layers.0.fc1.bias is int8, expected float32, float16 or bfloat16",
        "model.decoder.layers.0.fc1.weight [1024] does not fit decoder.layers.0.feed_forward.fc1.kernel [256, 1024]",
        "model.encoder.conv1.weight [256, 128, 3] does not fit encoder.conv1.kernel [240, 256]",
        "model.encoder.layers.4.fc1.bias has no place in this model",
        "model.lm_head.weight has no place in this model",
    ]


def test_a_wrong_checkpoint_is_cut_short(tmp_path: Path) -> None:
    """Hundreds of mismatches are counted, and eight spelled out in one line; the error carries them all."""
    save_file({"something": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")

    with pytest.raises(CheckpointError, match=r"something has no place in this model; .*; and \d+ more: .*") as caught:
        load(tmp_path / "model.safetensors")

    *shown, more = str(caught.value).split("; ")
    expected = parameters(load(POCKET.weights[0]))
    assert len(shown) == 8
    assert more == f"and {1 + len(expected) - 8} more: stenopool models verify {tmp_path}"
    assert isinstance(caught.value, WeightsMismatch)
    assert caught.value.problems == (
        "something has no place in this model",
        *(f"{path} is missing" for path in expected),
    )


def test_a_header_tells_all_but_the_weights() -> None:
    """Names, shapes and precision are read without a weight."""
    headers = {stored.name: stored for stored in read_headers(POCKET.weights[0])}

    assert headers["model.encoder.conv1.weight"].shape == (256, 80, 3)
    assert {stored.dtype for stored in headers.values()} == {"float16"}
    assert sum(int(np.prod(stored.shape)) for stored in headers.values()) == sum(
        value.size for value in parameters(load(POCKET.weights[0])).values()
    )
