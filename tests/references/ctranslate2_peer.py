"""The same weights in CTranslate2, and in faster-whisper, which drives it."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import ctranslate2
import faster_whisper
import numpy as np
from ctranslate2.converters.transformers import TransformersConverter, WhisperLoader
from openai_peer import Peer
from recordings import as_float
from transformers import GenerationConfig, WhisperForConditionalGeneration
from weights import write_checkpoint

#: Name -> options. The length penalty divides by length ** penalty, so that 1 is openai's default.
CASES: dict[str, dict[str, Any]] = {
    "greedy": {"beam_size": 1},
    "without_timestamps": {"beam_size": 1, "without_timestamps": True},
    "beam_5": {"beam_size": 5},
    "beam_5_without_timestamps": {"beam_size": 5, "without_timestamps": True},
    "beam_3_patience_2": {"beam_size": 3, "patience": 2.0},
}


@contextmanager
def converted_folder(folder: Path) -> Iterator[Path]:
    """A checkpoint from disk, converted to float32, with the tokenizer beside it that faster-whisper reads."""
    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / "converted"
        converter = TransformersConverter(str(folder), copy_files=["tokenizer.json", "preprocessor_config.json"])
        converter.convert(str(target), quantization="float32")
        yield target


@contextmanager
def converted_random(name: str, peer: Peer) -> Iterator[Path]:
    """A random checkpoint, converted; the words of its vocabulary are the ids, the special ones have their names."""
    tokenizer = peer.tokenizer()
    tokens = [str(index) for index in range(peer.model.dims.n_vocab)]
    for token, index in tokenizer.special_tokens.items():
        tokens[index] = token
    with tempfile.TemporaryDirectory() as place:
        source = write_checkpoint(name, Path(place) / "source")
        model = WhisperForConditionalGeneration.from_pretrained(source)
        model.generation_config = GenerationConfig(
            suppress_tokens=list(tokenizer.non_speech_tokens),
            begin_suppress_tokens=[*tokenizer.encode(" "), tokenizer.eot],
            lang_to_id={f"<|{code}|>": tokenizer.to_language_token(code) for code in tokenizer.all_language_codes},
        )
        loader = WhisperLoader()
        spec = loader.get_model_spec(model)
        loader.set_config(spec.config, model, None)
        spec.register_vocabulary(tokens)
        spec.validate()
        target = Path(place) / "converted"
        target.mkdir()
        spec.save(str(target))
        yield target


def generate(peer: Peer, folder: Path, mel: np.ndarray, *, sample_len: int, suppressed: list[int]) -> dict[str, Any]:
    """Greedy and beam search on one window.

    Args:
        peer: whose ids to prompt with.
        folder: the converted model.
        mel: float32 [n_mels, 3000].
        sample_len: most tokens to sample.
        suppressed: ids never to sample; CTranslate2's own list leaves out those that steer.

    Returns:
        Case -> `options`, `tokens` without the end of text, `avg_logprob` and `no_speech_prob`.
    """
    model = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32")
    tokenizer = peer.tokenizer()
    features = ctranslate2.StorageView.from_array(mel[None])
    results = {}
    for name, options in CASES.items():
        rest = dict(options)
        prompt = list(tokenizer.sot_sequence)
        if rest.pop("without_timestamps", False):
            prompt.append(tokenizer.no_timestamps)
        [result] = model.generate(
            features,
            [prompt],
            length_penalty=1,
            # It samples at most half of `max_length`, and no more than `max_length` less the prompt.
            max_length=2 * sample_len,
            return_scores=True,
            return_no_speech_prob=True,
            max_initial_timestamp_index=50,
            suppress_blank=True,
            suppress_tokens=suppressed,
            **rest,
        )
        [tokens] = result.sequences_ids
        length = len(tokens)
        results[name] = {
            "options": options | {"sample_len": sample_len},
            "tokens": list(tokens),
            "avg_logprob": result.scores[0] * length / (length + 1),  # as faster-whisper: the score is per text token
            "no_speech_prob": result.no_speech_prob,
        }
    return results


def faster_whisper_text(folder: Path, pcm: np.ndarray, **options: Any) -> str:
    """A whole recording through faster-whisper, in English.

    It takes small vocabularies for English-only and would leave language and task out of the prompt.
    """
    from faster_whisper import transcribe

    multilingual = functools.partial(_tokenizer, transcribe.Tokenizer)
    with mock.patch.object(transcribe, "Tokenizer", multilingual):
        model = faster_whisper.WhisperModel(str(folder), device="cpu", compute_type="float32")
        segments, _ = model.transcribe(as_float(pcm), language="en", temperature=0.0, **options)
        return "".join(segment.text for segment in segments)


def _tokenizer(make: Any, tokenizer: Any, _multilingual: bool, **rest: Any) -> Any:
    return make(tokenizer, True, **rest)
