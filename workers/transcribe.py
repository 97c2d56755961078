"""Transcribe: from what the engine heard in a chunk to timed text in the recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from models.alignment.words import TimedWords, timed_words
from models.decoding.requests import Heard, Stop
from models.decoding.segments import split_segments
from models.tokens import Vocabulary
from scheduler.hallucination import hallucinations
from scheduler.suspicion import suspicion
from stenopool.domain import SAMPLE_RATE, Chunk, ChunkResult, Options, Segment, Span

#: A chunk without a sample louder than this is silence, whatever voice activity detection or the model would say:
#: -66 dB of full scale, the noise of a good recorder.
QUIET = 16


def silence(chunk: Chunk, pcm: np.ndarray, language: str) -> ChunkResult | None:
    """The result of a chunk without a sound, so that it needs no engine; None if there is one. pcm is int16."""
    if pcm.size and max(int(pcm.max()), -int(pcm.min())) >= QUIET:
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
    segments = list(_segments(heard, chunk, vocabulary, options))
    segments, dropped = _without_hallucinations(segments, span, options)
    if dropped and not segments:
        return ChunkResult(index=chunk.index, span=span, language=language, segments=(), skipped="; ".join(dropped))
    judged = [replace(segment, suspicion=suspicion(segment, chunk.speech)) for segment in segments]
    if dropped:
        judged[0] = replace(judged[0], guards=(*judged[0].guards, *dropped))
    return ChunkResult(index=chunk.index, span=span, language=language, segments=tuple(judged))


def _segments(heard: Heard, chunk: Chunk, vocabulary: Vocabulary, options: Options) -> Iterator[Segment]:
    """The chunk's segments that have a text, in the recording, with their words where these were asked for."""
    begin = chunk.span.start
    pieces = list(split_segments(heard.tokens, vocabulary.special.timestamp_begin, len(chunk.span)))
    timed = [TimedWords(Span(begin + piece.span.start, begin + piece.span.end), ()) for piece in pieces]
    if heard.times:
        split = partial(vocabulary.split_to_words, language=heard.language or "en")
        timed, _ = timed_words(
            heard.times,
            pieces,
            split,
            begin=begin,
            last_speech=begin,
            prepended=options.prepend_punctuations,
            appended=options.append_punctuations,
        )
    for piece, when in zip(pieces, timed, strict=True):
        if (text := vocabulary.text(piece.tokens)).strip():
            yield Segment(
                span=when.span,
                text=text,
                chunk=chunk.index,
                avg_logprob=heard.avg_logprob,
                compression_ratio=heard.compression_ratio,
                no_speech_prob=heard.no_speech_prob,
                temperature=heard.temperature,
                words=when.words,
                language=heard.language if options.multilingual else None,
                guards=tuple(guards(heard)),
            )


def _without_hallucinations(segments: list[Segment], span: Span, options: Options) -> tuple[list[Segment], list[str]]:
    """The segments without improbable words between silences, and what was dropped, in words."""
    if options.hallucination_silence_threshold is None:
        return segments, []
    found = hallucinations(
        segments,
        heard=span,
        window_end=span.end,
        threshold=round(options.hallucination_silence_threshold * SAMPLE_RATE),
        last_speech=span.start,
    )
    dropped = [f"dropped {segments[at].text.strip()!r}: improbable words between silences" for at in found]
    return [segment for at, segment in enumerate(segments) if at not in found], dropped


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
