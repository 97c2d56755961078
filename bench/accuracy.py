"""Word error rates of the bundled model in every mode, beside the reference implementations on the same weights.

    python bench/accuracy.py --peers OTHER/bin/python [--speech FOLDER] [--keep FOLDER]
    python bench/accuracy.py --show

Hears the bundled sample and the half hour of `make_speech.py`, which it makes if it is not there. The peers run as a
process (`tests/references/hear.py`) in the environment that `make parity` makes. Figures go to `bench/accuracy.json`;
`--show` prints them as they stand in docs/accuracy.md. With `--keep`, what was heard stays in a folder, and what lies
there already is not heard again: an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accuracy_rows import Spoken, markdown, precision, read_spoken, row
from make_speech import MANIFEST, default_folder, make_all
from safetensors.numpy import load_file, save_file

from models.checkpoint import find_checkpoint
from stenopool.domain import SAMPLE_RATE, DType
from stenopool.errors import StenopoolError
from stenopool.pool import Pool, load_model

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "samples" / "meeting.mp3"
RESULTS = Path(__file__).with_suffix(".json")


@dataclass(frozen=True, slots=True)
class Way:
    """Our engine, asked in one way."""

    name: str
    #: The first way of a group is what the others in it are compared with.
    group: str
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: DType = "float32"
    #: Whether a smaller model drafts.
    assisted: bool = False


GREEDY = {"temperature": 0.0}
ALONE = {**GREEDY, "mode": "sequential", "condition_on_previous_text": False}
TOLD = {**GREEDY, "mode": "sequential"}
#: What openai/whisper does not have.
PLAIN = {"vad": False, "loop_guard": False, "max_tokens_per_second": None}
WAYS = (
    Way("greedy, float32", "chunked", GREEDY),
    Way("bfloat16", "chunked", GREEDY, dtype="bfloat16"),
    Way("int8", "chunked", GREEDY, dtype="int8"),
    Way("speculative", "chunked", GREEDY, assisted=True),
    Way("beam 5", "chunked", {**GREEDY, "beam_size": 5}),
    Way("with fallback (the default)", "chunked"),
    Way("without VAD", "chunked", {**GREEDY, "vad": False}),
    Way("sequential", "alone", {**ALONE, **PLAIN}),
    Way("beam 5", "alone", {**ALONE, **PLAIN, "beam_size": 5}),
    Way("with VAD and guards", "alone", ALONE),
    Way("sequential", "told", {**TOLD, **PLAIN}),
    Way("with VAD and guards", "told", TOLD),
)


def write_assistant(folder: Path) -> Path:
    """The bundled model with its first decoder layer alone, as Distil-Whisper makes its students; untrained."""
    pocket = find_checkpoint("pocket").folder
    folder.mkdir()
    for file in pocket.iterdir():
        if file.suffix in (".json", ".txt"):
            (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((pocket / "config.json").read_text())
    dropped = tuple(f"model.decoder.layers.{layer}." for layer in range(1, config["decoder_layers"]))
    (folder / "config.json").write_text(json.dumps({**config, "decoder_layers": 1}))
    generation = json.loads((pocket / "generation_config.json").read_text())
    generation["alignment_heads"] = [head for head in generation["alignment_heads"] if head[0] == 0]
    (folder / "generation_config.json").write_text(json.dumps(generation))
    weights = load_file(pocket / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith(dropped)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def hear(way: Way, pool: Pool, files: Mapping[str, Path]) -> dict[str, Any]:
    """All recordings together, as JSON; the same keys as `hear.py` writes."""
    wall, cpu = time.monotonic(), time.process_time()
    transcripts = pool.transcribe_batch(list(files.values()), language="en", **way.options)
    return {
        "name": f"stenopool, {way.name}",
        "group": way.group,
        "versions": {name: version(name) for name in ("stenopool", "jax")},
        "wall_seconds": round(time.monotonic() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "recordings": {
            name: {
                "text": transcript.text,
                "segments": [[one.span.start / SAMPLE_RATE, one.span.end / SAMPLE_RATE] for one in transcript.segments],
                "failed": sum(len(gap.span) for gap in transcript.coverage.gaps),
            }
            for name, transcript in zip(files, transcripts, strict=True)
        },
    }


def hear_ours(folder: Path, files: Mapping[str, Path]) -> None:
    """Every way that the folder does not have yet."""
    pools: dict[tuple[DType, bool], Pool] = {}
    with tempfile.TemporaryDirectory(prefix="stenopool-accuracy-") as scratch:
        assistant = write_assistant(Path(scratch) / "assistant")
        for index, way in enumerate(WAYS):
            target = folder / f"ours-{index:02}.json"
            if target.exists():
                continue
            kind = (way.dtype, way.assisted)
            if kind not in pools:
                helper = str(assistant) if way.assisted else None
                pools[kind] = load_model("pocket", dtype=way.dtype, assistant=helper)
            found = hear(way, pools[kind], files)
            target.write_text(json.dumps(found) + "\n")
            print(f"{found['name']}, {way.group}: {found['wall_seconds']:.0f} s", file=sys.stderr, flush=True)


def hear_peers(python: Path, folder: Path, files: Mapping[str, Path]) -> None:
    """The same of the peers."""
    command = [str(python), str(ROOT / "tests" / "references" / "hear.py"), str(folder)]
    named = json.dumps({name: str(file) for name, file in files.items()})
    subprocess.run(command, input=named.encode(), check=True)


def measure(heard: list[dict[str, Any]], sets: Mapping[str, list[Spoken]]) -> dict[str, Any]:
    """Everything that is kept: a table for each set and group of ways, and one of precisions."""
    groups = list(dict.fromkeys(way.group for way in WAYS))
    versions: dict[str, str] = {}
    for one in heard:
        versions |= one["versions"]
    tables = {}
    for name, spoken in sets.items():
        for group in groups:
            ways = [one for one in heard if one["group"] == group]
            tables[f"{name}, {group}"] = [row(one, ways[0], spoken) for one in ways]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": versions,
        "model": find_checkpoint("pocket").digest,
        "seconds": {name: round(sum(one.duration for one in spoken), 1) for name, spoken in sets.items()},
        "precision": precision(heard, sets),
        "tables": tables,
    }


@contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    """The folder for what was heard, or one that goes away."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="stenopool-heard-") as scratch:
        yield Path(scratch)


