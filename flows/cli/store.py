"""`ror store prune` and `erase`: removal, on record only. Nothing else removes anything."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from flows.cli import terminal
from flows.cli.options import Debug, Json, Model, Reason, Root, open_workspace, version_number
from tasks.core.errors import InvalidRequest, NotFound, RorError
from tasks.core.ledger.keys import SIGNING_KEY, TRUSTED_KEYS, new_pair
from tasks.core.ledger.signing import SignatureState, SignatureStatus, Trust
from tasks.core.records import to_dict
from tasks.core.text import counted
from tasks.core.workspace import Workspace

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be removed; write nothing.")]


def prune(
    model: Model,
    reason: Reason,
    keep: Annotated[
        int | None, typer.Option(min=0, help="Keep the payloads of this number of newest versions.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Keep those newer than this: 90d, 12w, 2y, or a date (YYYY-MM-DD, UTC).")
    ] = None,
    dry_run: DryRun = False,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove what old versions need to load: pipeline, reference, known answers, calibration. Records are kept.

    Never of the version in service, the one before it, or one that waits or is barred. Evidently's pages of runs go
    with it, once they are older than `keep` among [reports] in the model's file.
    """
    from flows.server.environment import actor
    from tasks.core.removal import prune as core_prune

    oldest = None if older_than is None else core_prune.oldest_kept(older_than)
    workspace = open_workspace(root, model)
    done = core_prune.prune(workspace, keep=keep, older_than=oldest, reason=reason, actor=actor(), dry_run=dry_run)
    if as_json:
        terminal.print_json(_pruned_json(model, done, dry_run))
        return
    payloads = [
        *((p, "") for p in done.versions),
        *((p, "remaining from an interrupted prune") for p in done.unfinished),
    ]
    if payloads:
        rows = [
            [
                terminal.version(payload.version),
                terminal.when(payload.created),
                f"{payload.size:,}",
                ", ".join(file.path.rsplit("/", 1)[-1] for file in payload.files) + (f" ({note})" if note else ""),
            ]
            for payload, note in payloads
        ]
        terminal.show(terminal.table(["version", "made (UTC)", "bytes", "files"], rows))
    for version, why in done.spared:
        terminal.out.print(Text(f"v{version} is kept: {why}."))
    what = f"payloads of {len(payloads)} version{'' if len(payloads) == 1 else 's'}, {done.size:,} bytes"
    if done.pages:
        pages = f"Evidently's pages of {counted(len(done.pages), 'run')}, older than {workspace.spec.reports.keep}"
        what = f"{pages}, and {what}"
    if not payloads and not done.pages:
        terminal.out.print(Text(f"{model}: nothing to prune."))
    elif dry_run:
        terminal.out.print(Text(f"{model}: {what} would be removed. Nothing was written."))
    else:
        entry = f"Entry {done.seq}" if done.seq else "An earlier entry"
        terminal.out.print(Text(f"{model}: {what} removed. {entry} of the history says who, and why."))


