"""`ror run`, `ror predict` and `ror demo`: manual triggers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from flows.cli import terminal
from flows.cli.options import Debug, Json, Model, Root, Verbose, open_workspace
from tasks.core.data.unread import unread
from tasks.core.ledger.events import Decided
from tasks.core.ledger.state import State
from tasks.core.records import to_dict
from tasks.core.run.work import check_request
from tasks.core.types import Outcome, Request
from tasks.core.workspace import Workspace

if TYPE_CHECKING:
    from flows.server.launch import Result


class ActionChoice(StrEnum):
    """Values of `--action`."""

    auto = "auto"
    reload = "reload"
    retrain = "retrain"


def demo(root: Root = Path(), debug: Debug = False) -> None:
    """Run a year of New York flights, month by month, and show what was decided and why."""
    from flows.cli.demo import run_demo

    run_demo(root.resolve())


def run(
    model: Model,
    action: Annotated[ActionChoice, typer.Option(help="auto: the rules decide.")] = ActionChoice.auto,
    batch: Annotated[str | None, typer.Option(help="Decide on this batch only.")] = None,
    reason: Annotated[
        str | None, typer.Option(help="Why; recorded in the history. Required unless the action is auto.")
    ] = None,
    root: Root = Path(),
    as_json: Json = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Check what arrived, decide, and carry it out."""
    from flows.server import launch

    check_request(Request(action=action.value, reason=reason))
    workspace = open_workspace(root, model)
    before = workspace.state()
    with terminal.spinner(f"{model}: checking and deciding ..."), launch.prefect_ready(verbose=verbose):
        result = launch.run(workspace.root, model, action=action.value, batch=batch, reason=reason)
    with terminal.telling(result.message, result.exit_code):
        _tell(workspace, result, before, as_json=as_json, verbose=verbose)


def _tell(workspace: Workspace, result: Result, before: State, *, as_json: bool, verbose: bool) -> None:
    model, state = workspace.model, workspace.state()
    decided = workspace.ledger.decision(state.decided.seq) if state.decided else None
    fresh = state.decided != before.decided
    if as_json:
        terminal.print_json(_run_json(result.outcome, result.message, state, decided, fresh))
    elif result.outcome is Outcome.SKIPPED or decided is None:
        terminal.out.print(Text(f"{model}: {result.outcome.value}. {result.message}"))
    else:
        terminal.decision(decided, model, rules=verbose)
        if not fresh:
            terminal.out.print(
                "  Nothing new has arrived since that decision: it is still valid, and nothing was repeated."
            )
    if not as_json:
        for found in unread(workspace.root, workspace.spec):
            terminal.err.print(Text(f"  {found}."))
    terminal.untold(result.message, result.untold)


def _run_json(outcome: Outcome, message: str, state: State, decided: Decided | None, fresh: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "outcome": outcome.value,
        "message": message,
        "version": state.current.version if state.current else None,
        "action": None,
        "reasons": [],
        "seq": state.decided.seq if state.decided else None,
        "decided_now": fresh,
        "blocked": [],
        "attempt": None,
    }
    if decided and outcome is not Outcome.SKIPPED:
        answer |= {
            "action": decided.decision.action.value,
            "reasons": list(decided.decision.reasons),
            "blocked": [to_dict(item) for item in decided.blocked],
            "attempt": to_dict(decided.attempt) if decided.attempt else None,
        }
    return answer


def predict(
    model: Model,
    file: Annotated[Path, typer.Argument(help="Parquet or CSV file with the model's input columns.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet or CSV file to write; never overwritten.")],
    root: Root = Path(),
    debug: Debug = False,
) -> None:
    """Predictions for a file with the version in service, verified first."""
    from tasks.core.predictions import predict_file

    version, there = predict_file(open_workspace(root, model), file, output, "by hand")
    kept = " The file existed already and was not changed." if there else ""
    terminal.out.print(f"{output}: predicted by {model} v{version}.{kept}", markup=False)
