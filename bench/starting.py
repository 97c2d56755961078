"""How long a warm start takes: python bench/starting.py [--runs 7] [--model pocket].

`stenopool transcribe` of a few seconds of sound as a process, with everything in the compile cache: the time from its
start until the first batch is given to the engine, and until it has ended.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from circumstances import circumstances

from stenopool.domain import SAMPLE_RATE
from tests import sounds

#: The command, which tells the time at its first batch.
COMMAND = """
import sys, time
from stenopool.cli import main
import importlib.abc

class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "workers.transcriber":  # imports the engine
            sys.meta_path.remove(self)
            import models.engine
            submit = models.engine.Engine.submit
            def first(self, requests):
                if requests:
                    models.engine.Engine.submit = submit
                    print(time.time(), file=sys.stderr)
                return submit(self, requests)
            models.engine.Engine.submit = first

sys.meta_path.insert(0, Watch())
main()
"""


def start(sound: Path, folder: Path, model: str) -> tuple[float, float]:
    """Seconds to the first batch, and in all."""
    command = [sys.executable, "-c", COMMAND, "transcribe", str(sound), "-q", "-l", "en", "-m", model, "-f", "txt"]
    environment = {**os.environ, "STENOPOOL_HOME": str(folder / "home")}
    started = time.time()
    done = subprocess.run(
        [*command, "-o", str(folder), "--force"], check=True, stderr=subprocess.PIPE, text=True, env=environment
    )
    return float(done.stderr.splitlines()[0]) - started, time.time() - started


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "starting.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sound = sounds.write(Path(scratch) / "short.wav", sounds.read(sounds.SAMPLE)[: 8 * SAMPLE_RATE])
        runs = [start(sound, Path(scratch), arguments.model) for _ in range(arguments.runs + 1)][1:]
    first, whole = (sorted(times) for times in zip(*runs, strict=True))
    results = {
        **circumstances("jax"),
        "model": arguments.model,
        "first_batch_seconds": {"median": median(first), "all": first},
        "whole_seconds": {"median": median(whole), "all": whole},
    }
    print(f"first batch {median(first):.2f} s ({first[0]:.2f} ... {first[-1]:.2f}), in all {median(whole):.2f} s")
    arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
