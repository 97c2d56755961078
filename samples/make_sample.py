"""Speaks a script with public synthetic voices: the sample recording, and the times of what is said in it.

The sound is put together on the farm's clock, 16 kHz, so that the times are exact, and only then encoded at 44.1 kHz:
whoever reads it has to decode and resample, as with a recording from the world.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import click
import numpy as np
import numpy.typing as npt
from script import Pause, Utterance, read_script

from stenopool.domain import SAMPLE_RATE
from stenopool.errors import StenopoolError, UsageError

HERE = Path(__file__).resolve().parent
SOUND_RATE = 44_100  # Hz, of the encoded file
BIT_RATE = 56_000  # bits per second: four and a half minutes stay under 2 MB
SPEECH_LEVEL = 0.1  # RMS of audible speech, every speaker: -20 dBFS
ROOM_LEVEL = 0.0005  # RMS of the room: -66 dBFS, heard by nobody, but not digital silence
AUDIBLE_LEVEL = 0.0056  # RMS, -45 dBFS: an utterance begins and ends with a frame above it
HUSHED_LEVEL = 0.01  # RMS, -40 dBFS: within unbroken speech, frames under it are a hush
FRAME = SAMPLE_RATE // 100  # samples in the 10 ms that a level is measured over
MARGIN = 5 * FRAME  # kept around an utterance: an onset is softer than the threshold
LONGEST_HUSH = 2 * FRAME  # within unbroken speech: voice activity models take more for the end of speech
BREATHS = (0.3, 1.0)  # seconds between two utterances
SEED = 20  # of the breaths and of the room's noise

FloatArray = npt.NDArray[np.float32]

#: How each speaker sounds: a command that reads a text, its last argument, and writes a WAV file to its output.
VOICES = {
    "LEO": ("espeak-ng", "-v", "en-us", "-s", "160", "--stdout"),
    "HENRY": ("flite", "-voice", "awb", "--setf", "duration_stretch=1.06", "-o", "/dev/stdout", "-t"),
    "GRACE": ("espeak-ng", "-v", "en-gb", "-s", "160", "--stdout"),
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Samples `[start, end)` at 16 kHz, and who says what in them where anybody does."""

    start: int
    end: int
    utterance: Utterance | None


def speak(command: tuple[str, ...], text: str) -> FloatArray:
    """What the command says, at 16 kHz and at whatever level it gives.

    Raises:
        UsageError: the synthesizer is not installed, or gives no sound.
    """
    program = command[0]
    if shutil.which(program) is None:
        raise UsageError(f"{program} is not on the PATH; install the packages espeak-ng and flite")
    done = subprocess.run([*command, text], capture_output=True, check=False)
    no_sound = f"no sound from {' '.join(command)!r}; check that {program} has the voice"
    try:
        # Both programs write to a pipe before they know the length, so the header's count is not to be believed.
        with wave.open(io.BytesIO(done.stdout)) as sound:
            rate, pcm = sound.getframerate(), sound.readframes(len(done.stdout))
    except (wave.Error, EOFError) as error:
        raise UsageError(no_sound) from error
    samples = (np.frombuffer(pcm, "<i2") / 32_768).astype(np.float32)
    if not samples.any():
        raise UsageError(no_sound)
    return resample(samples, rate, SAMPLE_RATE)


def resample(samples: FloatArray, rate: int, to_rate: int) -> FloatArray:
    """The same sound at another rate."""
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=to_rate)
    pieces = [piece.to_ndarray()[0] for piece in [*resampler.resample(frame), *resampler.resample(None)]]
    return np.concatenate(pieces).astype(np.float32)


