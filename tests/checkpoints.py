"""Checkpoints with the tokenizers of the published models and small random weights."""

from __future__ import annotations

import json
from pathlib import Path

from models.checkpoint import Checkpoint
from tests.references import weights
from tests.references.tokenizer_files import KINDS, write_tokenizer

#: A model of each kind of vocabulary, small but for that.
SHAPES = {
    kind: {"d": 32, "heads": 2, "encoder": 2, "decoder": 2, "mels": 128 if kind == "large-v3" else 80, "vocab": vocab}
    for kind, vocab in zip(KINDS, (51864, 51865, 51866), strict=True)
}


def write_unweighted(kind: str, folder: Path, *, as_parts: bool = False) -> Checkpoint:
    """A checkpoint without weights: `english`, `multilingual` or `large-v3`."""
    assert write_tokenizer(kind, folder, as_parts=as_parts) == SHAPES[kind]["vocab"]
    weights.CONFIGS[kind] = SHAPES[kind]
    (folder / "config.json").write_text(json.dumps(weights.hf_config(kind)))
    return Checkpoint(kind, folder)


def write_checkpoint(kind: str, folder: Path) -> Checkpoint:
    """A whole checkpoint."""
    checkpoint = write_unweighted(kind, folder)
    weights.write_checkpoint(kind, folder)
    return checkpoint
