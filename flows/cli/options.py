"""What the commands of `ror` share: their options, and how a model and a version are named."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks.core.errors import NotFound, SpecError
from tasks.core.versions.manifest import Manifest
from tasks.core.workspace import Workspace

Model = Annotated[str, typer.Argument(help="Name of the model: deployments/<model>.toml.")]
Root = Annotated[
    Path,
    typer.Option("--root", envvar="ROR_ROOT", help="Folder that holds deployments/, data/ and artifacts/."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Reason = Annotated[str, typer.Option(help="Why, for the history.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log and what every rule saw.")]


def open_workspace(root: Path, model: str) -> Workspace:
    """Raises SpecError for a model's file that is missing or wrong, before anything else happens."""
    workspace = Workspace.open(root, model)
    _ = workspace.spec
    return workspace


def version_number(version: str) -> int:
    """`v7` or `7`. Raises SpecError for anything else."""
    digits = version.removeprefix("v")
    if not digits.isdecimal() or int(digits) == 0:
        raise SpecError(version, ["not a version; write v7 or 7"])
    return int(digits)


def manifest_of(workspace: Workspace, version: str | None) -> Manifest:
    """The record of `v7`, or of the version in service. Raises SpecError naming the versions there are, NotFound where
    none is in service, CorruptObject or StoreError."""
    registry, model = workspace.registry, workspace.model
    if version is None:
        current = workspace.ledger.head().state.current
        if current is None:
            raise NotFound(f"No version of {model!r} is in service yet. `ror run {model}` trains one.")
        return registry.manifest(model, current.version, current.manifest)[0]
    number = version_number(version)
    try:
        return registry.manifest(model, number)[0]
    except NotFound:
        raise registry.unknown(model, number) from None
