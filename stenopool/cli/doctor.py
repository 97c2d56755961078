"""`stenopool doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from stenopool.config import Config

if TYPE_CHECKING:
    from stenopool.doctor import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.command()
@click.option("-m", "--model", default="pocket", show_default=True, help="As of transcribe; it is not fetched.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1, max=600),
    default=30.0,
    show_default=True,
    help="Seconds that all of it may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(model: str, timeout: float, as_json: bool) -> None:
    """Look at what a farm needs: database, clock, broker, store, model, device, media, disks; say what to do.

    The farm is that of the settings, or of `stenopool up` in this home; where there is none, this machine alone. A line
    for each: ok, warning or failed, what was seen, and what mends it. Exit code 1 where something failed.

    \b
    Example:
      stenopool doctor --model openai/whisper-large-v3-turbo
    """
    from stenopool.doctor import State, checks_of, examine, unanswered

    findings: list[tuple[str, Finding]] = []
    for name, finding in examine(checks_of(Config.from_env(), model, timeout), timeout):
        findings.append((name, finding))
        if not as_json:
            state = click.style(f"{finding.state:<9}", fg=_COLOURS[finding.state])
            cure = f"; {finding.cure}" if finding.cure else ""
            click.echo(f"{state}{name:<15}{finding.seen}{cure}")
    if as_json:
        rows = [
            {"check": name, "state": finding.state, "seen": finding.seen, "cure": finding.cure}
            for name, finding in findings
        ]
        click.echo(json.dumps(rows, indent=2))
    code = int(any(finding.state == State.FAILED for _, finding in findings))
    if unanswered():  # a thread that wakes up while Python ends, in a library's C++, would end it by SIGABRT
        sys.stdout.flush()
        os._exit(code)
    click.get_current_context().exit(code)
