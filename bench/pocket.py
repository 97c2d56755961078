"""What the bundled model hears: voices it learnt from, voices and an engine it never heard, and what is no speech.

    python bench/pocket.py [--model FOLDER] [--minutes 5]
    python bench/pocket.py --show

Sentences that no model was trained on (`speech_script.py`), in windows of 5, 15 and 30 seconds, go to the engine as
they are, one window on its own: no voice activity detection, no guards, no second try. Needs the programs espeak-ng,
flite and festival (Debian: festival, festvox-kallpc16k, festvox-us-slt-hts). Figures go to `bench/pocket.json`;
`--show` prints them as they stand in the model's card.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from circumstances import circumstances

sys.path.append(str(Path(__file__).parents[1] / "samples"))  # scripts that are run by path, not a package

from make_sample import MARGIN, FloatArray, gain, resample, speak, trim
from speech_script import sentences

from models.accuracy import Errors, compare, normal_form
from models.checkpoint import find_checkpoint
from models.decoding.requests import Decoding, Heard, Request
from models.engine import Engine
from models.tokens import TIMESTAMP_STEP, Vocabulary
from models.training.augment import noise
from stenopool.domain import SAMPLE_RATE, DType
from stenopool.errors import StenopoolError, UsageError

RESULTS = Path(__file__).with_suffix(".json")
FORM = normal_form("en")

#: Who speaks, by what the model knows of them.
VOICES: dict[str, tuple[tuple[str, ...], ...]] = {
    "voices it learnt from": (
        ("flite", "-voice", "slt", "-o", "/dev/stdout", "-t"),
        ("flite", "-voice", "kal16", "-o", "/dev/stdout", "-t"),
        ("flite", "-voice", "awb", "-o", "/dev/stdout", "-t"),
        ("espeak-ng", "-v", "en-us", "-s", "160", "--stdout"),
        ("espeak-ng", "-v", "en-us+f3", "-s", "160", "--stdout"),
        ("espeak-ng", "-v", "en-us+m3", "-s", "160", "--stdout"),
        ("espeak-ng", "-v", "en-gb", "-s", "160", "--stdout"),
    ),
    "voices it never heard": (
        ("flite", "-voice", "rms", "-o", "/dev/stdout", "-t"),
        ("espeak-ng", "-v", "en-us+m6", "-s", "160", "--stdout"),
    ),
    "an engine it never heard": (("festival", "kal_diphone"), ("festival", "cmu_us_slt_arctic_hts")),
}
WINDOWS = (5, 15, 30)  # seconds
DTYPES: tuple[DType, ...] = ("float32", "bfloat16", "int8")
BREATHS = (0.3, 0.8)  # seconds between two sentences
QUIET = 100  # windows of silence, and of noise
CLOSE = 0.2  # seconds that a time may be off


@dataclass(frozen=True, slots=True)
class Said:
    """A window, what is said in it and when: `[start, end)` of each sentence in seconds."""

    pcm: np.ndarray
    text: str
    times: tuple[tuple[float, float], ...]


def festival(voice: str, text: str) -> FloatArray:
    """What it says, at 16 kHz.

    Raises:
        UsageError: it is not installed, or has no such voice.
    """
    if shutil.which("text2wave") is None:
        raise UsageError("text2wave is not on the PATH; install festival, festvox-kallpc16k and festvox-us-slt-hts")
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:  # it goes back to write the header: a pipe will not do
        command = ["text2wave", "-eval", f"(voice_{voice})", "-o", file.name]
        subprocess.run(command, input=text.encode(), capture_output=True, check=False)
        try:
            with wave.open(file.name) as sound:
                rate, pcm = sound.getframerate(), sound.readframes(sound.getnframes())
        except (wave.Error, EOFError) as error:
            raise UsageError(f"no sound from {' '.join(command)!r}; check that festival has the voice") from error
    samples = (np.frombuffer(pcm, "<i2") / 32_768).astype(np.float32)
    return samples if rate == SAMPLE_RATE else resample(samples, rate, SAMPLE_RATE)


def spoken(voice: Sequence[str], texts: Sequence[str]) -> list[FloatArray]:
    """Each text by this voice, all at one level."""
    say = partial(festival, voice[1]) if voice[0] == "festival" else partial(speak, tuple(voice))
    sounds = [say(text) for text in texts]
    level = gain(sounds)
    return [trim(sound * level, MARGIN) for sound in sounds]


def windows(texts: Sequence[str], sounds: Sequence[FloatArray], seconds: int, rng: np.random.Generator) -> list[Said]:
    """The sentences in windows as full as they go, each sentence in one; too long ones are left out."""
    size = seconds * SAMPLE_RATE
    found: list[Said] = []
    placed: list[tuple[int, int]] = []
    at = round(rng.uniform(*BREATHS) * SAMPLE_RATE)

    def close() -> None:
        pcm = rng.standard_normal(size, np.float32) * np.float32(0.0005)
        times = []
        for index, start in placed:
            end = start + len(sounds[index])
            pcm[start:end] += sounds[index]
            times.append(((start + MARGIN) / SAMPLE_RATE, (end - MARGIN) / SAMPLE_RATE))
        text = " ".join(texts[index] for index, _ in placed)
        found.append(Said(np.clip(np.rint(pcm * 32_768), -32_768, 32_767).astype(np.int16), text, tuple(times)))

    for index, sound in enumerate(sounds):
        if len(sound) + SAMPLE_RATE > size:
            continue
        if placed and at + len(sound) > size:
            close()
            placed, at = [], round(rng.uniform(*BREATHS) * SAMPLE_RATE)
        placed.append((index, at))
        at += len(sound) + round(rng.uniform(*BREATHS) * SAMPLE_RATE)
    if placed:
        close()
    return found


def make(minutes: float) -> Iterator[tuple[str, str, int, list[Said]]]:
    """Who speaks, in which style, in windows of how many seconds, and the windows."""
    for group, voices in VOICES.items():
        for style in ("office", "story"):
            rng = np.random.default_rng([len(group), len(style)])
            # A sentence takes some three seconds; every window length has the same ones.
            texts = sentences(style, round(minutes * 60 / 3), f"pocket, {group}")
            parts = [texts[index :: len(voices)] for index in range(len(voices))]
            said = [spoken(voice, part) for voice, part in zip(voices, parts, strict=True)]
            for seconds in WINDOWS:
                made = [windows(part, sounds, seconds, rng) for part, sounds in zip(parts, said, strict=True)]
                yield group, style, seconds, [one for some in made for one in some]


def quiet(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Windows without speech: digital silence, then noise, white to brown and soft to loud; int16 [samples]."""
    for seconds in rng.uniform(2, 30, QUIET):
        yield np.zeros(round(seconds * SAMPLE_RATE), np.int16)
    for seconds in rng.uniform(2, 30, QUIET):
        loud = 10 ** rng.uniform(-4, -1)
        sound = noise(rng, round(seconds * SAMPLE_RATE), float(rng.uniform(0, 2))) * loud
        yield np.clip(np.rint(sound * 32_768), -32_768, 32_767).astype(np.int16)


