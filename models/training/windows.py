"""Windows: utterances packed to what the model hears at once, and the tokens that it is to write for each.

Everything is drawn from a seed and an epoch: the same ones give the same windows, in whichever process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from models.tokens import TIMESTAMP_STEP, Vocabulary
from models.training.augment import stretched
from stenopool.domain import Span

#: Tokens of a window besides its text: the steering ones and the end.
STEERING = 5

#: Windows that are not filled to their end: what is short is heard short, too.
PARTLY_FILLED = 0.25


@dataclass(frozen=True, slots=True)
class Timed:
    """A text with its time, in samples from where its utterance begins."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """A stretch of a recording and what is said in it: what is heard whole, in one window."""

    audio: Path
    span: Span
    texts: tuple[Timed, ...]
    #: False where the times of its only text are not known: no timestamps are learnt from it.
    timed: bool = True
    language: str = "en"
    #: As espeak-ng writes them; empty where nobody knows.
    phonemes: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(one.text.strip() for one in self.texts)


class Kind(StrEnum):
    """What is in a window."""

    SPEECH = "speech"
    SILENCE = "silence"
    NOISE = "noise"


@dataclass(frozen=True, slots=True)
class Placed:
    """An utterance in a window."""

    utterance: int
    #: Sample of the window at which it begins.
    start: int
    #: How fast it is played.
    speed: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What is heard at once."""

    placed: tuple[Placed, ...] = ()
    kind: Kind = Kind.SPEECH
    #: Utterances of the window before, whose text may be told.
    previous: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How utterances become windows."""

    #: Samples.
    window: int
    #: Tokens of a window's text, at most.
    room: int
    speeds: tuple[float, ...] = (1.0,)
    #: Share of windows without speech.
    quiet: float = 0.03


def packed(lengths: Sequence[int], costs: Sequence[int], packing: Packing, rng: np.random.Generator) -> list[Window]:
    """All utterances that fit, in an order of chance, each in exactly one window; windows without speech among them.

    Args:
        lengths: samples of each utterance.
        costs: tokens of each one's text.
        packing: how.
        rng: of this epoch.
    """
    windows: list[Window] = []
    placed: list[Placed] = []
    at = cost = 0
    limit = _limit(rng, packing)

    def close() -> None:
        nonlocal placed, at, cost, limit
        before = tuple(one.utterance for one in windows[-1].placed) if windows else ()
        windows.append(Window(placed=tuple(placed), previous=before))
        placed, at, cost, limit = [], 0, 0, _limit(rng, packing)

    for index in map(int, rng.permutation(len(lengths))):
        speed = packing.speeds[int(rng.integers(len(packing.speeds)))]
        if stretched(lengths[index], speed) > packing.window:
            speed = 1.0
        length = stretched(lengths[index], speed)
        if length > packing.window or costs[index] > packing.room:
            continue
        if placed and (at + length > limit or cost + costs[index] > packing.room):
            close()
        placed.append(Placed(index, at, speed))
        at, cost = at + length, cost + costs[index]
    if placed:
        close()
    return list(_with_quiet(windows, packing.quiet, rng))


def _limit(rng: np.random.Generator, packing: Packing) -> int:
    """Samples to which a window is filled."""
    share = float(rng.uniform(0.1, 1.0)) if rng.random() < PARTLY_FILLED else 1.0
    return round(share * packing.window)


def _with_quiet(windows: Sequence[Window], share: float, rng: np.random.Generator) -> Iterator[Window]:
    for window in windows:
        yield window
        if rng.random() < share:
            yield Window(kind=Kind.NOISE if rng.random() < 0.7 else Kind.SILENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the model is to write in a window: a sequence, and of each token what is asked."""

    #: Prompt, text and end.
    tokens: tuple[int, ...]
    #: The first of them that is to be written; those before are told.
    first: int
    #: The position of the audio, in steps of 20 ms, at which each token is said; -1 where it has no time.
    times: tuple[float, ...]


