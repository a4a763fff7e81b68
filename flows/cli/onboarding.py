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
    name: Annotated[str | None, typer.Option(help="Name of the model; default: the name of the file.")] = None,
    separator: Annotated[str, typer.Option(help="Character between the values of a CSV file.")] = ",",
    decimal: Annotated[str, typer.Option(help="Decimal mark of the numbers in a CSV file.")] = ".",
    encoding: Annotated[str, typer.Option(help="Encoding of a CSV file, for example latin-1.")] = "utf-8",
    root: Root = Path(),
    debug: Debug = False,
) -> None:
    """Write a model's file from its data: task, key, time, and columns that no pipeline can use. Check the result."""
    from pydantic import ValidationError

    from tasks.core.errors import InvalidRequest
    from tasks.core.onboarding.intake import begin, model_name
    from tasks.core.spec import CsvSpec
    from tasks.core.spec_problems import problems_of

    try:
        written = CsvSpec(separator=separator.replace("\\t", "\t"), decimal=decimal, encoding=encoding)
    except ValidationError as error:
        wrong = [str(item["loc"][0]) for item in error.errors() if item["loc"]]
        raise InvalidRequest(wrong or ("separator", "decimal"), problems_of(error, CsvSpec)) from None
    model = name or model_name(data)
    path, proposal = begin(root.resolve(), data, target, model, owner=getpass.getuser(), written=written)
    rows = [
        ["task", f"{proposal.task}: {proposal.why}"],
        ["key", ", ".join(proposal.key) or "none found: labels must come with the batches"],
        ["time", proposal.time or "none found"],
        *[["not used", f"{column}, {why}"] for column, why in proposal.unused],
    ]
    rows += [["too good?", text] for text in proposal.doubts]
    if proposal.codes:
        rows.append(["numbers or names?", f"{', '.join(proposal.codes)}: uncomment `categorical` for names"])
    terminal.out.print(Text(f"{path} is written, after {proposal.rows:,} rows.", style="bold"))
    terminal.show(terminal.table([model, ""], rows))
    where = "" if root == Path() else f" --root {shlex.quote(str(root))}"
    terminal.out.print(Text(f"Check it, fill in owner and purpose, then: ror run {model}{where}"))


def add(
    model: Model,
    file: Annotated[list[Path], typer.Argument(metavar="files", help="Batches, Parquet or CSV.")],
    labels: Annotated[bool, typer.Option("--labels", help="The files are labels that arrive later.")] = False,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Copy batches, or labels, to where runs look for them. Nothing is overwritten; what breaks the input schema is
    refused, with exit code 3 and all that is wrong with it. Changed content is left for a run to judge."""
    from tasks.core.onboarding.intake import deliver

    workspace = open_workspace(root, model)
    done = []
    for path in file:
        done.append(deliver(workspace, path, labels=labels))
        if not as_json:
            one = done[-1]
            verb = "was there already" if one.was_there else "arrived"
            terminal.out.print(Text(f"{model}: {one.path} {verb}, {one.rows:,} rows."))
    if as_json:
        terminal.print_json([to_dict(one) for one in done])