def edges(heard: Heard, vocabulary: Vocabulary) -> tuple[list[float], list[float]]:
    """Starts and ends of its segments, in seconds."""
    begin = vocabulary.special.timestamp_begin
    starts: list[float] = []
    ends: list[float] = []
    open_ = False
    for token in heard.tokens:
        if token >= begin:
            (ends if open_ else starts).append((token - begin) * TIMESTAMP_STEP / SAMPLE_RATE)
            open_ = not open_
    return starts, ends


def off(true: Sequence[float], told: Sequence[float]) -> list[float]:
    """How far the nearest told time is from each true one."""
    return [min((abs(one - other) for other in told), default=float("inf")) for one in true]


def ask(
    engine: Engine, pcms: Sequence[np.ndarray], *, timestamps: bool, max_new_tokens: int | None = None
) -> list[Heard]:
    """What it hears, in order."""
    decoding = Decoding(language="en", timestamps=timestamps, max_new_tokens=max_new_tokens)
    requests = [Request(key=index, pcm=pcm, decoding=decoding) for index, pcm in enumerate(pcms)]
    return sorted(engine.run(requests), key=lambda heard: int(str(heard.key)))


def measure(engine: Engine, sets: Sequence[tuple[str, str, int, list[Said]]]) -> Iterator[dict[str, Any]]:
    """A row for each set, with and without timestamps."""
    for group, style, seconds, said in sets:
        if not said:  # no sentence is that short
            continue
        for timestamps in (True, False):
            answers = ask(engine, [one.pcm for one in said], timestamps=timestamps)
            errors, away, told = Errors(), [], 0
            for one, heard in zip(said, answers, strict=True):
                errors += compare(one.text, engine.vocabulary.text(heard.tokens), FORM).words
                if timestamps:
                    starts, ends = edges(heard, engine.vocabulary)
                    away += off([start for start, _ in one.times], starts) + off([end for _, end in one.times], ends)
                    told += len(starts)
            row: dict[str, Any] = {"group": group, "style": style, "seconds": seconds, "timestamps": timestamps}
            wrong = errors.substitutions + errors.deletions + errors.insertions
            row |= {"windows": len(said), "words": errors.reference, "wrong": wrong, "wer": errors.rate}
            if timestamps:
                row |= {
                    "edges": len(away),
                    "edges_close": float(np.mean(np.array(away) <= CLOSE)),
                    "segments_per_sentence": told / (len(away) / 2),
                }
            yield row


