"""Pseudo-labels: transcripts that a teacher wrote, as what a student is to learn; without those that look wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.accuracy import compare, normal_form
from models.training.windows import Timed
from stenopool.domain import Segment, Transcript
from stenopool.errors import UsageError
from stenopool.formats import parse_json
from workers.training.manifest import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What is wrong enough to be left out."""

    #: Word error rate against the manifest's own text, of a whole recording.
    max_wer: float = 0.1
    #: Of a segment, where the manifest has no text: how likely it is that it was never said.
    max_suspicion: float = 0.5


@dataclass(frozen=True, slots=True)
class Labelled:
    """What is left, and what was not."""

    entries: tuple[Entry, ...]
    #: Recordings whose transcript is too far from their reference.
    n_wrong: int
    #: Segments too suspicious.
    n_suspicious: int


def labelled(entries: Iterable[Entry], folder: Path, limit: Filter) -> Labelled:
    """The entries with the transcripts of a folder as their texts.

    Args:
        entries: of a manifest, with or without a text.
        folder: of transcripts as JSON, as `stenopool transcribe` and `fetch` name them: after the recordings.
        limit: what is left out.

    Raises:
        UsageError: a recording has no transcript there, or one that cannot be read.
    """
    kept: list[Entry] = []
    n_wrong = n_suspicious = 0
    for entry in entries:
        transcript = _transcript(folder, entry)
        language = transcript.language or entry.language
        if entry.text is not None:
            if not agrees(entry.text, transcript.text, language, limit.max_wer):
                n_wrong += 1
                continue
            segments = _texts(transcript.segments, None)
        else:
            segments = _texts(transcript.segments, limit.max_suspicion)
            n_suspicious += sum(1 for one in segments if not one.text)
        # What could not be transcribed is not silence.
        segments = sorted([*segments, *(Timed(gap.span, "") for gap in transcript.coverage.gaps)], key=_start)
        if any(one.text for one in segments):
            label = " ".join(one.text.strip() for one in segments if one.text)
            kept.append(replace(entry, text=label, segments=tuple(segments), language=language))
    return Labelled(tuple(kept), n_wrong, n_suspicious)


def agrees(reference: str, label: str, language: str | None, max_wer: float) -> bool:
    """Whether a label is close enough to what is known to have been said."""
    rate = compare(reference, label, normal_form(language)).words.rate
    return not label.strip() if rate is None else rate <= max_wer


def _texts(segments: Sequence[Segment], max_suspicion: float | None) -> list[Timed]:
    """Each segment's text; an empty one where it is too suspicious, so that its sound is not learnt either."""
    return [
        Timed(one.span, "" if max_suspicion is not None and one.suspicion > max_suspicion else one.text)
        for one in segments
        if len(one.span)
    ]


def _transcript(folder: Path, entry: Entry) -> Transcript:
    names = dict.fromkeys(f"{stem}.json" for stem in (entry.audio.name, entry.audio.stem))
    for name in names:
        path = folder / name
        if path.is_file():
            try:
                return parse_json(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{path}: cannot be read ({error})") from error
            except UsageError as error:
                raise UsageError(f"{path}: {error}") from error
    raise UsageError(
        f"{entry.place}: {folder} has no transcript of {entry.audio.name}; make it: "
        f"stenopool transcribe {entry.audio} --model TEACHER -o {folder} --format json"
    )


def _start(timed: Timed) -> int:
    return timed.span.start