def cost(utterance: Utterance, vocabulary: Vocabulary) -> int:
    """Tokens that an utterance's text takes at most."""
    return sum(len(vocabulary.encode(f" {one.text.strip()}")) + 2 for one in utterance.texts)


def written(
    window: Window,
    utterances: Sequence[Utterance],
    vocabulary: Vocabulary,
    *,
    timestamps: bool,
    previous: int = 0,
    offset: int = 0,
) -> Written:
    """The tokens of a window.

    Args:
        window: packed.
        utterances: of the data set.
        vocabulary: of the model.
        timestamps: whether times are to be written; not where one of the utterances has none.
        previous: tokens of the window before that are told, at most.
        offset: the position from which on the encoder hears the window; the timestamps to be written say the same.
    """
    special = vocabulary.special
    if window.kind is not Kind.SPEECH:
        return Written(tokens=(special.start_of_transcript, special.no_speech, special.end_of_text), first=1,
                       times=(-1.0,) * 3)  # fmt: skip
    timestamps = timestamps and all(utterances[one.utterance].timed for one in window.placed)
    text: list[int] = []
    times: list[float] = []
    for one in window.placed:
        utterance = utterances[one.utterance]
        for timed in utterance.texts:
            tokens = vocabulary.encode(f" {timed.text.strip()}")
            start, end = ((one.start + sample / one.speed) / TIMESTAMP_STEP for sample in _ends(timed))
            inner = _spread(tokens, vocabulary, start, end) if utterance.timed else [-1.0] * len(tokens)
            if timestamps:
                # The last timestamp that there is stands for the window's end.
                zero = special.timestamp_begin + offset
                text += [zero + round(start), *tokens, zero + round(end)]
                times += [start, *inner, end]
            else:
                text += tokens
                times += inner
    language = utterances[window.placed[0].utterance].language
    steering = [*vocabulary.prompt(language, "transcribe"), *([] if timestamps else [special.no_timestamps])]
    told: list[int] = []
    if previous and window.previous:
        before = " ".join(utterances[index].text for index in window.previous)
        told = [special.start_of_previous, *vocabulary.encode(f" {before}")[-previous:]]
    whole = (*told, *steering, *text, special.end_of_text)
    silent = len(told) + len(steering)
    return Written(tokens=whole, first=len(told) + 1, times=(*(-1.0,) * silent, *times, -1.0))


def _ends(timed: Timed) -> tuple[int, int]:
    return timed.span.start, timed.span.end


def _spread(tokens: Sequence[int], vocabulary: Vocabulary, start: float, end: float) -> list[float]:
    """When each token is said, if every letter takes as long."""
    letters = np.array([max(1, len(vocabulary.text([token]))) for token in tokens], float)
    middle = (np.cumsum(letters) - letters / 2) / max(letters.sum(), 1.0)
    return [float(start + (end - start) * share) for share in middle]


def cut(audio: Path, duration: int, texts: Sequence[Timed], language: str, window: int) -> list[Utterance]:
    """A long recording's texts as utterances of at most a window each, cut between two texts.

    A text that is longer than the window has no place, nor has one whose time reaches beyond the recording: they are
    left out, and their neighbours end before them.
    """
    found: list[Utterance] = []
    group: list[Timed] = []

    def close() -> None:
        if group:
            start = group[0].span.start
            moved = tuple(Timed(Span(one.span.start - start, one.span.end - start), one.text) for one in group)
            span = Span(start, group[-1].span.end)
            found.append(Utterance(audio=audio, span=span, texts=moved, language=language))
            group.clear()

    for one in texts:
        if group and (one.span.end - group[0].span.start > window or one.span.start < group[-1].span.end):
            close()
        if 0 < len(one.span) <= window and one.span.end <= duration and one.text.strip():
            group.append(one)
        else:
            close()
    close()
    return found
