"""The way through a recording against openai/whisper's, whatever is heard; `references/make_seek_reference.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from models.alignment.words import TimedWords
from models.decoding.requests import Heard, Stop, TokenTimes
from models.decoding.segments import TimedTokens
from models.tokens import Vocabulary
from stenopool.domain import Chunk, Options, Span, Word
from stenopool.options import resolved
from workers import sequential
from workers.sequential import Passage

FRAME = 160  # samples; the reference counts in these
ROOM = 223  # tokens of previous text

_RECORDED = json.loads((Path(__file__).parents[1] / "references" / "seek.json").read_text(encoding="utf-8"))
RUNS: list[dict[str, Any]] = _RECORDED["runs"]


class Words:
    """What a passage asks of a vocabulary: a word for each token."""

    special = SimpleNamespace(timestamp_begin=_RECORDED["timestamp_begin"], end_of_text=_RECORDED["end_of_text"])

    def text(self, tokens: Sequence[int]) -> str:
        """Words joined."""
        return "".join(_RECORDED["words"][token] for token in tokens if token < self.special.end_of_text)

    def encode(self, text: str) -> tuple[int, ...]:
        """Words of the list, each with its space."""
        return tuple(_RECORDED["words"].index(f" {word}") for word in text.split())


def timed(words: Sequence[Sequence[Any]], end: int) -> tuple[Word, ...]:
    """Words from their frames, up to the recording's end."""
    return tuple(
        Word(Span(min(a, end) * FRAME, min(b, end) * FRAME), text, probability) for text, a, b, probability in words
    )


@pytest.mark.parametrize("number", range(len(RUNS)))
def test_the_way_is_that_of_the_reference(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many windows, each with the same prompt, and the same segments and words in the end."""
    run = RUNS[number]
    end: int = run["frames"]
    one = Passage(
        Chunk(index=0, span=Span(0, end * FRAME)),
        None,
        options=resolved(Options(mode="sequential", **run["options"])),
        vocabulary=cast(Vocabulary, Words()),
        language="en",
        room=ROOM,
    )
    for window in run["windows"]:
        assert list(one.decoding().prompt) == window["prompt"][-ROOM:]
        found = [
            TimedWords(Span(start * FRAME, stop * FRAME), timed(words, 10**9))
            for start, stop, words in window["words"] or []
        ]

        def invented(
            _: TokenTimes, pieces: Sequence[TimedTokens], *__: object, found: Any = found, **___: object
        ) -> tuple[Any, int]:
            assert len(pieces) == len(found)
            return found, 0

        monkeypatch.setattr(sequential, "timed_words", invented)
        one.hear(
            Heard(
                key=0,
                tokens=tuple(window["tokens"]),
                avg_logprob=window["avg_logprob"],
                no_speech_prob=window["no_speech_prob"],
                compression_ratio=1.0,
                temperature=window["temperature"],
                language="en",
                languages={},
                stop=Stop.END,
                rejected=(),
                times=TokenTimes(tokens=(), starts=(), probabilities=()),
            )
        )

    assert one.window is None
    ours = [(segment.span, segment.text, segment.words) for segment in one.result().segments]
    assert ours == [
        (
            Span(min(segment["start"], end) * FRAME, min(segment["end"], end) * FRAME),
            segment["text"],
            timed(segment["words"], end),
        )
        for segment in run["segments"]
    ]


def test_the_reference_has_it_all() -> None:
    """Improbable words were dropped, silence skipped, prompts forgotten: else the above would say little."""
    heard = [window for run in RUNS for window in run["windows"]]
    spoken = [word for window in heard for *_, words in window["words"] or [] for word in words]
    kept = [word for run in RUNS for segment in run["segments"] for word in segment["words"]]

    assert len(heard) > 150
    assert len(kept) < 0.9 * len(spoken)
    assert sum(window["no_speech_prob"] > 0.6 and window["avg_logprob"] < -1 for window in heard) > 5
    assert sum(len(window["prompt"]) == 0 for window in heard) > 20
    assert max(len(window["prompt"]) for window in heard) > ROOM
