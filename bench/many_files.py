"""What is left of the engine's speed where it transcribes files: python bench/many_files.py [--models tiny,small].

A dozen recordings as MP3 go through the driver, as `stenopool transcribe` has it: decoding, voice activity detection,
ledger, engine, merge. Then the same chunks go through the engine alone, which is its own speed. In turn, several times;
the figure is the ratio. On a CPU both share the cores: what decoding takes, the engine lacks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from circumstances import circumstances
from speed import checkpoint
from speed_work import N_TOKENS

from models.checkpoint import Checkpoint
from models.decoding.requests import Request
from models.device import use_compile_cache
from models.engine import Engine
from stenopool.config import Config
from stenopool.domain import SAMPLE_RATE, Options
from tests import sounds
from workers.local import Driver
from workers.prepare import SourceFile

SECONDS = 120
#: Of a slow model, fewer: what is measured is a ratio.
FILES = {"pocket": 12, "tiny": 12, "small": 4}


class Watched(Engine):
    """The engine, which remembers what it is asked for."""

    asked: list[Request]

    def submit(self, requests: Sequence[Request]) -> None:
        """As ever."""
        self.asked += requests
        super().submit(requests)


def recordings(n: int, folder: Path) -> list[SourceFile]:
    """Each begins elsewhere in the sample, so that no two are the same."""
    sample = sounds.read(sounds.SAMPLE)
    made = []
    for at in range(n):
        sound = np.roll(sample, -at * 11 * SAMPLE_RATE)[: SECONDS * SAMPLE_RATE]
        path = sounds.write(folder / f"{at}.mp3", sound)
        made.append(SourceFile(path, path.name))
    return made


def measure(name: str, dtype: Any, rounds: int, folder: Path) -> dict[str, Any]:
    """Both ways in turn."""
    sources = recordings(FILES[name], folder)
    # Random models hardly ever end a text by themselves; nothing is tried again.
    limits: dict[str, Any] = {} if name == "pocket" else {"max_new_tokens": N_TOKENS}
    options = Options(language="en", temperature=(0.0,), **limits)
    with checkpoint(name) as weights:
        engine = Watched(Checkpoint(name, weights), dtype=dtype)
        files: list[float] = []
        alone: list[float] = []
        for at in range(rounds + 1):
            engine.asked = []
            config = Config(home=folder / f"home-{at}", cache=Config.from_env().cache)
            started = time.perf_counter()
            with Driver(config, engine.checkpoint, options, dtype=dtype, engine=engine) as driver:
                outcomes = list(driver.run(sources))
            files.append(time.perf_counter() - started)
            assert len(outcomes) == len(sources)
            assert all(outcome.transcripts for outcome in outcomes)
            asked, engine.asked = engine.asked, []
            started = time.perf_counter()
            assert sum(1 for _ in engine.run(asked)) == len(asked)
            alone.append(time.perf_counter() - started)
    ratios = sorted(a / f for f, a in zip(files[1:], alone[1:], strict=True))  # the first round compiled
    sound = len(sources) * SECONDS
    return {
        **circumstances("jax"),
        "dtype": dtype,
        "sound_seconds": sound,
        "files_times_real_time": round(sound / median(files[1:]), 1),
        "engine_times_real_time": round(sound / median(alone[1:]), 1),
        "ratio": round(median(ratios), 3),
        "ratios": [round(one, 3) for one in ratios],
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(FILES), help="which; the figures of others stay")
    parser.add_argument("--dtype", default="int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "many_files.json")
    arguments = parser.parse_args()
    use_compile_cache(Config.from_env().cache / "xla")
    results: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    for name in arguments.models.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            results[name] = measure(name, arguments.dtype, arguments.rounds, Path(scratch))
        print(name, json.dumps(results[name]), flush=True)
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
