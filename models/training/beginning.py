"""The beginning: a checkpoint that knows nothing yet, with a vocabulary of its own; or half of one that knows much.

Training always begins with a folder in Hugging Face's layout, so that there is one way on from it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from models.checkpoint import Checkpoint
from models.tokens import quiet_transformers
from models.training.clock import N_TIMESTAMPS, sinusoids
from models.training.export import config_of, write_json, write_model
from models.training.state import Params, flat, read_params
from models.whisper.dims import ModelDimensions
from models.whisper.modules import Whisper
from stenopool.errors import UsageError

_N_MELS = 80
_N_LANGUAGES = 99
#: Characters that every byte stands for in a byte-level vocabulary, without which no text could be written.
_N_BYTES = 256


@dataclass(frozen=True, slots=True)
class Size:
    """Of a model that is trained from nothing."""

    width: int
    n_audio_layer: int
    n_text_layer: int
    n_head: int
    #: Positions of sound, 20 ms each, and of text.
    n_audio_ctx: int = 1500
    n_text_ctx: int = 448

    def dims(self, n_vocab: int) -> ModelDimensions:
        """With a vocabulary of so many tokens; feed-forwards are four times as wide, as in every Whisper."""
        return ModelDimensions(
            n_mels=_N_MELS,
            n_audio_ctx=self.n_audio_ctx,
            d_model=self.width,
            n_audio_head=self.n_head,
            n_audio_layer=self.n_audio_layer,
            n_audio_ffn=4 * self.width,
            n_vocab=n_vocab,
            n_text_ctx=self.n_text_ctx,
            n_text_head=self.n_head,
            n_text_layer=self.n_text_layer,
            n_text_ffn=4 * self.width,
        )


#: Those that have names.
SIZES = {"pocket": Size(256, 4, 2, 4), "speck": Size(32, 1, 1, 2)}


def write_newborn(folder: Path, size: Size, texts: Iterable[str], *, n_pairs: int, seed: int) -> Checkpoint:
    """A new model with random weights, and a vocabulary of byte pairs that is made for these texts.

    Args:
        folder: where it is written.
        size: of the model.
        texts: what the vocabulary is to write well.
        n_pairs: tokens besides those that steer, bytes among them.
        seed: of the weights.
    """
    if n_pairs < _N_BYTES:
        raise UsageError(f"a vocabulary of {n_pairs} has no room for every byte; {_N_BYTES} at least")
    sides = folder.with_name(f".{folder.name}.vocabulary")
    end = _write_vocabulary(sides, texts, n_pairs, size.n_text_ctx)
    dims = size.dims(end + len(_steering()) + N_TIMESTAMPS)
    write_json(sides / "config.json", config_of(dims, end=end, start=end + 1))
    write_model(folder, newborn(dims, seed), Checkpoint(folder.name, sides))
    shutil.rmtree(sides)
    return Checkpoint(folder.name, folder)


def newborn(dims: ModelDimensions, seed: int) -> Params:
    """Random parameters; the encoder's positions are the sinusoids that every Whisper has."""
    params = flat(Whisper(dims, dtype=jnp.float32, rngs=nnx.Rngs(seed)))
    drawn = np.random.default_rng([seed, 6]).standard_normal(params["decoder.positions"].shape) * 0.01
    return params | {
        "encoder.positions": jnp.asarray(sinusoids(dims.n_audio_ctx, dims.d_model)),
        "decoder.positions": jnp.asarray(drawn, jnp.float32),
    }


def _steering() -> list[str]:
    """In the order of every Whisper vocabulary."""
    quiet_transformers()
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    languages = [f"<|{code}|>" for code in list(LANGUAGES)[:_N_LANGUAGES]]
    tasks = ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    return ["<|endoftext|>", "<|startoftranscript|>", *languages, *tasks]


def _write_vocabulary(folder: Path, texts: Iterable[str], n_pairs: int, n_text_ctx: int) -> int:
    """All of a tokenizer's files; returns the id of <|endoftext|>, the first beyond the byte pairs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=n_pairs, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )  # fmt: skip
    tokenizer.train_from_iterator((f" {text}" for text in texts), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))  # vocab.json and merges.txt
    end = tokenizer.get_vocab_size()
    steering = _steering()
    times = [f"<|{number * 0.02:.2f}|>" for number in range(N_TIMESTAMPS)]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in steering])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in times])
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = {token: end + number for number, token in enumerate([*steering, *times])}
    write_json(folder / "added_tokens.json", ids)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "WhisperTokenizer",
            **dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<|endoftext|>"),
            "additional_special_tokens": steering[1:],
            "errors": "replace",
            "model_max_length": n_text_ctx,
            "clean_up_tokenization_spaces": False,
        },
    )
    space = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))["Ġ"]
    write_json(
        folder / "generation_config.json",
        {
            **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end),
            "decoder_start_token_id": ids["<|startoftranscript|>"],
            "max_length": n_text_ctx,
            "max_initial_timestamp_index": 50,
            "is_multilingual": True,
            "lang_to_id": {token: ids[token] for token in steering[2 : 2 + _N_LANGUAGES]},
            "task_to_id": {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
            "no_timestamps_token_id": ids["<|notimestamps|>"],
            "prev_sot_token_id": ids["<|startofprev|>"],
            "return_timestamps": False,
            "suppress_tokens": [],
            "begin_suppress_tokens": [space, end],
        },
    )
    write_json(
        folder / "preprocessor_config.json",
        {
            "feature_extractor_type": "WhisperFeatureExtractor",
            "chunk_length": 30,
            "feature_size": _N_MELS,
            "hop_length": 160,
            "n_fft": 400,
            "n_samples": 480_000,
            "nb_max_frames": 3000,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": False,
            "sampling_rate": 16_000,
        },
    )
    return end


def spaced(n: int, of: int) -> list[int]:
    """So many of a number of layers, as far apart as can be: the first and the last where there are two.

    Raises:
        UsageError: there are not as many, or none is asked for.
    """
    if not 1 <= n <= of:
        raise UsageError(f"{n} decoder layers of a teacher with {of}; choose from 1 to {of}")
    return [0] if n == 1 else [round(index * (of - 1) / (n - 1)) for index in range(n)]


def write_student(folder: Path, teacher: Checkpoint, n_layers: int) -> Checkpoint:
    """A checkpoint with the teacher's encoder and some of its decoder's layers (Gandhi et al. 2023).

    Raises:
        CheckpointError: the teacher's weights do not fit.
        UsageError: it has not as many layers.
    """
    layers = spaced(n_layers, teacher.dims.n_text_layer)
    params = read_params(teacher.dims, teacher.weights)
    kept = {name: value for name, value in params.items() if not name.startswith("decoder.layers.")}
    for new, old in enumerate(layers):
        prefix = f"decoder.layers.{old}."
        kept |= {
            f"decoder.layers.{new}.{name.removeprefix(prefix)}": value
            for name, value in params.items()
            if name.startswith(prefix)
        }
    write_model(folder, kept, teacher, layers=layers)
    return Checkpoint(f"{teacher.name}, {n_layers} decoder layers", folder)
