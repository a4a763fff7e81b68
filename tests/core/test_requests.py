"""Errors about what was asked for: they name the parameter, and how the command line spells it is not theirs."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tasks.core
from tasks.core.errors import InvalidRequest
from tasks.core.run.work import check_request
from tasks.core.types import Request

COMMAND = re.compile(r"`[^`]*`|^ror .*", re.DOTALL)
"""A command that a person is told to run, with its options."""


def test_all_problems_below_the_names() -> None:
    """One error names its parameters and lists all problems; its exit code is that of a wrong call."""
    error = InvalidRequest(("keep", "older_than"), ["one", "two"])
    assert str(error) == "keep, older_than:\n  - one\n  - two"
    assert error.exit_code == 2


def test_other_spellings() -> None:
    """Names are replaced where another spelling is known, the problems stay."""
    error = InvalidRequest(("keep", "actor"), ["one"]).spelled({"keep": "--keep", "root": "--root"})
    assert str(error) == "--keep, actor:\n  - one"


def test_between_processes() -> None:
    """Prefect pickles errors of flows: nothing is lost."""
    error = pickle.loads(pickle.dumps(InvalidRequest("until", ["one", "two"])))
    assert (type(error), str(error), error.problems) == (InvalidRequest, "until:\n  - one\n  - two", ["one", "two"])


def test_a_reason_is_asked_for_by_its_name() -> None:
    """What the rules would not have decided needs a reason."""
    with pytest.raises(InvalidRequest, match=r"^reason:\n  - give one: the history keeps why you asked to retrain$"):
        check_request(Request(action="retrain", reason=" "))


def test_the_core_names_no_option_of_the_command_line() -> None:
    """Outside of whole commands, no text of the core has an option: there are forms and other callers, too."""
    folder = Path(tasks.core.__file__).parent
    files = sorted(folder.rglob("*.py"))
    assert len(files) > 50
    found = [(file.relative_to(folder), text) for file in files for text in _texts(file) if _names_option(text)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "named"),
    [("give --keep N", True), ("`ror run M --action reload` does", False), ("ror run M --action reload", False)],
)
def test_what_counts_as_naming_an_option(text: str, named: bool) -> None:
    """The look at the texts finds an option outside of a command, and only there."""
    assert _names_option(text) is named


def _names_option(text: str) -> bool:
    return re.search(r"(?<![\w-])--[a-z]", COMMAND.sub("", text)) is not None


def _texts(file: Path) -> Iterator[str]:
    """Every string of a module; `{}` for what an f-string fills in."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            for part in node.values:
                if isinstance(part, ast.Constant):
                    part.value = ""  # read already, as a part of the whole
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
