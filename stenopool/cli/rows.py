"""Rows as commands print them: for people, and for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from stenopool.errors import UsageError

if TYPE_CHECKING:
    from storage.admin import Rows


def format_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json` and `--csv`, as `say` takes them."""
    command = click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with a line of names.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of objects.")(command)


def say(found: Rows, *, as_json: bool, as_csv: bool) -> None:
    """Print rows: for people as a table, for programs as a list of objects or as RFC 4180 has it."""
    if as_json and as_csv:
        raise UsageError("--json and --csv: name one of them")
    if as_json:
        click.echo(json.dumps(found.records, indent=2, ensure_ascii=False))
    elif as_csv:
        text = io.StringIO()
        writer = csv.writer(text)  # lines end with CR LF
        writer.writerow(found.columns)
        writer.writerows([_value(value) for value in row] for row in found.rows)
        click.echo(text.getvalue(), nl=False)
    elif found.rows:
        from stenopool.cli.models import table

        head = tuple(name.upper() for name in found.columns)
        for line in table([head, *(tuple(map(_cell, row)) for row in found.rows)]):
            click.echo(line)
    else:
        click.echo("there is nothing in it")
    if found.cut:
        click.echo("stenopool: there is more; see it with a greater --limit", err=True)


def _value(value: Any) -> Any:
    """As CSV has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict | list) else value


def _cell(value: Any) -> str:
    """As people read it: one line, nothing that a terminal obeys, numbers without a point that says nothing."""
    if isinstance(value, float):
        return f"{value:.10g}"
    text = str(_value(value))
    return "".join(letter if letter.isprintable() else "�" for letter in text)
