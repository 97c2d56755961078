"""Whether a checkpoint is whole: everything that a transcription would trip over, found beforehand and all at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors import safe_open

from models.checkpoint import Checkpoint
from models.hub import promised_sha256
from models.tokens import Vocabulary
from models.whisper.weights import Stored, match, read_headers
from stenopool.errors import CheckpointError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found."""

    #: One line each, with the path or the name of what is wrong; none for a whole checkpoint.
    problems: tuple[str, ...]
    n_tensors: int
    #: In which the weights are stored.
    dtypes: tuple[str, ...]
    #: Files whose hash is what the hub says.
    hashed: tuple[str, ...]
    #: Of the whole checkpoint; None where it cannot be made.
    digest: str | None


def verify(checkpoint: Checkpoint) -> Verified:
    """Read all of a checkpoint: configs, tokenizer, every tensor's name, shape, precision and values, and hashes."""
    problems: list[str] = []

    def tried(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except CheckpointError as error:
            problems.append(str(error))
            return None

    dims = tried(lambda: checkpoint.dims)
    files = tried(lambda: checkpoint.weights) or []
    headers = {file: tensors for file in files if (tensors := tried(partial(read_headers, file))) is not None}
    stored = [tensor for tensors in headers.values() for tensor in tensors]
    if dims and files and len(headers) == len(files):  # what is missing lies in the files that cannot be read
        problems += [f"{checkpoint.folder}: {problem}" for problem in match(dims, stored)[1]]
    for file, tensors in headers.items():
        problems += [f"{file}: {problem}" for problem in _not_finite(file, tensors)]
    if dims:
        tried(lambda: Vocabulary(checkpoint))
        tried(lambda: checkpoint.alignment_heads)
    promised = {file: digest for file in files if (digest := promised_sha256(file))}
    wrong = {file for file, digest in promised.items() if _sha256(file) != digest}
    problems += [
        f"{file}: its SHA-256 is not {promised[file]}, as the hub has it; delete {file.resolve()} and fetch it again"
        for file in sorted(wrong)
    ]
    digest = tried(lambda: checkpoint.digest) if files else None
    return Verified(
        problems=tuple(dict.fromkeys(problems)),  # one broken file may trip several of these
        n_tensors=len(stored),
        dtypes=tuple(sorted({tensor.dtype for tensor in stored})),
        hashed=tuple(file.name for file in promised if file not in wrong),
        digest=digest,
    )


def _not_finite(file: Path, tensors: list[Stored]) -> Iterator[str]:
    """Tensors with infinite numbers or none; a tensor at a time is in memory."""
    with safe_open(file, framework="numpy") as content:
        for name, shape, dtype in ((tensor.name, tensor.shape, tensor.dtype) for tensor in tensors):
            if "float" not in dtype:
                continue
            finite = np.isfinite(content.get_tensor(name))
            if not finite.all():
                n_wrong = finite.size - int(finite.sum())
                first = [int(index) for index in np.argwhere(~finite)[0]]
                yield f"{name} {list(shape)} has {n_wrong} numbers that are not finite, the first at {first}"


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
