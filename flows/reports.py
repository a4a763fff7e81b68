"""`ror report`: the page of a run, for a person to open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import terminal
from flows.options import Debug, Json, Model, Root, open_workspace
from tasks.core.errors import NotFound, SpecError
from tasks.core.files import appearing
from tasks.core.views import REPORT
from tasks.core.workspace import Workspace


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
    names = [item.path.removeprefix(f"{prefix}/") for item in store.objects(prefix)]
    if REPORT not in names:
        folders = [name for name in store.folders(f"{model}/runs") if store.exists(f"{model}/runs/{name}/{REPORT}")]
        known = ", ".join(str(int(name)) for name in folders[-8:]) or "none"
        raise SpecError(f"entry {seq}", [f"it has no page. The newest that have one: {known}"])
    if output is None and store.folder is not None:
        page = store.folder / prefix / REPORT
    else:
        page = (output or workspace.data / "reports" / f"{seq:08d}") / REPORT
        _copy(workspace, prefix, names, page.parent)
    if as_json:
        terminal.print_json({"model": model, "entry": seq, "page": str(page), "files": names})
    else:
        terminal.out.print(f"{model}, entry {seq}: {page}", markup=False)


def _newest(workspace: Workspace) -> int:
    decided = workspace.ledger.head().state.decided
    if decided is None:
        raise NotFound(f"Nothing was decided about {workspace.model!r} yet. `ror run {workspace.model}` does.")
    return decided.seq


def _copy(workspace: Workspace, prefix: str, names: list[str], folder: Path) -> None:
    """Raises SpecError when other files of these names are there: nothing is overwritten; and StoreError."""
    contents = {name: workspace.registry.store.read(f"{prefix}/{name}") for name in names}
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
