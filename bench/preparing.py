"""What happens to a recording before the model: decoding, voice activity detection, planning.

    python bench/preparing.py

Audio-seconds per second of processor time (so that a busy machine does not blur them), medians of five, each on the
bundled sample four times over; planning on 24 h of random speech. Figures go to `bench/preparing.json`.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy as np
from circumstances import circumstances
from long_recording import make_recording

from models.vad import SpeechDetector
from scheduler.plan import SpeechRun, plan_recording
from stenopool.domain import SAMPLE_RATE, Span
from workers.media import Decoder

RESULTS = Path(__file__).with_suffix(".json")
RUNS = 5


def speed(seconds: float, work: Callable[[], object]) -> float:
    """Audio-seconds per second of processor time, the median of five."""
    taken = []
    for _ in range(RUNS):
        before = time.process_time()
        work()
        taken.append(time.process_time() - before)
    return round(seconds / statistics.median(taken))


def decode(path: Path) -> np.ndarray:
    """The samples of a file."""
    with Decoder(path) as decoder:
        return np.concatenate([block[0] for block in decoder])


def detect(pcm: np.ndarray) -> int:
    """Hear the samples in blocks of 10 s, as ingest does; returns the number of runs of speech."""
    detector = SpeechDetector()
    for start in range(0, len(pcm), 10 * SAMPLE_RATE):
        detector.feed(pcm[start : start + 10 * SAMPLE_RATE])
    return len(list(detector.finish().runs()))


def day_of_runs(n: int) -> list[SpeechRun]:
    """A day of random speech in n runs."""
    numbers = random.Random(1)
    lengths = [numbers.expovariate(1) for _ in range(2 * n)]
    scale = 24 * 3600 * SAMPLE_RATE / sum(lengths)
    edges = list(accumulate(max(1, int(length * scale)) for length in lengths))
    return [SpeechRun(Span(start, end), 0.9) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def main() -> None:
    """Measure, print, keep."""
    with tempfile.TemporaryDirectory() as folder:
        path = make_recording(Path(folder) / "sample.mp3", 0.3)
        pcm = decode(path)
        seconds = len(pcm) / SAMPLE_RATE
        runs = day_of_runs(100_000)

        def plan() -> object:
            return plan_recording(
                runs[-1].span.end,
                runs,
                peak=lambda _: 0.1,
                window=30 * SAMPLE_RATE,
                overlap=3 * SAMPLE_RATE,
            )

        results = {
            **circumstances("av", "onnxruntime"),
            "times_real_time_on_one_core": {
                "decode mp3 44.1 kHz": speed(seconds, lambda: decode(path)),
                "voice activity": speed(seconds, lambda: detect(pcm)),
                "plan 100,000 runs": speed(24 * 3600, plan),
            },
        }
    print(json.dumps(results, indent=1))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
