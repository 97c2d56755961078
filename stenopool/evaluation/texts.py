"""What was said or heard, read from whatever file it is kept in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stenopool.domain import SAMPLE_RATE, Transcript
from stenopool.errors import UsageError
from stenopool.evaluation.subtitles import parse_cues
from stenopool.formats import parse_json

#: Files that hold a text and not sound.
TEXT_SUFFIXES = (".json", ".srt", ".vtt", ".tsv", ".txt")
_TSV_HEADER = "start\tend\ttext"


@dataclass(frozen=True, slots=True)
class Piece:
    """A line, a cue or a segment of a text."""

    text: str
    #: The sample at which it begins; None where the file has no times.
    start: int | None = None
    #: Its words with the samples at which they begin, where they are known.
    words: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """A reference or a hypothesis."""

    #: The file it is from, as it was named; None where it stands in a manifest.
    name: str | None
    pieces: tuple[Piece, ...]
    #: A language code, where the file says it.
    language: str | None = None
    #: All that is known of it, where it is a transcript of ours.
    transcript: Transcript | None = None

    @property
    def text(self) -> str:
        """All of it."""
        if self.transcript is not None:
            return self.transcript.text
        return " ".join(piece.text for piece in self.pieces)


def text_of(transcript: Transcript, name: str | None = None) -> Text:
    """A transcript's text."""
    pieces = tuple(
        Piece(segment.text, segment.span.start, tuple((word.text, word.span.start) for word in segment.words))
        for segment in transcript.segments
    )
    # What was translated is English, whatever was spoken.
    language = "en" if transcript.provenance.options.task == "translate" else transcript.language
    return Text(name, pieces, language, transcript)


def read_text(path: Path, name: str | None = None) -> Text:
    """Read a text; what is in the file is known by its suffix, and any other than `TEXT_SUFFIXES` is plain text.

    JSON may be a transcript of ours, or what openai/whisper and its kin write; a table is ours or theirs, too.

    Raises:
        UsageError: the file cannot be read, or is not what its suffix says; the message names it.
    """
    name = str(path) if name is None else name
    content = read_utf8(path, name)
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            return _from_json(content, name)
        if suffix in (".srt", ".vtt"):
            return Text(name, tuple(_from_subtitles(content)))
        if suffix == ".tsv":
            return Text(name, tuple(_from_table(content)))
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
    return Text(name, tuple(Piece(line.strip()) for line in content.splitlines() if line.strip()))


def read_utf8(path: Path, name: str) -> str:
    """A file's text.

    Raises:
        UsageError: there is none.
    """
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"{name}: does not exist") from error
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: is not text in UTF-8; save it as that") from error
    if "\0" in content:
        raise UsageError(f"{name}: is not text; name a transcript of the kind {', '.join(TEXT_SUFFIXES)}")
    return content


def is_table(content: str) -> bool:
    """Whether a table is a transcript, with times, and not a manifest."""
    return content.partition("\n")[0].strip().lower() == _TSV_HEADER


def _from_json(content: str, name: str) -> Text:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and "schema" not in document and _is_text(document):
        language = document.get("language")
        return Text(name, tuple(_from_segments(document)), language if isinstance(language, str) else None)
    return text_of(parse_json(content), name)


def _is_text(document: dict[str, Any]) -> bool:
    return isinstance(document.get("segments"), list) or isinstance(document.get("text"), str)


def _from_segments(document: dict[str, Any]) -> Iterator[Piece]:
    """As openai/whisper writes them: `text`, `start` in seconds, and `words` with `word` and `start`."""
    segments = document.get("segments")
    if not isinstance(segments, list):
        yield Piece(document["text"])
        return
    for index, segment in enumerate(segments):
        if not isinstance(segment, dict) or not isinstance(segment.get("text"), str):
            raise UsageError(f'segments[{index}] has no "text"')
        words = segment.get("words")
        timed = [
            (word["word"], start)
            for word in (words if isinstance(words, list) else [])
            if isinstance(word, dict)
            and isinstance(word.get("word"), str)
            and (start := _samples(word.get("start"))) is not None
        ]
        whole = isinstance(words, list) and len(timed) == len(words)  # else some of them have no times
        yield Piece(segment["text"], _samples(segment.get("start")), tuple(timed) if whole else ())


def _samples(seconds: object) -> int | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return None
    return max(0, round(seconds * SAMPLE_RATE))


def _from_subtitles(content: str) -> Iterator[Piece]:
    found = False
    for cue in parse_cues(content):
        found = True
        yield Piece(cue.text, cue.start)
    # Silence has no cues; but a file of something else has none, either.
    if not found and content.strip() and not content.startswith("WEBVTT"):
        raise UsageError("holds no subtitles: no line of it has times, as in 00:00:01,000 --> 00:00:02,000")


def _from_table(content: str) -> Iterator[Piece]:
    if not is_table(content):
        raise UsageError("is not a transcript: its first line is not start, end, text; a manifest is a --reference")
    for number, line in enumerate(content.splitlines()[1:], start=2):
        start, _, rest = line.partition("\t")
        _, tab, text = rest.partition("\t")
        if not (tab and start.isdigit()):
            raise UsageError(f"line {number} is not start, end (milliseconds) and text, separated by tabs")
        yield Piece(text, int(start) * SAMPLE_RATE // 1000)
