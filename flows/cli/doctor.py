"""`ror doctor`: what is well with a deployment, and what to do about what is not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.text import Text

from flows.cli import terminal
from flows.cli.options import Debug, Json, Root
from flows.server.doctor import examine
from tasks.core.doctor.deployment import Diagnosis, Level
from tasks.core.records import to_dict

STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red", Level.SKIPPED: "dim"}


def doctor(root: Root = Path(), as_json: Json = False, debug: Debug = False) -> None:
    """Check libraries, store, keys, every model's file, data and history; Prefect's server, deployments and workers.

    One line each: ok, or what to do. Exit code 0 unless a line says fail (warnings are fine), 1 otherwise.
    """
    with terminal.spinner("Looking ..."):
        findings = examine(root.resolve(), dict(os.environ))
    failed = [finding for finding in findings if finding.level is Level.FAIL]
    if as_json:
        terminal.print_json({"ok": not failed, "findings": [to_dict(finding) for finding in findings]})
    else:
        _show(findings)
    raise typer.Exit(1 if failed else 0)


def _show(findings: Sequence[Diagnosis]) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        line = Text.assemble(
            (f"{finding.level.value:<8}", STYLES[finding.level]), f"{finding.name:<{width}}  ", finding.text.rstrip(".")
        )
        if finding.remedy:
            line.append(f". {finding.remedy}", style="bold")
        terminal.out.print(line)
    failed, warned = (sum(f.level is level for f in findings) for level in (Level.FAIL, Level.WARN))
    if failed:
        terminal.out.print(f"\n{failed} failed; warnings: {warned}.", style="red")
    else:
        terminal.out.print(
            f"\nAll is well{f'; warnings: {warned}' if warned else ''}.",
            style="green",
        )
