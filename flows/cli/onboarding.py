"""`ror init` and `ror add`: a first model's file, and data put where runs look for them."""

from __future__ import annotations

import getpass
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from flows.cli import terminal
from flows.cli.options import Debug, Json, Model, Root, open_workspace
from tasks.core.records import to_dict


def init(
    data: Annotated[Path, typer.Argument(help="A batch, Parquet or CSV, or a folder of batches.")],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    name: Annotated[str | None, typer.Option(help="Name of the model; by default that of the file.")] = None,
    separator: Annotated[str, typer.Option(help="Between the values of a CSV file.")] = ",",
    decimal: Annotated[str, typer.Option(help="The mark in the numbers of a CSV file.")] = ".",
    encoding: Annotated[str, typer.Option(help="Of a CSV file, such as latin-1.")] = "utf-8",
    root: Root = Path(),
    debug: Debug = False,
) -> None:
    """Write a model's file, read off its data: task, key, time, and what no pipeline could use. Look it through."""
    from pydantic import ValidationError

    from tasks.core.errors import SpecError
    from tasks.core.onboarding.intake import begin, model_name
    from tasks.core.spec import CsvSpec, problems_of

    try:
        written = CsvSpec(separator=separator.replace("\\t", "\t"), decimal=decimal, encoding=encoding)
    except ValidationError as error:
        raise SpecError("ror init", problems_of(error, ("data", "csv"))) from None
    model = name or model_name(data)
    path, proposal = begin(root.resolve(), data, target, model, owner=getpass.getuser(), written=written)
    rows = [
        ["task", f"{proposal.task}: {proposal.why}"],
        ["key", proposal.key or "none found: labels must come with the batches"],
        ["time", proposal.time or "none found"],
        *[["not used", f"{column}, {why}"] for column, why in proposal.unused],
    ]
    if proposal.codes:
        rows.append(["numbers or names?", f"{', '.join(proposal.codes)}: uncomment `categorical` for names"])
    terminal.out.print(Text(f"{path} is written, after {proposal.rows:,} rows.", style="bold"))
    terminal.show(terminal.table([model, ""], rows))
    where = "" if root == Path() else f" --root {shlex.quote(str(root))}"
    terminal.out.print(Text(f"Look it through, say who owns it and what for, then: ror run {model}{where}"))


def add(
    model: Model,
    files: Annotated[list[Path], typer.Argument(help="Batches, Parquet or CSV.")],
    labels: Annotated[bool, typer.Option("--labels", help="They are labels that arrive later.")] = False,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Copy batches, or labels, to where runs look for them. Nothing is overwritten; what breaks the input schema is
    refused, with exit code 3 and all that is wrong with it. Changed content is left for a run to judge."""
    from tasks.core.onboarding.intake import deliver

    workspace = open_workspace(root, model)
    done = []
    for file in files:
        done.append(deliver(workspace, file, labels=labels))
        if not as_json:
            one = done[-1]
            verb = "was there already" if one.was_there else "arrived"
            terminal.out.print(Text(f"{model}: {one.path} {verb}, {one.rows:,} rows."))
    if as_json:
        terminal.print_json([to_dict(one) for one in done])