def levels(samples: FloatArray) -> FloatArray:
    """RMS of each whole 10 ms frame."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    rms: FloatArray = np.sqrt(np.mean(np.square(frames), axis=1))
    return rms


def gain(utterances: Iterable[FloatArray]) -> float:
    """What brings the audible frames of one speaker to SPEECH_LEVEL, or their highest peak just under full scale."""
    samples = np.concatenate(list(utterances))
    frames = levels(samples)
    audible = frames[frames > 0.05 * frames.max()]
    return float(min(SPEECH_LEVEL / np.sqrt(np.mean(np.square(audible))), 0.9 / np.abs(samples).max()))


def trim(samples: FloatArray, margin: int) -> FloatArray:
    """The samples from the first audible frame to the last, with `margin` samples around them as far as there are."""
    audible = np.flatnonzero(levels(samples) > AUDIBLE_LEVEL) * FRAME
    return samples[max(0, audible[0] - margin) : audible[-1] + FRAME + margin]


def squeeze(samples: FloatArray) -> FloatArray:
    """The samples with no quiet stretch longer than LONGEST_HUSH: the middle of what is longer is taken out."""
    quiet = levels(samples) <= HUSHED_LEVEL
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8))) * FRAME
    keep = np.ones(len(samples), bool)
    for start, end in edges.reshape(-1, 2):
        if end - start > LONGEST_HUSH:
            keep[start + LONGEST_HUSH // 2 : end - LONGEST_HUSH // 2] = False
    return samples[keep]


def compose(items: tuple[Utterance | Pause, ...]) -> tuple[FloatArray, list[Stretch]]:
    """The whole sound at 16 kHz and the time of every utterance and pause.

    Raises:
        UsageError: a script without words, a speaker without a voice, or a synthesizer that is missing.
    """
    utterances = [item for item in items if isinstance(item, Utterance)]
    speakers = {item.speaker for item in utterances}
    if not utterances:
        raise UsageError("the script has no utterance; add a line of the form SPEAKER: text")
    if strangers := sorted(speakers - VOICES.keys()):
        raise UsageError(f"no voice for {', '.join(strangers)}; give them one in VOICES of {Path(__file__).name}")
    voiced = {item: speak(VOICES[item.speaker], item.text) for item in utterances}
    gains = {name: gain([voiced[item] for item in utterances if item.speaker == name]) for name in speakers}

    random = np.random.default_rng(SEED)
    pieces: list[FloatArray] = []
    stretches: list[Stretch] = []
    previous: Utterance | Pause | None = None
    at = 0
    for item in items:
        if isinstance(item, Pause):
            sound = np.zeros(round(item.seconds * SAMPLE_RATE), np.float32)
        else:
            if isinstance(previous, Utterance) and not (previous.unbroken and item.unbroken):
                breath = round(random.uniform(*BREATHS) * SAMPLE_RATE)
                pieces.append(np.zeros(breath, np.float32))
                at += breath
            levelled = voiced[item] * gains[item.speaker]
            sound = squeeze(trim(levelled, LONGEST_HUSH // 2)) if item.unbroken else trim(levelled, MARGIN)
        pieces.append(sound)
        stretches.append(Stretch(at, at + len(sound), item if isinstance(item, Utterance) else None))
        at += len(sound)
        previous = item
    room = ROOM_LEVEL * random.standard_normal(at, np.float32)
    return np.concatenate(pieces) + room, stretches


def timing(stretches: list[Stretch], duration: int) -> str:
    """The times of everything as JSON: samples at 16 kHz, `[start, end)`."""
    spoken = [(it.start, it.end, it.utterance) for it in stretches if it.utterance is not None]
    unbroken: list[list[int]] = []
    for start, end, utterance in spoken:
        if utterance.unbroken and unbroken and unbroken[-1][1] == start:
            unbroken[-1][1] = end
        elif utterance.unbroken:
            unbroken.append([start, end])
    truth = {
        "sample_rate": SAMPLE_RATE,
        "duration": duration,
        "unbroken": unbroken,
        "pauses": [[it.start, it.end] for it in stretches if it.utterance is None],
        "utterances": [
            {"start": start, "end": end, "speaker": utterance.speaker, "text": utterance.text}
            for start, end, utterance in spoken
        ],
    }
    return json.dumps(truth, indent=1) + "\n"


def encode(samples: FloatArray) -> bytes:
    """An MP3 file of the sound, which is at 16 kHz."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=SOUND_RATE, options={"compression_level": "0"})
        stream.layout = "mono"
        stream.format = "fltp"
        stream.bit_rate = BIT_RATE
        sound = resample(samples, SAMPLE_RATE, SOUND_RATE)
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate = SOUND_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target.getvalue()


def write_atomically(path: Path, content: bytes) -> None:
    """The whole file or none of it."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(content)
    beside.replace(path)


EXAMPLE = """
\b
Example, the sample as it is in the repository:
  python samples/make_sample.py
"""


@click.command(epilog=EXAMPLE)
@click.option("--script", type=click.Path(path_type=Path), default=HERE / "script.txt", help="What is said.")
@click.option("--out", type=click.Path(path_type=Path), default=HERE / "meeting.mp3", help="The sound to write.")
def main(script: Path, out: Path) -> None:
    """Speak a script: an MP3 file, and the times of all that is said, beside it as JSON.

    Needs the programs espeak-ng and flite. The same versions of them give the same bytes.
    """
    try:
        samples, stretches = compose(read_script(script))
        duration = len(samples)
        write_atomically(out, encode(samples))
        write_atomically(out.with_suffix(".json"), timing(stretches, duration).encode())
    except StenopoolError as error:
        sys.exit(f"Error: {error}")
    except OSError as error:
        sys.exit(f"Error: {out} cannot be written ({error.strerror}); name a file in a folder that is yours")
    print(f"{out}: {duration / SAMPLE_RATE:.1f} s, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
