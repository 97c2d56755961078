"""`stenopool campaign fetch`: what came of a campaign, in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stenopool.cli.campaign_reports import code_of
from stenopool.cli.campaigning import counting, farm_at_hand, of_campaign
from stenopool.cli.desk import publisher_option
from stenopool.cli.transcribe import formats_option

if TYPE_CHECKING:
    from storage.desk import Submission
    from workers.farm import Farm

#: Submissions that are asked for at once.
PAGE = 500


@click.command(no_args_is_help=True)
@of_campaign
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path), default=".", help="Folder for the transcripts."
)
@formats_option
@publisher_option
def fetch(name: str, tenant: str, folder: Path, formats: tuple[str, ...], publisher: bool) -> None:
    """Write the transcripts of a campaign: a folder for each recording that is done, with a manifest, as --to has them
    sent. What is there already stays; feed export reads them. What the publisher offers itself is left out where
    something of the recording is redacted.

    \b
    Example:
      stenopool campaign fetch talks -o talks/ --format podcast-vtt,podcast-srt
    """
    import threading

    from storage.tables import PUBLISHED
    from workers.export import export, folder_place, stem_of
    from workers.publish import open_folder
    from workers.publisher import files_of
    from workers.shown import is_redacted, sent_of

    open_folder(folder)
    written = 0
    with farm_at_hand() as farm:
        found = farm.campaigns.find(tenant, name)
        states = farm.progress.of(found.id, 0).states
        with counting("writing", sum(states.get(state, 0) for state in PUBLISHED)) as progress:
            for submission in _published(farm, found.id):
                place = folder_place(folder / str(submission.id))
                asked = replace(submission, formats=formats)
                theirs = files_of(farm, submission, stem_of(submission.name))
                more = list(theirs) if publisher and not is_redacted(farm, submission) else []
                written += export(asked, sent_of(farm, submission), place, threading.Event(), more)
                progress(1)
    done = sum(states.get(state, 0) for state in PUBLISHED)
    click.echo(f"{name}: {done} of {sum(states.values())} are done; {written} written, {done - written} were there")
    click.get_current_context().exit(code_of(states))


def _published(farm: Farm, campaign: int) -> Iterator[Submission]:
    from storage.tables import PUBLISHED

    after = 0
    while ids := farm.campaigns.ended_as(campaign, PUBLISHED, after, PAGE):
        yield from map(farm.desk.submission, ids)
        after = ids[-1]
