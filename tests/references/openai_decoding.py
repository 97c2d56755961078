"""What openai/whisper decodes from one window under each of its options."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from openai_peer import Peer
from whisper import DecodingOptions
from whisper.decoding import DecodingResult

PROMPT = "The minutes of the last meeting about the budget."
PREFIX = "Good morning, and welcome"
#: Longer than the 223 tokens that fit before a transcript.
LONG_PROMPT = "We met on Monday, and Grace closed the window because the office was cold. " * 20


def cases(peer: Peer, heard: list[int]) -> dict[str, dict[str, Any]]:
    """Name -> options besides the defaults; `heard` is the greedy transcript, so that suppressing changes something."""
    tokenizer = peer.tokenizer()
    prompt, prefix = tokenizer.encode(" " + PROMPT), tokenizer.encode(" " + PREFIX)
    frequent = [token for token, _ in Counter(t for t in heard if t < tokenizer.eot).most_common(5)]
    half = peer.model.dims.n_text_ctx // 2
    return {
        "greedy": {},
        "without_timestamps": {"without_timestamps": True},
        "beam_5": {"beam_size": 5},
        "beam_5_without_timestamps": {"beam_size": 5, "without_timestamps": True},
        "beam_3_patience_2": {"beam_size": 3, "patience": 2.0},
        "beam_5_length_penalty": {"beam_size": 5, "length_penalty": 0.6},
        "prompt": {"prompt": prompt},
        "long_prompt": {"prompt": tokenizer.encode(" " + LONG_PROMPT.strip()), "sample_len": half},
        "prefix": {"prefix": prefix},
        "prefix_cut": {"prefix": prefix * 3, "sample_len": half - 7},  # its last seven tokens are kept
        "prompt_and_prefix": {"prompt": prompt, "prefix": prefix},
        "beam_5_prompt_and_prefix": {"beam_size": 5, "prompt": prompt, "prefix": prefix},
        "suppress_nothing": {"suppress_tokens": []},
        "suppress_list": {"suppress_tokens": frequent},
        "blank_allowed": {"suppress_blank": False, "without_timestamps": True},
        "any_initial_timestamp": {"max_initial_timestamp": None},
        "initial_timestamp_0.1": {"max_initial_timestamp": 0.1},
        "sample_len_20": {"sample_len": 20},
        "beam_5_sample_len_20": {"beam_size": 5, "sample_len": 20},
        "translate": {"task": "translate"},
        "german": {"language": "de"},
        "language_detected": {"language": None},
    }


#: What windows after the first are decoded with.
FEW = ("greedy", "without_timestamps", "beam_5")


def _decode(peer: Peer, mel: torch.Tensor, options: dict[str, Any]) -> DecodingResult:
    copied = {name: list(value) if isinstance(value, list) else value for name, value in options.items()}
    return peer.model.decode(mel, DecodingOptions(**copied, fp16=False))  # which writes into its suppress list


def decode_window(
    peer: Peer, mel: torch.Tensor, *, common: dict[str, Any], only: tuple[str, ...] | None = None, shake: bool = True
) -> dict[str, dict[str, Any]]:
    """Every case on one window.

    Args:
        peer: the model.
        mel: [n_mels, 3000].
        common: options of all cases, where a case does not say otherwise.
        only: names of cases; None for all.
        shake: decode each a second time, for `steady`.

    Returns:
        Case -> `options` as given, and what came back. `steady` says whether features that differ by 1e-5 of noise give
        the same tokens: where they do not, equal tokens are luck; None where nobody looked.
    """
    noise = 1e-5 * torch.randn(mel.shape, generator=torch.Generator().manual_seed(0))
    results: dict[str, dict[str, Any]] = {}
    with peer.speaking():
        first = _decode(peer, mel, {"language": "en", **common})
        for name, special in cases(peer, first.tokens).items():
            if only is not None and name not in only:
                continue
            options = {"language": "en", **common, **special}
            result = _decode(peer, mel, options)
            results[name] = {
                "options": options,
                "tokens": result.tokens,
                "language": result.language,
                "avg_logprob": result.avg_logprob,
                "no_speech_prob": result.no_speech_prob,
                "compression_ratio": result.compression_ratio,
                "steady": _decode(peer, mel + noise, options).tokens == result.tokens if shake else None,
            }
    return results


def languages(peer: Peer, mel: torch.Tensor) -> dict[str, float]:
    """Language code -> probability, the likeliest first."""
    with peer.speaking():
        _, found = peer.model.detect_language(mel, peer.tokenizer())
    return dict(sorted(found.items(), key=lambda item: -item[1]))
