"""`ror status --at`: what was in service at some time, as it looks on a terminal and in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.text import Text

from flows import terminal
from flows.options import open_workspace
from tasks.core import past
from tasks.core.records import to_dict
from tasks.core.views import interval_text


def show_past(models: Sequence[str], at: str, root: Path, as_json: bool, *, many: bool) -> None:
    """One table for each version that was in service then; as JSON one answer, or a list of them for many models."""
    when, now = past.parse_when(at), datetime.now(UTC)
    answers = [past.look_back(open_workspace(root, model).registry, model, when, now) for model in models]
    if as_json:
        found = [_as_json(answer) for answer in answers]
        terminal.print_json(found if many else found[0])
        return
    for answer in answers:
        if not answer.tenures:
            terminal.out.print(Text(_nothing(answer)))
        for tenure in answer.tenures:
            terminal.show(terminal.table([f"{answer.model} v{tenure.version}", str(answer.when)], _rows(tenure)))


def _as_json(answer: past.Past) -> dict[str, Any]:
    return {
        "model": answer.model,
        "from": answer.when.start.isoformat(),
        "to": answer.when.end.isoformat(),
        "in_service": [{**to_dict(tenure), "by": tenure.by} for tenure in answer.tenures],
        "first": {"version": answer.first.version, "since": answer.first_since} if answer.first else None,
    }


def _nothing(found: past.Past) -> str:
    none = f"No version of {found.model} was in service {found.when}"
    if found.first is None or found.first_since is None:
        return f"{none}, and none has been since."
    return f"{none}. The first was v{found.first.version}, from {terminal.second(found.first_since)} UTC."


def _rows(tenure: past.Tenure) -> list[list[str]]:
    since, until = terminal.second(tenure.since), tenure.until
    ended = f"from {since} until {terminal.second(until)} UTC, then v{tenure.replaced_by}" if until else ""
    because, made = "; ".join(tenure.reasons), "; ".join(tenure.made_because)
    kind = f"run: {tenure.outcome}" if tenure.outcome else tenure.event
    return [
        ["in service", ended or f"since {since} UTC, to this day"],
        ["put there by", tenure.by],
        ["because", because],
        ["history entry", f"{tenure.seq} ({kind})"],
        *([["made because", made]] if made != because else []),
        [
            "trained on",
            f"{tenure.rows:,} rows of {terminal.span(list(tenure.batches))} (sha256 {tenure.training_sha256[:12]})",
        ],
        *(
            [f"{name}, before service", f"{metric.value:.4g} ({interval_text(metric)}) on {metric.rows:,} rows"]
            for name, metric in tenure.metrics.items()
        ),
        ["gate", f"{tenure.gate.verdict.value}: {tenure.gate.reason}"],
    ]
