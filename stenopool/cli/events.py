"""`stenopool events`: what became of submissions, for a person who watches and for a program."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import datetime

import click

from stenopool.config import Config

LOOK_EVERY = 1.0  # seconds


@click.command()
@click.option("--after", type=click.IntRange(min=0), default=0, help="Those behind that number only.")
@click.option("--tenant", help="Of this tenant only.")
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="An object a line.")
def events(after: int, tenant: str | None, follow: bool, as_json: bool) -> None:
    """What became of submissions, in the order of its numbers. Who remembers the last one misses nothing.

    \b
    Example:
      stenopool events --after 1200 --follow --json
    """
    from storage.outbox import Outbox
    from workers.farm import Farm

    farm = Farm.find(Config.from_env())
    try:
        outbox = Outbox(farm.database)
        while True:
            found = outbox.after(after, tenant=tenant)
            for one in found:
                after = one.position
                if as_json:
                    click.echo(json.dumps(asdict(one)))
                    continue
                at = datetime.fromtimestamp(one.at).astimezone().isoformat(timespec="seconds")
                told = one.error or (one.detail or {}).get("phrase")
                more = f": {told}" if told else ""
                click.echo(f"{one.position}\t{at}\t{one.tenant}\t{one.submission}\t{one.state}{more}")
            if not found:
                if not follow:
                    return
                time.sleep(LOOK_EVERY)
    finally:
        farm.close()
