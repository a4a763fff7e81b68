"""Commands that messages tell people to run: each is one that `ror` understands."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from flows.cli.app import app

REPOSITORY = Path(__file__).resolve().parents[3]
UsageError = typer.BadParameter.__mro__[1]
"""Of the parser that Typer brings along; it has no public name."""
COMMAND = re.compile(r"`(?:python -m )?(ror [^`]+)`")


FILLED_IN = "1"
"""In place of what a message says at the time, which may be a model with its version."""


def told() -> dict[str, str]:
    """Each command in the texts of the code, and the first place that has it."""
    found: dict[str, str] = {}
    for room in ("tasks", "flows"):
        for path in sorted((REPOSITORY / room).rglob("*.py")):
            for text, line in texts(ast.parse(path.read_text(encoding="utf-8"))):
                for command in COMMAND.findall(text):
                    found.setdefault(command, f"{path.relative_to(REPOSITORY)}:{line}")
    return found


def texts(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """What a person may read: no docstrings. An f-string is one text."""
    nodes = [*ast.walk(tree)]
    whole = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    others = {id(piece) for node in whole for piece in node.values}
    others |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in whole:
        words = (str(piece.value) if isinstance(piece, ast.Constant) else FILLED_IN for piece in node.values)
        yield "".join(words), node.lineno
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in others:
            yield node.value, node.lineno


def test_every_command_in_a_message_is_understood() -> None:
    """It exists, and so do its options, with as many words as they take; a name alone, as in `ror verify`, will do."""
    commands = told()
    assert len(commands) > 40
    wrong = [
        f"{place}: {command}: {said}"
        for command, place in commands.items()
        if (said := misunderstood(command)) and misunderstood(command.replace(FILLED_IN, f"{FILLED_IN} v1", 1))
    ]
    assert not wrong


def misunderstood(command: str) -> str:
    """What `ror` would say against it; empty where it would run."""
    found: typer.core.TyperCommand | typer.core.TyperGroup = typer.main.get_command(app)  # type: ignore[assignment]
    whole = typer.Context(found, info_name="ror")
    whole.params["root"] = Path()
    name, *words = shlex.split(command)
    while words and isinstance(found, typer.core.TyperGroup):
        name, *words = words
        if name == FILLED_IN:
            return ""
        if name not in found.commands:
            return f"no command {name!r}"
        found = found.commands[name]  # type: ignore[assignment]
    try:
        if words:
            found.make_context(name, words, parent=whole)
    except UsageError as error:  # type: ignore[misc]
        return str(error)
    return ""


@pytest.mark.parametrize(
    "command", ["ror revive 1", "ror status --recent", "ror accept 1", "ror store prun 1", "ror snooze 1 --until"]
)
def test_what_would_not_be_understood(command: str) -> None:
    """A command or an option that does not exist, and words that are missing, are found."""
    assert misunderstood(command)
