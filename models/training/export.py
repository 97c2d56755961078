"""A model written as Hugging Face has it: what our engine, transformers and, converted, faster-whisper load."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from safetensors.numpy import save_file

from models.checkpoint import Checkpoint
from models.whisper.dims import ModelDimensions
from models.whisper.weights import their_name
from stenopool.errors import EngineError, UsageError

#: Of the checkpoint that training began with: all but the weights, and what is written anew.
_SIDES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "added_tokens.json", "normalizer.json",
    "special_tokens_map.json", "preprocessor_config.json",
)  # fmt: skip


def write_model(
    folder: Path, params: Mapping[str, Array], source: Checkpoint, *, layers: Sequence[int] | None = None
) -> None:
    """Write a folder in one go: who reads it meanwhile sees the old model, or the new one.

    Args:
        folder: replaced.
        params: by our paths.
        source: the checkpoint whose tokenizer and configs it has.
        layers: of the source's decoder, the layers that the model's were copied from; None for all.

    Raises:
        EngineError: a parameter is no number: training has diverged.
        UsageError: the folder cannot be written.
    """
    tensors = {}
    for ours, value in params.items():
        name, transform = their_name(ours)
        plain = np.asarray(transform.undo(jnp.asarray(jax.device_get(value))), np.float16)
        if not np.isfinite(plain).all():
            raise EngineError(f"{name} has numbers that float16 does not hold: training diverged; lower --rate")
        tensors[name] = np.ascontiguousarray(plain)
    new = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        new.mkdir(parents=True)
        for name in _SIDES:
            if (source.folder / name).is_file():
                shutil.copyfile(source.folder / name, new / name)
        config, generation = dict(source.config), dict(source.generation)
        config["dtype"] = "float16"
        config.pop("torch_dtype", None)
        if layers is not None:
            config["decoder_layers"] = len(layers)
            generation |= _heads(generation, layers)
        write_json(new / "config.json", config)
        if generation:
            write_json(new / "generation_config.json", {key: one for key, one in generation.items() if one is not None})
        save_file(tensors, new / "model.safetensors", metadata={"format": "pt"})
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); name another folder") from error


def _heads(generation: Mapping[str, Any], layers: Sequence[int]) -> dict[str, Any]:
    """Heads that follow the words in time, in the layers that are left; None where none of them is."""
    place = {layer: index for index, layer in enumerate(layers)}
    given = generation.get("alignment_heads") or []
    return {"alignment_heads": [[place[layer], head] for layer, head in given if layer in place] or None}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """As the checkpoints' own files are written."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def config_of(dims: ModelDimensions, *, end: int, start: int) -> dict[str, Any]:
    """`config.json` of a model with the tokens that mark a text's end and start."""
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "activation_function": "gelu",
        "scale_embedding": False,
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
        "dropout": 0.0,
        "num_mel_bins": dims.n_mels,
        "max_source_positions": dims.n_audio_ctx,
        "d_model": dims.d_model,
        "encoder_attention_heads": dims.n_audio_head,
        "encoder_layers": dims.n_audio_layer,
        "encoder_ffn_dim": dims.n_audio_ffn,
        "vocab_size": dims.n_vocab,
        "max_target_positions": dims.n_text_ctx,
        "decoder_attention_heads": dims.n_text_head,
        "decoder_layers": dims.n_text_layer,
        "decoder_ffn_dim": dims.n_text_ffn,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": start,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
    }
