"""Checkpoints: where one lies, what it says of itself, its digest, and the way from the hub."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.checkpoint import BUNDLED, Checkpoint, find_checkpoint
from models.whisper.dims import ModelDimensions
from stenopool.errors import CheckpointError

POCKET = BUNDLED["pocket"]
CONFIG = json.loads((POCKET / "config.json").read_text())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Pocket's files in a folder of their own."""
    return Path(shutil.copytree(POCKET, tmp_path / "copy"))


def test_the_bundled_model_has_a_name() -> None:
    """`pocket` is at hand without a download."""
    checkpoint = find_checkpoint("pocket")

    assert checkpoint.weights == [POCKET / "model.safetensors"]
    assert checkpoint.generation["lang_to_id"]["<|en|>"] == 1002
    assert checkpoint.dims == ModelDimensions(
        n_mels=80,
        n_audio_ctx=1500,
        d_model=256,
        n_audio_head=4,
        n_audio_layer=4,
        n_audio_ffn=1024,
        n_vocab=2608,
        n_text_ctx=448,
        n_text_head=4,
        n_text_layer=2,
        n_text_ffn=1024,
    )
    assert checkpoint.dims.window == 480_000


def test_a_folder_is_a_checkpoint(copy: Path) -> None:
    """A folder is taken as it is, under the name it was given."""
    assert find_checkpoint(str(copy)) == Checkpoint(str(copy), copy)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("whisper", "no such model; use pocket, a folder, or a repository"),
        ("./whisper", "no such model"),
        ("/no/such/folder", "no such model"),
        ("~/no/such/folder", "no such model"),
        ("one/two/three", "no such model"),
        ("", "no such model"),
        ("not a/repository", "no such model"),
        ("owner/", "no such model"),
        ("~nobody-of-that-name/model", "cannot be looked at"),
        ("n" * 300, "cannot be looked at"),
    ],
)
def test_what_is_no_model_is_refused(name: str, says: str) -> None:
    """A name that is neither bundled, nor a folder, nor a repository's costs one line."""
    with pytest.raises(CheckpointError, match=says) as caught:
        find_checkpoint(name)

    assert len(str(caught.value).splitlines()) == 1


def test_a_file_is_no_checkpoint(copy: Path) -> None:
    """Naming the weights instead of their folder says what to name."""
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: is a file; name the folder that holds config\.json"
    ):
        find_checkpoint(str(copy / "model.safetensors"))


def test_a_folder_without_config(tmp_path: Path) -> None:
    """Any other folder is named, with what it lacks."""
    with pytest.raises(CheckpointError, match=rf"config\.json is missing; is {tmp_path} a Whisper checkpoint\?"):
        _ = find_checkpoint(str(tmp_path)).dims


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"model_type": "whisper"', "not readable as JSON"),
        (b"", "not readable as JSON"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b'{"d_model": ' + b"9" * 5000 + b"}", "not readable as JSON"),
        (b"[]", "expected a JSON object"),
    ],
    ids=["cut off", "empty", "not text", "too deep", "too long a number", "a list"],
)
def test_a_broken_config(copy: Path, content: bytes, says: str) -> None:
    """What is no JSON object is refused by the path of the file."""
    (copy / "config.json").write_bytes(content)

    with pytest.raises(CheckpointError, match=rf"config\.json: {says}.*; fetch the checkpoint again") as caught:
        _ = Checkpoint("copy", copy).dims

    assert str(caught.value).startswith(str(copy))


def test_a_folder_in_place_of_a_file(copy: Path) -> None:
    """A folder called config.json is not readable either."""
    (copy / "config.json").unlink()
    (copy / "config.json").mkdir()

    with pytest.raises(CheckpointError, match="not readable as JSON"):
        _ = Checkpoint("copy", copy).dims


def test_json_is_utf_8_whatever_the_locale(copy: Path) -> None:
    """A checkpoint reads the same under a Latin-1 locale."""
    (copy / "generation_config.json").write_text('{"note": "für"}', encoding="utf-8")
    code = (
        "import sys, pathlib; from models.checkpoint import Checkpoint;"
        "print(ascii(Checkpoint('copy', pathlib.Path(sys.argv[1])).generation['note']))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(copy)],
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.stdout.strip() == r"'f\xfcr'", done.stderr


@pytest.mark.parametrize("model_type", ["bert", None])
def test_a_foreign_model(model_type: str | None) -> None:
    """Another architecture is named as what it is."""
    with pytest.raises(CheckpointError, match=rf"here: not a Whisper checkpoint \(model_type is {model_type!r}\)"):
        ModelDimensions.from_config(CONFIG | {"model_type": model_type}, "here")


def test_wrong_numbers_are_listed_at_once() -> None:
    """Every mismatch of config.json is in one message."""
    config = CONFIG | {
        "activation_function": "relu",
        "scale_embedding": True,
        "d_model": 255,
        "encoder_layers": 0,
        "decoder_layers": -1,
        "vocab_size": "2608",
        "num_mel_bins": None,
        "encoder_ffn_dim": True,
        "max_source_positions": 1500.0,
    }
    del config["max_target_positions"]

    with pytest.raises(CheckpointError) as caught:
        ModelDimensions.from_config(config, "here")

    start, _, problems = str(caught.value).partition(" model: ")
    assert start == "here: config.json does not describe a Whisper"
    assert problems.split("; ") == [
        "activation_function is 'relu', expected 'gelu'",
        "scale_embedding is True, expected False",
        "num_mel_bins is None, expected a positive number",
        "max_source_positions is 1500.0, expected a positive number",
        "encoder_layers is 0, expected a positive number",
        "encoder_ffn_dim is True, expected a positive number",
        "vocab_size is '2608', expected a positive number",
        "max_target_positions is None, expected a positive number",
        "decoder_layers is -1, expected a positive number",
        "d_model is 255, not a multiple of encoder_attention_heads 4",
        "d_model is 255, not a multiple of decoder_attention_heads 4",
    ]


def test_no_generation_config_is_an_empty_one(copy: Path) -> None:
    """Old checkpoints have none; that alone is no error."""
    (copy / "generation_config.json").unlink()

    assert Checkpoint("copy", copy).generation == {}


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ("pytorch_model.bin", r"only pickled weights \(pytorch_model\.bin\), which can run code when loaded;"),
        ("flax_model.msgpack", r"no model\.safetensors in .*;"),
    ],
)
def test_other_weights_name_the_conversion(copy: Path, there: str, says: str) -> None:
    """Without safetensors the message has the command that makes them."""
    (copy / "model.safetensors").rename(copy / there)

    with pytest.raises(CheckpointError, match=f"^copy: {says}") as caught:
        _ = Checkpoint("copy", copy).weights

    command = shlex.split(str(caught.value).partition("convert them once: ")[2])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "the command", "exec")
    assert f"c.from_pretrained('{copy}').save_pretrained('copy-safetensors')" in command[2]


