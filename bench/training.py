"""What training makes of the bundled model: one unheard voice learnt, and a student with one decoder layer.

    python bench/training.py [--part finetune] [--part distill] [--folder FOLDER]
    python bench/training.py --show

By the commands that everybody has. Finetuning: ten minutes of a voice that the model never heard; then other sentences
of that voice are listened to. Distilling: an hour of recordings without texts, transcribed by the teacher, whose
transcripts are the labels; then sentences of other patterns (`speech_script.py`). Needs espeak-ng and flite, optax and
orbax-checkpoint; on two cores some twenty minutes for each part. Figures go to `bench/training.json`; a folder that is
named goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from circumstances import circumstances
from pocket import VOICES, Said, ask, measure, rate, spoken, windows
from speech_script import sentences as other_sentences

from models.checkpoint import Checkpoint, find_checkpoint
from models.engine import Engine
from models.training.log import read_log
from stenopool.domain import SAMPLE_RATE
from tests import sounds
from workers.training.sentences import sentences

RESULTS = Path(__file__).with_suffix(".json")
UNHEARD = ("flite", "-voice", "rms", "-o", "/dev/stdout", "-t")
HEARD = VOICES["voices it learnt from"]
FINETUNING = (
    "--steps",
    "100",
    "--batch-size",
    "2",
    "--rate",
    "2e-4",
    "--warmup",
    "10",
    "--hear-every",
    "50",
    "--no-augment",
)
DISTILLING = ("--steps", "300", "--batch-size", "4", "--rate", "5e-4", "--warmup", "30", "--hear-every", "100")
LEARNT = 10 * 60  # seconds of the voice
RECORDINGS, MINUTES = 12, 5  # that the teacher transcribes
HELD_OUT = 100  # sentences of the voice
ROUNDS = 5


def write_manifest(path: Path, said: Sequence[Said], *, labelled: bool) -> Path:
    """Each as a file and a line, with texts and times or without."""
    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    lines = []
    for number, one in enumerate(said):
        sounds.write(folder / f"{number:04}.wav", one.pcm)
        line: dict[str, Any] = {"audio": f"{folder.name}/{number:04}.wav", "language": "en"}
        if labelled:
            line |= {"text": one.text}
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n")
    return path


def alone(voice: Sequence[str], texts: Sequence[str], rng: np.random.Generator) -> list[Said]:
    """Each sentence in a recording of its own."""
    found = []
    for text, sound in zip(texts, spoken(voice, texts), strict=True):
        seconds = len(sound) // SAMPLE_RATE + 3
        found += [
            Said(one.pcm[: len(sound) + SAMPLE_RATE], text, one.times) for one in windows([text], [sound], seconds, rng)
        ]
    return found


def others(n: int, seed: str) -> list[str]:
    """Sentences of patterns that nothing learnt from: half of them like those of an office, half of a story."""
    return [*other_sentences("office", n, seed), *other_sentences("story", n, seed)]


def stenopool(*arguments: object) -> None:
    """A command of ours; what it shows is shown."""
    subprocess.run([sys.executable, "-m", "stenopool", *map(str, arguments)], check=True)


def heard(log: Path) -> list[tuple[int, float]]:
    """Steps at which the held-out recordings were heard, and the word error rates."""
    return [(line["step"], line["wer"]) for line in read_log(log) if "wer" in line]


def finetuned(folder: Path) -> dict[str, Any]:
    """Ten minutes of the voice, as sentences with their texts and nothing else."""
    rng = np.random.default_rng(1)
    learnt: list[Said] = []
    texts = sentences(1000, 1)
    apart = alone(UNHEARD, [texts.pop() for _ in range(HELD_OUT)], rng)
    while sum(len(one.pcm) for one in learnt) < LEARNT * SAMPLE_RATE:
        learnt += alone(UNHEARD, [texts.pop()], rng)
    data = write_manifest(folder / "voice.jsonl", learnt, labelled=True)
    held_out = write_manifest(folder / "voice-held-out.jsonl", apart, labelled=True)
    output = folder / "finetuned"
    started = time.perf_counter()
    stenopool("finetune", "-m", "pocket", "--data", data, "--held-out", held_out, "-o", output, *FINETUNING)
    rates = heard(output / "log.jsonl")
    return {
        "options": " ".join(FINETUNING),
        "learnt_seconds": round(sum(len(one.pcm) for one in learnt) / SAMPLE_RATE),
        "held_out_sentences": len(apart),
        "seconds": round(time.perf_counter() - started),
        "wer": {str(step): round(one, 4) for step, one in rates},
    }


def distilled(folder: Path) -> dict[str, Any]:
    """A student with one decoder layer, taught by recordings whose texts nobody wrote but the teacher."""
    rng = np.random.default_rng(2)
    texts = iter(sentences(5000, 2))
    recordings: list[Said] = []
    for number in range(RECORDINGS):
        some = [next(texts) for _ in range(MINUTES * 60 // 5)]
        recordings += windows(some, spoken(HEARD[number % len(HEARD)], some), MINUTES * 60, rng)[:1]
    data = write_manifest(folder / "talks.jsonl", recordings, labelled=False)
    labels, output = folder / "labels", folder / "distilled"
    files = sorted((folder / "talks").glob("*.wav"))
    stenopool("transcribe", *files, "-m", "pocket", "-o", labels, "--format", "json")
    apart = [one for voice in HEARD for one in alone(voice, others(4, f"training, {voice}"), rng)]
    held_out = write_manifest(folder / "talks-held-out.jsonl", apart, labelled=True)
    started = time.perf_counter()
    stenopool(
        "distill", "--teacher", "pocket", "--decoder-layers", "1", "--data", data, "--pseudo-labels", labels,
        "--held-out", held_out, "-o", output, *DISTILLING,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    sets = []
    for style in ("office", "story"):
        for size in (5, 15, 30):
            spoke = [(part := other_sentences(style, 15, f"{voice}"), spoken(voice, part)) for voice in HEARD]
            sets.append(("heard", style, size, [one for part, said in spoke for one in windows(part, said, size, rng)]))
    engines = {"teacher": Engine(find_checkpoint("pocket")), "student": Engine(Checkpoint("student", output / "model"))}
    rows = {name: list(measure(engine, sets)) for name, engine in engines.items()}
    return {
        "options": " ".join(DISTILLING),
        "recordings_seconds": round(sum(len(one.pcm) for one in recordings) / SAMPLE_RATE),
        "seconds": round(seconds),
        "wer": {
            name: {
                f"{size} s, {'with' if times else 'without'} times": round(
                    rate(some, seconds=size, timestamps=times), 4
                )
                for size in (5, 15, 30)
                for times in (True, False)
                if any(row["seconds"] == size for row in some)
            }
            for name, some in rows.items()
        },
        "words": sum(row["words"] for row in rows["teacher"]),
        "speed": speeds(engines, [one.pcm for _, _, size, said in sets if size == 30 for one in said]),
    }


def speeds(engines: dict[str, Engine], pcms: Sequence[np.ndarray]) -> dict[str, Any]:
    """The same windows by each in turn; once to the end of their texts, once to the first token."""
    whole: dict[str, list[float]] = {name: [] for name in engines}
    tokens: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS + 1):
        for name, engine in engines.items():
            started = time.perf_counter()
            found = ask(engine, pcms, timestamps=True)
            took = time.perf_counter() - started
            started = time.perf_counter()
            ask(engine, pcms, timestamps=True, max_new_tokens=1)
            first = time.perf_counter() - started
            whole[name].append(took)
            tokens[name].append((took - first) / sum(len(one.tokens) for one in found))
    # The first round compiled.
    ratio = {key: [t / s for t, s in zip(of["teacher"][1:], of["student"][1:], strict=True)]
             for key, of in (("whole", whole), ("token", tokens))}  # fmt: skip
    return {
        "windows": len(pcms),
        "teacher_milliseconds_a_token": round(1000 * median(tokens["teacher"][1:]), 3),
        "student_milliseconds_a_token": round(1000 * median(tokens["student"][1:]), 3),
        "times_as_fast_a_token": round(median(ratio["token"]), 2),
        "times_as_fast": round(median(ratio["whole"]), 2),
        "rounds": {key: [round(one, 2) for one in sorted(some)] for key, some in ratio.items()},
    }


def main() -> None:
    """Train, hear, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"finetune": finetuned, "distill": distilled}
    parser.add_argument("--part", action="append", choices=parts, help="which; the figures of others stay")
    parser.add_argument("--folder", type=Path, help="for the sound and the training; kept")
    parser.add_argument("--show", action="store_true", help="print what was measured the last time")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not arguments.show:
        with tempfile.TemporaryDirectory() as scratch:
            folder = arguments.folder or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            for name in arguments.part or parts:
                model = find_checkpoint("pocket").digest
                results[name] = {**circumstances("jax", "optax"), "model": model, **parts[name](folder)}
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
