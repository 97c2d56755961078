"""openai/whisper with other weights than its own: random ones, and those of a folder in Hugging Face's layout.

openai/whisper knows two vocabularies and tells them apart by their size. A folder brings its own: its model says itself
that it is multilingual, and within `Peer.speaking` openai/whisper takes the folder's tokenizer.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tiktoken
import torch
import whisper
from safetensors.torch import load_file
from weights import hf_config, state_dict
from whisper.model import ModelDimensions
from whisper.tokenizer import Tokenizer, get_encoding

#: Hugging Face's names to openai's, in order.
RENAMES = (
    ("model.", ""),
    ("encoder.embed_positions.weight", "encoder.positional_embedding"),
    ("decoder.embed_positions.weight", "decoder.positional_embedding"),
    ("decoder.embed_tokens", "decoder.token_embedding"),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
    (".layers.", ".blocks."),
    ("self_attn_layer_norm", "attn_ln"),
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("final_layer_norm", "mlp_ln"),
    ("self_attn", "attn"),
    ("encoder_attn", "cross_attn"),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    ("fc1", "mlp.0"),
    ("fc2", "mlp.2"),
)

_DECODING = importlib.import_module("whisper.decoding")
_TRANSCRIBE = importlib.import_module("whisper.transcribe")  # `whisper.transcribe` is the function


class SmallVocabulary(whisper.model.Whisper):
    """openai/whisper's model, multilingual whatever the size of its vocabulary."""

    is_multilingual = True
    num_languages = 99


@dataclass
class FolderTokenizer(Tokenizer):
    """openai/whisper's tokenizer on a folder's vocabulary, with the suppress list of its generation config."""

    suppressed: tuple[int, ...] = ()

    @cached_property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """What `suppress_tokens="-1"` stands for."""
        return self.suppressed


MakeTokenizer = Callable[..., Tokenizer]


@dataclass(frozen=True)
class Peer:
    """A model and the tokenizer that goes with it."""

    model: whisper.model.Whisper
    #: As `whisper.tokenizer.get_tokenizer`; None for openai's own.
    make_tokenizer: MakeTokenizer | None = None

    def tokenizer(self, language: str = "en", task: str = "transcribe") -> Tokenizer:
        """For one language and task."""
        make = self.make_tokenizer or whisper.tokenizer.get_tokenizer
        return make(True, num_languages=self.model.num_languages, language=language, task=task)

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Within, openai/whisper's `decode` and `transcribe` use this tokenizer."""
        if self.make_tokenizer is None:
            yield
            return
        with (
            mock.patch.object(_DECODING, "get_tokenizer", self.make_tokenizer),
            mock.patch.object(_TRANSCRIBE, "get_tokenizer", self.make_tokenizer),
        ):
            yield


def _model(
    config: dict[str, Any],
    state: dict[str, torch.Tensor],
    make: Callable[[ModelDimensions], whisper.model.Whisper] = whisper.model.Whisper,
) -> whisper.model.Whisper:
    """Hugging Face's config and weights in openai/whisper's model, float32."""
    dims = ModelDimensions(
        n_mels=config["num_mel_bins"],
        n_audio_ctx=config["max_source_positions"],
        n_audio_state=config["d_model"],
        n_audio_head=config["encoder_attention_heads"],
        n_audio_layer=config["encoder_layers"],
        n_vocab=config["vocab_size"],
        n_text_ctx=config["max_target_positions"],
        n_text_state=config["d_model"],
        n_text_head=config["decoder_attention_heads"],
        n_text_layer=config["decoder_layers"],
    )
    renamed = {}
    for key, value in state.items():
        if key == "proj_out.weight":  # the embedding again
            continue
        for theirs, ours in RENAMES:
            key = key.replace(theirs, ours)
        renamed[key] = value.float()
    model = make(dims)
    model.load_state_dict(renamed)
    return model.eval()


def random_peer(name: str) -> Peer:
    """The random checkpoint of that name, with openai's tokenizer; alignment heads as openai takes them by default."""
    state = {key: torch.from_numpy(value) for key, value in state_dict(name).items()}
    return Peer(_model(hf_config(name), state))


def folder_peer(folder: Path) -> Peer:
    """A checkpoint from disk with its own tokenizer, suppress list and alignment heads."""
    config = json.loads((folder / "config.json").read_text())
    generation = json.loads((folder / "generation_config.json").read_text())
    model = _model(config, load_file(folder / "model.safetensors"), SmallVocabulary)
    if heads := generation.get("alignment_heads"):
        chosen = torch.zeros(model.dims.n_text_layer, model.dims.n_text_head, dtype=torch.bool)
        chosen[tuple(np.array(heads).T)] = True
        model.register_buffer("alignment_heads", chosen.to_sparse(), persistent=False)
    encoding = _encoding(folder, config["vocab_size"])

    def make_tokenizer(
        multilingual: bool, *, num_languages: int = 99, language: str | None = None, task: str | None = None
    ) -> Tokenizer:
        tokenizer = FolderTokenizer(
            encoding,
            num_languages,
            language or "en",
            task or "transcribe",
            suppressed=tuple(generation.get("suppress_tokens") or ()),
        )
        expected = generation["lang_to_id"][f"<|{language or 'en'}|>"]
        assert tokenizer.sot_sequence[1] == expected, "the languages are not in openai's order"
        return tokenizer

    return Peer(model, make_tokenizer)


def _encoding(folder: Path, n_vocab: int) -> tiktoken.Encoding:
    """A byte-level BPE as tiktoken's: there a token's rank is its id, which holds where ids follow the merges."""
    vocabulary: dict[str, int] = json.loads((folder / "vocab.json").read_text())
    special: dict[str, int] = json.loads((folder / "added_tokens.json").read_text())
    byte_of = _bytes_of_letters()
    ranks = {
        bytes(byte_of[letter] for letter in token): index for token, index in vocabulary.items() if token not in special
    }
    return tiktoken.Encoding(
        name=folder.name,
        explicit_n_vocab=n_vocab,
        pat_str=get_encoding("multilingual")._pat_str,
        mergeable_ranks=ranks,
        special_tokens=special,
    )


def _bytes_of_letters() -> dict[str, int]:
    """GPT-2's letters for bytes, backwards: printable ones stand for themselves, the others for U+0100 and on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def special_tokens(peer: Peer) -> dict[str, Any]:
    """The ids that steer decoding, and what is suppressed by default."""
    tokenizer = peer.tokenizer()
    # openai's order is a set's: another one in every process.
    languages = sorted(zip(tokenizer.all_language_tokens, tokenizer.all_language_codes, strict=True))
    with peer.speaking():
        task = whisper.decoding.DecodingTask(peer.model, whisper.DecodingOptions(language="en", fp16=False))
    return {
        "end_of_text": tokenizer.eot,
        "start_of_transcript": tokenizer.sot,
        "previous": tokenizer.sot_prev,
        "no_speech": tokenizer.no_speech,
        "no_timestamps": tokenizer.no_timestamps,
        "timestamp_begin": tokenizer.timestamp_begin,
        "tasks": {"transcribe": tokenizer.transcribe, "translate": tokenizer.translate},
        "languages": {code: token for token, code in languages},
        "suppressed": list(task._get_suppress_tokens()),
        "suppressed_at_begin": [*tokenizer.encode(" "), tokenizer.eot],
    }