def erase(
    model: Model,
    key: Annotated[str, typer.Option(help="Value of the model's key column; it never appears in the history.")],
    reason: Reason,
    dry_run: DryRun = False,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Erase a person's rows: from batches, labels, predictions, exports, reports, and the samples versions keep.

    The history says who, when and why, and not whose rows. What cannot be erased is listed.
    """
    from flows.server.environment import actor
    from tasks.core.removal import erase as core_erase

    workspace = open_workspace(root, model)
    with terminal.spinner(f"{model}: searching ..."):
        done = core_erase.erase(workspace, key, reason=reason, actor=actor(), dry_run=dry_run)
    if as_json:
        terminal.print_json({"model": model, "dry_run": dry_run, **to_dict(done)})
        return
    if done.places:
        rows = [[p.what, f"{p.count:,}", p.path + (f" ({p.note})" if p.note else "")] for p in done.places]
        terminal.show(terminal.table(["found in", "rows", "where"], rows))
    would = "would be removed" if dry_run else "removed"
    for path in done.removed:
        terminal.out.print(Text(f"{path}: {would} whole."))
    for title, lines in (("Cannot be erased", done.stays), ("Could not be searched", done.unknown)):
        for line in lines:
            terminal.out.print(Text(f"{title}: {line}."))
    if done.learned:
        names = ", ".join(f"v{version}" for version in done.learned)
        terminal.out.print(
            Text(
                f"{names} learned from batches with these rows; a pipeline may remember them. To remove that: "
                f"`ror run {model} --action retrain --reason '...'`, and `ror store prune` once it has left service."
            )
        )
    if dry_run:
        said = "Nothing was written."
    elif done.seq:
        said = f"Erased. Entry {done.seq} of the history says who, and why."
    else:
        said = "Nothing new to erase; an earlier erasure that had been interrupted was completed."
    terminal.out.print(Text(f"{model}: {said}"))


def _pruned_json(model: str, done: Any, dry_run: bool) -> dict[str, Any]:
    def shown(payloads: Any) -> list[dict[str, Any]]:
        return [
            {"version": p.version, "created": p.created, "bytes": p.size, "files": [file.path for file in p.files]}
            for p in payloads
        ]

    return {
        "model": model,
        "dry_run": dry_run,
        "seq": done.seq,
        "versions": shown(done.versions),
        "unfinished": shown(done.unfinished),
        "pages": [
            {"seq": p.seq, "at": p.at, "bytes": p.size, "files": [file.path for file in p.files]} for p in done.pages
        ],
        "kept": [{"version": version, "because": why} for version, why in done.spared],
        "bytes": done.size,
    }


NEWEST = 10
"""Entries of the history that are shown."""


def keys(
    model: Annotated[
        str | None, typer.Argument(help="Also show which of its versions and newest entries are signed.")
    ] = None,
    new: Annotated[
        Path | None, typer.Option("--new", help="Instead: make a pair of keys in this folder; nothing is overwritten.")
    ] = None,
    sign: Annotated[
        list[str] | None,
        typer.Option(
            "--sign", help="Sign this version, made before there was a key: v7, repeatable; `all` signs every version."
        ),
    ] = None,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Keys: which key this machine signs with, which it trusts, and what of a model is signed. --new makes a pair."""
    if new is not None:
        if model or sign:
            raise InvalidRequest("new", ["use it alone: it makes a pair of keys and does nothing else"])
        _new(new, as_json)
        return
    if sign and not model:
        raise InvalidRequest("model", ["name the model whose versions to sign: `ror store keys MODEL --sign v7`"])
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
        ["signs with", trust.signing or f"nothing: {SIGNING_KEY} is not set"],
        ["trusts", ", ".join(trust.keys) or f"no specific key: {TRUSTED_KEYS} is not set"],
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
    name, private, public = new_pair(folder)
    if as_json:
        terminal.print_json({"key": name, "private": str(private), "public": str(public)})
        return
    terminal.out.print(f"Key {name} is made.", markup=False)
    terminal.out.print("\nOnly where versions are made and put in service (keep a copy of this file in a safe):")
    terminal.out.print(f"  export {SIGNING_KEY}={shlex.quote(str(private.resolve()))}", markup=False)
    terminal.out.print("\nWherever they are loaded, there too (copy this file, or a folder of such files; no secret):")
    terminal.out.print(f"  export {TRUSTED_KEYS}={shlex.quote(str(public.resolve()))}", markup=False)


def _to_sign(workspace: Workspace, versions: Sequence[str]) -> list[int]:
    return (
        workspace.registry.versions(workspace.model)
        if "all" in versions
        else [version_number(v, "sign") for v in versions]
    )


def _sign(workspace: Workspace, version: int) -> None:
    """A version with a good signature is left as it is, so that the command can be repeated."""
    try:
        if workspace.registry.signature_status(workspace.model, version).state is SignatureState.SIGNED:
            return
        workspace.registry.sign(workspace.model, version)
    except NotFound:
        raise workspace.registry.unknown(workspace.model, version, "sign") from None


def _signed(workspace: Workspace) -> dict[str, Any]:
    """The status of every version and of the newest entries; nothing is refused for it here."""
    registry, ledger, model = workspace.registry, workspace.ledger, workspace.model
    newest = ledger.last()
    shown: Iterable[int] = range(newest, max(0, newest - NEWEST), -1)
    return {
        "model": model,
        "versions": [
            {"version": number, **_plain(registry.signature_status(model, number))}
            for number in registry.versions(model)
        ],
        "events": [_entry(workspace, seq) for seq in shown],
        "refused": _refusal(workspace),
    }


def _entry(workspace: Workspace, seq: int) -> dict[str, Any]:
    event, status = workspace.ledger.signature_status(seq)
    return {"seq": seq, "event": event.event, **_plain(status)}


def _refusal(workspace: Workspace) -> str | None:
    """Why the history may not be used here; None when it may."""
    try:
        workspace.ledger.head()
    except RorError as error:
        return str(error)
    return None


def _plain(status: SignatureStatus) -> dict[str, Any]:
    return {"signature": status.state.value, "key": status.key}


def _words(item: dict[str, Any]) -> str:
    match item["signature"]:
        case SignatureState.SIGNED:
            return f"signed by {item['key']}"
        case SignatureState.UNKNOWN_KEY:
            return f"signed by {item['key']}, which is not trusted here"
        case SignatureState.WRONG:
            return "WRONG signature"
    return "not signed"
