"""Slots against static batches on lengths as speech has them: python bench/slots.py [--chunks N] [--rounds R].

64 slots, texts of 100 ± 32 tokens and one of a hundred in a loop up to its limit. A static batch runs until its longest
text ends; a slot takes the next chunk as soon as it is free. How much that saves depends on the decoder's share of all
the work, so there are two narrow random models, one with most of its layers in the decoder and one with most of them in
the encoder. Engine and programs are the same in both ways; only what is submitted when differs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import gpu
from gpu import RandomEngine, checkpoint, requests, run, settled, speech_lengths

from models.device import use_compile_cache
from models.sizes import Sizes
from stenopool.config import Config

SLOTS = 64
#: As `gpu.SHAPES`: tokenizer, width, heads, encoder and decoder layers, mels.
NARROW = {
    "most in the decoder": ("multilingual", 128, 2, 2, 4, 80),
    "most in the encoder": ("multilingual", 128, 2, 8, 2, 80),
}
gpu.SHAPES.update(NARROW)


def measure(name: str, n: int, rounds: int) -> dict[str, Any]:
    """Both ways in turn; medians, and the range of the ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        model = checkpoint(name, Path(scratch))
        with settled(wished=lambda *_: Sizes(1, SLOTS)):
            engine = RandomEngine(model, dtype="int8")
        asked = requests(engine, n, speech_lengths(n))
        run(engine, requests(engine, SLOTS, [8] * SLOTS))  # compiled
        pairs = []
        for _ in range(rounds):
            pairs.append({"slots": run(engine, asked), "static": run(engine, asked, static=True)})
            print(name, json.dumps(pairs[-1]), flush=True)
    found: dict[str, Any] = {
        way: {key: median(pair[way][key] for pair in pairs) for key in pairs[0][way]} for way in ("slots", "static")
    }
    ratios = [pair["slots"]["times_real_time"] / pair["static"]["times_real_time"] for pair in pairs]
    steps = found["slots"]["occupancy"] / found["static"]["occupancy"]
    return found | {"ratio": median(ratios), "ratios": sorted(ratios), "ratio_of_steps": steps}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "slots.json")
    arguments = parser.parse_args()
    use_compile_cache(Config.from_env().cache / "xla")
    results = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}",
        "versions": {one: version(one) for one in ("stenopool", "jax")},
        "slots": SLOTS,
        "chunks": arguments.chunks,
        "models": {name: measure(name, arguments.chunks, arguments.rounds) for name in NARROW},
    }
    for name, found in results["models"].items():
        print(f"{name}: {found['ratio']:.2f} x static, occupancy {found['slots']['occupancy']:.1%}")
    arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
