"""Records what transformers decodes from the bundled sample with the bundled model, chunk by chunk.

Needs an environment of its own with torch, transformers and av, and the plan of the sample from Stenopool's own:

    .venv/bin/python tests/references/plan_sample.py | OTHER/bin/python tests/references/make_sample_reference.py

It writes `sample.json` beside itself: run it again whenever the sample, the model or the planner changes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import numpy as np
import torch
import transformers
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

ROOT = Path(__file__).parents[2]


def decode(path: Path) -> np.ndarray:
    """float32 at 16 kHz."""
    resampler = av.AudioResampler("s16", "mono", 16_000)
    with av.open(str(path)) as container:
        parts = [part.to_ndarray()[0] for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate(parts).astype(np.float32) / 32768


@torch.no_grad()
def main() -> None:
    """Decode every planned chunk greedily, with timestamps."""
    plan = json.load(sys.stdin)
    sound = decode(ROOT / "samples" / "meeting.mp3")
    folder = ROOT / "models" / "pocket"
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    extract = WhisperFeatureExtractor.from_pretrained(folder)
    for chunk in plan["chunks"]:
        piece = sound[chunk["start"] : chunk["end"]]
        features = extract(piece, sampling_rate=16_000, return_tensors="pt").input_features
        tokens = model.generate(
            features, language="en", task="transcribe", return_timestamps=True, do_sample=False, max_new_tokens=224
        )[0].tolist()
        end = model.generation_config.eos_token_id
        chunk["tokens"] = [token for token in tokens if token != end]
        print(chunk["start"], len(chunk["tokens"]), file=sys.stderr)
    plan["transformers"] = transformers.__version__
    target = Path(__file__).with_name("sample.json")
    target.write_text(json.dumps(plan) + "\n")
    print(target)


if __name__ == "__main__":
    main()
