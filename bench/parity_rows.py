"""A line of `parity.py`'s table, and what its lines measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a value has to be."""

    sign: str
    limit: float

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}"

    def holds(self, value: float) -> bool:
        """Whether it is; what is not a number never is."""
        if self.sign == "=":
            return value == self.limit
        return value <= self.limit if self.sign == "≤" else value >= self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    reference: str
    measure: str
    wanted: Wanted
    value: float
    #: What went wrong where there is no value.
    note: str = ""

    @property
    def passes(self) -> bool:
        """Whether the value is what is wanted."""
        return self.wanted.holds(self.value)


def near(name: str, reference: str, ours: Any, theirs: Any, limit: float) -> Row:
    """Numbers that may differ by that much."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, f"{name}: shapes {ours.shape} and {theirs.shape}"
    return Row(name, reference, "largest difference", Wanted("≤", limit), float(np.abs(ours - theirs).max()))


def same(name: str, reference: str, ours: Any, theirs: Any, *, of: str = "tokens") -> Row:
    """Sequences that have to be equal; what one side has more of counts as well."""
    ours, theirs = list(ours), list(theirs)
    differing = sum(a != b for a, b in zip(ours, theirs, strict=False)) + abs(len(ours) - len(theirs))
    return Row(name, reference, f"{of} of {len(theirs)} that differ", Wanted("=", 0), differing)
