"""Speech that is made: sentences in the public voices of espeak-ng and flite, and a manifest of them."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import wave
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from models.training.augment import resampled, to_int16
from stenopool.domain import SAMPLE_RATE
from stenopool.errors import UsageError
from workers.training.sentences import sentences

#: Voices that speak, by program; the last of each is only ever held out. British English is `en` where it has another
#: timbre: espeak-ng 1.51 says `en-gb+f2` as it says `en-gb`.
_VOICES = {
    "flite": ("slt", "kal16", "awb", "rms"),
    "espeak-ng": ("en-us", "en-us+f3", "en-us+m3", "en-gb", "en+f2", "en-us+m6"),
}
#: Every other sentence of espeak-ng has one of these accents in one of these timbres, so that a model hears more than
#: the voices that it is to know well.
_ACCENTS = ("en-us", "en-us-nyc", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
_TIMBRES = ("m1", "m2", "m3", "m4", "m5", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "Andy", "Annie", "Denis", "Lee",
            "Mario", "Michael", "Alicia", "linda", "steph", "edward", "pablo", "john")  # fmt: skip

_QUIET = 0.003  # of what is full scale: what is below it at either end is cut off
_LONGEST = 60  # seconds that a sentence may take to be spoken


@dataclass(frozen=True, slots=True)
class Made:
    """Where the data set lies."""

    manifest: Path
    held_out: Path
    #: Programs that spoke.
    programs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Sentence:
    name: str
    text: str
    program: str
    voice: str
    seed: int


def make_speech(folder: Path, n: int, *, seed: int, spoken: Callable[[], None]) -> Made:
    """So many sentences, and some more that are held out: half of those by voices that the others have not.

    What is there already is not made again.

    Args:
        folder: gets `audio/`, `manifest.jsonl` and `held-out.jsonl`.
        n: sentences to learn from.
        seed: of all that is left to chance.
        spoken: is called for each sentence.

    Raises:
        UsageError: neither program is installed, or the folder cannot be written.
    """
    programs = tuple(program for program in _VOICES if shutil.which(program))
    if not programs:
        raise UsageError("neither espeak-ng nor flite is installed; apt-get install espeak-ng flite")
    n_held = held_out(n)
    rng = random.Random(seed)
    plan = []
    for index, text in enumerate(sentences(n + n_held, seed)):
        program = rng.choice(programs)
        seen = index < n + n_held // 2
        voice = _voice(program, rng) if seen else _VOICES[program][-1]
        plan.append(_Sentence(f"{index:06}", text, program, voice, rng.getrandbits(32)))
    try:
        (folder / "audio").mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            lines = []
            for line in pool.map(lambda one: _speak(one, folder / "audio"), plan):
                lines.append(line)
                spoken()
        made = Made(folder / "manifest.jsonl", folder / "held-out.jsonl", programs)
        _write(made.manifest, lines[:n])
        _write(made.held_out, lines[n:])
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); name another folder") from error
    return made


def _voice(program: str, rng: random.Random) -> str:
    if program == "espeak-ng" and rng.random() < 0.5:
        return f"{rng.choice(_ACCENTS)}+{rng.choice(_TIMBRES)}"
    return rng.choice(_VOICES[program][:-1])


def held_out(n: int) -> int:
    """Sentences that are held out beside so many."""
    return max(2, min(100, n // 20))


def _write(path: Path, lines: Sequence[str | None]) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text("".join(f"{line}\n" for line in lines if line), encoding="utf-8")
    new.replace(path)


def _speak(one: _Sentence, folder: Path) -> str | None:
    """A line of the manifest; None where the voice said nothing."""
    path, notes = folder / f"{one.name}.wav", folder / f"{one.name}.json"
    if path.exists() and notes.exists():
        return notes.read_text(encoding="utf-8")
    rng = np.random.default_rng(one.seed)
    said = _trimmed(_said(one, rng))
    if said is None:
        return None
    said = said / np.abs(said).max() * rng.uniform(0.15, 0.95)
    lead, tail = (round(float(rng.uniform(*range_)) * SAMPLE_RATE) for range_ in ((0.0, 0.5), (0.05, 0.4)))
    pcm = to_int16(np.concatenate([np.zeros(lead), said, np.zeros(tail)]))
    new = path.with_suffix(".new")
    with wave.open(str(new), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm.tobytes())
    new.replace(path)
    segment = {"start": lead / SAMPLE_RATE, "end": (lead + len(said)) / SAMPLE_RATE, "text": one.text}
    line = json.dumps(
        {
            "audio": f"audio/{path.name}",
            "text": one.text,
            "segments": [segment],
            "language": "en",
            "phonemes": _phonemes(one.text),
            "voice": f"{one.program} {one.voice}",
        },
        ensure_ascii=False,
    )
    notes.write_text(line, encoding="utf-8")
    return line


def _said(one: _Sentence, rng: np.random.Generator) -> np.ndarray:
    """The sentence as float32 at 16 kHz."""
    if one.program == "flite":
        slow = f"duration_stretch={rng.uniform(0.92, 1.1):.2f}"
        command = ["flite", "-voice", one.voice, "--setf", slow, "-t", one.text, "-o", "/dev/stdout"]
    else:
        speed, pitch = (str(int(rng.integers(*range_))) for range_ in ((140, 190), (40, 61)))
        command = ["espeak-ng", "-v", one.voice, "-s", speed, "-p", pitch, "--stdout", one.text]
    content = subprocess.run(command, capture_output=True, check=False, timeout=_LONGEST).stdout
    if len(content) < 100:
        return np.zeros(0, np.float32)
    with wave.open(BytesIO(content)) as file:
        rate = file.getframerate()
    # Written to a pipe, its header does not know how long it is.
    sound = np.frombuffer(content[44 : 44 + (len(content) - 44) // 2 * 2], "<i2").astype(np.float32) / 32768
    return resampled(sound, rate / SAMPLE_RATE)


def _trimmed(sound: np.ndarray) -> np.ndarray | None:
    """Without the silence around it; None where there is nothing else."""
    loud = np.flatnonzero(np.abs(sound) > _QUIET)
    return sound[loud[0] : loud[-1] + 1] if len(loud) else None


def _phonemes(text: str) -> str:
    """As espeak-ng writes them, stress and pauses left out; nothing where it is not installed."""
    if not shutil.which("espeak-ng"):
        return ""
    command = ["espeak-ng", "-q", "-x", "-v", "en-us", text]
    written = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LONGEST).stdout
    plain = written.replace("_:", "").translate(str.maketrans("", "", "',%=|"))
    return " ".join(plain.split())
