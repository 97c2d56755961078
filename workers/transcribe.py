"""Transcribe: from what the engine heard in a chunk to timed text in the recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from models.decoding.requests import Heard, Stop
from models.decoding.segments import split_segments
from models.tokens import Vocabulary
from scheduler.suspicion import suspicion
from stenopool.domain import Chunk, ChunkResult, Options, Segment, Span

#: A chunk without a sample louder than this is silence, whatever voice activity detection or the model would say:
#: -66 dB of full scale, the noise of a good recorder.
QUIET = 16


def silence(chunk: Chunk, pcm: np.ndarray, language: str) -> ChunkResult | None:
    """The result of a chunk without a sound, so that it needs no engine; None if there is one. pcm is int16."""
    if pcm.size and int(np.abs(pcm.astype(np.int32)).max()) >= QUIET:
        return None
    reason = "no speech (no sample above -66 dB)"
    return ChunkResult(index=chunk.index, span=chunk.span, language=language, segments=(), skipped=reason)


def chunk_result(heard: Heard, chunk: Chunk, *, language: str, vocabulary: Vocabulary, options: Options) -> ChunkResult:
    """The timed text of one chunk, its times moved into the recording.

    A chunk counts as silence only by openai/whisper's rule: <|nospeech|> is likely and the text is unlikely.
    """
    span = chunk.span
    if is_silence(heard, options):
        reason = f"no speech (probability {heard.no_speech_prob:.2f}, text {heard.avg_logprob:.2f})"
        return ChunkResult(index=chunk.index, span=span, language=language, segments=(), skipped=reason)
    pieces = [
        piece
        for piece in split_segments(heard.tokens, vocabulary.special.timestamp_begin, len(span))
        if vocabulary.text(piece.tokens).strip()
    ]
    speech = None if chunk.speech is None else list(chunk.speech)
    segments = [
        Segment(
            span=Span(span.start + piece.span.start, span.start + piece.span.end),
            text=vocabulary.text(piece.tokens),
            chunk=chunk.index,
            avg_logprob=heard.avg_logprob,
            compression_ratio=heard.compression_ratio,
            no_speech_prob=heard.no_speech_prob,
            temperature=heard.temperature,
            language=heard.language if options.multilingual else None,
            guards=tuple(guards(heard)),
        )
        for piece in pieces
    ]
    judged = tuple(replace(segment, suspicion=suspicion(segment, speech)) for segment in segments)
    return ChunkResult(index=chunk.index, span=span, language=language, segments=judged)


def is_silence(heard: Heard, options: Options) -> bool:
    """Whether a text counts as silence: the model thinks so, and is not sure of the text either."""
    if options.no_speech_threshold is None or heard.no_speech_prob <= options.no_speech_threshold:
        return False
    return options.log_prob_threshold is None or heard.avg_logprob <= options.log_prob_threshold


def guards(heard: Heard) -> Iterator[str]:
    """What was done to a text besides decoding it, in words."""
    yield from (f"decoded again: {reason}" for reason in heard.rejected)
    if heard.stop is Stop.LOOP:
        yield "cut off: it went in circles"
    if heard.stop is Stop.LIMIT:
        yield f"cut off: {len(heard.tokens)} tokens"
