"""What every engine of `speed.py` does, and how it is told to: numpy alone, for our environment and the peers' own.

An engine is a process that stays. It loads its model, does the work once, and says so; then it does it again whenever
it is told to, and says how long that took. So no engine's figures hold its start, and rounds can alternate.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

#: Tokens of every chunk of the random models, which never end by themselves.
N_TOKENS = 100
#: Chunks that are decoded together, by every engine that can.
BATCH = 8
RATE = 16_000
WINDOW = 30 * RATE
#: Shapes of published models.
SHAPES = {
    "tiny": {"d": 384, "heads": 6, "encoder": 4, "decoder": 4, "mels": 80, "vocab": 51865},
    "small": {"d": 768, "heads": 12, "encoder": 12, "decoder": 12, "mels": 80, "vocab": 51865},
}
#: The prompt of the random models, as openai/whisper has it: English, transcribe, no timestamps; and the end of text.
PROMPT, END = (50258, 50259, 50359, 50363), 50257


def windows(path: Path, n: int) -> np.ndarray:
    """So many windows of a recording of int16 samples, int16 [n, samples]; it is begun anew where it ends."""
    pcm = np.load(path)
    return np.resize(pcm, n * WINDOW).reshape(n, WINDOW)


def serve(work: Callable[[], int]) -> None:
    """Do the work once, then once more for every line on standard input; say how it went, a line each.

    `work` returns how many tokens came out of it, or words where tokens are not told.
    """
    out = sys.stdout
    sys.stdout = sys.stderr  # libraries may print what they like
    work()
    out.write(json.dumps({"ready": True}) + "\n")
    out.flush()
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        count = work()
        seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        out.write(json.dumps({**seconds, "count": count, "peak_mb": round(peak)}) + "\n")
        out.flush()
