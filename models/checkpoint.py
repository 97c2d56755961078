"""Checkpoints: where one lies, what it says of itself, and its digest.

A name is, in this order: the bundled model (`pocket`), a folder, or a Hugging Face repository (`openai/whisper-tiny`,
at a revision of one's choice: `openai/whisper-tiny@main`), which is downloaded once into the hub's own cache.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from models.hub import download, kept
from models.whisper.dims import ModelDimensions
from stenopool.errors import CheckpointError

#: Models that travel with the package, by name.
BUNDLED = {"pocket": Path(__file__).parent / "pocket"}

#: Everything besides the weights that changes what they say.
_SIDES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
)

_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # owner/name


@dataclass(frozen=True)
class Checkpoint:
    """A folder in Hugging Face's layout."""

    #: As the user gave it.
    name: str
    folder: Path

    def _json(self, file: str) -> dict[str, Any]:
        path = self.folder / file
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(f"{self.name}: {file} is missing; is {self.folder} a Whisper checkpoint?") from None
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: not readable as JSON ({error}); fetch the checkpoint again") from error
        if not isinstance(content, dict):
            raise CheckpointError(f"{path}: expected a JSON object; fetch the checkpoint again")
        return content

    @property
    def revision(self) -> str | None:
        """The commit, where the folder is a snapshot in the hub's cache."""
        return self.folder.name if self.folder.parent.name == "snapshots" else None

    @cached_property
    def config(self) -> dict[str, Any]:
        """`config.json`."""
        return self._json("config.json")

    @cached_property
    def dims(self) -> ModelDimensions:
        """Sizes, from the config."""
        return ModelDimensions.from_config(self.config, self.name)

    @cached_property
    def generation(self) -> dict[str, Any]:
        """`generation_config.json`: ids of languages, tasks and suppressed tokens. Empty where there is none."""
        return self._json("generation_config.json") if (self.folder / "generation_config.json").exists() else {}

    @cached_property
    def alignment_heads(self) -> tuple[tuple[int, int], ...]:
        """(layer, head) of the decoder's cross-attention that follow the words in time.

        Those of `generation_config.json`, else all of the upper half of the layers (openai/whisper `model.py`).

        Raises:
            CheckpointError: the list is not one of pairs of numbers.
        """
        n_layer, n_head = self.dims.n_text_layer, self.dims.n_text_head
        upper = tuple((layer, head) for layer in range(n_layer // 2, n_layer) for head in range(n_head))
        given = self.generation.get("alignment_heads") or upper
        try:
            heads = tuple(sorted({(int(layer), int(head)) for layer, head in given}))
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.name}: alignment_heads of generation_config.json is not a list of [layer, head]; "
                "fetch the checkpoint again"
            ) from error
        # Distilled checkpoints may still carry the list of their teacher, who has more layers: it says nothing of them.
        inside = all(0 <= layer < n_layer and 0 <= head < n_head for layer, head in heads)
        return heads if inside else upper

    @cached_property
    def weights(self) -> list[Path]:
        """The safetensors file, or all shards of the index.

        Raises:
            CheckpointError: there are none, or a shard is missing; pickled weights are named with the way to convert
                them.
        """
        single, index = self.folder / "model.safetensors", self.folder / "model.safetensors.index.json"
        if single.exists():
            return [single]
        if index.exists():
            shards = self._json(index.name).get("weight_map")
            if not isinstance(shards, dict) or not shards or not all(map(_is_plain_name, shards.values())):
                raise CheckpointError(
                    f"{index}: its weight_map names no files of this folder; fetch the checkpoint again"
                )
            files = [self.folder / name for name in sorted(set(shards.values()))]
            if missing := [file.name for file in files if not file.exists()]:
                raise CheckpointError(f"{self.name}: {', '.join(missing)} missing; fetch the checkpoint again")
            return files
        if pickled := sorted(file.name for file in self.folder.glob("*.bin")):
            raise CheckpointError(
                f"{self.name}: only pickled weights ({pickled[0]}), which can run code when loaded; "
                f"if you trust them, convert them once: {self._conversion}"
            )
        raise CheckpointError(
            f"{self.name}: no model.safetensors in {self.folder}; "
            f"if it has other weights, and you trust them, convert them once: {self._conversion}"
        )

    @property
    def _conversion(self) -> str:
        """The command that makes safetensors of other weights, where torch and transformers are installed."""
        source, pin = str(self.folder), ""
        if self.revision:  # the hub's cache holds no pickles: they are fetched by whoever trusts them
            source, pin = self.name.partition("@")[0], f", revision={self.revision!r}"
        classes = "t.WhisperForConditionalGeneration, t.WhisperTokenizer"
        new = f"{Path(source).name}-safetensors"
        return (
            f'python -c "import transformers as t; [c.from_pretrained({source!r}{pin}).save_pretrained({new!r}) '
            f'for c in ({classes})]"'
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the weights and everything that changes what they say, so that other weights are other work."""
        total = hashlib.sha256()
        for path in [*self.weights, *(self.folder / side for side in _SIDES if (self.folder / side).exists())]:
            try:
                with path.open("rb") as file:
                    total.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:
                raise CheckpointError(
                    f"{path}: cannot be read ({error.strerror}); fetch the checkpoint again"
                ) from error
        return total.hexdigest()


def _is_plain_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name


def find_checkpoint(name: str, revision: str | None = None, *, fetch: bool = True) -> Checkpoint:
    """The checkpoint of that name, downloaded if need be.

    Args:
        name: of a bundled model, a folder, or a repository; `openai/whisper-tiny@main` pins a revision.
        revision: a branch, a tag or a commit of a repository; instead of one after an @.
        fetch: whether the model hub may be asked; else what is not on this machine is missing.

    Raises:
        CheckpointError: there is no such model, or no such revision of it.
        HubUnreachable: it is not on this machine, and the hub does not answer.
    """
    if name in BUNDLED:
        return _unpinned(Checkpoint(name, BUNDLED[name]), revision)
    try:
        folder = Path(name).expanduser()
        is_folder, exists = folder.is_dir(), folder.exists()
    except (OSError, RuntimeError) as error:  # a name too long, a folder closed to us, the home of nobody
        raise CheckpointError(f"{name}: cannot be looked at ({error}); name another folder") from error
    if is_folder and name:  # the empty name would be the current folder
        return _unpinned(Checkpoint(name, folder), revision)
    if exists and name:
        raise CheckpointError(f"{name}: is a file; name the folder that holds config.json and model.safetensors")
    repository, at, pinned = name.partition("@")
    if repository in BUNDLED:
        return _unpinned(Checkpoint(repository, BUNDLED[repository]), pinned)
    if not _REPOSITORY.fullmatch(repository):
        raise CheckpointError(
            f"{name or repr(name)}: no such model; "
            f"use {', '.join(BUNDLED)}, a folder, or a repository such as openai/whisper-tiny"
        )
    if at and revision is not None and revision != pinned:
        raise CheckpointError(f"{name}: is asked for at {revision}, too; name one revision")
    find = download if fetch else kept
    return Checkpoint(name, find(repository, pinned if at else revision))


def _unpinned(checkpoint: Checkpoint, revision: str | None) -> Checkpoint:
    if revision is not None:
        raise CheckpointError(f"{checkpoint.name}: lies on this machine and has no revisions; leave {revision!r} out")
    return checkpoint
