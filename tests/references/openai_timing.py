"""Word times: what openai/whisper's `timing.py` makes of attention, step by step."""

from __future__ import annotations

import copy
import importlib
from typing import Any
from unittest import mock

import numpy as np
import torch
from openai_peer import Peer
from whisper.timing import WordTiming, dtw, find_alignment, median_filter, merge_punctuations

_TIMING = importlib.import_module("whisper.timing")
#: `transcribe`'s defaults.
PREPEND, APPEND = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
#: Shapes of the cost matrices: from a single cell to a paragraph against a window.
SHAPES = ((1, 1), (1, 7), (7, 1), (2, 2), (3, 9), (9, 3), (16, 16), (12, 80), (40, 300), (5, 150))


def align(peer: Peer, mel: torch.Tensor, text_tokens: list[int], num_frames: int) -> tuple[dict[str, Any], np.ndarray]:
    """`find_alignment` and the matrix that it warps.

    Returns:
        Its words and its path (`text_indices`, `time_indices`), and the matrix float32 [text tokens + 1, num_frames
        // 2]: normalised attention after the median filter, mean over the alignment heads, positive.
    """
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def watched(cost: torch.Tensor) -> np.ndarray:
        path = dtw(cost)
        seen.append((-cost.numpy(), path))
        return path

    with mock.patch.object(_TIMING, "dtw", watched):
        words = find_alignment(peer.model, peer.tokenizer(), list(text_tokens), mel, num_frames)
    [(matrix, path)] = seen
    result = {
        "text_tokens": list(text_tokens),
        "num_frames": num_frames,
        "text_indices": path[0].tolist(),
        "time_indices": path[1].tolist(),
        "words": [_word(word) for word in words],
    }
    return result, matrix


def _word(word: WordTiming) -> dict[str, Any]:
    return {
        "word": word.word,
        "tokens": word.tokens,
        "start": float(word.start),
        "end": float(word.end),
        "probability": float(word.probability),
    }


def warped(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """A cost matrix and its path."""
    return {"cost": matrix, "path": dtw(torch.from_numpy(matrix.astype(np.float32))).astype(np.int16)}


def random_paths() -> dict[str, np.ndarray]:
    """`dtw` on random costs and on small integers, which tie often."""
    rng = np.random.default_rng(11)
    arrays = {}
    for index, shape in enumerate(SHAPES):
        real = rng.standard_normal(shape).astype(np.float16)
        whole = rng.integers(-2, 3, shape).astype(np.float16)
        for kind, matrix in (("real", real), ("ties", whole)):
            arrays |= {f"dtw/{kind}/{index}/{key}": value for key, value in warped(matrix).items()}
    return arrays


def medians() -> dict[str, np.ndarray]:
    """`median_filter` along the last axis: several widths and ranks, and rows too short to be padded."""
    rng = np.random.default_rng(12)
    arrays = {}
    for index, (shape, width) in enumerate(
        (((2, 3, 50), 7), ((2, 3, 50), 3), ((4, 20), 5), ((9,), 7), ((2, 2, 4), 7), ((2, 2, 3), 7), ((2, 2, 10), 1))
    ):
        given = rng.standard_normal(shape).astype(np.float32)
        arrays[f"median/{index}/given"] = given
        arrays[f"median/{index}/width"] = np.array(width)
        arrays[f"median/{index}/filtered"] = median_filter(torch.from_numpy(given), width).numpy()
    return arrays


def punctuation() -> list[dict[str, Any]]:
    """Words before and after `merge_punctuations`."""
    sentences = (
        ["Hello", ",", " world", "."],
        [' "', "Who", "'s", " there", "?", '"', " (", "Nobody", ")", "."],
        [" ¿", "Qué", "?", " -", "well", " -", " “", "so", "”", "!"],
        ["."],
        [" '", " '", "a", "...", "!"],
        [" a", "。", "，", " b", "、"],
    )
    results = []
    for words in sentences:
        timings = [WordTiming(word, [i], i / 10, (i + 1) / 10, 0.5) for i, word in enumerate(words)]
        merged = copy.deepcopy(timings)
        merge_punctuations(merged, PREPEND, APPEND)
        results.append(
            {"words": words, "merged": [{"word": word.word, "tokens": word.tokens} for word in merged]},
        )
    return results
