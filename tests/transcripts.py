"""Transcripts made by hand, of a few segments, and the schema of all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import stenopool.formats
from stenopool.domain import (
    SAMPLE_RATE,
    Coverage,
    CoverageKind,
    CoveragePiece,
    Options,
    Provenance,
    Segment,
    Span,
    Transcript,
    Word,
)

#: Of the JSON, as it is published.
SCHEMA: dict[str, Any] = json.loads(
    (Path(stenopool.formats.__file__).parent / "transcript.schema.json").read_text(encoding="utf-8")
)


def span(start: float, end: float) -> Span:
    """A span from seconds."""
    return Span(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))


def segment(start: float, end: float, text: str, *, words: bool = False) -> Segment:
    """A segment from seconds; its words share its time evenly, if they are to have any."""
    whole = span(start, end)
    parts = [f" {part}" for part in text.split()] if words else []
    step = len(whole) // max(1, len(parts))
    return Segment(
        span=whole,
        text=text,
        chunk=0,
        avg_logprob=-0.1,
        compression_ratio=1.0,
        no_speech_prob=0.0,
        words=tuple(
            Word(Span(whole.start + i * step, whole.start + (i + 1) * step), part) for i, part in enumerate(parts)
        ),
    )


def transcript(
    *segments: Segment,
    source: str = "talk.mp3",
    language: str | None = "en",
    seconds: float = 60,
    gap: tuple[float, float, str] | None = None,
    options: Options | None = None,
) -> Transcript:
    """A transcript of segments; all of it is transcribed, but for a gap from one second to another, for a reason."""
    pieces = [CoveragePiece(span=span(0, seconds), kind=CoverageKind.TRANSCRIBED)]
    if gap is not None:
        start, end, reason = gap
        pieces = [
            CoveragePiece(span=span(0, start), kind=CoverageKind.TRANSCRIBED),
            CoveragePiece(span=span(start, end), kind=CoverageKind.FAILED, reason=reason),
            CoveragePiece(span=span(end, seconds), kind=CoverageKind.TRANSCRIBED),
        ]
    return Transcript(
        source=source,
        recording="0" * 64,
        duration=round(seconds * SAMPLE_RATE),
        language=language,
        language_probability=None,
        segments=segments,
        coverage=Coverage(tuple(pieces)),
        provenance=Provenance(
            model="pocket", model_digest="0" * 16, dtype="float32", options=options or Options(), version="0"
        ),
    )
