"""A transcript as OpenAI's API gives it. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from stenopool.api.speech_form import Format
from stenopool.domain import SAMPLE_RATE, Segment, Span, Transcript
from stenopool.formats import format_of
from stenopool.formats.text import writable

#: Samples of what openai/whisper counts its windows in.
_FRAME = SAMPLE_RATE // 100


def body_of(
    transcript: Transcript,
    format: Format,
    *,
    granularities: Sequence[str] = ("segment",),
    language: str = "",
    spans: Sequence[Span] = (),
) -> tuple[str, str]:
    """The body of an answer, and its media type.

    Args:
        granularities: of verbose_json: word, segment.
        language: what it is called in English.
        spans: of the chunks, by index.
    """
    if format in ("srt", "vtt"):
        kind = format_of(format)
        return kind.write(transcript), f"{kind.media_type}; charset=utf-8"
    text = writable(transcript.text)
    if format == "text":
        return f"{text}\n", "text/plain; charset=utf-8"
    record: dict[str, Any] = {"text": text}
    if format == "verbose_json":
        segments = transcript.segments
        record |= {
            "task": transcript.provenance.options.task,
            "language": language,
            "duration": _seconds(transcript.duration),
        }
        if "segment" in granularities:
            record["segments"] = [_segment(at, segment, spans) for at, segment in enumerate(segments)]
        if "word" in granularities:
            record["words"] = [
                {
                    "word": writable(word.text.strip()),
                    "start": _seconds(word.span.start),
                    "end": _seconds(word.span.end),
                }
                for segment in segments
                for word in segment.words
            ]
    record["usage"] = usage_of(transcript)
    return json.dumps(record, ensure_ascii=False), "application/json"


def usage_of(transcript: Transcript) -> dict[str, Any]:
    """What was worked on."""
    return {"type": "duration", "seconds": _seconds(transcript.duration)}


def event(record: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return f"data: {json.dumps(record, ensure_ascii=False)}\n\n".encode()


def _segment(at: int, segment: Segment, spans: Sequence[Span]) -> dict[str, Any]:
    window = spans[segment.chunk] if segment.chunk < len(spans) else segment.span
    return {
        "id": at,
        "seek": window.start // _FRAME,
        "start": _seconds(segment.span.start),
        "end": _seconds(segment.span.end),
        "text": writable(segment.text),
        "tokens": [],  # they are not kept
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_prob,
    }


def _seconds(samples: int) -> float:
    return round(samples / SAMPLE_RATE, 3)
