"""`ror store keys`: what is signed here, whose signatures count, and a new pair of keys."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from flows import terminal
from flows.options import Debug, Json, Root, open_workspace, version_number
from tasks.core import signing
from tasks.core.errors import NotFound, RorError, SpecError
from tasks.core.signing import Mark, Standing, Trust
from tasks.core.workspace import Workspace

NEWEST = 10
"""Entries of the history that are shown."""


def keys(
    model: Annotated[
        str | None, typer.Argument(help="Also which of its versions and newest entries are signed.")
    ] = None,
    new: Annotated[
        Path | None, typer.Option("--new", help="Instead: make a pair of keys in this folder; nothing is overwritten.")
    ] = None,
    sign: Annotated[
        list[str] | None,
        typer.Option("--sign", help="Sign this version, made before there was a key: v7, repeatable; all: every one."),
    ] = None,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Keys: what this machine signs with, whom it trusts, and what of a model is signed. Or make a pair with --new."""
    if new is not None:
        if model or sign:
            raise SpecError("--new", ["it makes a pair of keys and does nothing else; call it by itself"])
        _new(new, as_json)
        return
    if sign and not model:
        raise SpecError("--sign", ["of which model? `ror store keys MODEL --sign v7`"])
    workspace = open_workspace(root, model) if model else None
    if sign and workspace:
        for version in _to_sign(workspace, sign):
            _sign(workspace, version)
    trust = workspace.registry.trust if workspace else Trust.from_environment()
    answer: dict[str, Any] = {
        "signing": trust.signing,
        "trusted": list(trust.keys),
        "required": trust.required,
        **(_signed(workspace) if workspace else {}),
    }
    if as_json:
        terminal.print_json(answer)
        return
    rows = [
        ["signs with", trust.signing or f"nothing: {signing.SIGNING_KEY} is not set"],
        ["trusts", ", ".join(trust.keys) or f"nobody in particular: {signing.TRUSTED_KEYS} is not set"],
        ["what is not signed", _unsigned(trust)],
    ]
    terminal.show(terminal.table(["signatures", ""], rows))
    if workspace:
        rows = [[f"v{item['version']}", _words(item)] for item in answer["versions"]]
        rows += [[f"entry {item['seq']}, {item['event']}", _words(item)] for item in answer["events"]]
        terminal.show(terminal.table([workspace.model, ""], rows))
        if answer["refused"]:
            terminal.out.print(Text(f"The history is refused here: {answer['refused']}", style="red"))


def _unsigned(trust: Trust) -> str:
    if trust.required:
        return "is refused"
    return "is accepted; a wrong signature is refused" if trust.keys else "is accepted, and no signature is checked"


def _new(folder: Path, as_json: bool) -> None:
    name, private, public = signing.new_pair(folder)
    if as_json:
        terminal.print_json({"key": name, "private": str(private), "public": str(public)})
        return
    terminal.out.print(f"Key {name} is made.", markup=False)
    terminal.out.print("\nOnly where versions are made and put in service (keep a copy of this file in a safe):")
    terminal.out.print(f"  export {signing.SIGNING_KEY}={shlex.quote(str(private.resolve()))}", markup=False)
    terminal.out.print("\nWherever they are loaded, there too (copy this file, or a folder of such files; no secret):")
    terminal.out.print(f"  export {signing.TRUSTED_KEYS}={shlex.quote(str(public.resolve()))}", markup=False)


def _to_sign(workspace: Workspace, versions: Sequence[str]) -> list[int]:
    return workspace.registry.versions(workspace.model) if "all" in versions else [version_number(v) for v in versions]


def _sign(workspace: Workspace, version: int) -> None:
    """A version with a good signature is left as it is, so that the command can be repeated."""
    try:
        if workspace.registry.standing(workspace.model, version).mark is Mark.SIGNED:
            return
        workspace.registry.sign(workspace.model, version)
    except NotFound:
        raise workspace.registry.unknown(workspace.model, version) from None


def _signed(workspace: Workspace) -> dict[str, Any]:
    """The standing of every version and of the newest entries; nothing is refused for it here."""
    registry, ledger, model = workspace.registry, workspace.ledger, workspace.model
    newest = ledger.last()
    shown: Iterable[int] = range(newest, max(0, newest - NEWEST), -1)
    return {
        "model": model,
        "versions": [
            {"version": number, **_plain(registry.standing(model, number))} for number in registry.versions(model)
        ],
        "events": [_entry(workspace, seq) for seq in shown],
        "refused": _refusal(workspace),
    }


def _entry(workspace: Workspace, seq: int) -> dict[str, Any]:
    event, standing = workspace.ledger.standing(seq)
    return {"seq": seq, "event": event.event, **_plain(standing)}


def _refusal(workspace: Workspace) -> str | None:
    """Why the history may not be used here; None when it may."""
    try:
        workspace.ledger.head()
    except RorError as error:
        return str(error)
    return None


def _plain(standing: Standing) -> dict[str, Any]:
    return {"signature": standing.mark.value, "key": standing.key}


def _words(item: dict[str, Any]) -> str:
    match item["signature"]:
        case Mark.SIGNED:
            return f"signed by {item['key']}"
        case Mark.UNKNOWN_KEY:
            return f"signed by {item['key']}, which is not trusted here"
        case Mark.WRONG:
            return "WRONG signature"
    return "not signed"
