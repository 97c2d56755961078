"""The transcript as JSON. `transcript.schema.json` and docs/transcript-json.md describe the document.

Samples are the truth; seconds and the joined text stand beside them for those who only read, and are not read back.
The document is spelled out key by key, but for the options: a field added to the domain appears in it only with a new
`VERSION`.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from typing import Any

from stenopool.domain import Channel, CoveragePiece, Provenance, Segment, Span, Transcript
from stenopool.formats.timecode import milliseconds

SCHEMA = "stenopool/transcript"
VERSION = 3

#: File names that are no UTF-8 reach Python as these; JSON can spell them, UTF-8 cannot.
_SURROGATES = re.compile("[\ud800-\udfff]")


def to_json(transcript: Transcript) -> str:
    """The document: strict JSON, UTF-8 unescaped, keys always in the same order."""
    document = {
        "schema": SCHEMA,
        "version": VERSION,
        "source": transcript.source,
        "recording": transcript.recording,
        "duration": transcript.duration,
        "seconds": _seconds(transcript.duration),
        "language": transcript.language,
        "language_probability": _finite(transcript.language_probability),
        "text": transcript.text,
        "segments": [_segment(segment) for segment in transcript.segments],
        "coverage": [_piece(piece) for piece in transcript.coverage],
        "provenance": _provenance(transcript.provenance),
        "ended_early": transcript.ended_early,
        "damaged": transcript.damaged,
        "channel": transcript.channel,
        "channels": [_channel(channel) for channel in transcript.channels],
    }
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2)
    return _SURROGATES.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        **_span(segment.span),
        "text": segment.text,
        "chunk": segment.chunk,
        "avg_logprob": _finite(segment.avg_logprob),
        "compression_ratio": _finite(segment.compression_ratio),
        "no_speech_prob": _finite(segment.no_speech_prob),
        "temperature": _finite(segment.temperature),
        "language": segment.language,
        "guards": list(segment.guards),
        "suspicion": _finite(segment.suspicion),
        "speaker": segment.speaker,
        "words": [
            {**_span(word.span), "text": word.text, "probability": _finite(word.probability)} for word in segment.words
        ],
    }


def _piece(piece: CoveragePiece) -> dict[str, Any]:
    return {
        **_span(piece.span),
        "kind": piece.kind.value,
        "score": _finite(piece.score),
        "reason": piece.reason,
    }


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        "channel": channel.channel,
        "speaker": channel.speaker,
        "recording": channel.recording,
        "language": channel.language,
        "language_probability": _finite(channel.language_probability),
        "coverage": [_piece(piece) for piece in channel.coverage],
        "ended_early": channel.ended_early,
        "damaged": channel.damaged,
    }


def _provenance(provenance: Provenance) -> dict[str, Any]:
    return {
        "model": provenance.model,
        "model_digest": provenance.model_digest,
        "assistant_digest": provenance.assistant_digest,
        "dtype": provenance.dtype,
        # All of them, in the order of the domain: those who read need not know our defaults.
        "options": asdict(provenance.options),
        "version": provenance.version,
    }


def _span(span: Span) -> dict[str, Any]:
    return {
        "start": _seconds(span.start),
        "end": _seconds(span.end),
        "start_sample": span.start,
        "end_sample": span.end,
    }


def _seconds(samples: int) -> float:
    """Seconds with three decimals at most."""
    return milliseconds(samples) / 1000


def _finite(figure: float | None) -> float | None:
    """The figure, or None where it is no number: JSON has no NaN and no infinity."""
    return float(figure) if figure is not None and math.isfinite(figure) else None
