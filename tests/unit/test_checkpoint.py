"""Checkpoints: where one lies, what it says of itself, its digest, and the way from the hub."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

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

    done = _python(code, str(copy), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")

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
        ("pytorch_model.bin", r"only pickled weights \(pytorch_model\.bin\).*save_pretrained\(NEW_FOLDER\)"),
        ("flax_model.msgpack", r"no model\.safetensors in .*save_pretrained\(NEW_FOLDER\)"),
    ],
)
def test_other_weights_name_the_conversion(copy: Path, there: str, says: str) -> None:
    """Without safetensors the message says how to make them."""
    (copy / "model.safetensors").rename(copy / there)

    with pytest.raises(CheckpointError, match=says):
        _ = Checkpoint("copy", copy).weights


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


# The hub: huggingface_hub reads its settings at import, so each of these is a process of its own.

FIND = """
import sys
from models.checkpoint import find_checkpoint
from stenopool.errors import StenopoolError
try:
    checkpoint = find_checkpoint(sys.argv[1])
    print(checkpoint.folder)
    print(checkpoint.digest)
except StenopoolError as error:
    print(type(error).__name__, error.retryable, error)
"""

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _python(code: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()} | settings
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _find(home: Path, endpoint: str, name: str = "someone/pocket", **settings: str) -> list[str]:
    """The lines that finding the checkpoint printed, with the hub at `endpoint` and its cache in `home`."""
    hub = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"} | settings
    done = _python(FIND, name, **hub)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


class Hub(BaseHTTPRequestHandler):
    """As much of the model hub as a download needs, over a folder."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, folder: Path, cut: bool, asked: list[str]) -> None:
        self.folder = folder
        self.cut = cut
        self.asked = asked
        super().__init__(*arguments)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """What a file is, without its content."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """A listing, or a file."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        files = sorted(file for file in self.folder.iterdir() if file.is_file())
        if path == "/api/models/someone/pocket/revision/main":
            siblings = [{"rfilename": file.name} for file in files]
            content = json.dumps({"id": "someone/pocket", "sha": COMMIT, "siblings": siblings}).encode()
        elif path == f"/api/models/someone/pocket/tree/{COMMIT}":
            content = json.dumps(
                [
                    {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name.encode().hex()}
                    for file in files
                ]
            ).encode()
        elif match := re.fullmatch(rf"/someone/pocket/resolve/{COMMIT}/([\w.-]+)", path):
            content = (self.folder / match[1]).read_bytes()
            if body:
                self.asked.append(match[1])
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{path.rpartition("/")[2].encode().hex()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body and self.cut and path.endswith(".safetensors"):
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif body:
            self.wfile.write(content)


@contextmanager
def serving(folder: Path, *, cut: bool = False) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub that has one repository, someone/pocket, and the list of files it was asked for.

    With `cut`, the connection breaks in the middle of the weights.
    """
    asked: list[str] = []
    handler = partial(Hub, folder=folder, cut=cut, asked=asked)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def test_a_repository_is_downloaded_once(copy: Path, tmp_path: Path) -> None:
    """A repository's name gives its files, without pickles and doubles; the next time without the hub."""
    (copy / "pytorch_model.bin").write_bytes(b"a pickle")
    (copy / "model.fp32-00001-of-00001.safetensors").write_bytes(b"the same again")
    with serving(copy) as (endpoint, asked):
        folder, digest = _find(tmp_path / "hub", endpoint)

    assert Path(folder).is_relative_to(tmp_path / "hub")
    assert digest == find_checkpoint("pocket").digest
    kept = {file.name for file in POCKET.iterdir() if file.suffix in (".json", ".txt", ".safetensors")}
    assert sorted(asked) == sorted(kept)
    assert {file.name for file in Path(folder).iterdir()} == kept
    assert _find(tmp_path / "hub", endpoint) == [folder, digest]


def test_an_unknown_repository(copy: Path, tmp_path: Path) -> None:
    """What the hub does not have is not worth another try."""
    with serving(copy) as (endpoint, _):
        said = _find(tmp_path, endpoint, "someone/else")

    assert said == [
        "CheckpointError False someone/else: the hub has no such repository, or it needs a token (HF_TOKEN)"
    ]


UNREACHABLE = [
    "HubUnreachable True someone/pocket: not on this machine and the model hub cannot be reached; "
    "connect once, or name a folder that holds the checkpoint"
]


def test_no_network(tmp_path: Path) -> None:
    """Where nothing listens, one clear line that can be tried again."""
    assert _find(tmp_path, "http://127.0.0.1:9") == UNREACHABLE


def test_offline(tmp_path: Path) -> None:
    """Being told to stay offline is the same."""
    assert _find(tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1") == UNREACHABLE


def test_a_connection_that_breaks(copy: Path, tmp_path: Path) -> None:
    """So is a download that ends in the middle of the weights; it leaves nothing that passes for a checkpoint."""
    with serving(copy, cut=True) as (endpoint, _):
        assert _find(tmp_path, endpoint) == UNREACHABLE
    assert _find(tmp_path, endpoint) == UNREACHABLE


def test_a_cache_that_cannot_be_written(copy: Path, tmp_path: Path) -> None:
    """A cache on this machine that does not take files is not the hub's fault."""
    (tmp_path / "file").write_text("in the way")
    with serving(copy) as (endpoint, _):
        (said,) = _find(tmp_path / "file", endpoint)

    assert said.startswith("CheckpointError False someone/pocket: cannot be kept in the hub's cache ([Errno 20]")
    assert said.endswith("set HF_HOME to another folder")
