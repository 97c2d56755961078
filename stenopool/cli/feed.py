"""`stenopool feed`: a podcast's feed with its transcripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stenopool.errors import UsageError
from stenopool.formats import FORMATS, format_of

if TYPE_CHECKING:
    from stenopool.formats.feed import Offer

#: Transcripts without an episode that are told of one by one.
SHOWN = 20


@click.group()
def feed() -> None:
    """Podcast feeds."""


@feed.command(no_args_is_help=True)
@click.argument("file", type=click.Path(path_type=Path), metavar="FEED.xml")
@click.option(
    "--transcripts",
    "source",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FOLDER_OR_MANIFEST",
    help="Transcripts named as the episodes' files, or what submit --to has written; or a list of them as JSON.",
)
@click.option("--base-url", required=True, metavar="URL", help="Below which the transcripts are to be had.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The new feed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(file: Path, source: Path, base_url: str, output: Path, as_json: bool) -> None:
    """Add transcripts to a saved feed; all else in it stays byte by byte as it is.

    An episode is known by its GUID, else by its enclosure. What the publisher offers already stays; done twice, it
    changes nothing. Players know podcast-vtt, podcast-srt, podcast-json, podcast-html and txt; a vtt is taken where
    there is no podcast-vtt.

    \b
    Example:
      stenopool feed export show.xml --transcripts out/ --base-url https://example.com/transcripts -o new.xml
    """
    from stenopool.formats.feed import with_transcripts
    from workers.publish import write_atomically

    try:
        before = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}); name a saved feed") from error
    offers = list(read_offers(source))
    if not offers:
        raise UsageError(f"{source}: there are no transcripts; write some with: --format podcast-vtt,podcast-srt")
    try:
        done = with_transcripts(before, offers, base_url)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, done.feed)
    except OSError as error:
        raise UsageError(f"{output}: cannot be written ({error.strerror}); choose another with -o") from error
    unmatched = [offer.names[0] for offer in done.unmatched]
    if as_json:
        figures = {"episodes": done.episodes, "matched": done.matched, "added": done.added, "unmatched": unmatched}
        click.echo(json.dumps(figures, indent=2))
        return
    click.echo(
        f"{output}: {done.added} tags added; {done.matched} of {done.episodes} episodes have transcripts of ours"
    )
    for name in unmatched[:SHOWN]:
        click.echo(f"stenopool: {name}: no episode of the feed is it for certain", err=True)
    if (more := len(unmatched) - SHOWN) > 0:
        click.echo(f"stenopool: and {more} more, as of other pages of the feed; --json has all of them", err=True)


def read_offers(source: Path) -> Iterator[Offer]:
    """What there is of transcripts in a folder, or by a list.

    A folder is looked through for manifests as `submit --to` writes them, else for files that are named as `transcribe`
    names them. Where nothing was said, a file without a byte is none that a player could open, and is left out. A list
    is JSON: [{"guid": "...", "enclosure": "...", "language": "en", "files": ["7/talk.vtt"]}].

    Raises:
        UsageError: there is no such thing, or it is another one.
    """
    if not source.is_dir():
        yield from _listed(source)
        return
    found = {path: _json(path) for path in sorted(source.rglob("manifest.json"))}
    manifests = {path: document for path, document in found.items() if _is_manifest(document)}
    for path, document in manifests.items():
        yield _exported(document, path, source)
    if not manifests:
        yield from _named(source)


def _listed(path: Path) -> Iterator[Offer]:
    document = _json(path)
    if _is_manifest(document):
        yield _exported(document, path, path.parent)
        return
    if not isinstance(document, list):
        raise UsageError(f"{path}: is no list of transcripts; see docs/outputs.md for one")
    for number, one in enumerate(document, start=1):
        names = [one.get(key) for key in ("guid", "enclosure")] if isinstance(one, dict) else []
        files = one.get("files") if isinstance(one, dict) else None
        if not any(names) or not isinstance(files, list) or not all(isinstance(file, str) for file in files):
            raise UsageError(f'{path}: number {number} needs a "guid" or an "enclosure", and "files", a list of names')
        unknown = [file for file in files if _format(file) is None]
        if unknown:
            raise UsageError(f"{path}: number {number}: {unknown[0]} has none of the endings of our formats")
        yield _offer(
            [str(name).strip() for name in names if name],
            {str(_format(file)): file for file in files},
            one.get("language"),
        )


def _is_manifest(document: Any) -> bool:
    """Whether `submit --to` wrote it."""
    return isinstance(document, dict) and document.get("schema") == "stenopool/manifest"


def _exported(document: Any, manifest: Path, root: Path) -> Offer:
    """What a submission was sent as."""
    try:
        below = manifest.parent.relative_to(root)
        files = {
            one["format"]: (below / one["name"]).as_posix()
            for one in document["files"]
            if one["channel"] is None and one["bytes"]
        }
        name = str(document["name"])
        said = document["metadata"]
        names = [str(one) for one in (said.get("guid"), document["key"], name) if one]
        language = document["language"]
    except (KeyError, TypeError) as error:
        raise UsageError(f"{manifest}: is no manifest of transcripts ({error} is not there)") from error
    return _offer([*names, Path(name).name, Path(name).stem], files, language)


def _named(folder: Path) -> Iterator[Offer]:
    """Files that belong together by their names."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.rglob("*")):
        format = _format(path.name)
        if format is not None and path.is_file() and path.stat().st_size:
            ending = f".{format_of(format).ending}"
            place = path.relative_to(folder).as_posix()
            found.setdefault(place.removesuffix(ending), {})[format] = place
    for stem, files in found.items():
        language = _json(folder / files["json"]).get("language") if "json" in files else None
        yield _offer([Path(stem).name], files, language)


def _offer(names: list[str], files: dict[str, str], language: object) -> Offer:
    from stenopool.formats.feed import Offer

    return Offer(
        names=tuple(dict.fromkeys(names)), files=files, language=language if isinstance(language, str) else None
    )


def _format(name: str) -> str | None:
    """The format of a file, by its ending, the longest that fits."""
    fitting = [format_of(format) for format in FORMATS if name.endswith(f".{format_of(format).ending}")]
    return max(fitting, key=lambda format: len(format.ending)).name if fitting else None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}); name a folder, or a list of transcripts"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path}: is no JSON ({error})") from error


COMMANDS = (feed,)
