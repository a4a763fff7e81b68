"""`ror serve`, `deploy`, `notify`: tell Prefect of schedules, triggers and arrivals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from flows.cli import terminal
from flows.cli.options import Debug, Json, Model, Root, open_workspace
from tasks.core.records import to_dict

MovedFrom = Annotated[
    str | None,
    typer.Option(help="Where this root was until now, as the worker saw it: what works on that is moved."),
]


def serve(moved_from: MovedFrom = None, root: Root = Path(), debug: Debug = False) -> None:
    """Run the schedules of deployments/prefect.yaml and the runs that the UI starts, in this process, until Ctrl-C."""
    from flows.server.serve import serve_all

    serve_all(root.resolve(), moved_from=moved_from)


def deploy(
    model: Annotated[str | None, typer.Argument(help="Name of the model; default: all models.")] = None,
    worker_root: Annotated[
        str | None, typer.Option(help="The root as the worker sees it, if that is a different path, as in a container.")
    ] = None,
    moved_from: MovedFrom = None,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Tell the Prefect server the schedules, triggers, forms and alerts. Schedules and triggers only: models are put in
    service by `ror promote`. Doing it again changes nothing; do it after adding a model's file or changing one."""
    from flows.server.deploy import REFUSED, deploy_all, refuse

    with terminal.spinner("telling the server ..."):
        done = deploy_all(root.resolve(), model, worker_root=worker_root, moved_from=moved_from)
    if as_json:
        terminal.print_json([to_dict(item) for item in done])
    else:
        rows = [[item.kind, item.name, item.verdict, item.note] for item in done]
        terminal.show(terminal.table(["", "name", "is now", ""], rows))
    refuse({item.name: item.note for item in done if item.verdict == REFUSED})


def notify(
    model: Model,
    file: Annotated[Path, typer.Argument(help="The batch that arrived: a file or folder.")],
    root: Root = Path(),
    debug: Debug = False,
) -> None:
    """Tell the Prefect server that a batch arrived: the event `ror.batch.arrived`, which starts a run of the model."""
    from flows.server.notify import notify as emit

    workspace = open_workspace(root.resolve(), model)  # as deployments name it
    sha256, known = emit(workspace, file)
    if not known:
        pattern = workspace.spec.data.batches
        text = f"warning: {file} is not among the batches of {model} ({pattern}); a run will not look at it."
        terminal.err.print(Text(text, style="yellow"))
    terminal.out.print(Text(f"{model}: {file.name} arrived (sha256 {sha256[:12]}); the server was told."))
