"""What is asked of the engine for a chunk, and what it answers."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from models.tokens import TIMESTAMP_STEP, SpecialTokens, Vocabulary
from stenopool.domain import SAMPLE_RATE, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How a chunk is decoded. The defaults are openai/whisper's `DecodingOptions`: once, greedily, without a guard."""

    #: A language code; None to detect it in each chunk.
    language: str | None = None
    #: Those that detection may choose from; empty for all.
    languages: tuple[str, ...] = ()
    task: Task = "transcribe"
    #: Tried in turn until the text is good enough; at 0, the likeliest tokens are taken or beams kept.
    temperature: tuple[float, ...] = (0.0,)
    #: Hypotheses that a beam search keeps at temperature 0; 1 is greedy.
    beam_size: int = 1
    #: A beam search ends when this many times `beam_size` hypotheses have ended.
    patience: float = 1.0
    #: Samples at temperatures above 0, of which the best is taken.
    best_of: int = 1
    #: Of the ranking of hypotheses: alpha of Wu et al. 2016; None divides by the length.
    length_penalty: float | None = None
    #: A text is not good enough if it compresses better than this ...
    compression_ratio_threshold: float | None = None
    #: ... or its tokens are, on average, less likely than this ...
    log_prob_threshold: float | None = None
    #: ... unless <|nospeech|> is likelier than this: then it is silence, and no other temperature makes it speech.
    no_speech_threshold: float | None = None
    #: Tokens of what came before; the last of them are taken as far as half of the context holds them.
    prompt: tuple[int, ...] = ()
    #: Tokens that the text begins with, at most a quarter of the context.
    prefix: tuple[int, ...] = ()
    #: They are part of the answer, and the timestamp rules go on from them, as in faster-whisper. In openai/whisper
    #: they are something before it.
    prefix_is_text: bool = False
    timestamps: bool = True
    #: Latest first timestamp in seconds; None for any.
    max_initial_timestamp: float | None = 1.0
    #: Tokens that are never sampled; None for the checkpoint's own list.
    suppress_tokens: tuple[int, ...] | None = None
    #: Whether a text may not begin with a space or its end.
    suppress_blank: bool = True
    #: Tokens at which a text ends at the latest; None for half of the context.
    max_new_tokens: int | None = None
    #: Stop where the text goes in circles.
    loop_guard: bool = False
    #: Tell the time of every token.
    word_timestamps: bool = False
    #: The text is cut at its last complete pair of timestamps, from where its recording goes on.
    seek: bool = False
    #: Of the random numbers above temperature 0.
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One chunk to decode."""

    key: Hashable
    #: int16 [samples], at most the model's window.
    pcm: np.ndarray
    #: None to ask for its language only: `Heard.languages` is the answer.
    decoding: Decoding | None


class Stop(StrEnum):
    """Why a text ended."""

    #: The model said so.
    END = "end"
    #: It had as many tokens as it may.
    LIMIT = "limit"
    #: It went in circles, and the loop guard stopped it.
    LOOP = "loop"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTimes:
    """Where in the chunk each text token was heard; timestamps are left out.

    starts has one entry more than there are tokens: where the last one ends. In samples from the chunk's beginning.
    """

    tokens: tuple[int, ...]
    starts: tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the engine heard in one chunk."""

    key: Hashable
    #: The text's, timestamps among them, without its end: those of a prefix that is text, and what was sampled; of a
    #: loop, the first round.
    tokens: tuple[int, ...]
    #: Mean log-probability of the sampled tokens, the end of text included, as openai/whisper counts it.
    avg_logprob: float
    no_speech_prob: float
    #: Of the text as it was sampled, with all its loops.
    compression_ratio: float
    #: The one that gave this text.
    temperature: float
    #: In which it was decoded; None where only the language was asked for.
    language: str | None
    #: Probability of each language; empty where the checkpoint knows only one.
    languages: dict[str, float]
    stop: Stop
    #: Why the texts at other temperatures were not good enough, in turn.
    rejected: tuple[str, ...]
    times: TokenTimes | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """The tokens that a slot begins with."""

    tokens: tuple[int, ...]
    #: Where <|startoftranscript|> stands among them.
    start: int
    #: How many of the last ones the text begins with.
    given: int = 0


def question(special: SpecialTokens) -> Prompt:
    """What asks for the language: nothing but the beginning."""
    return Prompt((special.start_of_transcript,), 0)


def prompt_of(vocabulary: Vocabulary, decoding: Decoding, language: str, half: int) -> Prompt:
    """Previous text, steering tokens, prefix (openai/whisper `decoding.py`, `_get_initial_tokens`).

    Args:
        vocabulary: of the checkpoint.
        decoding: what is asked.
        language: in which to decode.
        half: of the decoder's context: the longest previous text, its mark included.
    """
    special = vocabulary.special
    before = (special.start_of_previous, *decoding.prompt[-(half - 1) :]) if decoding.prompt else ()
    untimed = () if decoding.timestamps else (special.no_timestamps,)
    steering = vocabulary.prompt(language, decoding.task)
    # Where the text is limited, it and the prefix share half of the context.
    room = half - (decoding.max_new_tokens or half)
    shared = room > 0 and not decoding.prefix_is_text
    prefix = decoding.prefix[-room:] if shared else decoding.prefix
    return Prompt((*before, *steering, *untimed, *prefix), len(before), len(prefix) if decoding.prefix_is_text else 0)


def longest_prompt(decoding: Decoding, half: int) -> int:
    """Tokens of the longest prompt that this decoding may ask for, in any window of its recording."""
    before = min(len(decoding.prompt) + 1, half) if decoding.prompt else 0
    return max(before, half if decoding.seek else 0) + 4 + len(decoding.prefix)


def latest_start(special: SpecialTokens, decoding: Decoding) -> int:
    """The latest token that the first timestamp may be."""
    beyond = 2**30  # any vocabulary, and still an int32
    if decoding.max_initial_timestamp is None:
        return beyond
    return min(beyond, special.timestamp_begin + round(decoding.max_initial_timestamp * SAMPLE_RATE / TIMESTAMP_STEP))
