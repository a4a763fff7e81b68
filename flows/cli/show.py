"""`ror show` and `ror report`: the record of a version, what is wrong with data, the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from flows.cli import terminal
from flows.cli.options import Debug, Json, Model, Root, manifest_of, open_workspace
from tasks.core import text
from tasks.core.data.files import appearing
from tasks.core.errors import NotFound, SpecError
from tasks.core.ledger.ledger import pruned
from tasks.core.records import to_dict
from tasks.core.reports.status import REPORT
from tasks.core.versions.manifest import Manifest
from tasks.core.workspace import Workspace


def show(
    model: Model,
    version: Annotated[str | None, typer.Argument(help="v7 or 7; none: the version in service.")] = None,
    violations: Annotated[
        bool, typer.Option("--violations", help="Instead: write the offending cells of batches to a file, -o.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Parquet or CSV file of --violations; never overwritten.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="Violations of this batch; none: of all set aside or pending.")
    ] = None,
    requirements: Annotated[
        bool, typer.Option("--requirements", help="Instead: the packages it was made with, for `pip install -r`.")
    ] = False,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The record of a version: data, metrics, environment, files. Or with --violations what is wrong with data."""
    workspace = open_workspace(root, model)
    if requirements and (violations or output or batch):
        raise SpecError("--requirements", ["it goes alone, to the standard output: `... --requirements > FILE`"])
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
    gone = pruned(workspace.ledger, workspace.ledger.head().state, manifest.version)
    rows = [
        *([["removed", gone]] if gone else []),
        ["created", f"{terminal.when(manifest.created)} in {manifest.duration_seconds:.1f} s"],
        ["because", "; ".join(manifest.reasons)],
        ["parent", terminal.version(manifest.parent)],
        ["trained on", f"{manifest.rows:,} rows: " + ", ".join(f.batch for f in manifest.training)],
        ["pipeline", f"{manifest.factory} {manifest.parameters or ''}".strip()],
        *(
            [name, f"{metric.value:.4g} ({text.interval_text(metric)}) on {metric.rows:,} rows"]
            for name, metric in manifest.metrics.items()
        ),
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
        raise SpecError("--violations", ["it needs a file to write: -o violations.parquet, or .csv"])
    found = export(workspace, output.resolve(), batch)
    if as_json:
        terminal.print_json({**to_dict(found), "file": str(output) if found.rows else None})
        return
    for problem in found.problems:
        terminal.out.print(Text(problem))
    if found.rows:
        terminal.out.print(Text(f"{output}: {found.rows:,} offending cells of {terminal.span(list(found.batches))}."))
    elif found.batches:
        terminal.out.print(Text(f"No offending cells in {terminal.span(list(found.batches))}: nothing was written."))
    else:
        terminal.out.print(Text("No batch is set aside or pending: nothing was written. --batch looks at any other."))


def report(
    model: Model,
    entry: Annotated[int | None, typer.Argument(help="Its number in `ror history`; none: the newest decision.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Copy the page, and Evidently's beside it, to this folder.")
    ] = None,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Where the page of a decision is: the verdict in words, what moved, how far everything was from its alarm."""
    workspace = open_workspace(root, model)
    seq = _newest(workspace) if entry is None else entry
    store, prefix = workspace.registry.store, f"{model}/runs/{seq:08d}"
    paths = _paths(workspace, prefix)
    names = list(paths)
    if REPORT not in names:
        replaced = workspace.ledger.head().state.replaced
        pages = {name: f"{model}/runs/{name}/{REPORT}" for name in store.folders(f"{model}/runs")}
        folders = [name for name, page in pages.items() if page in replaced or store.exists(page)]
        known = ", ".join(str(int(name)) for name in folders[-8:]) or "none"
        raise SpecError(f"entry {seq}", [f"it has no page. The newest that have one: {known}"])
    if output is None and store.folder is not None:
        page = store.folder / paths[REPORT]
    else:
        page = (output or workspace.data / "reports" / f"{seq:08d}") / REPORT
        _copy(workspace, paths, page.parent)
    if as_json:
        terminal.print_json({"model": model, "entry": seq, "page": str(page), "files": names})
    else:
        terminal.out.print(f"{model}, entry {seq}: {page}", markup=False)


def _newest(workspace: Workspace) -> int:
    decided = workspace.ledger.head().state.decided
    if decided is None:
        raise NotFound(f"Nothing was decided about {workspace.model!r} yet. `ror run {workspace.model}` does.")
    return decided.seq


def _paths(workspace: Workspace, prefix: str) -> dict[str, str]:
    """Where each file of a run is in the store, by its name; without what was erased from it, where something was."""
    replaced = {
        path: new.path for path, new in workspace.ledger.head().state.replaced.items() if path.startswith(f"{prefix}/")
    }
    there = [item.path for item in workspace.registry.store.objects(prefix)]
    paths = {path: path for path in there if path not in replaced.values()} | replaced
    return {path.removeprefix(f"{prefix}/"): now for path, now in paths.items()}


def _copy(workspace: Workspace, paths: dict[str, str], folder: Path) -> None:
    """Raises SpecError when other files of these names are there: nothing is overwritten; and StoreError."""
    contents = {name: workspace.registry.store.read(path) for name, path in paths.items()}
    taken = [
        name for name, data in contents.items() if (folder / name).exists() and (folder / name).read_bytes() != data
    ]
    if taken:
        raise SpecError(
            str(folder), [f"{name} is there already and is another one; choose another folder" for name in taken]
        )
    for name, data in contents.items():
        if not (folder / name).exists():
            with appearing(folder / name) as temporary:
                temporary.write_bytes(data)
