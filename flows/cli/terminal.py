"""How things look on a terminal: plain lines elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.core.ledger.events import Decided
from tasks.core.reports.wording import headline, sentences
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


def working(message: str) -> AbstractContextManager[object]:
    """A sign of life on a terminal, nothing elsewhere."""
    return err.status(message) if err.is_terminal else nullcontext()


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


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
    """Without a terminal there is no width to fit: nothing is cut."""
    console = out if out.is_terminal else Console(highlight=False, width=200)
    console.print(built)


def decision(decided: Decided, model: str, *, rules: bool) -> None:
    out.print(Text(headline(decided, model), style=STYLES.get(decided.outcome, "")))
    for line in sentences(decided):
        out.print(Text(f"  {line}"))
    if rules:
        rows = [[f.rule, "yes" if f.applies else "no", f.reason] for f in decided.decision.findings]
        show(table(["rule", "applies", "what it saw"], rows))


def version(number: int | None) -> str:
    return f"v{number}" if number is not None else "-"


def when(at: str | None) -> str:
    return at[:16].replace("T", " ") if at else "-"


def second(at: str) -> str:
    """A time to the second."""
    return at[:19].replace("T", " ")


def span(window: list[str]) -> str:
    return window[0] if len(window) == 1 else f"{window[0]} to {window[-1]}" if window else "-"
