"""`stenopool campaign`: many recordings as one. What changes them; what tells of them stands in campaign_reports.py."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stenopool.cli.campaign_fetch import fetch
from stenopool.cli.campaign_reports import REPORTS, code_of, share, state_of
from stenopool.cli.campaigning import counting, farm_at_hand, fetcher_of, of_campaign
from stenopool.cli.hand_in import agreed, listed_in, sources_on_stdin, taken_terms, terms_options
from stenopool.cli.options import SectionedCommand
from stenopool.config import Config
from stenopool.errors import UsageError

if TYPE_CHECKING:
    from scheduler.items import Item
    from storage.campaigns import Campaign
    from workers.farm import Farm
    from workers.hand_in import Terms

#: Sources that are listed at once.
PAGE = 500
#: Seconds between two looks at what is waited for.
LOOK_EVERY = 1.0


@click.group(no_args_is_help=True)
def campaign() -> None:
    """Many recordings as one: an archive, a podcast, a list.

    \b
    Example:
      stenopool campaign create talks --feed https://example.org/feed.xml --language en
      stenopool campaign validate talks
      stenopool campaign forecast talks --workers +4
      stenopool campaign start talks
      stenopool campaign status talks
      stenopool campaign manifest talks -o talks.json
    """


@campaign.command(cls=SectionedCommand, no_args_is_help=True)
@click.argument("name")
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--feed", "feeds", multiple=True, metavar="URL", help="All episodes of an RSS or Atom feed.")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Recordings, a line for each: .csv with a header, or .jsonl (see docs/inputs.md).",
)
@click.option("--stdin-list", is_flag=True, help="More sources come from standard input, one on each line.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    metavar="HOURS",
    help="Of engines; what takes more is left.",
)
@partial(terms_options, lane="bulk")
def create(
    name: str,
    sources: Sequence[str],
    feeds: Sequence[str],
    manifest: Path | None,
    stdin_list: bool,
    **arguments: Any,
) -> None:
    """List what belongs to a campaign; nothing is transcribed before it is started.

    A SOURCE is as of submit: a file, a folder, a pattern, a URL, a prefix. The same command lists what is new: what is
    listed already is left as it is, of feeds only what has changed is fetched, and after Ctrl-C it goes on.

    \b
    Example:
      stenopool campaign create talks --feed https://example.org/feed.xml --language en
    """
    terms = taken_terms(arguments)
    if stdin_list:
        sources = [*sources, *sources_on_stdin()]
    if not sources and not feeds and manifest is None:
        raise UsageError(f"{name}: nothing is named that belongs to it; name sources, a --feed or a --manifest")
    if "-" in sources:
        raise UsageError(f"{name}: a campaign has no recording on standard input; name its file, or use --stdin-list")
    if not name.isprintable() or not 1 <= len(name) <= 100:
        raise UsageError(f"{name!r}: a campaign's name has 1 to 100 letters")
    items = [*_expanded(sources), *(listed_in(manifest, terms) if manifest else ())]
    with farm_at_hand() as farm:
        found = farm.campaigns.create(agreed(terms, farm).plan(name, arguments["budget"]))
        new = _list(farm, found, [_own(item, terms) for item in items])
        for url in feeds:
            new += _follow(farm, found, url)
        farm.campaigns.listed(found.id)
        total = sum(farm.progress.of(found.id, 0).states.values())
    click.echo(f"{name}: {new} new, {total} in all")


def _expanded(sources: Sequence[str]) -> Iterator[Item]:
    from workers.expand import expand

    with counting("looking for recordings") as progress:
        for source in sources:
            for item in expand(source):
                yield item
                progress(1)


def _own(item: Item, terms: Terms) -> Item:
    """An item as it is listed: its path from wherever it is read, and its options where they are not those of all.

    Raises:
        UsageError: it cannot be handed in.
    """
    from scheduler.sources import Kind, kind_of
    from workers.hand_in import check_item, options_for

    check_item(item, terms)
    all_have = asdict(terms.options)
    own = {key: value for key, value in asdict(options_for(item, terms.options)).items() if value != all_have[key]}
    path = kind_of(item.location) is Kind.PATH
    return replace(item, location=str(Path(item.location).resolve()) if path else item.location, options=own)


def _list(farm: Farm, found: Campaign, items: Sequence[Item]) -> int:
    from scheduler.campaigns import entry_of

    new = 0
    with counting("listing", len(items)) as progress:
        for at in range(0, len(items), PAGE):
            page = items[at : at + PAGE]
            new += farm.campaigns.add(found.id, list(map(entry_of, page)))
            progress(len(page))
    return new


def _follow(farm: Farm, found: Campaign, url: str) -> int:
    from scheduler.podcast import MOST_BYTES
    from workers.podcast import follow

    fetcher = fetcher_of(Config.from_env(), size=MOST_BYTES, seconds=300.0)
    with counting(url) as progress:
        followed = follow(farm.campaigns, found.id, url, fetcher, progress=lambda *_: progress(1))
    said = f"{followed.pages} pages, {followed.unchanged} of them unchanged, {followed.new} new recordings"
    if followed.silent:
        said += f", {followed.silent} entries without sound"
    click.echo(f"{url}: {said}")
    if followed.stopped:
        click.echo(f"stenopool: {url}: {followed.stopped}; what comes after it is left out", err=True)
    return followed.new


@campaign.command(no_args_is_help=True)
@of_campaign
@click.option("--wait", "wait_for", is_flag=True, help="Wait until it is done.")
def start(name: str, tenant: str, wait_for: bool) -> None:
    """Transcribe a campaign. Files of this machine are uploaded first; then the scheduler goes on by itself.

    What has a problem is left out until validate finds none. What is listed later is handed in, too; new files of this
    machine, by this command.

    \b
    Example:
      stenopool campaign start talks --wait
    """
    from storage.campaign_progress import HERE
    from storage.campaign_tables import CampaignState
    from workers.outlook import first_forecast
    from workers.validate import upload

    with farm_at_hand() as farm:
        found = farm.campaigns.find(tenant, name)
        if found.state == CampaignState.LISTING:
            raise UsageError(f"{name}: not all of it is listed; give the same `stenopool campaign create` once more")
        if found.state in (CampaignState.PAUSED, CampaignState.CANCELLED):
            raise UsageError(f"{name}: is {found.state}; {_GO_ON[found.state]}")
        here = farm.progress.of(found.id, 0).states.get(HERE, 0)
        with counting("uploading", here) as progress:
            upload(farm.campaigns, found.id, farm.store, progress)
        farm.campaigns.find_duplicates(found.id)
        started = farm.campaigns.start(found.id, first_forecast(farm, found))
        click.echo(f"{name} is started" if started else f"{name} goes on")
        if wait_for:
            click.get_current_context().exit(_wait(farm, tenant, name))


_GO_ON = {
    "paused": "go on with: stenopool campaign resume",
    "cancelled": "make another one",
}


def _wait(farm: Farm, tenant: str, name: str) -> int:
    """The exit code that says what became of it."""
    from workers.outlook import outlook

    states = farm.progress.of(farm.campaigns.find(tenant, name).id, 0).states
    done = 0
    with counting(name, sum(states.values())) as progress:
        while True:
            found = outlook(farm, farm.campaigns.find(tenant, name))
            states = found.progress.states
            ended = sum(n for state, n in states.items() if state.startswith("completed") or state == "failed")
            progress(ended - done)
            done = ended
            if found.ended:
                return code_of(states)
            time.sleep(LOOK_EVERY)


def _change(name: str, done: str, not_done: str, help: str) -> click.Command:
    """A command that changes the state of a campaign; its submissions follow, also those not handed in yet."""

    def run(tenant: str, **arguments: Any) -> None:
        from scheduler.campaigns import Campaigner

        with farm_at_hand() as farm:
            found = farm.campaigns.find(tenant, arguments["name"])
            changed = getattr(farm.campaigns, name)(found.id)
            campaigner = Campaigner(farm.database)
            # The scheduler does the same; and where a resume was killed on its way, here it goes on.
            while campaigner.resume(found.id) if name == "resume" else campaigner.follow():
                pass
            if not changed:
                raise UsageError(f"{found.name} {not_done}")
            click.echo(f"{found.name} {done}")

    run.__doc__ = f"{help}\n\n\b\nExample:\n  stenopool campaign {name} talks"
    return click.command(name, no_args_is_help=True)(of_campaign(run))


campaign.add_command(_change("pause", "is paused", "does not run", "Begin nothing more of a campaign."))
campaign.add_command(_change("resume", "goes on", "is not paused", "Go on with a campaign that was paused."))
campaign.add_command(_change("cancel", "is cancelled", "was cancelled before", "Give a campaign up, for good."))


@campaign.command("retry-failed", no_args_is_help=True)
@of_campaign
@click.option("--gaps", is_flag=True, help="Also the gaps of those that have some.")
def retry_failed(name: str, tenant: str, gaps: bool) -> None:
    """Do again what failed of a campaign.

    \b
    Example:
      stenopool campaign retry-failed talks --gaps
    """
    from storage.tables import SubmissionState

    states = [SubmissionState.FAILED, *([SubmissionState.COMPLETED_WITH_GAPS] if gaps else [])]
    n = after = 0
    with farm_at_hand() as farm:
        found = farm.campaigns.find(tenant, name)
        while ids := farm.campaigns.ended_as(found.id, states, after, PAGE):
            n += sum(map(farm.desk.retry, ids))
            after = ids[-1]
    click.echo(f"{name}: {n} are done again")


@campaign.command("list")
@click.option("--tenant", help="Of this tenant only.")
def list_all(tenant: str | None) -> None:
    """All campaigns; of those that were forecast, how much longer they took than that, or will take as it looks now.

    \b
    Example:
      stenopool campaign list
    """
    from stenopool.cli.models import table

    with farm_at_hand() as farm:
        rows = [_row(farm, one) for one in farm.campaigns.all(tenant)]
    heads = ("NAME", "STATE", "RECORDINGS", "TENANT", "MODEL", "FORECAST")
    for line in table([heads, *rows]) if rows else ["there is none"]:
        click.echo(line)


def _row(farm: Farm, one: Campaign) -> tuple[str, ...]:
    from workers.outlook import outlook

    seen = outlook(farm, one)
    n = str(sum(seen.progress.states.values()))
    return one.name, state_of(one, seen), n, one.tenant, one.model, "" if seen.error is None else share(seen.error)


for command in (*REPORTS, fetch):
    campaign.add_command(command)

COMMANDS: tuple[click.Command, ...] = (campaign,)
