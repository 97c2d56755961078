"""Records what openai/whisper and CTranslate2 decode, align and transcribe, for tests that run without them.

Needs an environment of its own with torch, openai-whisper, ctranslate2, faster-whisper, transformers and av:

    python tests/references/make_decoding_references.py

It writes two files beside itself: run it again whenever the model or the sample changes. Everything is
float32 on the CPU; models are `tiny`, the random weights of `weights.py` on `weights.sound()`, and `pocket`, the
bundled model on the bundled sample, in windows of 30 s from its start, numbered from 0.

decoding.json
    versions, model, sample         of the packages; digest of `pocket`; SHA-256 of the sample's file
    special/MODEL                   ids that steer decoding, languages by id, suppressed ids
    decode/MODEL/WINDOW/CASE        openai `decode`: options as given (token ids and all), tokens, avg_logprob,
                                    no_speech_prob, compression_ratio, language; `steady` as in openai_decoding.py
    ctranslate2/MODEL/WINDOW/CASE   CTranslate2 `generate`: options, tokens, avg_logprob, no_speech_prob
    languages/MODEL/WINDOW          language -> probability, openai `detect_language`
    alignment/MODEL/CASE            openai `find_alignment`: text_tokens, num_frames, window, path, words
    heads/MODEL                     (layer, head) of the attention that is aligned
    punctuation                     words before and after openai `merge_punctuations`
    transcribe/[I]                  openai `transcribe` on the sample: case, seconds from its start, features, options,
                                    windows, segments; see openai_long.py

decoding.npz (n: text tokens + 1, m: num_frames // 2)
    MODEL/alignment/CASE/matrix     float32 [n, m / 10]: every tenth frame of the matrix that is warped
    MODEL/alignment/cost, path      float16 [n, m], int16 [2, steps]: a whole matrix, negative, and its path
    tiny/encoder/I                  float32, `[::50, ::16]` of [frame, channel]: conv1 and conv2, each after its GELU,
                                    every layer, the last norm
    pocket/logits/WINDOW            float32 [tokens, n_vocab / 13]: every thirteenth of the vocabulary, teacher-forced
    pocket/logits/WINDOW/argmax     int16 [tokens]
    pocket/logits/WINDOW/tokens     int16 [tokens]: what was given, the transcript's beginning and its end included
    dtw/KIND/I/cost, path           float16 [rows, columns], int16 [2, steps]: openai `dtw`
    median/I/given, width, filtered openai `median_filter` along the last axis
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai_long
import torch
import whisper
from ctranslate2_peer import converted_folder, converted_random, generate
from openai_decoding import FEW, decode_window, languages
from openai_peer import Peer, folder_peer, random_peer, special_tokens
from openai_timing import align, medians, punctuation, random_paths, warped
from recordings import RATE, ROOT, SAMPLE, WINDOW, as_float, decode
from weights import POCKET_VOCAB_STEP, sound
from whisper.audio import HOP_LENGTH

sys.path.append(str(ROOT))
from models.checkpoint import find_checkpoint  # needs nothing that this environment lacks

PACKAGES = ("torch", "openai-whisper", "ctranslate2", "faster-whisper", "transformers", "numpy")
TINY_SAMPLE_LEN = 48
MATRIX_STEP = 10


def mel_of(peer: Peer, pcm: np.ndarray) -> torch.Tensor:
    """[n_mels, 3000] of one window."""
    return whisper.log_mel_spectrogram(torch.from_numpy(as_float(pcm)), peer.model.dims.n_mels)


def encoder_layers(peer: Peer, mel: torch.Tensor) -> list[np.ndarray]:
    """[frame, channel] after each part of the encoder."""
    encoder, seen = peer.model.encoder, list[torch.Tensor]()
    parts = [encoder.conv1, encoder.conv2, *encoder.blocks, encoder.ln_post]
    hooks = [part.register_forward_hook(lambda _, __, output: seen.append(output[0])) for part in parts]
    encoder(mel[None])
    for hook in hooks:
        hook.remove()
    convolved = [torch.nn.functional.gelu(states).T for states in seen[:2]]
    return [states.numpy() for states in (*convolved, *seen[2:])]


def forced_logits(peer: Peer, mel: torch.Tensor, sampled: list[int]) -> dict[str, np.ndarray]:
    """Logits after each token of a transcript."""
    tokenizer = peer.tokenizer()
    tokens = [*tokenizer.sot_sequence, *sampled, tokenizer.eot]
    logits = peer.model(mel[None], torch.tensor([tokens]))[0].numpy()
    return {
        "": logits[:, ::POCKET_VOCAB_STEP],
        "/argmax": logits.argmax(-1).astype(np.int16),
        "/tokens": np.array(tokens, np.int16),
    }


class Record:
    """The two files while they grow."""

    def __init__(self) -> None:
        self.texts: dict[str, Any] = {
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "model": find_checkpoint("pocket").digest,
            "sample": hashlib.sha256(SAMPLE.read_bytes()).hexdigest(),
        }
        self.arrays: dict[str, np.ndarray] = {}

    def put(self, path: str, value: Any) -> None:
        """One value at `a/b/c`."""
        *folders, name = path.split("/")
        inside = self.texts
        for folder in folders:
            inside = inside.setdefault(folder, {})
        inside[name] = value

    def align(self, name: str, case: str, peer: Peer, window: int, pcm: np.ndarray, heard: list[int]) -> np.ndarray:
        """The words of a window that may be shorter than 30 s; returns the whole matrix."""
        text = [token for token in heard if token < peer.tokenizer().eot]
        result, matrix = align(peer, mel_of(peer, whisper.pad_or_trim(pcm)), text, len(pcm) // HOP_LENGTH)
        self.put(f"alignment/{name}/{case}", {"window": window, **result})
        self.arrays[f"{name}/alignment/{case}/matrix"] = matrix[:, ::MATRIX_STEP]
        return matrix

    def write(self, folder: Path) -> None:
        """Both files."""
        text = json.dumps(_rounded(self.texts), ensure_ascii=False, indent=None, separators=(",", ":"))
        (folder / "decoding.json").write_text(text + "\n")
        np.savez_compressed(folder / "decoding.npz", **self.arrays)
        for file in ("decoding.json", "decoding.npz"):
            print(f"{folder / file}: {(folder / file).stat().st_size / 1e6:.2f} MB")


def _rounded(value: Any) -> Any:
    """Floats to nine digits: more than float32 has."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: _rounded(inside) for key, inside in value.items()}
    return [_rounded(inside) for inside in value] if isinstance(value, list | tuple) else value


