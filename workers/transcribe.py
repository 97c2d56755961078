"""Transcribe: from what the engine heard in a chunk to timed text in the recording."""

from __future__ import annotations

from models.decoding.segments import compression_ratio, split_segments
from models.engine import Heard
from models.tokens import Vocabulary
from stenopool.domain import ChunkResult, Options, Segment, Span


def chunk_result(
    heard: Heard, *, index: int, span: Span, language: str, vocabulary: Vocabulary, options: Options
) -> ChunkResult:
    """The timed text of one chunk, its times moved into the recording.

    A chunk counts as silence only by openai/whisper's rule: <|nospeech|> is likely and the text is unlikely.
    """
    if heard.no_speech_prob > options.no_speech_threshold and heard.avg_logprob < options.log_prob_threshold:
        reason = f"no speech (probability {heard.no_speech_prob:.2f}, text {heard.avg_logprob:.2f})"
        return ChunkResult(index=index, span=span, language=language, segments=(), skipped=reason)
    timed = [
        (piece.span, vocabulary.text(piece.tokens))
        for piece in split_segments(heard.tokens, vocabulary.special.timestamp_begin, len(span))
    ]
    ratio = compression_ratio("".join(text for _, text in timed).strip())
    segments = tuple(
        Segment(
            span=Span(span.start + time.start, span.start + time.end),
            text=text,
            chunk=index,
            avg_logprob=heard.avg_logprob,
            compression_ratio=ratio,
            no_speech_prob=heard.no_speech_prob,
        )
        for time, text in timed
        if text.strip()
    )
    return ChunkResult(index=index, span=span, language=language, segments=segments)
