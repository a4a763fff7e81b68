"""What the commands of `ror` share: their options, and how a model and a version are named."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks.core.errors import InvalidRequest, NotFound
from tasks.core.versions.manifest import Manifest
from tasks.core.workspace import Workspace

Model = Annotated[str, typer.Argument(help="Name of the model: deployments/<model>.toml.")]


ROOT = "ROR_ROOT"
ROOT_HELP = "Folder that holds deployments/, data/ and artifacts/."


def _root(ctx: typer.Context, value: Path) -> Path:
    """The command's own `--root`, else the one before the command, else the environment's, else the current folder."""
    source = ctx.get_parameter_source("root")
    if source is not None and source.name == "COMMANDLINE":
        return value
    before: Path = ctx.find_root().params["root"]
    return before


Root = Annotated[Path, typer.Option("--root", envvar=ROOT, help=ROOT_HELP, callback=_root)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Reason = Annotated[str, typer.Option(help="Why; recorded in the history.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log and the finding of every rule.")]


def open_workspace(root: Path, model: str) -> Workspace:
    """Raises InvalidRequest for a model without a file, SpecError for a file that is wrong, before anything else."""
    workspace = Workspace.open(root, model)
    _ = workspace.spec
    return workspace


def version_number(version: str, parameter: str = "version") -> int:
    """`v7` or `7`, given as this parameter. Raises InvalidRequest for anything else."""
    digits = version.removeprefix("v")
    if not digits.isdecimal() or int(digits) == 0:
        raise InvalidRequest(parameter, [f"invalid version {version!r}: use v7 or 7"])
    return int(digits)


def manifest_of(workspace: Workspace, version: str | None, parameter: str = "version") -> Manifest:
    """The record of `v7`, given as this parameter, or of the version in service. Raises InvalidRequest naming the
    versions there are, NotFound where none is in service, CorruptObject or StoreError."""
    registry, model = workspace.registry, workspace.model
    if version is None:
        current = workspace.state().current
        if current is None:
            raise NotFound(f"No version of {model!r} is in service yet. `ror run {model}` trains one.")
        return workspace.manifest_of(current)
    number = version_number(version, parameter)
    try:
        return registry.manifest(model, number)[0]
    except NotFound:
        raise registry.unknown(model, number, parameter) from None