def main() -> None:
    """Hear, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="of the environment with the references")
    parser.add_argument("--speech", type=Path, metavar="FOLDER", default=default_folder(), help="of make_speech.py")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where what was heard stays, and is found again")
    parser.add_argument("--show", action="store_true", help="print what was measured the last time")
    arguments = parser.parse_args()
    if arguments.show:
        print(markdown(json.loads(RESULTS.read_text())))
        return
    try:
        if not (arguments.speech / MANIFEST).exists():
            make_all(arguments.speech)
    except StenopoolError as error:
        sys.exit(f"Error: {error}")
    entries = [json.loads(line) for line in (arguments.speech / MANIFEST).read_text().splitlines()]
    files = {SAMPLE.stem: SAMPLE} | {Path(e["audio"]).stem: arguments.speech / e["audio"] for e in entries}
    with kept(arguments.keep) as folder:
        hear_ours(folder, files)
        if arguments.peers:
            hear_peers(arguments.peers, folder, files)
        # Ours first: each group is compared with the first of it.
        order = sorted(folder.glob("*.json"), key=lambda path: (not path.name.startswith("ours"), path.name))
        heard = [json.loads(path.read_text()) for path in order]
    spoken = [read_spoken(name, file.with_suffix(".json")) for name, file in files.items()]
    results = measure(heard, {"sample": spoken[:1], "half hour": spoken[1:]})
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(markdown(results))


if __name__ == "__main__":
    main()
