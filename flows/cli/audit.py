"""`ror verify` and `ror reproduce`: is all of it still what was recorded, and does the record make the same model?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from flows.cli import terminal
from flows.cli.options import Debug, Json, Model, Root, open_workspace, version_number
from tasks.core.errors import SpecError, VerificationError
from tasks.core.records import to_dict


def verify(
    model: Annotated[str | None, typer.Argument(help="Name of the model; none: all of them.")] = None,
    load: Annotated[
        bool, typer.Option("--load", help="Also load every version here, as before an upgrade: which do, which do not.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Move the newest entry of the history aside when a power cut tore it."),
    ] = False,
    expect_head: Annotated[
        str | None,
        typer.Option(help="NUMBER:SHA256 as an earlier verify ended with: the history must still hold that entry."),
    ] = None,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check every object in the store, and the history, against what was recorded. Exit code 4: something is damaged.

    Nothing is changed, but for --repair. Notes (abandoned numbers, leftovers, removals on record) are harmless.
    """
    from tasks.core.audit import entries
    from tasks.core.audit import verify as core_verify

    expected = core_verify.expectation(expect_head) if expect_head else None
    workspaces = core_verify.workspaces(root, model)
    if (repair or expected) and model is None:
        raise SpecError("verify", ["name the model: --repair and --expect-head are about one history"])
    reports, repaired = [], None
    for workspace in workspaces:
        with terminal.working(f"{workspace.model}: checking ..."):
            registry = core_verify.registry_of(workspace, load=load)
            if repair:
                repaired = entries.repair(registry.store, workspace.model)
            reports.append(core_verify.audit(registry, workspace.model, expected=expected, load=load))
    if as_json:
        answers = [{**to_dict(report), "ok": report.ok} for report in reports]
        done = {"repaired": to_dict(repaired) if repaired else None} if repair else {}
        terminal.print_json(answers if model is None else {**answers[0], **done})
    else:
        if repair:
            text = f"{repaired.path} {repaired.text}." if repaired else "The newest entry is whole: nothing to repair."
            terminal.out.print(Text(text))
        for report in reports:
            _show(report)
    if not all(report.ok for report in reports):
        raise typer.Exit(VerificationError.exit_code)


def _show(report: Any) -> None:
    from tasks.core.audit.report import signed, verdict

    if report.loads is not None:
        rows = [[f"v{item.version}", "yes" if item.loads else "no", item.why_not] for item in report.loads]
        terminal.show(terminal.table(["version", "loads here", "why not"], rows))
    if remarks := [["damage" if item.damage else "note", item.path, item.text] for item in report.remarks]:
        terminal.show(terminal.table(["", "object", "what"], remarks))
    terminal.out.print(Text(verdict(report), style="green" if report.ok else "red"))
    if report.signed:
        terminal.out.print(Text(f"  {signed(report)}"))
    if report.head:
        terminal.out.print(Text(f"  Newest entry of the history: {report.head}"))


def reproduce(
    model: Model,
    version: Annotated[str, typer.Argument(help="v7 or 7.")],
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Retrain a version from its record and compare predictions; a receipt is written to data/<model>/receipts.

    Exit code 0: identical, or within 1e-9. 4: different, or its training data are not what they were.
    """
    number = version_number(version)
    workspace = open_workspace(root, model)
    from tasks.core.audit import reproduce as core_reproduce

    with terminal.working(f"{model}: training v{number} again ..."):
        receipt, path = core_reproduce.reproduce(workspace, number)
    if as_json:
        terminal.print_json({**to_dict(receipt), "file": str(path)})
    else:
        terminal.out.print(Text(receipt.message, style="green" if receipt.same else "red"))
        for line in core_reproduce.details(receipt):
            terminal.out.print(Text(f"  {line}"))
        terminal.out.print(Text(f"  Receipt: {path}"))
    if not receipt.same:
        raise typer.Exit(VerificationError.exit_code)
