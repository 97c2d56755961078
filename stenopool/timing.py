"""When a piece of a segment's text was said."""

from __future__ import annotations

from stenopool.domain import Segment, Span


def span_of(segment: Segment, start: int, end: int) -> Span:
    """The time of the characters `[start, end)` of a segment's text: of the words they are in.

    Where there are no times of words, or these are not the text's, it is the whole segment.
    """
    heard = "".join(word.text for word in segment.words)
    if not segment.words or heard.strip() != segment.text.strip():
        return segment.span
    at = _blank(segment.text) - _blank(heard)
    within: list[Span] = []
    for word in segment.words:
        first = at + _blank(word.text)
        at += len(word.text)
        if first < end and at > start:
            within.append(word.span)
    if not within:
        return segment.span
    return Span(min(one.start for one in within), max(one.end for one in within))


def _blank(text: str) -> int:
    """Spaces that it begins with."""
    return len(text) - len(text.lstrip())
