"""The words as a table: CSV, for spreadsheets and for programs that align words with sound."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator

from stenopool.domain import Segment, Span, Transcript, Word
from stenopool.formats.subtitles import character_spans
from stenopool.formats.text import writable
from stenopool.formats.timecode import milliseconds


def to_csv(transcript: Transcript) -> str:
    """A row per word: start and end in seconds, the word, how sure the model was of it, who says it.

    Where no times of words were asked for, each has its share of its segment, by characters, and no probability.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("start", "end", "word", "probability", "speaker"))
    for segment in transcript.segments:
        for word in segment.words or _estimated(segment):
            if text := " ".join(writable(word.text).split()):
                likely = word.probability
                figure = "" if likely is None or not math.isfinite(likely) else f"{likely:.3f}"
                row = (_seconds(word.span.start), _seconds(word.span.end), text, figure)
                writer.writerow((*row, writable(segment.speaker or "")))
    return table.getvalue()


def _estimated(segment: Segment) -> Iterator[Word]:
    """The words of a segment whose words have no times."""
    spans = character_spans(segment)
    at = 0
    for text in segment.text.split():
        last = at + len(text)
        yield Word(Span(spans[at].start, spans[last - 1].end), text)
        at = last


def _seconds(samples: int) -> str:
    return f"{milliseconds(samples) / 1000:.3f}"
