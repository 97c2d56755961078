"""Records how openai/whisper goes through a recording, given what it hears: windows, prompts, what is kept.

Needs an environment with openai-whisper, and no model: what is heard in each window, and the words in it, are invented
here, so that everything occurs that a good model hardly ever does.

    python tests/references/make_seek_reference.py [FOLDER]

It writes seek.json beside itself, or into FOLDER:

    version           of openai-whisper
    words             the text of each token; ids from `end_of_text` on are special
    end_of_text, timestamp_begin
    runs/[]           frames: of the recording, 100 a second; options: of `transcribe`; windows; segments
    .../windows/[]    prompt: as it was given; tokens, avg_logprob, no_speech_prob, temperature: invented;
                      words: for each segment its start, its end, its words as [text, start, end, probability],
                      invented; null where words were not asked for
    .../segments/[]   start, end, text, words as above: what `transcribe` returned. All times are frames.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import whisper
from whisper.decoding import DecodingResult

_TRANSCRIBE = importlib.import_module("whisper.transcribe")  # `whisper.transcribe` is the function

WORDS = [" the", " quick", " brown", " fox", ".", " jumps", " over", " a", " lazy", " dog", ",", " and", " sleeps", " "]
END_OF_TEXT, TIMESTAMP_BEGIN = 50, 100
N_FRAMES = 3000  # in a window

#: What each run asks for, in turn. No threshold is a whole number of frames: then nothing hangs on the last bit.
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"condition_on_previous_text": False},
    {"initial_prompt": "the lazy dog " * 75},  # more tokens than a prompt holds
    {"word_timestamps": True},
    {"word_timestamps": True, "hallucination_silence_threshold": 2.003},
    {"word_timestamps": True, "hallucination_silence_threshold": 0.503, "condition_on_previous_text": False},
    {"word_timestamps": True, "hallucination_silence_threshold": 3.003, "initial_prompt": "the lazy dog"},
)
N_RUNS = 28


class Tokenizer:
    """Words for tokens; what openai/whisper asks of its own."""

    eot, timestamp_begin = END_OF_TEXT, TIMESTAMP_BEGIN

    def encode(self, text: str) -> list[int]:
        """Words of the list, each with its space."""
        return [WORDS.index(f" {word}") for word in text.split()]

    def decode(self, tokens: list[int]) -> str:
        """Words joined."""
        return "".join(WORDS[token] for token in tokens if token < END_OF_TEXT)


def invent_text(chance: random.Random) -> list[int]:
    """Tokens as the timestamp rules allow them."""
    at, tokens = chance.choice([0, 0, 0, 10, 50]), list[int]()
    if chance.random() < 0.05:
        return tokens
    for _ in range(chance.randint(1, 6)):
        tokens += [TIMESTAMP_BEGIN + at, *chance.choices(range(len(WORDS)), k=chance.randint(1, 6))]
        at += chance.randint(1, 350)
        if at > N_FRAMES // 2 or chance.random() < 0.1:
            return tokens
        tokens.append(TIMESTAMP_BEGIN + at)
        at += chance.choice([0, 0, 0, 5, 100, 300])
        if at > N_FRAMES // 2:
            return tokens
    last_pair = chance.choice([[], [TIMESTAMP_BEGIN + at], [TIMESTAMP_BEGIN + at, *chance.choices(range(4), k=3)]])
    return tokens + last_pair


def invent_words(chance: random.Random, start: int, end: int, text: list[int]) -> list[Any]:
    """Start, end and words of a segment."""
    at, words = max(0, start + chance.choice([0, 0, 10, -20, 300])), []
    for token in text:
        length = chance.choice([0, 6, 20, 20, 40, 247])
        words.append([WORDS[token], at, at + length, chance.choice([0.05, 0.5, 0.9, 0.9])])
        at += length + chance.choice([0, 0, 0, 30, 300])
    return [words[0][1], words[-1][2], words] if words else [start, end, words]


def run(number: int, options: dict[str, Any]) -> dict[str, Any]:
    """One recording."""
    chance = random.Random(number)
    n_frames = chance.randint(50, 14_000)
    windows: list[dict[str, Any]] = []

    def decode(_: object, decoding: whisper.DecodingOptions) -> DecodingResult:
        heard = {
            "tokens": invent_text(chance),
            "avg_logprob": chance.choice([-0.3, -0.3, -0.7, -1.2]),
            "no_speech_prob": chance.choice([0.1, 0.1, 0.5, 0.7]),
            "temperature": chance.choice([0.0, 0.0, 0.4, 0.6]),
        }
        windows.append({"prompt": list(decoding.prompt or ()), **heard, "words": None})
        return DecodingResult(audio_features=torch.zeros(0), language="en", compression_ratio=1.0, **heard)

    def add_words(*, segments: list[dict[str, Any]], **_: object) -> None:
        windows[-1]["words"] = []
        for segment in segments:
            text = [token for token in segment["tokens"] if token < END_OF_TEXT]
            timed = invent_words(chance, round(segment["start"] * 100), round(segment["end"] * 100), text)
            windows[-1]["words"].append(timed)
            segment["start"], segment["end"] = timed[0] / 100, timed[1] / 100
            names = ("word", "start", "end", "probability")
            segment["words"] = [
                dict(zip(names, (text, a / 100, b / 100, probability), strict=True))
                for text, a, b, probability in timed[2]
            ]

    class Mel:
        """Of nothing."""

        shape = (80, n_frames + N_FRAMES)

        def __getitem__(self, at: tuple[slice, slice]) -> torch.Tensor:
            return torch.zeros(80, at[1].stop - at[1].start)

    dims = SimpleNamespace(n_mels=80, n_audio_ctx=1500, n_text_ctx=448)
    model = SimpleNamespace(
        dims=dims, device=torch.device("cpu"), is_multilingual=True, num_languages=99, decode=decode
    )
    with (
        mock.patch.object(_TRANSCRIBE, "log_mel_spectrogram", return_value=Mel()),
        mock.patch.object(_TRANSCRIBE, "add_word_timestamps", add_words),
        mock.patch.object(_TRANSCRIBE, "get_tokenizer", return_value=Tokenizer()),
    ):
        found = whisper.transcribe(model, np.zeros(1), language="en", fp16=False, temperature=0.0, **options)
    segments = [
        {
            "start": round(segment["start"] * 100),
            "end": round(segment["end"] * 100),
            "text": segment["text"],
            "words": [
                [word["word"], round(word["start"] * 100), round(word["end"] * 100), word["probability"]]
                for word in segment.get("words", [])
            ],
        }
        for segment in found["segments"]
        if segment["text"]
    ]
    return {"frames": n_frames, "options": options, "windows": windows, "segments": segments}


def main() -> None:
    """Record everything."""
    record = {
        "version": importlib.metadata.version("openai-whisper"),
        "words": WORDS,
        "end_of_text": END_OF_TEXT,
        "timestamp_begin": TIMESTAMP_BEGIN,
        "runs": [run(number, OPTIONS[number % len(OPTIONS)]) for number in range(N_RUNS)],
    }
    path = (Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent) / "seek.json"
    path.write_text(json.dumps(record, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB, {sum(len(one['windows']) for one in record['runs'])} windows")


if __name__ == "__main__":
    main()
