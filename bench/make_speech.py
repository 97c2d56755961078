"""Half an hour of speech that no model was trained on, spoken by public synthetic voices, for `accuracy.py`.

    python bench/make_speech.py [FOLDER]

Six recordings of about five minutes, what is said in each as text, when it is said as JSON, and a manifest for
`stenopool eval`. Needs the programs espeak-ng and flite; the same versions of them give the same samples. The
sentences are those of `speech_script.py`: made by chance, in no book and in no training set.
"""

from __future__ import annotations

import argparse
import json
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from stenopool.config import Config
from stenopool.domain import SAMPLE_RATE
from stenopool.errors import StenopoolError

sys.path.append(str(Path(__file__).parents[1] / "samples"))  # scripts that are run by path, not a package

from make_sample import VOICES, FloatArray, compose, timing, write_atomically
from script import Utterance
from speech_script import PLANS, Plan, speech

MANIFEST = "speech.jsonl"

#: Besides the sample's voices. `pocket` never heard OTTO and IVAN before.
VOICES.update(
    {
        "NORA": ("flite", "-voice", "slt", "-o", "/dev/stdout", "-t"),
        "OTTO": ("flite", "-voice", "rms", "-o", "/dev/stdout", "-t"),
        "IVAN": ("espeak-ng", "-v", "en-us+m6", "-s", "160", "--stdout"),
    }
)


def default_folder() -> Path:
    """Where the recordings are kept: they can be made again at any time."""
    return Config.from_env().cache / "bench" / "speech"


def write_flac(path: Path, samples: FloatArray) -> None:
    """The sound without loss, at the rate at which models hear: every engine reads the same numbers."""
    pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE)
        stream.layout = "mono"
        stream.format = "s16"
        for start in range(0, len(pcm), 4096):
            frame = av.AudioFrame.from_ndarray(pcm[None, start : start + 4096], format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            frame.pts, frame.time_base = start, Fraction(1, SAMPLE_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make(folder: Path, plan: Plan) -> dict[str, str]:
    """Speak one recording into the folder; returns its line of the manifest.

    Raises:
        UsageError: a synthesizer is not installed.
    """
    audio, text = folder / f"{plan.name}.flac", folder / f"{plan.name}.txt"
    items = speech(plan)
    samples, stretches = compose(items)
    write_flac(audio, samples)
    lines = [item.text for item in items if isinstance(item, Utterance)]
    write_atomically(text, ("\n".join(lines) + "\n").encode())
    write_atomically(audio.with_suffix(".json"), timing(stretches, len(samples)).encode())
    print(f"{audio}: {len(samples) / SAMPLE_RATE:.1f} s")
    return {"audio": audio.name, "reference": text.name, "language": "en"}


def make_all(folder: Path) -> None:
    """Speak all recordings into the folder, which is made if it is not there; the manifest comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [make(folder, plan) for plan in PLANS]
    write_atomically(folder / MANIFEST, "".join(json.dumps(entry) + "\n" for entry in entries).encode())


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=default_folder())
    try:
        make_all(parser.parse_args().folder)
    except StenopoolError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