def record_tiny(record: Record, *, whole: bool) -> None:
    """Random weights: deep and wide as published ones, sure of nothing, so that every rule is needed."""
    peer, pcm = random_peer("tiny"), sound()
    mel = mel_of(peer, pcm)
    special = special_tokens(peer)
    decoded = decode_window(peer, mel, common={"sample_len": TINY_SAMPLE_LEN}, shake=whole)
    record.put("special/tiny", special)
    record.put("heads/tiny", peer.model.alignment_heads.indices().T.tolist())
    record.put("decode/tiny/0", decoded)
    record.put("languages/tiny/0", languages(peer, mel))
    with converted_random("tiny", peer) as folder:
        suppressed = special["suppressed"]
        record.put(
            "ctranslate2/tiny/0",
            generate(peer, folder, mel.numpy(), sample_len=TINY_SAMPLE_LEN, suppressed=suppressed),
        )
    record.align("tiny", "whole", peer, 0, pcm, decoded["greedy"]["tokens"])
    record.align("tiny", "part", peer, 0, pcm[: 9 * RATE], decoded["greedy"]["tokens"])
    for index, states in enumerate(encoder_layers(peer, mel)):
        record.arrays[f"tiny/encoder/{index}"] = states[::50, ::16]


def record_pocket(record: Record, *, whole: bool) -> None:
    """The bundled model on three windows of the bundled sample."""
    peer, pcm = folder_peer(ROOT / "models" / "pocket"), decode()
    special = special_tokens(peer)
    record.put("special/pocket", special)
    record.put("heads/pocket", peer.model.alignment_heads.indices().T.tolist())
    with converted_folder(ROOT / "models" / "pocket") as folder:
        for window in range(3):
            sounds = pcm[window * WINDOW : (window + 1) * WINDOW]
            mel = mel_of(peer, sounds)
            decoded = decode_window(peer, mel, common={}, only=None if window == 0 else FEW, shake=whole)
            heard = decoded["greedy"]["tokens"]
            record.put(f"decode/pocket/{window}", decoded)
            record.put(f"languages/pocket/{window}", languages(peer, mel))
            record.put(
                f"ctranslate2/pocket/{window}",
                generate(peer, folder, mel.numpy(), sample_len=224, suppressed=special["suppressed"]),
            )
            record.align("pocket", f"window_{window}", peer, window, sounds, heard)
            if window < 2:
                for key, array in forced_logits(peer, mel, heard).items():
                    record.arrays[f"pocket/logits/{window}{key}"] = array
    # The first 12.3 s, and what was said in them by the greedy transcript's own times.
    heard = record.texts["decode"]["pocket"]["0"]["greedy"]["tokens"]
    late = special["timestamp_begin"] + round(12.3 / 0.02)
    early = heard[: next((i for i, token in enumerate(heard) if token > late), len(heard))]
    matrix = record.align("pocket", "part", peer, 0, pcm[: round(12.3 * RATE)], early)
    for key, array in warped(-matrix.astype(np.float16)).items():
        record.arrays[f"pocket/alignment/{key}"] = array
    record.put("transcribe", list(_runs(peer, pcm, whole=whole)))


def _runs(peer: Peer, pcm: np.ndarray, *, whole: bool) -> Iterator[dict[str, Any]]:
    """The first 90 s under all options, then the whole sample under a few; features both ways."""
    begin = pcm[: 90 * RATE]
    for name, options in openai_long.CASES.items():
        few = whole and name in openai_long.FEW
        wanted = (
            (begin, True, whole or name in openai_long.QUICK),
            (begin, False, few),
            (pcm, True, few),
            (pcm, False, few),
        )
        for sounds, windowed, is_wanted in wanted:
            if is_wanted:
                print(name, len(sounds) // RATE, "s", "by window" if windowed else "by recording", flush=True)
                yield {"case": name, **openai_long.transcribe(peer, sounds, options, windowed=windowed)}


@torch.no_grad()
def main(folder: Path, *, whole: bool) -> None:
    """Record into the folder; if not all is wanted, fewer transcripts, and no second look at what is steady."""
    record = Record()
    record.put("punctuation", punctuation())
    record.arrays |= random_paths() | medians()
    record_tiny(record, whole=whole)
    record_pocket(record, whole=whole)
    for name, windows in record.texts["decode"].items():
        for window, results in windows.items():
            for case, result in results.items():
                same = "as greedy" if result["tokens"] == results["greedy"]["tokens"] else ""
                print(
                    name, window, case, len(result["tokens"]), "NOT STEADY" if result["steady"] is False else "", same
                )
    record.write(folder)


if __name__ == "__main__":
    torch.set_num_threads(1)  # models this small only wait for each other's threads
    main(Path(__file__).parent, whole=True)
