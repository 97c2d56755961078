"""The redacted transcript, derived from the one that is kept, and the map that leads back. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from scheduler.redaction import Rules, detect
from stenopool.domain import Options, Segment, Span, Transcript, Word
from stenopool.errors import UsageError
from stenopool.masking import Mask, mask_text
from stenopool.timing import span_of

SCHEMA = "stenopool/redaction-map"
VERSION = 1


def redacted(transcript: Transcript, masks: Sequence[Mask], rules: Rules) -> Transcript:
    """What is left of a transcript, times and all; the prompts that it was made with are redacted by the rules."""
    by_segment: dict[int, list[Mask]] = {}
    for mask in masks:
        by_segment.setdefault(mask.segment, []).append(mask)
    segments = tuple(
        _segment(segment, by_segment[at]) if at in by_segment else segment
        for at, segment in enumerate(transcript.segments)
    )
    provenance = replace(transcript.provenance, options=_options(transcript.provenance.options, rules))
    return replace(transcript, segments=segments, provenance=provenance)


def redaction_map(transcript: Transcript, masks: Iterable[Mask]) -> str:
    """What was redacted, and where, as JSON: with the redacted transcript, it gives the original."""
    entries = []
    moved: dict[int, int] = {}  # by how much the text after it is longer, by segment
    for mask in masks:
        segment = transcript.segments[mask.segment]
        said = span_of(segment, mask.start, mask.end)
        start = mask.start + moved.get(mask.segment, 0)
        moved[mask.segment] = moved.get(mask.segment, 0) + len(mask.label) - (mask.end - mask.start)
        entries.append(
            {
                "kind": mask.kind,
                "segment": mask.segment,
                "start": start,
                "end": start + len(mask.label),
                "text": segment.text[mask.start : mask.end],
                "start_sample": said.start,
                "end_sample": said.end,
            }
        )
    document = {
        "schema": SCHEMA,
        "version": VERSION,
        "recording": transcript.recording,
        "channel": transcript.channel,
        "redactions": entries,
    }
    return json.dumps(document, ensure_ascii=False, indent=2).encode("utf-8", "replace").decode() + "\n"


def restored(texts: Sequence[str], map: str) -> list[str]:
    """The segments' texts as they were, from the redacted ones and the map.

    Raises:
        UsageError: it is no map, or not of these texts.
    """
    try:
        document: dict[str, Any] = json.loads(map)
        entries = document["redactions"] if document["schema"] == SCHEMA else None
        whole = list(texts)
        for entry in reversed(entries or []):  # the last one first: those before it stay where they are
            text = whole[entry["segment"]]
            whole[entry["segment"]] = text[: entry["start"]] + entry["text"] + text[entry["end"] :]
    except (ValueError, KeyError, TypeError, IndexError):
        raise UsageError("not a Stenopool redaction map of this transcript") from None
    return whole


def _segment(segment: Segment, masks: Sequence[Mask]) -> Segment:
    told = "".join(word.text for word in segment.words).strip() == segment.text.strip()
    # Words that are not the text's cannot be told apart, and go.
    return replace(segment, text=mask_text(segment.text, masks), words=_words(segment, masks) if told else ())


def _words(segment: Segment, masks: Sequence[Mask]) -> tuple[Word, ...]:
    """Words with masks in place: one for all that a mask covers, for as long as they were said."""
    heard = "".join(word.text for word in segment.words)
    shift = (len(heard) - len(heard.lstrip())) - (len(segment.text) - len(segment.text.lstrip()))
    words: list[Word] = []
    at = 0
    for word in segment.words:
        start, at = at, at + len(word.text)
        inside = [mask for mask in masks if mask.start + shift < at and mask.end + shift > start + _blank(word.text)]
        text = word.text
        goes_on = False
        for mask in reversed(inside):
            first, last = mask.start + shift - start, mask.end + shift - start
            goes_on = first < 0
            text = text[: max(0, first)] + ("" if goes_on else mask.label) + text[min(len(word.text), last) :]
        if goes_on:
            before = words[-1]
            words[-1] = Word(Span(before.span.start, max(before.span.end, word.span.end)), before.text + text)
        else:
            words.append(replace(word, text=text, probability=None if inside else word.probability))
    return tuple(words)


def _blank(text: str) -> int:
    return len(text) - len(text.lstrip())


def _options(options: Options, rules: Rules) -> Options:
    """What was said to the model may name whom the transcript must not."""
    return replace(
        options,
        initial_prompt=_text(options.initial_prompt, rules),
        hotwords=_text(options.hotwords, rules),
        prefix=_text(options.prefix, rules),
    )


def _text(text: str | None, rules: Rules) -> str | None:
    if text is None:
        return None
    return mask_text(text, (Mask(0, start, end, kind) for start, end, kind in detect(text, rules)))
