"""`ror promote`, `accept`, `quarantine`, `release`, `snooze`: what people do, each one entry in the history."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from flows.cli import terminal
from flows.cli.options import Debug, Json, Model, Reason, Root, Verbose, manifest_of, open_workspace, version_number
from tasks.core import overrides
from tasks.core.ledger.events import Event
from tasks.core.records import to_dict
from tasks.core.reports import status, wording

Batch = Annotated[str, typer.Argument(help="Name of the batch: its file's name without the ending.")]


def promote(
    model: Model,
    version: Annotated[str, typer.Argument(help="v7 or 7.")],
    reason: Reason,
    expected: Annotated[
        str | None,
        typer.Option(help="Promote only if this version is in service now: v6, or `none` for no version yet."),
    ] = None,
    accept_environment: Annotated[
        bool,
        typer.Option(
            "--accept-environment", help="Allow a version that was made with other libraries than those installed here."
        ),
    ] = False,
    root: Root = Path(),
    as_json: Json = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Put a version in service by hand: approve it, go back to it, or override the gate. It is verified first."""
    from flows.server import environment, launch

    number = version_number(version)
    now = None if expected is None else 0 if expected == "none" else version_number(expected, "expected")
    overrides.check_words(reason, environment.actor())
    workspace = open_workspace(root, model)
    manifest_of(workspace, version)  # Prefect needs seconds to start; a version that is not there needs none
    with terminal.spinner(f"{model}: checking v{number} ..."), launch.prefect_ready(verbose=verbose):
        result = launch.promote(
            workspace.root,
            model,
            version=number,
            reason=reason,
            expected=now,
            accept_environment=accept_environment,
        )
    with terminal.telling(result.message, result.exit_code):
        if as_json:
            terminal.print_json({"outcome": result.outcome.value, "message": result.message, "version": number})
        else:
            terminal.out.print(Text(result.message, style=terminal.STYLES[result.outcome]))
        terminal.untold(result.message, result.untold)


def accept(
    model: Model, batch: Batch, reason: Reason, root: Root = Path(), as_json: Json = False, debug: Debug = False
) -> None:
    """Accept a batch's changed content as the new normal, or labels of it that are far from all others."""
    _do(
        overrides.accept,
        model,
        batch,
        reason,
        root,
        as_json,
        f"`ror run {model}` counts what was accepted, and a version learns it once it is labelled.",
    )


def quarantine(
    model: Model, batch: Batch, reason: Reason, root: Root = Path(), as_json: Json = False, debug: Debug = False
) -> None:
    """Exclude the labels of a batch from training, and from what counts as usual, until it is released."""
    again = f"`ror run {model} --action retrain --reason '...'` trains one without them."
    _do(overrides.quarantine, model, batch, reason, root, as_json, f"Versions stay as they are; {again}")


def release(
    model: Model, batch: Batch, reason: Reason, root: Root = Path(), as_json: Json = False, debug: Debug = False
) -> None:
    """Take back a quarantine, or the suspicion that a batch's labels are wrong."""
    _do(overrides.release, model, batch, reason, root, as_json, "The next version is trained on them, too.")


def snooze(
    model: Model,
    columns: Annotated[
        list[str],
        typer.Option(help="Features, `prediction` or the target: separated by commas, or repeat the option."),
    ],
    until: Annotated[
        str, typer.Option(help="Last day of data to which this applies, YYYY-MM-DD; `now` ends a snooze.")
    ],
    reason: Reason,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Expect drift of some columns for a while: it is shown as a warning and causes no retrain. It ends by itself."""
    end = f"`ror snooze {model} --columns ... --until {overrides.NOW} --reason '...'` ends it sooner."
    then = "Their drift counts again from the next batch on." if until == overrides.NOW else f"It ends by itself; {end}"
    _do(partial(overrides.snooze, until=until), model, columns, reason, root, as_json, then)


def _do(act: Callable[..., Event], model: str, what: Any, reason: str, root: Path, as_json: bool, then: str) -> None:
    """`what`: a batch, or the columns that are snoozed."""
    from flows.server.environment import actor

    workspace = open_workspace(root, model)
    event = act(workspace, what, reason=reason, actor=actor())
    if as_json:
        terminal.print_json(to_dict(status.history(workspace.ledger, [event])[0]))
        return
    terminal.out.print(Text(f"{model} · {wording.describe_event(event)}."))
    terminal.out.print(Text(f"  {then}"))
