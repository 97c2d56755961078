"""Whole recordings, heard by the reference implementations with the bundled model's weights, each in several ways.

    OTHER/bin/python tests/references/hear.py FOLDER < RECORDINGS

RECORDINGS is a JSON object, name -> file. Each way becomes a file `NN.json` of the folder: `name`, `group`, `versions`,
`wall_seconds`, `cpu_seconds` (hearing, without loading), and for each recording its `text` and its `segments`, pairs of
seconds. What is there already is left as it is. `bench/accuracy.py` calls this.

All at temperature 0 alone: what is sampled at a second try depends on each implementation's random numbers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import faster_whisper
import numpy as np
import torch
import transformers
import whisper
from ctranslate2_peer import converted_folder
from faster_whisper import transcribe as faster_transcribe
from openai_peer import folder_peer
from recordings import RATE, ROOT, as_float, decode

POCKET = ROOT / "models" / "pocket"
GREEDY = {"beam_size": 1, "temperature": 0.0}
#: At which openai/whisper and faster-whisper take a window for silence; transformers does so only if it is told.
SILENCE = {"no_speech_threshold": 0.6, "logprob_threshold": -1.0, "compression_ratio_threshold": 2.4}

#: From float32 samples to text and segments.
Hear = Callable[[np.ndarray], dict[str, Any]]


@dataclass(frozen=True)
class Way:
    """One implementation, asked in one way."""

    name: str
    #: Whose rows it is to be compared with.
    group: str
    package: str
    make: Callable[[Path], Hear]


def openai(_: Path, **options: Any) -> Hear:
    """openai/whisper's `transcribe`, greedy."""
    peer = folder_peer(POCKET)

    def hear(sound: np.ndarray) -> dict[str, Any]:
        with peer.speaking():
            found = whisper.transcribe(peer.model, sound, language="en", fp16=False, temperature=0.0, **options)
        return {"text": found["text"], "segments": [(one["start"], one["end"]) for one in found["segments"]]}

    return hear


def faster(converted: Path, *, compute: str = "float32", batched: bool = False, **options: Any) -> Hear:
    """faster-whisper, window by window or batched with its own voice activity detection."""
    model = faster_whisper.WhisperModel(str(converted), device="cpu", compute_type=compute)
    batches = {"batch_size": 8, "without_timestamps": False} if batched else {}
    engine = faster_whisper.BatchedInferencePipeline(model) if batched else model

    def hear(sound: np.ndarray) -> dict[str, Any]:
        with _multilingual():
            found = list(engine.transcribe(sound, language="en", **batches, **options)[0])
        return {"text": "".join(one.text for one in found), "segments": [(one.start, one.end) for one in found]}

    return hear


@contextmanager
def _multilingual() -> Iterator[None]:
    """faster-whisper takes small vocabularies for English-only and would leave language and task out of the prompt."""
    make = faster_transcribe.Tokenizer
    with mock.patch.object(faster_transcribe, "Tokenizer", lambda tokenizer, _, **rest: make(tokenizer, True, **rest)):
        yield


@cache
def _transformers() -> tuple[Any, Any, Any]:
    model = transformers.WhisperForConditionalGeneration.from_pretrained(POCKET, dtype=torch.float32).eval()
    features = transformers.WhisperFeatureExtractor.from_pretrained(POCKET)
    return model, features, transformers.WhisperTokenizerFast.from_pretrained(POCKET)


def pipeline(_: Path) -> Hear:
    """transformers' pipeline: overlapping chunks, stitched by their tokens."""
    model, features, tokenizer = _transformers()
    recognise = transformers.pipeline(
        "automatic-speech-recognition",
        model=model,
        feature_extractor=features,
        tokenizer=tokenizer,
        chunk_length_s=30,
        batch_size=8,
        device="cpu",
    )
    asked = {"language": "en", "task": "transcribe", "do_sample": False, "num_beams": 1}

    def hear(sound: np.ndarray) -> dict[str, Any]:
        found = recognise({"raw": sound, "sampling_rate": RATE}, return_timestamps=True, generate_kwargs=asked)
        pieces = [one["timestamp"] for one in found["chunks"]]
        end = len(sound) / RATE  # a last chunk may have no end
        return {"text": found["text"], "segments": [(a or 0.0, end if b is None else b) for a, b in pieces]}

    return hear


def windows(_: Path, **options: Any) -> Hear:
    """transformers' `generate` on a whole recording."""
    model, features, tokenizer = _transformers()

    @torch.no_grad()
    def hear(sound: np.ndarray) -> dict[str, Any]:
        whole = {"truncation": False, "padding": "longest", "return_attention_mask": True}
        inputs = features(sound, sampling_rate=RATE, return_tensors="pt", **whole)
        found = model.generate(
            **inputs,
            language="en",
            task="transcribe",
            return_timestamps=True,
            return_segments=True,
            do_sample=False,
            temperature=(0.0,),
            **SILENCE,
            **options,
        )["segments"][0]
        text = "".join(tokenizer.decode(one["tokens"], skip_special_tokens=True) for one in found)
        return {"text": text, "segments": [(float(one["start"]), float(one["end"])) for one in found]}

    return hear


ALONE = {"condition_on_previous_text": False}
WAYS = (
    Way("faster-whisper batched", "chunked", "faster-whisper", partial(faster, batched=True, **GREEDY)),
    Way("... int8", "chunked", "faster-whisper", partial(faster, batched=True, compute="int8", **GREEDY)),
    Way("transformers, pipeline", "chunked", "transformers", pipeline),
    Way("openai/whisper", "alone", "openai-whisper", partial(openai, **ALONE)),
    Way("faster-whisper", "alone", "faster-whisper", partial(faster, **GREEDY, **ALONE)),
    Way("... beam 5", "alone", "faster-whisper", partial(faster, beam_size=5, temperature=0.0, **ALONE)),
    Way("... int8", "alone", "faster-whisper", partial(faster, compute="int8", **GREEDY, **ALONE)),
    Way("... with its VAD", "alone", "faster-whisper", partial(faster, vad_filter=True, **GREEDY, **ALONE)),
    Way("transformers, generate", "alone", "transformers", partial(windows, condition_on_prev_tokens=False)),
    Way("openai/whisper", "told", "openai-whisper", openai),
    Way("faster-whisper", "told", "faster-whisper", partial(faster, **GREEDY)),
    Way("transformers, generate", "told", "transformers", partial(windows, condition_on_prev_tokens=True)),
)


def run(way: Way, converted: Path, sounds: dict[str, np.ndarray]) -> dict[str, Any]:
    """Hear all recordings, one after the other."""
    hear = way.make(converted)
    wall, cpu = time.monotonic(), time.process_time()
    recordings = {name: hear(sound) for name, sound in sounds.items()}
    return {
        "name": way.name.replace("...", way.package),
        "group": way.group,
        "versions": {name: version(name) for name in (way.package, "torch", "ctranslate2")},
        "wall_seconds": round(time.monotonic() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "recordings": recordings,
    }


def main(folder: Path, files: dict[str, str]) -> None:
    """Every way that the folder does not have yet."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)  # models this small only wait for each other's threads
    sounds = {name: as_float(decode(Path(file))) for name, file in files.items()}
    with converted_folder(POCKET) as converted:
        for index, way in enumerate(WAYS):
            target = folder / f"{index:02}.json"
            if not target.exists():
                found = run(way, converted, sounds)
                target.write_text(json.dumps(found) + "\n")
                print(f"{found['name']}, {way.group}: {found['wall_seconds']:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.load(sys.stdin))
