"""The smallest set of numbers that builds a Whisper model, read from a checkpoint's `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stenopool.domain import SAMPLE_RATE
from stenopool.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDimensions:
    """Sizes of a Whisper or Distil-Whisper model."""

    n_mels: int
    #: Encoder positions; each stands for two feature frames, 20 ms.
    n_audio_ctx: int
    d_model: int
    n_audio_head: int
    n_audio_layer: int
    n_audio_ffn: int
    n_vocab: int
    #: Decoder positions: prompt and text together.
    n_text_ctx: int
    n_text_head: int
    n_text_layer: int
    n_text_ffn: int

    @property
    def window(self) -> int:
        """Samples at 16 kHz that the model hears at once: 480,000 (30 s) for every published checkpoint."""
        return self.n_audio_ctx * 2 * (SAMPLE_RATE // 100)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str) -> ModelDimensions:
        """Read Hugging Face's `config.json`.

        Raises:
            CheckpointError: it is not a Whisper config, or uses a variation that no published checkpoint has;
                every mismatch is listed.
        """
        if config.get("model_type") != "whisper":
            raise CheckpointError(
                f"{where}: not a Whisper checkpoint (model_type is {config.get('model_type')!r}); "
                "name a Whisper or Distil-Whisper repository or folder"
            )
        problems = [
            f"{name} is {config[name]!r}, expected {expected!r}"
            for name, expected in (("activation_function", "gelu"), ("scale_embedding", False))
            if config.get(name, expected) != expected
        ]
        names = {
            "n_mels": "num_mel_bins",
            "n_audio_ctx": "max_source_positions",
            "d_model": "d_model",
            "n_audio_head": "encoder_attention_heads",
            "n_audio_layer": "encoder_layers",
            "n_audio_ffn": "encoder_ffn_dim",
            "n_vocab": "vocab_size",
            "n_text_ctx": "max_target_positions",
            "n_text_head": "decoder_attention_heads",
            "n_text_layer": "decoder_layers",
            "n_text_ffn": "decoder_ffn_dim",
        }
        numbers: dict[str, int] = {}
        for ours, theirs in names.items():
            value = config.get(theirs)
            if type(value) is int and value > 0:  # True is an int, too
                numbers[ours] = value
            else:
                problems.append(f"{theirs} is {value!r}, expected a positive number")
        d_model = numbers.get("d_model", 0)
        problems += [
            f"d_model is {d_model}, not a multiple of {names[heads]} {numbers[heads]}"
            for heads in ("n_audio_head", "n_text_head")
            if d_model % numbers.get(heads, 1)
        ]
        if problems:
            raise CheckpointError(f"{where}: config.json does not describe a Whisper model: {'; '.join(problems)}")
        return cls(**numbers)
