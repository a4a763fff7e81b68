"""`ror status` and `ror history`: what is in service, what waits for a person, and how it came to that."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from flows.cli import backtest, terminal
from flows.cli.options import Debug, Json, Model, Root, open_workspace
from tasks.core.records import to_dict
from tasks.core.reports import service_history, wording
from tasks.core.reports import status as core_status
from tasks.core.text import counted, interval_text, metric_text, number, second, span
from tasks.core.workspace import Project


def status(
    model: Annotated[str | None, typer.Argument(help="Name of the model; default: all models.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="Instead: what was in service at that time. A day (2013-06-01: every version of that day) or a time "
            "(2013-06-01T12:00, '2013-06-01 12:00+02:00'); without a zone it is UTC."
        ),
    ] = None,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Which version is in service, since when, why, trained on which data, justified by which metrics."""
    names = [model] if model is not None else Project.open(root).require_models()
    if at is not None:
        show_past(names, at, root, as_json, many=model is None)
        return
    if model is None:
        answers = [core_status.status(open_workspace(root, name)) for name in names]
        if as_json:
            terminal.print_json([to_dict(answer) for answer in answers])
        else:
            rows = [
                [
                    each.model,
                    terminal.version(each.version),
                    each.outcome or "-",
                    terminal.when(each.since),
                    str(len(each.pending_batches)),
                ]
                for each in answers
            ]
            terminal.show(terminal.table(["model", "version", "last run", "in service since", "pending"], rows))
        return
    answer = core_status.status(open_workspace(root, model))
    if as_json:
        terminal.print_json(to_dict(answer))
        return
    rows = [
        ["version in service", terminal.version(answer.version)],
        ["since", terminal.when(answer.since)],
        *([["put there by", _by_hand(by)]] if (by := answer.promoted) else []),
        ["last decision", f"{answer.decision or 'none yet'}: {'; '.join(answer.reasons)}".rstrip(": ")],
    ]
    if answer.next_retrain:
        rows.append(["next retrain", answer.next_retrain])
    if trained := answer.trained_on:
        on = f"{trained.rows:,} rows of {span(trained.batches)} (sha256 {trained.sha256[:12]})"
        rows += [["made because", "; ".join(answer.made_because)], ["trained on", on]]
    for name, metric in answer.metrics.items():
        interval = f" ({interval_text(metric)})" if metric.low is not None else ""
        measured = f"{number(metric.value)}{interval} on {metric.rows:,} rows it never saw"
        rows.append([f"{name}, before service", measured])
    if seen := answer.prequential:
        lost = f"{number(seen.loss)} on {seen.rows:,} rows of {span(seen.batches)}"
        rows += [["loss, in service", lost], ["newest with labels", _labelled(seen.each[-1])]]
    rows.append(["pending batches", ", ".join(answer.pending_batches) or "none"])
    rows += _asks(answer)
    rows += [["warning", text] for text in answer.warnings]
    for name, items in (("arriving", answer.arriving), ("unlabelled", answer.unlabelled)):
        if items:
            rows.append([name, ", ".join(items)])
    terminal.show(terminal.table([answer.model, ""], rows))


def history(
    model: Model,
    root: Root = Path(),
    as_json: Json = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Newest entries to show on the terminal.")] = 30,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Show what the policies given by --policy would have decided, without training."),
    ] = False,
    policy: backtest.OtherPolicies = None,
    debug: Debug = False,
) -> None:
    """All decisions about a model, with their reasons; the chain of the history is checked as well."""
    if replay or policy:
        backtest.what_if(model, policy or [], root, as_json)
        return
    entries = core_status.history(open_workspace(root, model).ledger)
    if as_json:
        terminal.print_json([to_dict(entry) for entry in entries])
        return
    rows = [
        [
            str(entry.seq),
            terminal.when(entry.at),
            entry.outcome or entry.event,
            terminal.version(entry.version),
            entry.batch or span(entry.window or entry.blocked),
            entry.actor,
            _why(entry),
        ]
        for entry in entries[-limit:]
    ]
    terminal.show(terminal.table(["#", "at (UTC)", "outcome", "in service", "batches", "by", "why"], rows))


