"""Write the reference anew, from the program itself: python docs/make_reference.py

    reference/commands.md   every command's --help
    reference/settings.md   every environment variable
    reference/api.md        every route of the HTTP API, from its OpenAPI description
    reference/openapi.json  that description, for programs

A test says when one of them is not what the program says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from stenopool.cli import cli
from stenopool.config import SETTINGS, Config
from stenopool.web.site import make_site
from workers.farm import Farm, Places

FOLDER = Path(__file__).parent / "reference"

_MADE = "<!-- Made by docs/make_reference.py: change the program, not this page. -->"


def pages() -> dict[str, str]:
    """Each file of the reference by its name."""
    description = describe()
    return {
        "commands.md": commands(),
        "settings.md": settings(),
        "api.md": api(description),
        "openapi.json": json.dumps(description, indent=1, sort_keys=True) + "\n",
    }


def commands() -> str:
    """What every command says of itself."""
    parts = [_MADE, "# Commands", "Each as `--help` prints it."]
    for name, command, context in _walk(cli, "stenopool", None):
        parts += [f"## {name}", f"```text\n{command.get_help(context).strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _walk(
    command: click.Command, name: str, parent: click.Context | None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    last = name.rpartition(" ")[2]
    context = click.Context(command, info_name=last, parent=parent, terminal_width=100, **command.context_settings)
    yield name, command, context
    if isinstance(command, click.Group):
        for sub in sorted(command.commands):
            if not command.commands[sub].hidden:
                yield from _walk(command.commands[sub], f"{name} {sub}", context)


def settings() -> str:
    """Every variable that is read, with its default."""
    rows = [
        f"| `{setting.name}` | {f'`{setting.default}`' if setting.default else ''} | {setting.help} |"
        for setting in SETTINGS
    ]
    table = ["| variable | default | what it decides |", "|---|---|---|", *rows]
    about = "Read once, as a process starts, by `stenopool/config.py` and nothing else."
    return "\n\n".join([_MADE, "# Settings", about, "\n".join(table)]) + "\n"


def describe() -> dict[str, Any]:
    """The OpenAPI description, for which no farm has to be there."""
    nowhere = Farm(Places(database="", broker="", store=""), lease=1)
    return make_site(nowhere, Config(home=Path("/nowhere"), cache=Path("/nowhere"))).openapi()


def api(description: dict[str, Any]) -> str:
    """Every route: what it is for, what it takes, what it answers."""
    about = "How to use it is told in [api.md](../api.md); [openapi.json](openapi.json) has the schemas of all bodies."
    parts = [_MADE, "# HTTP API", about]
    for path, methods in sorted(description["paths"].items()):
        for method, operation in methods.items():
            parts += [f"## {method.upper()} {path}", operation.get("description") or operation["summary"]]
            if rows := [*_parameters(operation)]:
                parts.append("\n".join(["| parameter | in | type | |", "|---|---|---|---|", *rows]))
            if body := operation.get("requestBody"):
                kinds = ", ".join(f"`{kind}`" for kind in body["content"])
                parts.append(f"Body: {kinds}{_schema(body['content'])}")
            answers = [
                f"- {status}: {_line(answer['description'])}{_schema(answer.get('content', {}))}"
                for status, answer in operation["responses"].items()
            ]
            parts.append("\n".join(answers))
    return "\n\n".join(parts) + "\n"


def _parameters(operation: dict[str, Any]) -> Iterator[str]:
    for one in operation.get("parameters", ()):
        needed = "**" if one.get("required") else ""
        said = _line(one.get("description", ""))
        yield f"| {needed}`{one['name']}`{needed} | {one['in']} | {_type(one['schema'])} | {said} |"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"] if one.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return str(schema.get("type", "any"))


def _schema(content: dict[str, Any]) -> str:
    named = {_type(one["schema"]) for one in content.values() if "$ref" in one.get("schema", {})}
    return f" ({', '.join(sorted(named))})" if named else ""


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write what has changed."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"docs/reference/{name}")


if __name__ == "__main__":
    main()
