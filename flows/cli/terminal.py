"""How things look on a terminal: plain lines elsewhere."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TextIO

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.core.errors import RorError
from tasks.core.ledger.events import Decided
from tasks.core.reports.wording import headline, sentences
from tasks.core.text import minute
from tasks.core.types import Outcome

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

STYLES = {
    Outcome.RELOADED: "green",
    Outcome.RETRAINED: "blue",
    Outcome.ROLLED_BACK: "magenta",
    Outcome.PROMOTED: "magenta",
    Outcome.BLOCKED: "red",
    Outcome.RETRAIN_FAILED: "red",
    Outcome.LABELS_OVERDUE: "red",
    Outcome.AWAITING_APPROVAL: "yellow",
    Outcome.KEPT: "yellow",
    Outcome.HELD: "yellow",
}


def spinner(message: str) -> AbstractContextManager[object]:
    """A message with a spinner on a terminal, nothing elsewhere."""
    return err.status(message) if err.is_terminal else nullcontext()


def accept_any_text() -> None:
    """What a terminal or log file that is not UTF-8 cannot show is a question mark there, and no error: by then a run
    has decided."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


@contextmanager
def telling(message: str, exit_code: int) -> Iterator[None]:
    """What the block prints is told as far as there is somebody to tell it: whoever read it may be gone, the disk of
    the log be full, or the store not give what there is to tell. The message goes to standard error then, and the
    command ends with its exit code all the same."""
    try:
        yield
        out.file.flush()
    except RorError as error:
        err.print(Text(f"{message} This stands; only the rest cannot be shown: {error}"))
    except (OSError, SystemExit):  # rich makes the second of a reader that is gone
        _give_up(sys.stdout)
        try:
            err.print(Text(message))
        except (OSError, SystemExit):
            _give_up(sys.stderr)
    raise typer.Exit(exit_code)


def _give_up(stream: TextIO) -> None:
    """Or what is in its buffer would be written at exit, fail again, and change the exit code."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def print_json(value: Any) -> None:
    """To standard output, for scripts: never wrapped or styled, and in ASCII where the output takes no more."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    print(text)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> Table:
    """A table whose last column takes what room is left."""
    built = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, title_style="bold")
    for index, column in enumerate(columns):
        last = index == len(columns) - 1
        built.add_column(column, no_wrap=not last, overflow="fold" if last else "ellipsis", ratio=1 if last else None)
    for row in rows:
        built.add_row(*(Text(cell) for cell in row))
    return built


def show(built: Table) -> None:
    """Print a table. Where the output is not a terminal, no width limits it: nothing is cut."""
    console = out if out.is_terminal else Console(highlight=False, width=200)
    console.print(built)


def decision(decided: Decided, model: str, *, rules: bool) -> None:
    """A decision in words; with `rules`, also what every rule saw."""
    out.print(Text(headline(decided, model), style=STYLES.get(decided.outcome, "")))
    for line in sentences(decided):
        out.print(Text(f"  {line}"))
    if rules:
        rows = [[f.rule, "yes" if f.applies else "no", f.reason] for f in decided.decision.findings]
        show(table(["rule", "applies", "what it saw"], rows))


def untold(message: str, reason: str) -> None:
    """Where Prefect could not be told how a run ended: that the outcome stands, and why."""
    if reason:
        err.print(Text(f"{message} This stands; only Prefect was not told of it: {reason}"))


def version(number: int | None) -> str:
    """`v7`, or a dash for none."""
    return f"v{number}" if number is not None else "-"


def when(at: str | None) -> str:
    """A time to the minute, or a dash for none."""
    return minute(at) if at else "-"
