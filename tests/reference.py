"""Tables of the READMEs that are made from the program: `python -m tests.reference` prints, `--write` updates them.

deployments/README.md has the keys of a model's file, made from ModelSpec; flows/README.md the commands, made from
Typer's. A test fails when a table is not what would be made now.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from flows.cli.app import app
from tasks.core.spec import ModelSpec

REPOSITORY = Path(__file__).resolve().parents[1]
BEGIN = "<!-- made by `python -m tests.reference --write`: do not edit -->"
END = "<!-- end of what is made -->"


def keys() -> str:
    """Every key of a model's file with what it may be, its default and its meaning, section by section."""
    schema = ModelSpec.model_json_schema()
    return _table(["key", "may be", "default", "meaning"], list(_keys(schema, schema["$defs"], "")))


def commands() -> str:
    """Every command with its arguments, its own options, and what it does."""
    return _table(["command", "options", "what it does"], list(_commands(typer.main.get_command(app), "ror")))


TABLES: Mapping[str, Callable[[], str]] = {"deployments/README.md": keys, "flows/README.md": commands}
"""Which file holds which table."""


def written(text: str, table: str) -> str:
    """`text` with `table` between the two marks. Raises ValueError where the marks are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the lines {BEGIN!r} and {END!r} are missing")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_literal(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _literal(cell: str) -> str:
    """A cell whose text ends no column and is no HTML."""
    return cell.replace("|", "\\|").replace("<", "\\<")


# --- a model's file ------------------------------------------------------------------------------------------

BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
KINDS = {
    "boolean": "true or false",
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "object": "table",
}


def _keys(section: Mapping[str, Any], sections: Mapping[str, Any], above: str) -> Iterator[tuple[str, ...]]:
    """The keys of one section, then those of the sections in it."""
    below = []
    for name, field in section["properties"].items():
        path = f"{above}.{name}".lstrip(".")
        if inner := _section(field):
            below.append((sections[inner], path))
            continue
        default = "required" if name in section.get("required", ()) else _default(field.get("default"))
        yield f"`{path}`", _kind(field), default, field["description"]
    for inner, path in below:
        yield from _keys(inner, sections, path)


def _section(field: Mapping[str, Any]) -> str | None:
    """The name of the section that a key holds: alone, optionally, or in a list."""
    found = re.search(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(field))
    return found[1] if found else None


def _kind(field: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if choices := field.get("anyOf"):
        return " or ".join(_kind(choice) for choice in choices if choice.get("type") != "null")
    if values := field.get("enum", [field["const"]] if "const" in field else []):
        return ", ".join(f"`{json.dumps(value)}`" for value in values)
    if field["type"] == "array":
        return f"list of {_kind(field['items'])}"
    bounds = [f"{word} {field[name]:,}" for name, word in BOUNDS.items() if name in field]
    return " ".join([KINDS[field["type"]], *bounds])


def _default(value: Any) -> str:
    """A default as a model's file would write it; nothing where leaving the key out has a meaning of its own."""
    return "" if value in (None, "", [], {}) else f"`{json.dumps(value)}`"


# --- commands ------------------------------------------------------------------------------------------------

EVERYWHERE = {"--root", "--debug"}
"""Options of every command, which the text above the table names."""


def _commands(command: Any, path: str) -> Iterator[tuple[str, ...]]:
    """A command, or those below it."""
    if below := getattr(command, "commands", None):
        for name, inner in below.items():
            yield from _commands(inner, f"{path} {name}")
        return
    arguments = [_argument(each) for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not EVERYWHERE & {*each.opts}]
    told = ", ".join("/".join(f"`{name}`" for name in option.opts) for option in options)
    yield f"`{' '.join([path, *arguments])}`", told, " ".join(command.help.split())


def _argument(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


if __name__ == "__main__":
    for name, made in TABLES.items():
        place = REPOSITORY / name
        if "--write" in sys.argv:
            place.write_text(written(place.read_text(encoding="utf-8"), made()), encoding="utf-8")
        else:
            print(made())
