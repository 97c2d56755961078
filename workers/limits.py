"""Limits: what a file may be that is ingested, and the line that one gets which is more; pure."""

from __future__ import annotations

from dataclasses import dataclass

from stenopool.config import Limits


def beyond(limits: Limits, *, size: float = 0, channels: float = 0, seconds: float = 0) -> str | None:
    """Why a file is not taken that has so many bytes, channels, seconds of sound; None where it is."""
    if size > limits.size:
        return f"has {size / 1e9:.6g} GB, and {limits.size / 1e9:g} at most are taken; raise STENOPOOL_MAX_GB"
    if channels > limits.channels:
        return f"has {channels:g} channels, and {limits.channels:g} at most are taken; raise STENOPOOL_MAX_CHANNELS"
    if seconds > limits.seconds:
        most = f"{limits.seconds / 3600:g} hours"
        return f"lasts longer than the {most} that are taken; cut it, or raise STENOPOOL_MAX_HOURS"
    return None


def stalled(limits: Limits) -> str:
    """Why the decoding of a file was given up."""
    behind = f"{limits.stall:g} s behind real time"
    return f"its decoder fell {behind}, and was ended; raise STENOPOOL_MAX_STALL where the machine is slow"


@dataclass(slots=True)
class Headway:
    """How work keeps up with real time; to be ahead of it earns nothing."""

    #: Seconds that it may fall behind.
    patience: float
    #: Seconds that it is behind, and the second of sound that it is at.
    behind: float = 0.0
    at: float = 0.0

    def lost(self, passed: float, at: float) -> bool:
        """Whether it has fallen too far behind, being at that second of sound so many seconds after the last look."""
        self.behind = max(0.0, self.behind + passed - (at - self.at))
        self.at = at
        return self.behind > self.patience
