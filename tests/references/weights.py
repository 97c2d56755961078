"""Random Whisper checkpoints that every framework can make alike: numpy alone, one generator per parameter name.

Used by the script that records references (with torch) and by the tests that compare against them (without).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: Shapes of published models; `large_v3` is cut to two layers each, `distil` has Distil-Whisper's few decoder layers.
CONFIGS: dict[str, dict[str, int]] = {
    "tiny": {"d": 384, "heads": 6, "encoder": 4, "decoder": 4, "mels": 80, "vocab": 51865},
    "large_v3": {"d": 1280, "heads": 20, "encoder": 2, "decoder": 2, "mels": 128, "vocab": 51866},
    "distil": {"d": 768, "heads": 12, "encoder": 4, "decoder": 2, "mels": 80, "vocab": 51865},
}


def hf_config(name: str) -> dict[str, Any]:
    """`config.json` of that shape."""
    shape = CONFIGS[name]
    return {
        "model_type": "whisper",
        "d_model": shape["d"],
        "encoder_layers": shape["encoder"],
        "decoder_layers": shape["decoder"],
        "encoder_attention_heads": shape["heads"],
        "decoder_attention_heads": shape["heads"],
        "encoder_ffn_dim": 4 * shape["d"],
        "decoder_ffn_dim": 4 * shape["d"],
        "num_mel_bins": shape["mels"],
        "vocab_size": shape["vocab"],
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "activation_function": "gelu",
        "scale_embedding": False,
    }


def shapes(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Hugging Face's parameter names and shapes."""
    shape = CONFIGS[name]
    d = shape["d"]
    yield "model.encoder.conv1.weight", (d, shape["mels"], 3)
    yield "model.encoder.conv1.bias", (d,)
    yield "model.encoder.conv2.weight", (d, d, 3)
    yield "model.encoder.conv2.bias", (d,)
    yield "model.encoder.embed_positions.weight", (1500, d)
    yield "model.decoder.embed_positions.weight", (448, d)
    yield "model.decoder.embed_tokens.weight", (shape["vocab"], d)
    for side, attentions in (("encoder", ("self_attn",)), ("decoder", ("self_attn", "encoder_attn"))):
        for layer in range(shape[side]):
            prefix = f"model.{side}.layers.{layer}"
            for attention in attentions:
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    yield f"{prefix}.{attention}.{part}.weight", (d, d)
                    if part != "k_proj":
                        yield f"{prefix}.{attention}.{part}.bias", (d,)
                yield f"{prefix}.{attention}_layer_norm.weight", (d,)
                yield f"{prefix}.{attention}_layer_norm.bias", (d,)
            yield f"{prefix}.fc1.weight", (4 * d, d)
            yield f"{prefix}.fc1.bias", (4 * d,)
            yield f"{prefix}.fc2.weight", (d, 4 * d)
            yield f"{prefix}.fc2.bias", (d,)
            yield f"{prefix}.final_layer_norm.weight", (d,)
            yield f"{prefix}.final_layer_norm.bias", (d,)
        yield f"model.{side}.layer_norm.weight", (d,)
        yield f"model.{side}.layer_norm.bias", (d,)


def state_dict(name: str) -> dict[str, np.ndarray]:
    """All parameters, float32; scaled so that logits spread by about 1 and no argmax is a coin toss."""
    state = {}
    for key, shape in shapes(name):
        rng = np.random.default_rng(zlib.crc32(f"{name}/{key}".encode()))
        values = rng.standard_normal(shape, np.float32)
        if key.endswith("norm.weight"):
            values = 1 + 0.1 * values
        elif len(shape) == 1 or "embed_positions" in key:
            values *= 0.1
        elif "embed_tokens" in key:
            values *= shape[1] ** -0.5
        else:
            values *= 1.2 * float(np.prod(shape[1:])) ** -0.5
        state[key] = values
    return state


def write_checkpoint(name: str, folder: Path) -> Path:
    """The checkpoint in Hugging Face's layout, without a tokenizer."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hf_config(name)))
    save_file(state_dict(name), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def sound(seconds: float = 30.0) -> np.ndarray:
    """int16 at 16 kHz: gliding harmonics in syllables, noise, and a second and a half of silence."""
    t = np.arange(round(seconds * 16_000)) / 16_000
    pitch = 120 + 40 * np.sin(2 * np.pi * 0.31 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    voice = sum(np.sin(k * phase) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 3.7 * t) + 0.3, 0, 1)
    noise = np.random.default_rng(7).standard_normal(len(t)) * 0.02
    mixed = 0.2 * voice * syllables + noise
    mixed[(t > 11) & (t < 12.5)] = 0
    return np.asarray(np.clip(mixed, -1, 1) * 32767, np.int16)


#: Frames of the log-mel references that are kept.
MEL_FRAMES = np.unique(
    np.concatenate([np.arange(12), np.arange(5, 3000, 23), np.arange(1095, 1110), np.arange(2988, 3000)])
)
#: Every so many-th entry of the vocabulary is kept of the logits.
VOCAB_STEP = 101
#: Teacher-forced tokens: a prompt, text and timestamps.
FORCED = (50258, 50259, 50359, 50364, 440, 1002, 13, 50464, 50464, 220, 31415, 2718, 77, 50564)
PLAIN_STEPS = 24
#: The same for the bundled model, whose vocabulary is small.
POCKET_VOCAB_STEP = 13
