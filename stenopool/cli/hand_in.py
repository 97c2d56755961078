"""Handing in on the command line: files, folders, URLs, objects, lists of them; and a folder that is watched."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stenopool.cli.channels import channels_options, taken_channels
from stenopool.cli.delivery import delivery_options, taken_delivery
from stenopool.cli.desk import wait_until_ended
from stenopool.cli.options import SectionedCommand, decoding_options, taken
from stenopool.cli.transcribe import FAILED, OK, error_line, output_stems, redact_option, spooled_stdin
from stenopool.config import Config
from stenopool.errors import StenopoolError, UsageError

if TYPE_CHECKING:
    import threading

    from scheduler.items import Item
    from storage.desk import Submission
    from workers.farm import Farm
    from workers.hand_in import Terms
    from workers.watch import Watch
    from workers.watch_feed import FeedWatch

LANES = ("urgent", "normal", "bulk")

#: Seconds between two looks at a folder or a prefix, and at a feed, whose publisher pays for each.
EVERY, EVERY_FEED = 30.0, 900.0

_Command = TypeVar("_Command", bound=Callable[..., Any])


def terms_options(command: _Command, lane: str = "normal") -> _Command:
    """How all of it is to be done that a command hands in, in that lane if nothing else is said; see `taken_terms`."""
    for option in reversed(
        (
            click.option(
                "-m", "--model", default="pocket", show_default=True, help="As of transcribe; an engine must have it."
            ),
            click.option("--lane", type=click.Choice(LANES), default=lane, show_default=True, help="Who goes first."),
            click.option("--tenant", default="default", show_default=True, help="Whose work it is."),
            click.option(
                "--priority",
                type=int,
                default=0,
                show_default=True,
                help="Within tenant and lane, the higher first.",
            ),
            click.option(
                "--deadline", type=click.FloatRange(min=0), metavar="SECONDS", help="Those due first go first."
            ),
            channels_options,
            delivery_options,
            redact_option,
            decoding_options,
        )
    ):
        command = option(command)
    return command


def taken_terms(arguments: dict[str, Any], *, again: bool = False) -> Terms:
    """The terms out of a command's arguments, which are then without them; a farm is to agree with them first.

    Raises:
        UsageError: options that are out of range or contradict each other.
    """
    options = taken(arguments)
    split, speakers = taken_channels(arguments)
    to, formats = taken_delivery(arguments)
    from workers.hand_in import Terms

    own = {name: arguments.pop(name) for name in ("tenant", "model", "lane", "priority", "deadline", "redact")}
    return Terms(
        **own,
        options=options,
        split=split,
        speakers=speakers,
        again=again,
        destination=to,
        formats=formats,
    )


def agreed(terms: Terms, farm: Farm) -> Terms:
    """The terms, with a destination that the farm sends to.

    Raises:
        UsageError: it sends nothing to there.
    """
    from workers.export import destination_of

    if terms.destination is None:
        return terms
    where = destination_of(terms.destination, store=farm.places.store, roots=Config.from_env().exports)
    return replace(terms, destination=where)


@click.command(cls=SectionedCommand, no_args_is_help=True)
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Recordings, a line for each: .csv with a header, or .jsonl (see docs/inputs.md).",
)
@click.option("--stdin-list", is_flag=True, help="More sources come from standard input, one on each line.")
@click.option("--key", help="A second submission with the same key is the first one. For one recording.")
@click.option("--force", is_flag=True, help="Do again what is done already.")
@click.option("--wait", "wait_for", is_flag=True, help="Wait until they are done.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@terms_options
def submit(
    sources: Sequence[str],
    manifest: Path | None,
    stdin_list: bool,
    key: str | None,
    force: bool,
    wait_for: bool,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Hand in recordings to a farm; prints the id of each.

    A SOURCE is a file, a folder or a quoted pattern (what is named as audio or video in it), an http(s) URL,
    s3://bucket/key, s3://bucket/prefix/, or - for one recording on standard input. What is not on this machine is
    fetched by the farm.

    \b
    Example:
      stenopool submit talk.mp3 meetings/ --lane urgent --wait
      stenopool submit https://host/talk.mp3 s3://archive/2024/ --lane bulk
      stenopool submit --manifest talks.csv
      ls talks/*.mp3 | stenopool submit --stdin-list
    """
    terms = taken_terms(arguments, again=force)
    if not sources and manifest is None and not stdin_list:
        raise UsageError("nothing is named; see: stenopool submit --help")
    if stdin_list and "-" in sources:
        raise UsageError("standard input is either a recording (-) or a list of sources (--stdin-list)")
    context = click.get_current_context()
    with ExitStack() as opened:
        _check_names(sources)
        items = listed_in(manifest, terms) if manifest else ()
        if key is not None and (stdin_list or len(sources) + len(items) > 1 or any(map(_is_many, sources))):
            raise UsageError("--key is for one recording; for several, give a manifest with a column key")
        spooled = opened.enter_context(spooled_stdin([source for source in sources if source == "-"]))
        farm = opened.enter_context(closing(_find_farm()))
        hand = _Hand(farm, agreed(terms, farm), key=key, quiet=as_json)
        for source in sources:
            if source == "-":
                hand.in_one(_stdin(spooled[0]))
            else:
                hand.in_all(source)
        for item in items:
            hand.in_one(item)
        for source in sources_on_stdin() if stdin_list else ():
            hand.in_all(source)
        if wait_for and hand.accepted:
            ids = [one.id for one in hand.accepted]
            hand.code = max(hand.code, wait_until_ended(farm, ids, quiet=as_json))
            hand.accepted = [farm.desk.submission(id) for id in ids]
        if as_json:
            from workers.shown import record_of

            click.echo(json.dumps([record_of(one) for one in hand.accepted], indent=2))
    context.exit(hand.code)


