"""What is to be compared: references beside hypotheses, or beside recordings that have none yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.accuracy import NormalForm, language_code, normal_form
from stenopool.errors import UsageError
from stenopool.evaluation.manifest import Entry, is_manifest, read_manifest
from stenopool.evaluation.texts import TEXT_SUFFIXES, Piece, Text, read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One recording, what is said in it, and what was heard."""

    name: str
    reference: Text
    #: None where it has to be transcribed first.
    hypothesis: Text | None
    #: The recording, where it is known.
    audio: Path | None
    #: A code, where it was given.
    language: str | None
    #: Where it stands in a manifest, for messages.
    place: str | None = None


def gather(file: Path | None, reference: Path, *, audio: Path | None = None, language: str | None = None) -> list[Case]:
    """The cases that the command's arguments name. All texts are read here: what is wrong with one costs no work.

    Args:
        file: a transcript, a recording, or, for a manifest, a folder of transcripts, named after its recordings.
        reference: a text or a manifest.
        audio: the recording of which `file` is a transcript.
        language: a code, of all that say nothing else.

    Raises:
        UsageError: what is wrong, with file and line.
    """
    if is_manifest(reference):
        if file is not None and not file.is_dir():
            raise UsageError(f"{file}: a manifest names its own; leave this out, or name a folder of transcripts")
        if audio is not None:
            raise UsageError(f"--audio {audio}: a manifest names its own; leave it out")
        return [_of_entry(entry, file, language) for entry in read_manifest(reference)]
    if file is None:
        raise UsageError(f"name what to compare with {reference}: a transcript (talk.json) or a recording (talk.mp3)")
    if file.is_dir():
        raise UsageError(f"{file}: is a folder; with one reference, name one transcript or recording")
    said = read_text(reference)
    if file.suffix.lower() not in TEXT_SUFFIXES:
        if audio is not None:
            raise UsageError(f"--audio {audio}: {file} is a recording itself; leave one of them out")
        return [Case(name=str(file), reference=said, hypothesis=None, audio=file, language=language)]
    heard = read_text(file)
    return [
        Case(
            name=str(file),
            reference=said,
            hypothesis=heard,
            audio=audio or _recording_of(heard, file.parent),
            language=language,
        )
    ]


def form_of(case: Case, heard: Text, normaliser: str) -> tuple[str | None, NormalForm]:
    """The language of a case, and the form to compare it in.

    Raises:
        UsageError: nobody says the language, and the form depends on it.
    """
    spoken = heard.language or case.reference.language
    language = case.language or (language_code(spoken) if spoken else None)
    # A transcript of ours without a language has no words, either: any form will do.
    if language is None and normaliser == "auto" and heard.transcript is None:
        raise UsageError(
            f"{case.place or case.name}: its language is not known; name it with --language"
            f"{' or in the manifest' if case.place else ''}, or choose a --normalizer"
        )
    return language, normal_form(language, normaliser)


def _of_entry(entry: Entry, folder: Path | None, language: str | None) -> Case:
    try:
        hypothesis = _read(entry.hypothesis)
        if hypothesis is None and folder is not None:
            hypothesis = read_text(_in_folder(folder, entry.name))
        return Case(
            name=entry.name,
            reference=_read(entry.reference) or Text(None, ()),
            hypothesis=hypothesis,
            audio=entry.audio or (_recording_of(hypothesis, folder or Path()) if hypothesis else None),
            language=language_code(entry.language) if entry.language else language,
            place=entry.place,
        )
    except UsageError as error:
        raise UsageError(f"{entry.place}: {error}") from error


def _read(given: Path | str | None) -> Text | None:
    if isinstance(given, Path):
        return read_text(given)
    return None if given is None else Text(None, (Piece(given),))


def _in_folder(folder: Path, name: str) -> Path:
    """The transcript of a recording, as `stenopool transcribe` names it: its stem, or its whole name."""
    names = [f"{stem}{suffix}" for stem in (Path(name).name, Path(name).stem) for suffix in TEXT_SUFFIXES]
    for path in _existing(folder / name for name in names):
        return path
    raise UsageError(f"{folder}: has no transcript of {name}; transcribe it with -o {folder} --format json")


def _recording_of(heard: Text, folder: Path) -> Path | None:
    """The recording that a transcript of ours names, if it is still there or lies beside it."""
    if heard.transcript is None:
        return None
    source = Path(heard.transcript.source)
    return next(_existing([source, folder / source.name]), None)


def _existing(paths: Iterable[Path]) -> Iterator[Path]:
    return (path for path in paths if path.is_file())
