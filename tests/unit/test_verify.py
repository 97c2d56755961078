"""Checkpoints that are whole, and all the ways in which they are not, each found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.checkpoint import BUNDLED, Checkpoint, find_checkpoint
from models.verify import verify
from tests.checkpoints import write_checkpoint

POCKET = BUNDLED["pocket"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Pocket's files in a folder of their own."""
    return Path(shutil.copytree(POCKET, tmp_path / "copy"))


def problems(folder: Path) -> list[str]:
    """What is wrong with a checkpoint, paths cut short."""
    return [line.replace(f"{folder}", "copy") for line in verify(Checkpoint("copy", folder)).problems]


def change(folder: Path, name: str, make: Callable[[np.ndarray], np.ndarray]) -> None:
    """Another tensor of that name."""
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = make(tensors[name])
    save_file(tensors, folder / "model.safetensors")


def test_a_whole_checkpoint() -> None:
    """Nothing is wrong with the bundled one."""
    found = verify(find_checkpoint("pocket"))

    assert found.problems == ()
    assert (found.n_tensors, found.dtypes, found.hashed) == (119, ("float16",), ())
    assert found.digest == find_checkpoint("pocket").digest


@pytest.mark.parametrize("kind", ["english", "large-v3"])
def test_published_kinds(tmp_path: Path, kind: str) -> None:
    """Nor with those of the published sizes of vocabulary, without a generation config."""
    assert verify(write_checkpoint(kind, tmp_path)).problems == ()


def test_every_mismatch_is_listed(copy: Path) -> None:
    """However many: missing, foreign, mis-shaped, each with its folder, its path, and both shapes."""
    tensors = load_file(copy / "model.safetensors")
    wrong = {f"model.other.{i}": np.zeros(1, np.float32) for i in range(20)}
    wrong |= {name: value for name, value in tensors.items() if "decoder.layers.1." not in name}
    wrong["model.encoder.conv1.weight"] = np.zeros((256, 128, 3), np.float16)
    save_file(wrong, copy / "model.safetensors")

    found = problems(copy)

    assert [line for line in found if "has no place" in line] == [
        f"copy: model.other.{i} has no place in this model" for i in sorted(range(20), key=str)
    ]
    n_missing = sum("decoder.layers.1." in name for name in tensors)
    assert n_missing > 20
    assert sum(line.endswith(" is missing") for line in found) == n_missing
    assert "copy: model.encoder.conv1.weight [256, 128, 3] does not fit encoder.conv1.kernel [240, 256]" in found
    assert len(found) == 20 + n_missing + 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(copy: Path, value: float) -> None:
    """A tensor with a number that is not finite is named, with the place of the first."""

    def spoil(tensor: np.ndarray) -> np.ndarray:
        tensor[[17, 40], 3] = value
        return tensor

    change(copy, "model.decoder.layers.0.fc1.weight", spoil)

    assert problems(copy) == [
        "copy/model.safetensors: model.decoder.layers.0.fc1.weight [1024, 256] has 2 numbers that are not finite, "
        "the first at [17, 3]"
    ]


def test_damage_of_several_kinds_at_once(copy: Path) -> None:
    """Truncated weights, a broken tokenizer, foreign heads: all are found in one go, each once."""
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    (copy / "tokenizer.json").write_text("{")
    generation = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(generation | {"alignment_heads": [5]}))

    found = problems(copy)

    assert len(found) == 3
    assert found[0].startswith("copy/model.safetensors: damaged or incomplete weights")
    assert found[1].startswith("copy: its tokenizer does not load")
    assert found[2].startswith("copy: alignment_heads of generation_config.json is not a list")


def test_a_broken_config_is_one_problem(copy: Path) -> None:
    """What cannot be judged without it is not reported as wrong."""
    (copy / "config.json").write_text('{"model_type": "bert"}')

    assert problems(copy) == [
        "copy: not a Whisper checkpoint (model_type is 'bert'); name a Whisper or Distil-Whisper repository or folder"
    ]


def test_a_broken_generation_config_is_one_problem(copy: Path) -> None:
    """However many need it."""
    (copy / "generation_config.json").write_text("{")

    (found,) = problems(copy)
    assert found.startswith("copy/generation_config.json: not readable as JSON")


def test_pickled_weights(copy: Path) -> None:
    """They are refused with the command that converts them; the rest is still looked at."""
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    (copy / "tokenizer.json").write_text("{")

    found = verify(Checkpoint("copy", copy))

    assert found.digest is None
    assert found.problems[0].startswith(
        "copy: only pickled weights (pytorch_model.bin), which can run code when loaded;"
    )
    assert "save_pretrained('copy-safetensors')" in found.problems[0]
    assert found.problems[1].startswith("copy: its tokenizer does not load")
    assert len(found.problems) == 2


def test_one_of_two_shards_is_damaged(copy: Path) -> None:
    """It is named; the tensors that were in it are not reported as missing."""
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, copy / file)
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert problems(copy) == []

    (copy / "model-00002-of-00002.safetensors").write_bytes(b"")

    (found,) = problems(copy)
    assert found.startswith("copy/model-00002-of-00002.safetensors: damaged or incomplete weights")