def measure_quiet(engine: Engine) -> dict[str, Any]:
    """Share of windows without speech that give text."""
    answers = ask(engine, list(quiet(np.random.default_rng(0))), timestamps=True)
    wordy = [bool(engine.vocabulary.text(heard.tokens).strip()) for heard in answers]
    return {"windows": QUIET, "silence": float(np.mean(wordy[:QUIET])), "noise": float(np.mean(wordy[QUIET:]))}


def rate(rows: Sequence[dict[str, Any]], **wanted: Any) -> float:
    """Wrong words of the rows with these values, over their words."""
    some = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return float(sum(row["wrong"] for row in some) / sum(row["words"] for row in some))


def markdown(results: dict[str, Any]) -> str:
    """The tables, as the card has them."""
    rows = results["rows"]
    lines = ["| WER, " + results["dtypes"][0] + " | window | with times | without | edges within 0.2 s |"]
    lines.append("|---|--:|--:|--:|--:|")
    first = [row for row in rows if row["dtype"] == results["dtypes"][0]]
    for group in VOICES:
        for seconds in WINDOWS:
            of = {"group": group, "seconds": seconds}
            timed = [row for row in first if row["group"] == group and row["seconds"] == seconds and row["timestamps"]]
            close = sum(row["edges_close"] * row["edges"] for row in timed) / sum(row["edges"] for row in timed)
            cells = [f"{rate(first, **of, timestamps=timestamps):.1%}" for timestamps in (True, False)]
            lines.append(f"| {group} | {seconds} s | {' | '.join(cells)} | {close:.0%} |")
    lines += ["", "| WER, all windows with times | " + " | ".join(results["dtypes"]) + " |", "|---|--:|--:|--:|"]
    for group in VOICES:
        of = {"group": group, "timestamps": True}
        lines.append(
            f"| {group} | " + " | ".join(f"{rate(rows, **of, dtype=dtype):.1%}" for dtype in results["dtypes"]) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Speak, hear, count, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="folder or name")
    parser.add_argument("--minutes", type=float, default=5.0, help="of speech for each kind of voice and of sentence")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--show", action="store_true", help="print what was measured the last time")
    arguments = parser.parse_args()
    if arguments.show:
        print(markdown(json.loads(RESULTS.read_text())))
        return
    try:
        checkpoint = find_checkpoint(arguments.model)
        sets = list(make(arguments.minutes))
    except StenopoolError as error:
        sys.exit(f"Error: {error}")
    results: dict[str, Any] = {
        **circumstances("jax"),
        "model": checkpoint.digest,
        "dtypes": arguments.dtypes,
        "rows": [],
        "quiet": {},
    }
    for dtype in arguments.dtypes:
        engine = Engine(checkpoint, dtype=dtype)
        for row in measure(engine, sets):
            results["rows"].append({"dtype": dtype, **row})
            print(dtype, row, file=sys.stderr, flush=True)
        results["quiet"][dtype] = measure_quiet(engine)
    print(markdown(results))
    print(results["quiet"])
    if arguments.model == "pocket":
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
