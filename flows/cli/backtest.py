"""Commands that look back: what other policies would have cost, and what they would have decided."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from flows.cli import terminal
from flows.cli.options import Debug, Json, Model, Root, open_workspace
from tasks.core.errors import InvalidRequest

if TYPE_CHECKING:
    from tasks.core.backtest.run import Progress
    from tasks.core.spec import PolicySpec

OtherPolicies = Annotated[
    list[Path] | None,
    typer.Option("--policy", help="TOML file whose policy section is compared with the configured one; repeatable."),
]
SECONDS = 5.0
"""Between two lines of progress where there is no terminal."""


class Measure(StrEnum):
    """Values of `--measure`."""

    loss = "loss"
    error = "error"


def backtest(
    model: Model,
    delay: Annotated[
        int | None,
        typer.Option(min=1, help="Batches after which labels are known; default: as the model's file declares."),
    ] = None,
    starts: Annotated[int, typer.Option(min=1, max=10, help="Starting points, two batches apart.")] = 3,
    cost: Annotated[
        float | None,
        typer.Option(
            min=0, help="Cost of one fit, as a share of one batch's loss; default: the policy's retrain_cost."
        ),
    ] = None,
    policy: OtherPolicies = None,
    measure: Annotated[
        Measure, typer.Option(help="What is reported: the loss that the rules use, or plain 0/1 (absolute) error.")
    ] = Measure.loss,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Replay the model's own history under several policies and compare their costs. The store is not changed."""
    from tasks.core.backtest import report, run
    from tasks.core.backtest.chart import draw_backtest

    workspace = open_workspace(root, model)
    others = _named(policy)
    spec = workspace.spec if cost is None else run.at_cost(workspace.spec, cost)
    question = run.Question(run.usual_delay(spec) if delay is None else delay, starts, measure.value)
    folder = workspace.data / "backtest"
    with _progress(quiet=as_json) as progress:
        found = run.backtest(
            model, workspace.root, spec, folder / "fits", question, progress, others, champion=workspace.in_service()
        )
    picture = folder / "backtest.png"
    draw_backtest(found, picture)
    if as_json:
        terminal.print_json(report.as_json(found))
        return
    terminal.show(terminal.table(report.COLUMNS, report.rows(found), title=report.title(found)))
    for batch, reason in found.left_out.items():
        terminal.out.print(Text(f"  left out: {batch}: {reason}"))
    terminal.out.print(Text(report.recommendation(found)))
    terminal.out.print(Text(f"Picture: {picture.relative_to(workspace.root)}"))


def what_if(model: str, files: list[Path], root: Path, as_json: bool) -> None:
    """What the policies in `files` would have decided on the recorded evidence: `ror history M --replay --policy F`."""
    from tasks.core.backtest.what_if import ask
    from tasks.core.records import to_dict

    if not files:
        raise InvalidRequest("policy", ["name a TOML file with a policy section, to replay it"])
    workspace = open_workspace(root, model)
    events = workspace.ledger.events()
    answers = {name: ask(events, policy) for name, policy in _named(files).items()}
    if as_json:
        terminal.print_json({name: [to_dict(answer) for answer in found] for name, found in answers.items()})
        return
    for name, found in answers.items():
        rows = [
            [
                str(answer.seq),
                ", ".join(answer.batches[-1:]) or "-",
                f"{answer.action} ({answer.rule})",
                "the same" if answer.same else f"{answer.other_action} ({answer.other_rule})",
                "" if answer.same else "; ".join(answer.other_reasons),
            ]
            for answer in found
        ]
        other = sum(not answer.same for answer in found)
        title = f"{name}: {other} of {len(found)} decisions would have been different, on the recorded evidence"
        terminal.show(terminal.table(["#", "batch", "decided", name, "why"], rows, title=title))


def _named(files: list[Path] | None) -> dict[str, PolicySpec]:
    """Policies by the name of their file."""
    from tasks.core.backtest.what_if import read_policy

    named = {path.stem: read_policy(path) for path in files or []}
    if len(named) < len(files or []):
        raise InvalidRequest("policy", ["two files have the same name: rename one"])
    return named


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Progress]:
    """Bars on a terminal; a line now and then elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    if terminal.err.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=terminal.err, transient=True) as bars:
            tasks: dict[str, int] = {}

            def draw(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done)  # type: ignore[arg-type]

            yield draw
        return
    said = 0.0

    def say(what: str, done: int, total: int) -> None:
        nonlocal said
        if not quiet and time.monotonic() - said > SECONDS:
            said = time.monotonic()
            terminal.err.print(f"{what}: {done} of {total}")

    yield say
