"""How likely it is that a segment was never said: from what the model and voice activity detection say of it, pure.

Each sign is worth a probability; together they are taken as independent. The figure is for ranking what a person
should listen to first: nothing is deleted by it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from stenopool.domain import Segment, Span

#: What Whisper writes over silence and music, having learnt it from subtitles: only beside little speech is it a sign.
PHRASES = frozenset({
    "thank you", "thanks", "thanks for watching", "thank you for watching", "thank you very much", "bye", "bye bye",
    "you", "please subscribe", "subscribe", "subtitles by the amara org community", "the end", "music", "applause",
})  # fmt: skip

#: Characters a second that nobody says.
FAST = 35.0


def suspicion(segment: Segment, speech: Iterable[Span] | None) -> float:
    """How likely it is, 0 to 1, that the segment's text was never said.

    Args:
        segment: with its scores.
        speech: where voice activity detection heard speech, in the recording; None where it was not asked.
    """
    signs = [
        0.5 * _ramp(-segment.avg_logprob, 0.8, 2.0),
        0.8 * _ramp(segment.compression_ratio, 2.0, 4.0),
        0.4 * _ramp(segment.no_speech_prob, 0.3, 1.0),
        0.2 * _ramp(segment.temperature, 0.0, 1.0),
        0.6 * _ramp(len(segment.text.strip()) / max(segment.span.seconds, 0.1), FAST, 2 * FAST),
    ]
    if speech is not None:
        silent = 1.0 - _share(segment.span, speech)
        signs.append(0.7 * _ramp(silent, 0.5, 1.0))
        if silent > 0.5 and re.sub(r"[^a-z ]", "", segment.text.lower()).strip() in PHRASES:
            signs.append(0.8)
    return round(1.0 - math.prod(1.0 - sign for sign in signs), 3)


def _ramp(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high`, a straight line between."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _share(span: Span, speech: Iterable[Span]) -> float:
    """How much of the span is speech."""
    shared = sum(len(both) for run in speech if (both := span.intersection(run)))
    return shared / len(span) if len(span) else 0.0
