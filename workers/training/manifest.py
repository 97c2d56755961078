"""Manifests of training: a recording and what is said in it on each line, as JSON.

    {"audio": "a.wav", "text": "what is said in a", "language": "en"}
    {"audio": "b.mp3", "segments": [{"start": 0.4, "end": 2.1, "text": "the first sentence"}]}

Files are found from where the manifest is. Times are seconds. Other keys are somebody else's and are not looked at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.training.windows import Timed, Utterance, cut
from stenopool.domain import SAMPLE_RATE, Span
from stenopool.errors import UsageError
from workers.training.sounds import Sounds

#: Seconds that the last time of a manifest may be beyond the end of its recording: times are rounded.
_ROUNDING = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line."""

    #: Where it stands, for messages: "talks.jsonl line 3".
    place: str
    audio: Path
    #: None where the line has no text; then it has to be labelled.
    text: str | None
    #: In order; None where no times are given. A text that is empty stands for what is not to be learnt.
    segments: tuple[Timed, ...] | None
    language: str | None
    phonemes: str = ""


def read_manifest(path: Path) -> list[Entry]:
    """All lines; empty ones are passed over.

    Raises:
        UsageError: the first line that is wrong, and how.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: does not exist") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not text in UTF-8; save it as that") from error
    entries = [
        _entry(line, f"{path} line {number}", path.parent)
        for number, line in enumerate(content.split("\n"), start=1)
        if line.strip()
    ]
    if not entries:
        raise UsageError(f"{path}: names no recording; it needs a line for each, with audio and text")
    return entries


def _entry(line: str, place: str, folder: Path) -> Entry:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: is not JSON ({error}); each line is an object of its own") from error
    if not isinstance(values, dict):
        raise UsageError(f'{place}: is not an object, as in {{"audio": "a.wav", "text": "what is said"}}')
    audio = values.get("audio", values.get("audio_filepath"))  # NeMo's name
    if not isinstance(audio, str) or not audio:
        raise UsageError(f"{place}: has no audio; name the file")
    if not (folder / audio).is_file():
        raise UsageError(f"{place}: {folder / audio} does not exist")
    if values.get("offset"):
        raise UsageError(f"{place}: has an offset; give the times as segments of the whole file")
    for name in ("text", "language", "phonemes"):
        if not isinstance(values.get(name, ""), str):
            raise UsageError(f"{place}: its {name} must be text, is {json.dumps(values[name])[:40]}")
    text = values.get("text")
    segments = tuple(_segments(values["segments"], place)) if values.get("segments") is not None else None
    if segments is not None and text is None:
        text = " ".join(one.text.strip() for one in segments)
    return Entry(
        place=place,
        audio=folder / audio,
        text=text,
        segments=segments,
        language=values.get("language"),
        phonemes=values.get("phonemes", ""),
    )


def _segments(values: Any, place: str) -> Iterator[Timed]:
    if not isinstance(values, list):
        raise UsageError(f'{place}: its segments must be a list, as in [{{"start": 0, "end": 1.5, "text": "…"}}]')
    before = 0.0
    for index, one in enumerate(values):
        known = one if isinstance(one, dict) else {}
        start, end, text = _seconds(known.get("start")), _seconds(known.get("end")), known.get("text")
        if start is None or end is None or not isinstance(text, str):
            raise UsageError(f"{place}: segments[{index}] needs start and end in seconds, and a text")
        if not before <= start < end:
            raise UsageError(
                f"{place}: segments[{index}] is from {start:g} to {end:g} s; "
                "each begins after the one before it, and ends later"
            )
        before = start
        yield Timed(Span(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)), text)


def _seconds(value: object) -> float | None:
    """A time; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return float(value)


def utterances_of(entries: Iterable[Entry], sounds: Sounds, window: int, languages: Sequence[str]) -> list[Utterance]:
    """What is heard whole: short recordings as they are, long ones cut between their segments.

    Args:
        entries: labelled.
        sounds: that were decoded.
        window: samples that the model hears at once.
        languages: codes that it knows; the first is that of lines which name none.

    Raises:
        UsageError: a line's text has no place in a window, or its language is unknown.
    """
    found: list[Utterance] = []
    for one in entries:
        language = one.language or ("en" if "en" in languages else languages[0])
        if language not in languages:
            raise UsageError(
                f"{one.place}: the model does not know the language {language!r}; it knows: {' '.join(languages)}"
            )
        duration = sounds.length(one.audio)
        if one.text is None:
            raise UsageError(f"{one.place}: has neither text nor segments; label it with --pseudo-labels")
        if one.segments is None:
            if duration > window:
                raise UsageError(
                    f"{one.place}: {one.audio.name} lasts {duration / SAMPLE_RATE:.0f} s, and its text has no times; "
                    f"give segments, or cut it to {window / SAMPLE_RATE:g} s"
                )
            if one.text.strip():
                text = Timed(Span(0, duration), one.text)
                found.append(
                    Utterance(
                        audio=one.audio, span=Span(0, duration), texts=(text,), timed=False, language=language,
                        phonemes=one.phonemes,
                    )
                )  # fmt: skip
            continue
        texts = [_within(timed, duration, one) for timed in one.segments]
        if duration <= window and all(timed.text.strip() for timed in texts):
            found.append(
                Utterance(
                    audio=one.audio,
                    span=Span(0, duration),
                    texts=tuple(texts),
                    language=language,
                    phonemes=one.phonemes,
                )
            )
        else:
            found += cut(one.audio, duration, texts, language, window)
    return found


def _within(timed: Timed, duration: int, entry: Entry) -> Timed:
    """The text, its end not beyond the recording's by a rounding."""
    if timed.span.end > duration + _ROUNDING * SAMPLE_RATE or timed.span.start >= duration:
        raise UsageError(
            f"{entry.place}: a segment ends at {timed.span.end / SAMPLE_RATE:.2f} s, "
            f"but {entry.audio.name} at {duration / SAMPLE_RATE:.2f} s"
        )
    return Timed(Span(timed.span.start, min(timed.span.end, duration)), timed.text)
