"""From a recording's options to what is asked of the engine for one of its chunks: pure."""

from __future__ import annotations

import math

from models.decoding.requests import Decoding
from models.tokens import Vocabulary
from stenopool.domain import SAMPLE_RATE, Chunk, Options

#: What a text may have whatever its speech: a short chunk has its timestamps, and a word may be long.
LEAST_TOKENS = 24


def decoding_of(options: Options, chunk: Chunk, vocabulary: Vocabulary, language: str | None) -> Decoding:
    """How a chunk is to be decoded.

    Args:
        options: of its recording.
        chunk: its place in the recording seeds the random numbers; its speech limits its tokens.
        vocabulary: of the checkpoint.
        language: in which; None to detect it.
    """
    return Decoding(
        language=language,
        languages=options.languages if language is None else (),
        task=options.task,
        temperature=options.temperature,
        beam_size=options.beam_size,
        patience=options.patience,
        best_of=options.best_of,
        length_penalty=options.length_penalty,
        compression_ratio_threshold=options.compression_ratio_threshold,
        log_prob_threshold=options.log_prob_threshold,
        no_speech_threshold=options.no_speech_threshold,
        prompt=hotwords(options, vocabulary) + initial_prompt(options, vocabulary),
        prefix=prefix(options, vocabulary),
        prefix_is_text=True,
        timestamps=not options.without_timestamps,
        max_initial_timestamp=options.max_initial_timestamp,
        suppress_tokens=suppressed(options, vocabulary),
        suppress_blank=options.suppress_blank,
        max_new_tokens=most_tokens(options, chunk),
        loop_guard=options.loop_guard,
        word_timestamps=options.word_timestamps,
        seed=chunk.span.start,
    )


def hotwords(options: Options, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Words to expect, as something that was said before."""
    return _spoken(options.hotwords, vocabulary)


def initial_prompt(options: Options, vocabulary: Vocabulary) -> tuple[int, ...]:
    """The prompt as something that was said before."""
    return _spoken(options.initial_prompt, vocabulary)


def prefix(options: Options, vocabulary: Vocabulary) -> tuple[int, ...]:
    """What the text begins with, at the chunk's beginning if there are timestamps, as in faster-whisper."""
    text = _spoken(options.prefix, vocabulary)
    return (vocabulary.special.timestamp_begin, *text) if text and not options.without_timestamps else text


def suppressed(options: Options, vocabulary: Vocabulary) -> tuple[int, ...] | None:
    """Ids that are never sampled; -1 stands for the checkpoint's own list, as in openai/whisper."""
    if options.suppress_tokens is None or -1 not in options.suppress_tokens:
        return options.suppress_tokens
    return (*vocabulary.special.suppressed, *(token for token in options.suppress_tokens if token != -1))


def _spoken(text: str | None, vocabulary: Vocabulary) -> tuple[int, ...]:
    return vocabulary.encode(" " + text.strip()) if text and text.strip() else ()


def most_tokens(options: Options, chunk: Chunk) -> int | None:
    """Tokens at which the chunk's text ends at the latest; None for the model's own limit."""
    limits = [] if options.max_new_tokens is None else [options.max_new_tokens]
    if options.max_tokens_per_second is not None:
        speech = len(chunk.span) if chunk.speech is None else sum(map(len, chunk.speech))
        limits.append(LEAST_TOKENS + math.ceil(options.max_tokens_per_second * speech / SAMPLE_RATE))
    return min(limits, default=None)
