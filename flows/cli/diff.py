"""`ror diff`: what differs between two versions, as it looks on a terminal and in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from flows.cli import terminal
from flows.cli.options import Debug, Json, Model, Root, manifest_of, open_workspace
from tasks.core.records import to_dict
from tasks.core.text import metric_text, named, second
from tasks.core.types import Gate, Metric

if TYPE_CHECKING:
    from tasks.core.audit import diff_types

SHOWN = 8
"""Names that are listed in one line, and columns whose importance is shown; --json has all of them."""

LINES = 40
"""Of a module's difference; --json has all of them."""
MADE = {"duration_seconds": "seconds it took", "peak_memory_mb": "peak memory, MB"}

Rows = list[list[str]]


def diff(
    model: Model,
    a: Annotated[str, typer.Argument(metavar="VA", help="v2 or 2.")],
    b: Annotated[str | None, typer.Argument(metavar="VB", help="v7 or 7; default: the version in service.")] = None,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """What differs between two versions: data, input schema, specification, environment, importance, metrics, files."""
    from tasks.core.audit import diff as core_diff

    workspace = open_workspace(root, model)
    manifests = (manifest_of(workspace, a, "a"), manifest_of(workspace, b, "b"))
    first, second = (core_diff.recorded(workspace.registry, manifest) for manifest in manifests)
    found = core_diff.differences(first, second, workspace.spec.data.private)
    if as_json:
        terminal.print_json(to_dict(found))
        return
    sections: dict[str, Rows | str] = {
        "made": _made(found),
        "data": _data(found.data),
        "input schema": _schema(found.schema) if found.schema else "its file is no longer in the store",
        "specification": _changes(found.specification),
        "environment": _changes(found.environment),
        "own code": "its text is no longer in the store" if found.code is None else _code(found.code),
        "importance": "its files are no longer in the store" if found.importance is None else _importance(found),
        "metrics": _metrics(found),
        "files": _files(found.files),
    }
    terminal.out.print(Text(f"{model}: from v{found.a} to v{found.b}", style="bold"))
    for name, rows in sections.items():
        if rows and not isinstance(rows, str):
            terminal.show(terminal.table([name, f"v{found.a} → v{found.b}"], rows))
        if name == "own code":
            _print_lines(found.code or ())
    for name, rows in sections.items():
        if isinstance(rows, str):
            terminal.out.print(Text(f"Not known: {name}: {rows}."))
    if same := [name for name, rows in sections.items() if not rows]:
        terminal.out.print(Text(f"Identical: {', '.join(same)}."))


def _changes(changes: Sequence[diff_types.Change]) -> Rows:
    return [[change.name, f"{_value(change.a)} → {_value(change.b)}"] for change in changes]


def _made(found: diff_types.Differences) -> Rows:
    rows = []
    for change in found.made:
        match change.name:
            case "reasons":
                pairs = ((found.a, change.a), (found.b, change.b))
                rows += [[f"v{version} because", "; ".join(reasons)] for version, reasons in pairs]
            case "created":
                rows.append(["created", f"{second(change.a)} → {second(change.b)} UTC"])
            case "parent":
                rows.append(["parent", f"{terminal.version(change.a)} → {terminal.version(change.b)}"])
            case name:
                rows.append([MADE.get(name, name), f"{_value(change.a)} → {_value(change.b)}"])
    return rows


def _data(data: diff_types.DataDifference) -> Rows:
    if data.identical:
        return []
    rows = [["rows", f"{data.rows[0]:,} → {data.rows[1]:,} ({data.rows[1] - data.rows[0]:+,})"]]
    for name, batches in (("batches added", data.added), ("batches removed", data.removed)):
        if batches:
            names = named([item.batch for item in batches], SHOWN)
            rows.append([name, f"{names}: {sum(item.rows for item in batches):,} rows"])
    rows += [[f"{item.batch} changed", _batch(item)] for item in data.changed]
    if data.same:
        rows.append(["unchanged batches", str(data.same)])
    return [*rows, ["sha256", " → ".join(digest[:12] for digest in data.digests)]]


def _batch(item: diff_types.ChangedBatch) -> str:
    parts = []
    for change in item.changes:
        match change.name:
            case "sha256":
                parts.append(f"another file ({_value(change.a)} → {_value(change.b)})")
            case "labels":
                parts.append(f"other labels ({_value(change.a)} → {_value(change.b)})")
            case "rows":
                parts.append(f"rows {change.a:,} → {change.b:,}")
            case _:
                parts.append("rows kept for the gate" if change.b else "rows no longer kept for the gate")
    return "; ".join(parts)


def _schema(schema: diff_types.SchemaDifference) -> Rows:
    rows = [["column added", _column(column)] for column in schema.added]
    rows += [["column removed", _column(column)] for column in schema.removed]
    small = []
    for column in schema.changed:
        if text := _column_changes(column):
            rows.append([column.name, text])
        else:
            small.append(column.name)
    if small:
        rows.append(["hardly changed", named(small, SHOWN)])
    for name, names in (("now ignored", schema.now_ignored), ("not ignored now", schema.no_longer_ignored)):
        if names:
            rows.append([name, named(names, SHOWN)])
    if rows and schema.same:
        rows.append(["unchanged columns", str(schema.same)])
    return rows


def _column(column: diff_types.ColumnSummary) -> str:
    return f"{column.name}: {column.kind} ({column.type}), {column.null_rate:.1%} missing"


def _column_changes(column: diff_types.ColumnDifference) -> str:
    """Empty for what rounding hides."""
    changes, parts = {change.name: change for change in column.changes}, []
    fields = {"low": ("lowest", _number), "high": ("highest", _number)}
    for name in ("kind", "type", "codes", "private", *fields):
        label, show = fields.get(name, (name, _value))
        if change := changes.get(name):
            parts.append(f"{label} {show(change.a)} → {show(change.b)}")
    if column.hidden:
        parts.append("another range (private)")
    for name, label in (("null_rate", "missing"), ("other_share", "outside the listed categories")):
        if (change := changes.get(name)) and (rates := [f"{rate:.1%}" for rate in (change.a, change.b)]) != rates[::-1]:
            parts.append(f"{label} {rates[0]} → {rates[1]}")
    for label, count, names in (("new", column.new, column.added), ("gone", column.gone, column.removed)):
        if count:
            listed = f": {named(names, SHOWN)}" if names else " (private)"
            parts.append(f"{count} {'category' if count == 1 else 'categories'} {label}{listed}")
    if column.capped and (column.new or column.gone):
        parts.append("the list is full: some entered or left it by rank alone")
    return "; ".join(parts)


def _code(changes: Sequence[diff_types.CodeChange]) -> Rows:
    return [[change.module, f"lines: {change.added} added, {change.removed} removed"] for change in changes]


def _print_lines(changes: Sequence[diff_types.CodeChange]) -> None:
    for change in changes:
        for line in change.lines[:LINES]:
            terminal.out.print(Text(f"  {line}"))
        if (more := len(change.lines) - LINES) > 0:
            terminal.out.print(Text(f"  ... {more} more lines: --json has them"))
    if changes:
        terminal.out.print()


def _importance(found: diff_types.Differences) -> Rows:
    changes = found.importance or ()
    rows = [[change.name, f"{_share(change.a)} → {_share(change.b)}"] for change in changes[:SHOWN]]
    if (more := len(changes) - SHOWN) > 0:
        rows.append(["", f"{more} smaller {'change' if more == 1 else 'changes'}: --json has them"])
    return rows


def _metrics(found: diff_types.Differences) -> Rows:
    metrics = found.metrics
    if metrics.identical:
        return []
    rows = [[pair.name, f"{_metric(pair.a)} → {_metric(pair.b)}"] for pair in metrics.each]
    if metrics.same_rows:
        rows.append(["", "both measured on the same rows"])
    else:
        rows.append(["beware", "not measured on the same rows: each on those that were kept for its own gate"])
    newer, older = max(found.a, found.b), min(found.a, found.b)
    rows += [
        [f"{pair.name}, on v{newer}'s rows", f"{_metric(pair.a)} → {_metric(pair.b)}"] for pair in metrics.compared
    ]
    if metrics.seen:
        rows.append(["beware", f"v{older} had been trained on {metrics.seen:,} of v{newer}'s rows"])
    numbers = (found.a, found.b)
    return rows + [[f"gate of v{n}", _gate(gate)] for n, gate in zip(numbers, metrics.gates, strict=True)]


def _gate(gate: Gate) -> str:
    flips = f"; {gate.negative_flips:.1%} of the rows became wrong" if gate.negative_flips is not None else ""
    return f"{gate.verdict.value}: {gate.reason}{flips}"


def _files(changes: Sequence[diff_types.Change]) -> Rows:
    return [[change.name, f"{_size(change.a)} → {_size(change.b)} bytes"] for change in changes]


def _size(size: int | None) -> str:
    return "-" if size is None else f"{size:,}"


def _metric(metric: Metric | None) -> str:
    return metric_text(metric) if metric else "-"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value[:12] if re.fullmatch(r"[0-9a-f]{64}", value) else value
    return json.dumps(value, ensure_ascii=False, default=str)
