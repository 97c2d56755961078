"""What is known of a checkpoint without its weights: for people who choose one, and for sizing a machine."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from models.checkpoint import BUNDLED, Checkpoint
from models.hub import snapshots
from models.memory import Memory, memory, n_parameters
from models.tokens import SpecialTokens, Vocabulary, english_name
from models.whisper.dims import ModelDimensions
from models.whisper.weights import read_headers
from stenopool.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A checkpoint on this machine."""

    name: str
    #: The commit, for a repository's.
    revision: str | None
    #: Branches and tags that were this commit when they were last asked for.
    refs: tuple[str, ...]
    folder: Path
    #: Bytes on disk.
    size: int
    dims: ModelDimensions | None
    n_languages: int | None
    #: Why it cannot be used; None if nothing speaks against it.
    problem: str | None


def list_checkpoints() -> list[Listed]:
    """The bundled checkpoints, and every Whisper checkpoint in the hub's cache."""
    listed = [
        _listed(Checkpoint(name, folder), (), sum(file.stat().st_size for file in _files(folder)))
        for name, folder in BUNDLED.items()
    ]
    for snapshot in snapshots():
        checkpoint = Checkpoint(snapshot.repository, snapshot.folder)
        if _is_whisper(checkpoint):
            listed.append(_listed(checkpoint, snapshot.refs, snapshot.size))
    return listed


def _is_whisper(checkpoint: Checkpoint) -> bool:
    try:
        return checkpoint.config.get("model_type") == "whisper"
    except CheckpointError:  # the cache is full of other things
        return False


def _listed(checkpoint: Checkpoint, refs: tuple[str, ...], size: int) -> Listed:
    dims: ModelDimensions | None = None
    n_languages: int | None = None
    problem: str | None = None
    try:
        dims = checkpoint.dims
        n_languages = len(languages(checkpoint))
        _ = checkpoint.weights
    except CheckpointError as error:
        problem = str(error)
    return Listed(
        name=checkpoint.name,
        revision=checkpoint.revision,
        refs=refs,
        folder=checkpoint.folder,
        size=size,
        dims=dims,
        n_languages=n_languages,
        problem=problem,
    )


def languages(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Codes of the languages that it writes.

    Raises:
        CheckpointError: neither its generation config nor its tokenizer says so.
    """
    if checkpoint.generation.get("is_multilingual") is False:
        return ("en",)
    known = checkpoint.generation.get("lang_to_id")
    if isinstance(known, dict) and known:  # without loading a tokenizer, which takes a second
        return tuple(sorted(token[2:-2] for token in known))
    return tuple(sorted(Vocabulary(checkpoint).special.languages)) or ("en",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """All that there is to know of a checkpoint."""

    name: str
    folder: Path
    revision: str | None
    digest: str
    dims: ModelDimensions
    n_parameters: int
    #: Code -> English name.
    languages: dict[str, str]
    #: How many numbers are stored in which precision.
    stored: dict[str, int]
    #: Name -> bytes.
    files: dict[str, int]
    alignment_heads: tuple[tuple[int, int], ...]
    #: Whether the checkpoint names them; else they are the upper half of the decoder.
    alignment_given: bool
    special: SpecialTokens
    #: By precision in memory; int8 with bfloat16 for the rest, as on accelerators.
    memory: dict[str, Memory]


def describe(checkpoint: Checkpoint) -> Description:
    """Read everything but the weights, which are only hashed.

    Raises:
        CheckpointError: it is damaged or foreign.
    """
    dims = checkpoint.dims
    stored: dict[str, int] = {}
    for file in checkpoint.weights:
        for tensor in read_headers(file):
            stored[tensor.dtype] = stored.get(tensor.dtype, 0) + prod(tensor.shape)
    given = checkpoint.generation.get("alignment_heads") or ()
    return Description(
        name=checkpoint.name,
        folder=checkpoint.folder,
        revision=checkpoint.revision,
        digest=checkpoint.digest,
        dims=dims,
        n_parameters=n_parameters(dims),
        languages={code: english_name(code) for code in languages(checkpoint)},
        stored=stored,
        files={file.name: file.stat().st_size for file in _files(checkpoint.folder)},
        alignment_heads=checkpoint.alignment_heads,
        alignment_given={tuple(pair) for pair in given} == set(checkpoint.alignment_heads),
        special=Vocabulary(checkpoint).special,
        memory={dtype: memory(dims, dtype) for dtype in ("float32", "bfloat16", "int8")},
    )


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file())
