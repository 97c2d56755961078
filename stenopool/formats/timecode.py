"""Samples as the milliseconds that subtitle files count in: integer arithmetic, so that no hour is too late."""

from __future__ import annotations

from stenopool.domain import SAMPLE_RATE

_PER_MILLISECOND = SAMPLE_RATE // 1000  # samples in a millisecond


def milliseconds(samples: int) -> int:
    """Samples at 16 kHz as milliseconds, half up."""
    return (samples + _PER_MILLISECOND // 2) // _PER_MILLISECOND


def clock(ms: int, mark: str) -> str:
    """Milliseconds as `HH:MM:SS.mmm`, `mark` before the fraction; hours grow to three digits when they must."""
    seconds, fraction = divmod(ms, 1000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02}:{minute:02}:{second:02}{mark}{fraction:03}"