class _Hand:
    """Hands in, one by one; what cannot be is told in a line, and the others go on."""

    def __init__(self, farm: Farm, terms: Terms, *, key: str | None, quiet: bool) -> None:
        self.accepted: list[Submission] = []
        self.code = OK
        self._farm = farm
        self._terms = terms
        self._key = key
        self._quiet = quiet

    def in_all(self, source: str) -> None:
        """All that a source names."""
        from workers.expand import expand

        n = 0
        try:
            for item in expand(source):
                n += 1
                self.in_one(item)
            if _is_many(source):
                click.echo(f"{source}: {n} recording{'s' * (n != 1)}", err=True)
        except StenopoolError as error:
            self._refuse(error, source)

    def in_one(self, item: Item) -> None:
        """One of them."""
        from workers.hand_in import hand_in

        try:
            submission = hand_in(self._farm, replace(item, key=self._key or item.key), self._terms)
        except StenopoolError as error:
            self._refuse(error, item.name, Path(item.location))
            return
        self.accepted.append(submission)
        if not self._quiet:
            click.echo(f"{submission.id}\t{item.name}")

    def _refuse(self, error: StenopoolError, name: str, path: Path | None = None) -> None:
        click.echo(error_line(error, path or Path(name), name), err=True)
        self.code = FAILED


def sources_on_stdin() -> Iterator[str]:
    """What `--stdin-list` names, a source on each line; names of files may be any bytes."""
    for line in sys.stdin.buffer:
        if source := os.fsdecode(line.rstrip(b"\r\n")):
            yield source


def _find_farm() -> Farm:
    from workers.farm import Farm

    return Farm.find(Config.from_env())


def _check_names(sources: Sequence[str]) -> None:
    """Names of files that would write the same outputs are refused now, not when they are fetched."""
    output_stems([source for source in sources if "://" not in source and not _is_many(source)])


def _is_many(source: str) -> bool:
    from workers.expand import names_many

    return names_many(source)


