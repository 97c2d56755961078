"""Whole recordings against openai/whisper's `transcribe`; `references/make_decoding_references.py` recorded it."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.decoding.requests import Heard, Request, Stop
from models.engine import Engine
from models.tokens import Vocabulary
from stenopool.domain import Chunk, Options, Segment, Span
from stenopool.options import resolved
from tests import sounds
from workers.sequential import Passage

RATE = 16_000
FRAME = 160  # samples; what the reference counts windows in
ROOM = 223  # tokens of previous text

_RECORDED = json.loads((Path(__file__).parents[1] / "references" / "decoding.json").read_text(encoding="utf-8"))
#: By case, seconds, and whether features were made of each window or of the whole recording.
RUNS = {
    f"{run['case']} {run['seconds']:.0f} s {run['features']}": run
    for run in _RECORDED["transcribe"]
    # What there is no option for; hallucinations are in test_seek.py, for which no model has to have any.
    if not {"carry_initial_prompt", "clip_timestamps", "hallucination_silence_threshold"} & set(run["options"])
}
WITHOUT_WORDS = [name for name, run in RUNS.items() if "word_timestamps" not in run["options"]]


def passage(run: dict[str, Any], vocabulary: Vocabulary) -> Passage:
    """The whole recording as one chunk; nothing that the reference does not do."""
    return Passage(
        Chunk(index=0, span=Span(0, int(run["seconds"] * RATE) // FRAME * FRAME)),
        None,
        options=resolved(
            Options(
                mode="sequential",
                temperature=(0.0,),
                loop_guard=False,
                max_tokens_per_second=None,
                **run["options"],
            )
        ),
        vocabulary=vocabulary,
        language="en",
        room=ROOM,
    )


def times(segments: list[Segment]) -> list[tuple[float, float, str]]:
    """In frames."""
    return [(segment.span.start / FRAME, segment.span.end / FRAME, segment.text) for segment in segments]


def recorded_times(run: dict[str, Any]) -> list[tuple[float, float, str]]:
    """The reference's, up to the recording's end: it reads times in the padding of the last window as they stand."""
    end = int(run["seconds"] * RATE) // FRAME
    return [
        (min(round(segment["start"] * 100), end), min(round(segment["end"] * 100), end), segment["text"])
        for segment in run["segments"]
        if segment["text"].strip()
    ]


@pytest.mark.parametrize("name", WITHOUT_WORDS)
def test_windows_and_prompts_are_those_of_the_reference(pool_engine: Engine, name: str) -> None:
    """Given what it heard in each window, the next one has the same prompt, and the segments are the same."""
    run = RUNS[name]
    one = passage(run, pool_engine.vocabulary)

    for window in run["windows"]:
        assert list(one.decoding().prompt) == window["prompt"][-ROOM:]
        heard = Heard(
            key=0,
            tokens=tuple(window["tokens"]),
            avg_logprob=window["avg_logprob"],
            no_speech_prob=window["no_speech_prob"],
            compression_ratio=window["compression_ratio"],
            temperature=0.0,
            language="en",
            languages={},
            stop=Stop.END,
            rejected=(),
            times=None,
        )
        one.hear(heard)

    assert one.window is None
    assert times(list(one.result().segments)) == recorded_times(run)


def hear(engine: Engine, run: dict[str, Any], pcm: np.ndarray) -> dict[int, tuple[Heard, list[Segment]]]:
    """Window by window through the engine: of each, by its first frame, what was heard and the segments kept."""
    one, windows, n_segments = passage(run, engine.vocabulary), {}, 0
    while (window := one.window) is not None:
        sound = pcm[window.span.start : window.span.end]
        [heard] = engine.run([Request(key=0, pcm=sound, decoding=one.decoding())])
        one.hear(heard)
        segments = one.result().segments
        windows[window.span.start // FRAME] = heard, list(segments[n_segments:])
        n_segments = len(segments)
    return windows


@pytest.fixture(scope="module")
def pcm() -> np.ndarray:
    """The bundled recording, int16."""
    return sounds.read(sounds.SAMPLE)


@pytest.mark.parametrize(
    "name",
    ["previous_text 90 s window", "no_previous_text 90 s window", "initial_prompt 90 s window", "beam_5 90 s window"],
)
def test_recordings_are_transcribed_as_the_reference_does(pool_engine: Engine, pcm: np.ndarray, name: str) -> None:
    """From sound to segments: the same windows, tokens, scores, times and texts."""
    assert _RECORDED["model"] == pool_engine.checkpoint.digest, "record anew: make_decoding_references.py"
    run = RUNS[name]

    windows = list(hear(pool_engine, run, pcm).values())

    assert [list(heard.tokens) for heard, _ in windows] == [window["tokens"] for window in run["windows"]]
    for (heard, _), window in zip(windows, run["windows"], strict=True):
        assert heard.avg_logprob == pytest.approx(window["avg_logprob"], abs=1e-4)
        assert heard.no_speech_prob == pytest.approx(window["no_speech_prob"], abs=1e-5)
    assert times([segment for _, segments in windows for segment in segments]) == recorded_times(run)


def test_words_are_timed_as_the_reference_does(pool_engine: Engine, pcm: np.ndarray) -> None:
    """The same words at the same times, in every window in which the reference gives each segment its own words.

    It does not where a segment begins with a sign that it adds to the word before: then the words of all that follow
    in that window stand one segment too early.
    """
    run = RUNS["words_no_previous_text 90 s window"]
    windows = {seek: list(segments) for seek, segments in groupby(run["segments"], key=lambda one: one["seek"])}

    found = hear(pool_engine, run, pcm)

    assert list(found) == list(windows)
    regular = [seek for seek, segments in windows.items() if all(has_own_words(segment) for segment in segments)]
    assert len(regular) >= 2
    for seek in regular:
        ours, theirs = found[seek][1], windows[seek]
        assert times(ours) == recorded_times({**run, "segments": theirs})
        for segment, reference in zip(ours, theirs, strict=True):
            assert [(word.text, word.span.start / FRAME, word.span.end / FRAME) for word in segment.words] == [
                (word["word"], round(word["start"] * 100), round(word["end"] * 100)) for word in reference["words"]
            ]
            assert [word.probability for word in segment.words] == pytest.approx(
                [word["probability"] for word in reference["words"]], abs=1e-3
            )


def has_own_words(segment: dict[str, Any]) -> bool:
    """Whether the reference's words are those of the segment's text."""
    return "".join(word["word"] for word in segment["words"]) == str(segment["text"])
