"""`ror show` and `ror report`: the record of a version, what is wrong with data, the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from flows.cli import terminal
from flows.cli.options import Debug, Json, Model, Root, manifest_of, open_workspace
from tasks.core import layout, text
from tasks.core.data.files import atomic_write
from tasks.core.errors import InvalidRequest, NotFound
from tasks.core.ledger.ledger import pruned
from tasks.core.records import to_dict
from tasks.core.reports import wording
from tasks.core.versions.manifest import Manifest
from tasks.core.workspace import Workspace


def show(
    model: Model,
    version: Annotated[str | None, typer.Argument(help="v7 or 7; default: the version in service.")] = None,
    violations: Annotated[
        bool,
        typer.Option("--violations", help="Instead: write the offending cells of batches to the file given by -o."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Parquet or CSV file of --violations; never overwritten.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="Violations of this batch; default: of all that are set aside or pending.")
    ] = None,
    requirements: Annotated[
        bool, typer.Option("--requirements", help="Instead: print the packages it was made with, for `pip install -r`.")
    ] = False,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The record of a version: data, metrics, environment, files. With --violations: what is wrong with data."""
    workspace = open_workspace(root, model)
    if requirements and (violations or output or batch):
        raise InvalidRequest(
            "requirements", ["use it alone; it writes to the standard output: `... --requirements > FILE`"]
        )
    if violations or output or batch:
        _violations(workspace, output, batch, as_json)
        return
    manifest = manifest_of(workspace, version)
    if requirements:
        _requirements(manifest, as_json)
        return
    if as_json:
        terminal.print_json(to_dict(manifest))
        return
    gone = pruned(workspace.ledger, workspace.state(), manifest.version)
    rows = [
        *([["removed", gone]] if gone else []),
        ["created", f"{terminal.when(manifest.created)} in {manifest.duration_seconds:.1f} s"],
        ["because", "; ".join(manifest.reasons)],
        ["parent", terminal.version(manifest.parent)],
        ["trained on", f"{manifest.rows:,} rows: " + ", ".join(f.batch for f in manifest.training)],
        *([["gone by then", ", ".join(manifest.missing)]] if manifest.missing else []),
        ["pipeline", f"{manifest.factory} {manifest.parameters or ''}".strip()],
        *([["default pipeline", wording.chosen(manifest.choice)]] if manifest.choice else []),
        *([name, text.metric_text(metric)] for name, metric in manifest.metrics.items()),
        ["gate", f"{manifest.gate.verdict.value}: {manifest.gate.reason}"],
        ["Python", str(manifest.environment["python"])],
        ["distributions", ", ".join(f"{n} {v}" for n, v in manifest.environment["distributions"].items())],
        *([name, f"{record.size:,} bytes, sha256 {record.sha256}"] for name, record in manifest.files.items()),
    ]
    terminal.show(terminal.table([f"{model} v{manifest.version}", ""], rows))


def _requirements(manifest: Manifest, as_json: bool) -> None:
    from tasks.core.versions import requirements

    found = requirements.requirements(manifest)
    if as_json:
        terminal.print_json(to_dict(found))
    else:
        print(found.text, end="")  # a file for pip: never wrapped


def _violations(workspace: Workspace, output: Path | None, batch: str | None, as_json: bool) -> None:
    from tasks.core.reports.violations import export

    if output is None:
        raise InvalidRequest("output", ["name the file to write: violations.parquet, or .csv"])
    found = export(workspace, output.resolve(), batch)
    if as_json:
        terminal.print_json({**to_dict(found), "file": str(output) if found.rows else None})
        return
    for problem in found.problems:
        terminal.out.print(Text(problem))
    if found.rows:
        terminal.out.print(Text(f"{output}: {found.rows:,} offending cells of {text.span(found.batches)}."))
    elif found.batches:
        terminal.out.print(Text(f"No offending cells in {text.span(found.batches)}: nothing was written."))
    else:
        terminal.out.print(
            Text("No batch is set aside or pending: nothing was written. --batch examines any other batch.")
        )


def report(
    model: Model,
    entry: Annotated[
        int | None, typer.Argument(help="Its number in `ror history`; default: the newest decision.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Copy the page, and Evidently's pages, to this folder.")
    ] = None,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Where the page of a decision is: the verdict in words, what moved, how far everything was from its alarm."""
    workspace = open_workspace(root, model)
    seq = _newest(workspace) if entry is None else entry
    store, prefix = workspace.registry.store, layout.run_folder(model, seq)
    paths = _paths(workspace, prefix)
    names = list(paths)
    if layout.REPORT not in names:
        replaced = workspace.state().replaced
        runs = layout.numbers(store.folders(layout.folder(model, layout.RUNS)))
        pages = {run: layout.run_path(model, run, layout.REPORT) for run in runs}
        shown = [run for run, page in pages.items() if page in replaced or store.exists(page)]
        known = ", ".join(map(str, shown[-8:])) or "none"
        raise InvalidRequest("entry", [f"{seq} has no page. The newest entries that have one: {known}"])
    if output is None and store.folder is not None:
        page = store.folder / paths[layout.REPORT]
    else:
        page = (output or workspace.data / "reports" / f"{seq:08d}") / layout.REPORT
        _copy(workspace, paths, page.parent)
    if as_json:
        terminal.print_json({"model": model, "entry": seq, "page": str(page), "files": names})
    else:
        terminal.out.print(f"{model}, entry {seq}: {page}", markup=False)


def _newest(workspace: Workspace) -> int:
    decided = workspace.state().decided
    if decided is None:
        raise NotFound(f"Nothing was decided about {workspace.model!r} yet. `ror run {workspace.model}` does.")
    return decided.seq


def _paths(workspace: Workspace, prefix: str) -> dict[str, str]:
    """Where each file of a run is in the store, by its name; without what was erased from it, where something was."""
    replaced = {path: new.path for path, new in workspace.state().replaced.items() if path.startswith(f"{prefix}/")}
    there = [item.path for item in workspace.registry.store.objects(prefix)]
    paths = {path: path for path in there if path not in replaced.values()} | replaced
    return {path.removeprefix(f"{prefix}/"): now for path, now in paths.items()}


def _copy(workspace: Workspace, paths: dict[str, str], folder: Path) -> None:
    """Raises InvalidRequest when other files of these names are there: nothing is overwritten; and StoreError."""
    contents = {name: workspace.registry.store.read(path) for name, path in paths.items()}
    taken = [
        name for name, data in contents.items() if (folder / name).exists() and (folder / name).read_bytes() != data
    ]
    if taken:
        raise InvalidRequest(
            "output",
            [f"{folder / name} exists already, with other content; choose another folder" for name in taken],
        )
    for name, data in contents.items():
        if not (folder / name).exists():
            with atomic_write(folder / name) as temporary:
                temporary.write_bytes(data)