def _asks(answer: core_status.Status) -> list[list[str]]:
    """What waits for a person, with the command that it takes."""
    model = answer.model
    rows = [["waiting for approval", f"v{v}: `{wording.promotion(model, v)}`"] for v in answer.waiting]
    for batch in answer.blocked:
        why = f"`ror run {model} --batch {shlex.quote(batch)}` says why"
        ways = f"{why}; repair it and deliver it again, or correct the model's file"
        if batch in answer.changed:
            ways += f", or accept it: `ror accept {model} {batch} --reason '...'`"
        rows.append(["set aside", f"{batch}: {ways}"])
    held = [("suspect", answer.suspect)] if answer.suspect else []
    for name, batch in held + [("quarantined", batch) for batch in answer.quarantined]:
        rows.append([name, f"labels of {batch}: `ror release {model} {batch} --reason '...'` allows training on them"])
    if answer.accepted:
        rows.append(["accepted, not learned", ", ".join(answer.accepted)])
    for item in answer.snoozed:
        columns, words = ", ".join(item.columns), shlex.quote(",".join(item.columns))
        end = f"`ror snooze {model} --columns {words} --until now --reason '...'` ends it sooner"
        rows.append(["snoozed", f"{columns}: until {item.until}, by {item.actor}: {item.reason}; {end}"])
    return rows + [["barred", f"v{v}, rolled back: `{wording.promotion(model, v)}`"] for v in answer.barred]


def _by_hand(promotion: core_status.Promotion) -> str:
    was = f" ({promotion.was})" if promotion.was else ""
    return f"{promotion.actor}{was}: {promotion.reason}"


def _why(entry: core_status.Entry) -> str:
    reasons = "; ".join(entry.reasons)
    return f"{entry.deed}: {reasons}" if entry.deed else reasons


def _labelled(batch: core_status.ServedBatch) -> str:
    """The loss of what users saw of one batch, with coverage and lag of its labels."""
    late = f", {counted(batch.lag, 'batch', 'batches')} later" if batch.lag else ""
    return f"{batch.batch}: {number(batch.loss)} by v{batch.version} ({batch.coverage:.0%} of its rows{late})"


def show_past(models: Sequence[str], at: str, root: Path, as_json: bool, *, many: bool) -> None:
    """One table for each version that was in service `at` that time; as JSON one answer, or a list for many models.

    Raises InvalidRequest for a text that is not a time, and for a time that has not come.
    """
    when, now = service_history.parse_when(at), datetime.now(UTC)
    answers = [service_history.look_back(open_workspace(root, model).registry, model, when, now) for model in models]
    if as_json:
        found = [_as_json(answer) for answer in answers]
        terminal.print_json(found if many else found[0])
        return
    for answer in answers:
        if not answer.tenures:
            terminal.out.print(Text(_nothing(answer)))
        for tenure in answer.tenures:
            terminal.show(terminal.table([f"{answer.model} v{tenure.version}", str(answer.when)], _rows(tenure)))


def _as_json(answer: service_history.ServiceHistory) -> dict[str, Any]:
    return {
        "model": answer.model,
        "from": answer.when.start.isoformat(),
        "to": answer.when.end.isoformat(),
        "in_service": [{**to_dict(tenure), "by": tenure.by} for tenure in answer.tenures],
        "first": {"version": answer.first.version, "since": answer.first_since} if answer.first else None,
    }


def _nothing(found: service_history.ServiceHistory) -> str:
    none = f"No version of {found.model} was in service {found.when}"
    if found.first is None or found.first_since is None:
        return f"{none}, and none has been since."
    return f"{none}. The first was v{found.first.version}, from {second(found.first_since)} UTC."


def _rows(tenure: service_history.Tenure) -> list[list[str]]:
    since, until = second(tenure.since), tenure.until
    ended = f"from {since} until {second(until)} UTC, then v{tenure.replaced_by}" if until else ""
    because, made = "; ".join(tenure.reasons), "; ".join(tenure.made_because)
    kind = f"run: {tenure.outcome}" if tenure.outcome else tenure.event
    return [
        ["in service", ended or f"since {since} UTC, until now"],
        ["put there by", tenure.by],
        ["because", because],
        ["history entry", f"{tenure.seq} ({kind})"],
        *([["made because", made]] if made != because else []),
        [
            "trained on",
            f"{tenure.rows:,} rows of {span(tenure.batches)} (sha256 {tenure.training_sha256[:12]})",
        ],
        *([f"{name}, before service", metric_text(metric)] for name, metric in tenure.metrics.items()),
        ["gate", f"{tenure.gate.verdict.value}: {tenure.gate.reason}"],
    ]
