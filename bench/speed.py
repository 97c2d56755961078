"""How fast our engine is beside the others, on this machine and the same weights.

    make bench            # or: python bench/speed.py --peers OTHER/bin/python [--rounds 5] [--only pocket,tiny,small]
    python bench/speed.py --show

Every engine is a process of its own that has loaded its model and done the work once. Then rounds: in each, every
engine does the work while the others wait. A figure is the median of its rounds; the ratios are of figures of one run.
Writes `speed.json`; `--show` prints it as bench/README.md has it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from circumstances import circumstances
from speed_work import N_TOKENS, RATE, SHAPES

from models.checkpoint import find_checkpoint
from tests import sounds
from tests.references import weights
from tests.references.tokenizer_files import write_tokenizer

BENCH = Path(__file__).parent
ROOT = BENCH.parent
RESULTS = Path(__file__).with_suffix(".json")
OURS = ("float32", "bfloat16", "int8")
OURS_AT_WORK = BENCH / "speed_ours.py"
PEERS_AT_WORK = ROOT / "tests" / "references" / "speed_peers.py"


@dataclass(frozen=True, slots=True)
class Peer:
    """Another engine, and how much of the work it is given: what has no batches is as fast with less."""

    name: str
    share: float = 1.0


PEERS = (
    Peer("faster-whisper batched float32"),
    Peer("faster-whisper batched int8"),
    Peer("transformers"),
    Peer("openai-whisper", 0.25),
)
#: Window by window it reads a recording; of chunks it would be the batches.
PEERS_OF_RECORDINGS = (Peer("faster-whisper float32"), Peer("faster-whisper int8"))
#: Windows of each random shape.
WINDOWS = {"tiny": 16, "small": 8}


class Process:
    """An engine that waits to be told to work."""

    def __init__(self, name: str, command: Sequence[str], seconds: float) -> None:
        self.name = name
        #: Of sound, in one round.
        self.seconds = seconds
        self.rounds: list[dict[str, Any]] = []
        # Threads that wait must not spin: the others are being measured.
        environment = {
            **os.environ,
            "OMP_WAIT_POLICY": "passive",
            "OMP_NUM_THREADS": "2",
            "PYTHONPATH": str(ROOT),
        }
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended with status {self._process.wait()}: what it said last is above")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def work(self) -> None:
        """One round."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.rounds.append(self._hear())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def checkpoint(name: str) -> Iterator[Path]:
    """A folder with the bundled model, or a random one in a published shape with its tokenizer."""
    if name not in SHAPES:
        yield find_checkpoint(name).folder
        return
    with tempfile.TemporaryDirectory(prefix="stenopool-bench-") as scratch:
        folder = Path(scratch) / name
        weights.CONFIGS[name] = SHAPES[name]
        write_tokenizer("multilingual", folder)
        weights.write_checkpoint(name, folder)
        (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": SHAPES[name]["mels"]}))
        yield folder


def measure(name: str, peers: Path | None, rounds: int) -> list[dict[str, Any]]:
    """All engines on one model, in rounds."""
    recording = name not in SHAPES
    sample = sounds.read(sounds.SAMPLE)
    with checkpoint(name) as folder, tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        pcm = Path(scratch) / "sample.npy"
        np.save(pcm, sample)

        def start(engine: str, python: Path | str, script: Path, asked: str, share: float = 1.0) -> Process:
            n = max(1, round(WINDOWS.get(name, 1) * share))
            kind, sound = ("recording", sounds.SAMPLE) if recording else ("windows", pcm)
            command = [str(python), str(script), asked, kind, str(folder), str(sound), str(n)]
            print(f"{name}: {engine} ...", file=sys.stderr, flush=True)
            process = Process(engine, command, len(sample) / RATE if recording else n * 30.0)
            stack.callback(process.close)
            return process

        engines = [start(f"stenopool {dtype}", sys.executable, OURS_AT_WORK, dtype) for dtype in OURS]
        if peers:
            others = (*(PEERS_OF_RECORDINGS if recording else ()), *PEERS)
            engines += [start(one.name, peers, PEERS_AT_WORK, one.name, one.share) for one in others]
        for at in range(rounds):
            for engine in engines:
                engine.work()
            print(f"{name}: round {at + 1} of {rounds}", file=sys.stderr, flush=True)
    return [row(engine) for engine in engines]


def row(engine: Process) -> dict[str, Any]:
    """The figures of an engine."""
    speeds = [engine.seconds / one["wall"] for one in engine.rounds]
    return {
        "engine": engine.name,
        "seconds": round(engine.seconds, 1),
        "times_real_time": round(statistics.median(speeds), 2),
        "slowest": round(min(speeds), 2),
        "fastest": round(max(speeds), 2),
        "cpu_seconds": round(statistics.median(one["cpu"] for one in engine.rounds), 2),
        "peak_mb": engine.rounds[-1]["peak_mb"],
        "count": engine.rounds[-1]["count"],
    }


def markdown(results: dict[str, Any]) -> str:
    """The tables."""
    lines = []
    for name, model in results.items():
        rows = model["rows"]
        best = max(one["times_real_time"] for one in rows if one["engine"].startswith("stenopool"))
        what = f"random, {N_TOKENS} tokens a window" if name in SHAPES else "the sample, through each package's face"
        lines += [f"### {name} ({what})", "", f"{model['date']}, {model['machine']}, {model['rounds']} rounds.", ""]
        lines += ["| engine | × real time | slowest … fastest | our best is | peak MB |", "|---|--:|--:|--:|--:|"]
        for one in rows:
            ratio = "" if one["engine"].startswith("stenopool") else f"{best / one['times_real_time']:.2f} ×"
            spread = f"{one['slowest']:.1f} … {one['fastest']:.1f}"
            lines.append(f"| {one['engine']} | {one['times_real_time']:.1f} | {spread} | {ratio} | {one['peak_mb']} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="of the environment that make parity makes")
    parser.add_argument("--rounds", type=int, default=5, help="of which the medians are taken")
    parser.add_argument("--only", default="pocket,tiny,small", help="which models; the figures of others stay")
    parser.add_argument("--json", type=Path, default=RESULTS, help="the file of the figures")
    parser.add_argument("--show", action="store_true", help="print what was measured the last time")
    parser.add_argument("--dry", action="store_true", help="print, and keep nothing")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    if arguments.show:
        print(markdown(results))
        return
    for name in arguments.only.split(","):
        results[name] = {
            **circumstances("jax"),
            "rounds": arguments.rounds,
            "rows": measure(name, arguments.peers, arguments.rounds),
        }
        print(markdown({name: results[name]}), flush=True)
        if not arguments.dry:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
