"""The table of all keys of a model's file in deployments/README.md, made from ModelSpec: `python -m tests.reference`.

With `--write` the table in the file is replaced, else it is printed. A test fails when the two differ.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.core.spec import ModelSpec

PLACE = Path(__file__).resolve().parents[1] / "deployments/README.md"
BEGIN = "<!-- made by `python -m tests.reference --write`: do not edit -->"
END = "<!-- end of what is made -->"
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
KINDS = {"integer": "whole number", "number": "number", "string": "text", "object": "table", "boolean": "true, false"}


def table() -> str:
    """Every key with what it may be, its default and its meaning, section by section, in markdown."""
    lines = ["| key | may be | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in _rows())])


def written(text: str, made: str) -> str:
    """`text` with `made` between the two marks. Raises ValueError where the marks are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PLACE.name} needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def _rows() -> Iterator[tuple[str, str, str, str]]:
    schema = ModelSpec.model_json_schema()
    sections = schema["$defs"]

    def of(section: Mapping[str, Any], name: str) -> Iterator[tuple[str, str, str, str]]:
        below = []
        for key, field in section["properties"].items():
            path = f"{name}.{key}".lstrip(".")
            if reference := _reference(field):
                below.append((sections[reference], path))
            else:
                default = "required" if key in section.get("required", ()) else _default(field.get("default"))
                yield f"`{path}`", _kind(field), default, field.get("description", "").replace("|", "\\|")
        for each, path in below:
            yield from of(each, path)

    return of(schema, "")


def _reference(field: Mapping[str, Any]) -> str | None:
    """The name of the section that a field holds, alone, in a list or optionally."""
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
    return " ".join([KINDS[field["type"]], *filter(None, bounds)])


def _default(value: Any) -> str:
    """A default as a model's file would write it; empty where leaving the key out says something of its own."""
    return "" if value in (None, "", [], {}) else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PLACE.write_text(written(PLACE.read_text(encoding="utf-8"), table()), encoding="utf-8")
    else:
        print(table())