def test_weights_of_the_hub_are_converted_from_there(copy: Path) -> None:
    """Pickles are not in the cache: the command names the repository and the commit."""
    snapshot = copy.parent / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)

    with pytest.raises(CheckpointError) as caught:
        _ = Checkpoint("someone/old@main", snapshot).weights

    assert f"from_pretrained('someone/old', revision='{'0' * 40}').save_pretrained('old-safetensors')" in str(
        caught.value
    )


def test_missing_shards_are_listed(copy: Path) -> None:
    """An index lists its files in order, each once; those that are not there are named together."""
    shards = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    index = {"weight_map": {"a": shards[2], "b": shards[0], "c": shards[1], "d": shards[0]}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    (copy / "model.safetensors").rename(copy / shards[1])

    with pytest.raises(CheckpointError, match=rf"^copy: {shards[0]}, {shards[2]} missing; fetch the checkpoint again$"):
        _ = Checkpoint("copy", copy).weights
    for shard in (shards[0], shards[2]):
        shutil.copy(copy / shards[1], copy / shard)
    assert Checkpoint("copy", copy).weights == [copy / shard for shard in shards]


@pytest.mark.parametrize(
    "weight_map", [None, {}, [], "model.safetensors", {"a": 1}, {"a": "../model.safetensors"}, {"a": "/etc/passwd"}]
)
def test_an_index_names_files_of_its_folder(copy: Path, weight_map: object) -> None:
    """An index without files, or with files from elsewhere, is refused."""
    (copy / "model.safetensors").rename(copy.parent / "model.safetensors")
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    with pytest.raises(CheckpointError, match=r"index\.json: its weight_map names no files of this folder"):
        _ = Checkpoint("copy", copy).weights


def test_the_digest_stays_when_the_folder_moves(copy: Path) -> None:
    """The digest is of what is in the files, not of where they lie nor of what the user calls them."""
    moved = Path(shutil.move(copy, copy.parent / "elsewhere"))
    (moved / "README.md").write_text("Not read.")

    assert Checkpoint("another name", moved).digest == find_checkpoint("pocket").digest


def _flip_last_byte(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("model.safetensors", _flip_last_byte),
        ("generation_config.json", _flip_last_byte),
        ("generation_config.json", Path.unlink),
        ("config.json", _flip_last_byte),
        ("tokenizer.json", _flip_last_byte),
        ("tokenizer_config.json", _flip_last_byte),
        ("vocab.json", _flip_last_byte),
        ("merges.txt", _flip_last_byte),
        ("added_tokens.json", _flip_last_byte),
    ],
)
def test_the_digest_changes_with_what_changes_the_text(copy: Path, file: str, change: Callable[[Path], None]) -> None:
    """One bit of the weights, of a config or of the vocabulary makes it other work."""
    change(copy / file)

    digest = Checkpoint("pocket", copy).digest

    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert digest != find_checkpoint("pocket").digest


def test_a_digest_needs_files_that_can_be_read(copy: Path) -> None:
    """What stands in a file's place and cannot be read is named."""
    (copy / "vocab.json").unlink()
    (copy / "vocab.json").mkdir()

    with pytest.raises(CheckpointError, match=r"vocab\.json: cannot be read \(Is a directory\)"):
        _ = Checkpoint("copy", copy).digest


@pytest.mark.parametrize("name", ["pocket", POCKET])
def test_what_is_no_repository_has_no_revisions(name: str | Path) -> None:
    """A pin on a bundled model or a folder is refused: it would be ignored."""
    with pytest.raises(CheckpointError, match=r"lies on this machine and has no revisions; leave 'main' out$"):
        find_checkpoint(str(name), "main")
    with pytest.raises(CheckpointError, match=r"^pocket: lies on this machine and has no revisions; leave 'v1' out$"):
        find_checkpoint("pocket@v1")


def test_a_folder_may_have_an_at_in_its_name(copy: Path) -> None:
    """What exists is a folder, not a pin."""
    named = copy.rename(copy.parent / "someone@home")

    assert find_checkpoint(str(named)).folder == named


def test_one_revision_at_a_time() -> None:
    """A pin in the name and another beside it do not fit together."""
    with pytest.raises(CheckpointError, match=r"^someone/pocket@main: is asked for at v1, too; name one revision$"):
        find_checkpoint("someone/pocket@main", "v1")
