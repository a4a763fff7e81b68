"""`ror init` and `ror add`: a first model's file, and data put where runs look for them."""

from __future__ import annotations

import getpass
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from flows.cli import terminal
from flows.cli.options import Debug, Json, Model, Root, open_workspace
from tasks.core.records import to_dict

if TYPE_CHECKING:
    from tasks.core.onboarding.delivery import Delivered


class EveryChoice(StrEnum):
    """Values of `--every`."""

    day = "day"
    week = "week"
    month = "month"


def init(
    data: Annotated[Path, typer.Argument(help="A batch, Parquet or CSV, or a folder of batches.")],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    name: Annotated[str | None, typer.Option(help="Name of the model; default: the name of the file.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A label file, or a folder of them: the target arrives later, with a key.")
    ] = None,
    every: Annotated[
        EveryChoice | None, typer.Option(help="The data are one history: cut it into batches by its time column.")
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="Character between the values of a CSV file; default: as it looks.")
    ] = None,
    decimal: Annotated[
        str | None, typer.Option(help="Decimal mark of the numbers in a CSV file; default: as it looks.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of a CSV file, for example latin-1; default: as it looks.")
    ] = None,
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
        given = {"separator": separator and separator.replace("\\t", "\t"), "decimal": decimal, "encoding": encoding}
        written = CsvSpec.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = [str(item["loc"][0]) for item in error.errors() if item["loc"]]
        raise InvalidRequest(wrong or ("separator", "decimal"), problems_of(error, CsvSpec)) from None
    model = name or model_name(data)
    begun = begin(
        root.resolve(),
        data,
        target,
        model,
        owner=getpass.getuser(),
        written=written,
        labels=labels,
        every=every.value if every else None,
    )
    proposal = begun.proposal
    rows = [
        ["task", f"{proposal.task}: {proposal.why}"],
        ["key", ", ".join(proposal.key) or "none found: labels must come with the batches"],
        ["time", proposal.time or "none found"],
        *[[f"{about}?", why] for about, why in proposal.unsure],
        *[["not used", f"{column or repr(column)}, {why}"] for column, why in proposal.unused],
    ]
    rows += [["how it is read", text] for text in proposal.reading]
    rows += [["too good?", text] for text in proposal.doubts]
    if proposal.padded:
        rows.append(["names", f"{', '.join(proposal.padded)}: digits with zeros in front, so no numbers"])
    if proposal.codes:
        rows.append(["numbers or names?", f"{', '.join(proposal.codes)}: uncomment `categorical` for names"])
    terminal.out.print(Text(f"{begun.path} is written, after {proposal.rows:,} rows.", style="bold"))
    terminal.show(terminal.table([model, ""], rows))
    for note in begun.notes:
        terminal.out.print(Text(f"{note}."))
    where = "" if root == Path() else f" --root {shlex.quote(str(root))}"
    terminal.out.print(Text(f"Check it, fill in owner and purpose, then: ror run {model}{where}"))


def add(
    model: Model,
    file: Annotated[list[Path], typer.Argument(metavar="files", help="Batches, Parquet or CSV.")],
    labels: Annotated[
        bool, typer.Option("--labels", help="The files, or folders of files, are labels that arrive later.")
    ] = False,
    new_rows: Annotated[
        bool, typer.Option("--new-rows", help="Take what is new of a file that grows: rows that no batch has.")
    ] = False,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Copy batches, or labels, to where runs look for them. Nothing is overwritten; what breaks the input schema is
    refused, with exit code 3 and all that is wrong with it. Changed content is left for a run to judge."""
    from tasks.core.errors import InvalidRequest
    from tasks.core.onboarding.delivery import deliver, deliver_labels
    from tasks.core.onboarding.growth import deliver_new_rows

    if labels and new_rows:
        raise InvalidRequest(
            ("labels", "new_rows"), ["give one of them: of labels that come again, the later file counts"]
        )
    workspace = open_workspace(root, model)
    done = []
    for path in file:
        if labels:
            one_by_one = deliver_labels(workspace, path)
        else:
            one_by_one = [deliver_new_rows(workspace, path) if new_rows else deliver(workspace, path)]
        done += one_by_one
        if not as_json:
            for one in one_by_one:
                _say(model, path, one)
    if as_json:
        terminal.print_json([to_dict(one) for one in done])


def _say(model: str, file: Path, one: Delivered) -> None:
    known = f", {one.known:,} others were known already" if one.known else ""
    if one.path is None:
        terminal.out.print(Text(f"{model}: {file} has nothing new, all its {one.known:,} rows were known already."))
    else:
        verb = "was there already" if one.was_there else "arrived"
        terminal.out.print(Text(f"{model}: {one.path} {verb}, {one.rows:,} rows{known}."))
    for note in one.notes:
        terminal.out.print(Text(f"  {note}."))