def _stdin(path: Path) -> Item:
    from scheduler.items import Item

    return Item(location=str(path), name="stdin")


def listed_in(path: Path, terms: Terms) -> tuple[Item, ...]:
    """What a manifest names; all that is wrong with it is told before anything is handed in."""
    from scheduler.manifest import read_manifest
    from workers.hand_in import check_item

    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{path}: does not exist; name a manifest") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as text ({error})") from error
    manifest = read_manifest(text, str(path), partial(check_item, terms=terms))
    for problem in manifest.problems:
        click.echo(f"stenopool: {problem}", err=True)
    if manifest.problems:
        n = len(manifest.problems)
        raise UsageError(f"{path}: {n} line{'s' * (n != 1)} cannot be handed in, and nothing was; mend {path} first")
    return manifest.items


@click.command(cls=SectionedCommand, no_args_is_help=True)
@click.argument("place", metavar="FOLDER|PREFIX|FEED")
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="Between two looks.  [default: 30; at a feed, 900]",
)
@click.option(
    "--settle",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="A file that has not changed for so long is whole.",
)
@click.option("--once", is_flag=True, help="Hand in what is there, and end.")
@click.option("--json", "as_json", is_flag=True, help="An object a line.")
@terms_options
@click.pass_context
def watch(
    context: click.Context,
    /,
    place: str,
    every: float | None,
    settle: float,
    once: bool,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Hand in what is new in a folder, below s3://bucket/prefix/ or in a podcast's feed, until Ctrl-C; prints the id
    of each.

    Nothing is handed in twice, however often this is ended and begun again: recordings are known by their content,
    episodes by their feed, with model and options. A file that still grows waits until it is whole.

    \b
    Example:
      stenopool watch recordings/ --lane urgent
      stenopool watch s3://archive/calls/ --every 300
      stenopool watch https://example.org/feed.xml --language en
    """
    terms = taken_terms(arguments)
    with closing(_find_farm()) as farm:
        watch = _watch_of(farm, place, agreed(terms, farm), settle)
        pause = every or (EVERY_FEED if watch.of_feed else EVERY)
        stop: threading.Event = context.obj
        if once:
            code = _look(watch, as_json=as_json)
            if not watch.of_objects and not stop.wait(settle):
                code = max(code, _look(watch, as_json=as_json))
            context.exit(code)
        said = ""
        while not stop.is_set():
            try:
                _look(watch, as_json=as_json)
                said = ""
            except StenopoolError as error:
                if str(error) != said:  # once, not at every look
                    click.echo(f"stenopool: {said:= str(error)}", err=True)
            stop.wait(pause)


def _watch_of(farm: Farm, place: str, terms: Terms, settle: float) -> Watch | FeedWatch:
    from scheduler.podcast import MOST_BYTES
    from scheduler.sources import Kind, kind_of
    from workers.fetch import Bounds, Fetcher
    from workers.watch import Watch
    from workers.watch_feed import FeedWatch

    if kind_of(place) is not Kind.URL:
        return Watch(farm, place, terms, settle=settle)
    allowed = Config.from_env().fetch_allow
    return FeedWatch(farm, place, terms, Fetcher(Bounds(size=MOST_BYTES, seconds=300.0), allowed=allowed))


def _look(watch: Watch | FeedWatch, *, as_json: bool) -> int:
    """Look once, and tell what was taken; the exit code that says so."""
    from workers.shown import record_of

    code = OK
    for found in watch.look():
        if isinstance(found.outcome, StenopoolError):
            click.echo(error_line(found.outcome, Path(found.name), found.name), err=True)
            code = FAILED
        elif as_json:
            click.echo(json.dumps(record_of(found.outcome)))
        else:
            click.echo(f"{found.outcome.id}\t{found.name}")
    return code


COMMANDS: tuple[click.Command, ...] = (submit, watch)
