"""`ror store prune` and `erase`: removal, on record only. Nothing else removes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from flows import terminal
from flows.options import Debug, Json, Model, Root, open_workspace

Reason = Annotated[str, typer.Option(help="Why, for the history.")]
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
