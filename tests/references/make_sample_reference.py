"""Records what transformers and faster-whisper make of the bundled sample with the bundled model.

Needs an environment of its own with torch, transformers, faster-whisper and av, and the plan of the sample from
Stenopool's own:

    .venv/bin/python tests/references/plan_sample.py | OTHER/bin/python tests/references/make_sample_reference.py

It writes `sample.json` beside itself: run it again whenever the sample, the model or the planner changes. transformers
decodes the planned chunks one by one, greedily, with timestamps; faster-whisper goes through the whole recording in its
own way, without previous text.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ctranslate2_peer import converted_folder, faster_whisper_text
from recordings import ROOT, as_float, decode
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

POCKET = ROOT / "models" / "pocket"
#: How faster-whisper is asked.
WAYS: dict[str, dict[str, Any]] = {"greedy": {"beam_size": 1}, "beam 5": {"beam_size": 5}}


def chunk_tokens(chunks: list[dict[str, Any]], pcm: np.ndarray) -> None:
    """Put transformers' tokens into every chunk."""
    sound = as_float(pcm)
    model = WhisperForConditionalGeneration.from_pretrained(POCKET, dtype=torch.float32).eval()
    extract = WhisperFeatureExtractor.from_pretrained(POCKET)
    end = model.generation_config.eos_token_id
    for chunk in chunks:
        piece = sound[chunk["start"] : chunk["end"]]
        features = extract(piece, sampling_rate=16_000, return_tensors="pt").input_features
        tokens = model.generate(
            features, language="en", task="transcribe", return_timestamps=True, do_sample=False, max_new_tokens=224
        )[0].tolist()
        chunk["tokens"] = [token for token in tokens if token != end]
        print(chunk["start"], len(chunk["tokens"]), file=sys.stderr)


@torch.no_grad()
def main(plan: dict[str, Any], folder: Path) -> None:
    """Record the plan with tokens, and the texts, into the folder."""
    pcm = decode()
    chunk_tokens(plan["chunks"], pcm)
    with converted_folder(POCKET) as converted:
        plan["faster_whisper"] = {
            way: faster_whisper_text(converted, pcm, condition_on_previous_text=False, **options)
            for way, options in WAYS.items()
        }
    plan["versions"] = {name: version(name) for name in ("torch", "transformers", "faster-whisper", "ctranslate2")}
    target = folder / "sample.json"
    target.write_text(json.dumps(plan) + "\n")
    print(target)


if __name__ == "__main__":
    main(json.load(sys.stdin), Path(__file__).parent)
