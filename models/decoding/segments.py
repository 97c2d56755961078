"""Sampled tokens back to timed text: openai/whisper's segment rules (`transcribe.py`), for one whole chunk.

Unlike there, nothing seeks: a chunk is decoded once, so text after the last complete pair of timestamps is kept and
reaches to the chunk's end.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models.tokens import TIMESTAMP_STEP
from stenopool.domain import Span


@dataclass(frozen=True, slots=True)
class TimedTokens:
    """Text tokens with their time inside the chunk, in samples."""

    span: Span
    tokens: tuple[int, ...]


def split_segments(tokens: Sequence[int], timestamp_begin: int, length: int) -> Iterator[TimedTokens]:
    """Cut a chunk's tokens at their timestamps.

    In:  <|0.00|> a b <|2.00|> <|2.40|> c <|4.00|>      length 5 s
    Out: [0.00, 2.00) a b, [2.40, 4.00) c

    Args:
        tokens: as sampled, without the end of text.
        timestamp_begin: id of <|0.00|>.
        length: of the chunk in samples; times beyond it lie in its padding and are clamped.
    """
    start, text = 0, list[int]()
    for token in tokens:
        if token < timestamp_begin:
            text.append(token)
            continue
        time = min((token - timestamp_begin) * TIMESTAMP_STEP, length)
        if text:
            yield TimedTokens(Span(start, max(start, time)), tuple(text))
            text = []
        start = max(start, time)
    if text:
        yield TimedTokens(Span(start, length), tuple(text))


def up_to_seek(tokens: Sequence[int], timestamp_begin: int) -> tuple[int, ...]:
    """The tokens that a sequential transcription keeps: up to the last of a pair of timestamps, if there is one.

    What follows is heard again, in a window that begins there. A single timestamp at the end says that nothing was said
    after it: then everything is kept.
    """
    is_time = [token >= timestamp_begin for token in tokens]
    if is_time[-2:] == [False, True]:
        return tuple(tokens)
    pairs = [at for at in range(1, len(tokens)) if is_time[at - 1] and is_time[at]]
    return tuple(tokens[: pairs[-1]]) if pairs else tuple(tokens)


def compression_ratio(text: str) -> float:
    """Bytes of the text over its zlib-compressed bytes: repetition compresses well. 0 for an empty text."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0
