"""The reference implementations at work, timed by `bench/speed.py`.

OTHER/bin/python tests/references/speed_peers.py ENGINE WORK CHECKPOINT SOUND N
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hear
import numpy as np
import torch
import weights
from ctranslate2_peer import converted_folder
from recordings import ROOT, as_float, decode

sys.path.insert(0, str(ROOT / "bench"))

from speed_work import BATCH, END, N_TOKENS, PROMPT, SHAPES, WINDOW, serve, windows

THREADS = 2
GREEDY: dict[str, Any] = {"beam_size": 1, "temperature": 0.0, "condition_on_previous_text": False}


def recording(engine: str, sound: Path, converted: Path) -> Callable[[], int]:
    """A recording through each package's own `transcribe`."""
    name, _, rest = engine.partition(" ")
    if name == "faster-whisper":
        batched, compute = "batched" in rest, "int8" if "int8" in rest else "float32"
        make = hear.faster(converted, compute=compute, batched=batched, **GREEDY)
    elif name == "transformers":
        make = hear.pipeline(converted)
    else:
        make = hear.openai(converted, condition_on_previous_text=False)
    return lambda: len(make(as_float(decode(sound)))["text"].split())


def ctranslate2_chunks(compute: str, converted: Path, pcm: np.ndarray) -> Callable[[], int]:
    """faster-whisper's batched pipeline without its voice activity detection: features, encoder, decoder."""
    import ctranslate2
    from faster_whisper.feature_extractor import FeatureExtractor

    model = ctranslate2.models.Whisper(str(converted), device="cpu", compute_type=compute, intra_threads=THREADS)
    extract = FeatureExtractor()

    def work() -> int:
        count = 0
        for first in range(0, len(pcm), BATCH):
            some = pcm[first : first + BATCH]
            features = np.stack([extract(as_float(one))[:, : WINDOW // 160] for one in some])
            encoded = model.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(features)))
            found = model.generate(
                encoded,
                [list(PROMPT)] * len(some),
                beam_size=1,
                max_length=2 * N_TOKENS,  # it samples at most half of that
                suppress_tokens=[END],
                suppress_blank=False,
            )
            count += sum(len(one.sequences_ids[0]) for one in found)
        return count

    return work


def transformers_chunks(folder: Path, pcm: np.ndarray) -> Callable[[], int]:
    """transformers' features, encoder and `generate`."""
    import transformers

    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    extract = transformers.WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    model.generation_config = transformers.GenerationConfig(
        is_multilingual=True,
        lang_to_id={"<|en|>": PROMPT[1]},
        task_to_id={"transcribe": PROMPT[2]},
        no_timestamps_token_id=PROMPT[3],
        decoder_start_token_id=PROMPT[0],
        pad_token_id=END,
        eos_token_id=END,
        suppress_tokens=[END],
        max_length=448,
    )

    @torch.no_grad()
    def work() -> int:
        count = 0
        for first in range(0, len(pcm), BATCH):
            features = extract([as_float(one) for one in pcm[first : first + BATCH]], sampling_rate=16_000)
            found = model.generate(
                torch.tensor(np.asarray(features["input_features"])),
                language="en",
                task="transcribe",
                do_sample=False,
                num_beams=1,
                max_new_tokens=N_TOKENS,
            )
            count += found.numel() - (len(PROMPT) * len(found) if found.shape[1] > N_TOKENS else 0)
        return count

    return work


def openai_chunks(folder: Path, pcm: np.ndarray) -> Callable[[], int]:
    """openai/whisper's features and `decode`, which is what its `transcribe` does with each window."""
    import whisper
    from openai_peer import random_peer

    weights.CONFIGS[folder.name] = SHAPES[folder.name]
    peer = random_peer(folder.name)
    options = whisper.DecodingOptions(
        language="en", without_timestamps=True, fp16=False, sample_len=N_TOKENS, suppress_tokens=[END]
    )

    def work() -> int:
        count = 0
        for one in pcm:
            mel = whisper.log_mel_spectrogram(as_float(one), n_mels=peer.model.dims.n_mels)
            count += len(whisper.decode(peer.model, mel, options).tokens)
        return count

    return work


def main(engine: str, kind: str, folder: Path, sound: Path, n: int) -> None:
    """Convert, load, serve."""
    torch.set_num_threads(THREADS)
    name, _, rest = engine.partition(" ")
    with converted_folder(folder) as converted:
        if kind == "recording":
            work = recording(engine, sound, converted)
        elif name == "faster-whisper":
            work = ctranslate2_chunks("int8" if "int8" in rest else "float32", converted, windows(sound, n))
        elif name == "transformers":
            work = transformers_chunks(folder, windows(sound, n))
        else:
            work = openai_chunks(folder, windows(sound, n))
        serve(work)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]))
