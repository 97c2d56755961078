"""Masks: what of a text is not for everybody, and the text with a word in its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stenopool.domain import Segment
from stenopool.timing import span_of


class Mask(NamedTuple):
    """A piece of a segment's text, and what kind of thing it is."""

    #: Index of the segment.
    segment: int
    #: Characters of its text, half-open.
    start: int
    end: int
    #: Such as "card".
    kind: str

    @property
    def label(self) -> str:
        """What stands in its place."""
        return f"[{self.kind.upper()}]"


def mask_text(text: str, masks: Iterable[Mask]) -> str:
    """A segment's text with its masks, which are in order and apart, in place."""
    parts, at = [], 0
    for mask in masks:
        parts += [text[at : mask.start], mask.label]
        at = mask.end
    return "".join([*parts, text[at:]])


def join_masks(masks: Iterable[Mask]) -> list[Mask]:
    """In order, and those that meet as one, of the kind of the first."""
    joined: list[Mask] = []
    for mask in sorted(masks):
        last = joined[-1] if joined else None
        if last is not None and last.segment == mask.segment and mask.start < last.end:
            joined[-1] = last._replace(end=max(last.end, mask.end))
        else:
            joined.append(mask)
    return joined


def carried(masks: Iterable[Mask], former: Sequence[Segment], segments: Sequence[Segment]) -> list[Mask]:
    """Masks of a transcript for another version of it: on the same text, or on all that was said at that time."""
    same = {(one.span, one.text): at for at, one in enumerate(segments)}
    found, changed = [], []
    for mask in masks:
        was = former[mask.segment]
        at = same.get((was.span, was.text))
        if at is None:
            changed.append((span_of(was, mask.start, mask.end), mask.kind))
        else:
            found.append(mask._replace(segment=at))
    for at, one in enumerate(segments if changed else ()):
        kinds = [kind for span, kind in changed if span.intersection(one.span)]
        if kinds:
            found.append(Mask(at, len(one.text) - len(one.text.lstrip()), len(one.text), kinds[0]))
    return join_masks(found)
