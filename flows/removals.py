"""`ror store prune` and `erase`: removal, on record only. Nothing else removes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from flows import terminal
from flows.options import Debug, Json, Model, Reason, Root, open_workspace
from tasks.core.records import to_dict

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and write nothing.")]


def prune(
    model: Model,
    reason: Reason,
    keep: Annotated[int | None, typer.Option(min=0, help="Keep the payloads of this many newest versions.")] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Or of those younger than 90d, 12w, 2y, or made from a day on: 2026-01-31 (UTC).")
    ] = None,
    dry_run: DryRun = False,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove what old versions need to load: pipeline, reference, known answers, calibration. Records are kept.

    Never of the version in service, the one before it, or one that waits or is barred.
    """
    from flows.launch import actor
    from tasks.core import removal

    before = None if older_than is None else removal.oldest_kept(older_than)
    workspace = open_workspace(root, model)
    done = removal.prune(workspace, keep=keep, before=before, reason=reason, actor=actor(), dry_run=dry_run)
    if as_json:
        terminal.print_json(_pruned_json(model, done, dry_run))
        return
    payloads = [*((p, "") for p in done.versions), *((p, "left over by an earlier prune") for p in done.unfinished)]
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
    if not payloads:
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
    from flows.launch import actor
    from tasks.core import erasure

    workspace = open_workspace(root, model)
    with terminal.working(f"{model}: searching ..."):
        done = erasure.erase(workspace, key, reason=reason, actor=actor(), dry_run=dry_run)
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
                f"{names} learned from batches with these rows; a pipeline may remember them. To be rid of that: "
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
        "kept": [{"version": version, "because": why} for version, why in done.spared],
        "bytes": done.size,
    }
