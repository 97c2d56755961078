"""Pace: how many steps the device does before the host looks at them, and whether it waits for the host meanwhile."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How blocks of steps follow each other."""

    #: Steps of the decoder per dispatch. More saves round trips to the host; fewer frees a finished slot sooner.
    block: int
    #: Blocks that the device is given before the host looks at the first of them: with one, it has work while the host
    #: reads results, looks for the next chunks and copies their sound. A finished slot is free that many blocks later.
    ahead: int
    #: A block ends as soon as no slot is decoding. A GPU would have to tell the host before every step.
    until_idle: bool


def suited_pace(backend: str) -> Pace:
    """What wastes least on a backend of JAX."""
    if backend == "cpu":  # host and device are the same cores: there is nothing to hide
        return Pace(block=8, ahead=0, until_idle=True)
    return Pace(block=8, ahead=1, until_idle=False)
