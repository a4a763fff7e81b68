"""What people and scripts read: status, history, and the text of a decision, for card, page and terminal alike."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tasks.core.files import arriving
from tasks.core.ledger import Ledger
from tasks.core.manifest import Manifest
from tasks.core.records import from_dict, to_dict
from tasks.core.state import Decided, Event, State
from tasks.core.types import LossPoint, Metric, Outcome
from tasks.core.work import pending_names
from tasks.core.workspace import Workspace

REPORT = "report.html"
"""The page of a run, among its files in the store."""

MUST_ACT = {
    Outcome.RELOADED: "no",
    Outcome.RETRAINED: "no",
    Outcome.ROLLED_BACK: "yes: find out why the newer version was worse; it stays barred",
    Outcome.KEPT: "no",
    Outcome.AWAITING_APPROVAL: "yes: look at the challenger, and put it in service or leave it",
    Outcome.PROMOTED: "no",
    Outcome.HELD: "no, unless it repeats: the reason says what is missing",
    Outcome.SKIPPED: "no: another run is at work",
    Outcome.BLOCKED: "yes: repair the data and deliver them again, or accept what changed",
    Outcome.RETRAIN_FAILED: "yes: read why training failed; the current version was kept",
    Outcome.LABELS_OVERDUE: "yes: find out where the labels are",
}


def status(workspace: Workspace) -> dict[str, Any]:
    """Which version is in service, since when, why, trained on which data, justified by which metrics."""
    head = workspace.ledger.head()
    state = head.state
    decided = _last_decision(workspace.ledger, state)
    pending = pending_names(workspace, state)
    answer: dict[str, Any] = {
        "model": workspace.model,
        "version": state.current.version if state.current else None,
        "since": state.since,
        "promoted": _promotion(workspace.ledger, state),
        "decision": decided.decision.action.value if decided else None,
        "reasons": list(decided.decision.reasons) if decided else [],
        "metrics": {},
        "trained_on": None,
        "pending_batches": pending,
        "waiting": [served.version for served in state.waiting],
        "outcome": decided.outcome.value if decided else None,
        "made_because": [],
        "next_retrain": _next_retrain(decided),
        "prequential": None,
        "blocked": sorted(set(state.blocked) & {*pending, *state.batches}),
        "changed": sorted(set(state.changed) & set(pending)),
        "suspect": state.suspect,
        "quarantined": list(state.quarantined),
        "accepted": list(state.accepted),
        "barred": list(state.barred),
        "snoozed": _snoozed(state),
        "arriving": arriving(workspace.root, workspace.spec, state.batches),
        "unlabelled": sorted(b for b, r in state.batches.items() if not r.labels and b not in state.quarantined),
    }
    if state.current is None:
        return answer
    manifest, _ = workspace.registry.manifest(workspace.model, state.current.version, state.current.manifest)
    answer["metrics"] = to_dict(dict(manifest.metrics))
    answer["made_because"] = list(manifest.reasons)
    answer["trained_on"] = {
        "rows": manifest.rows,
        "batches": [file.batch for file in manifest.training],
        "sha256": training_digest(manifest),
    }
    answer["prequential"] = _in_service(state)
    return answer


def _snoozed(state: State) -> list[dict[str, Any]]:
    """What has not run out."""
    today = datetime.now(UTC).date().isoformat()
    return [to_dict(snooze) for snooze in state.snoozed if snooze.until >= today]


def _next_retrain(decided: Decided | None) -> str | None:
    """What the rule of the economic interval saw last; None where an earlier rule had decided before it looked."""
    found = (finding.reason for finding in decided.decision.findings if finding.rule == "stale") if decided else ()
    return next(iter(found), None)


def _promotion(ledger: Ledger, state: State) -> dict[str, Any] | None:
    """By whom, and why, the version in service was put there by hand; None when the rules did."""
    if state.promoted is None:
        return None
    event = ledger.event(state.promoted)
    return {"seq": event.seq, "actor": event.actor, "reason": event.reason, "was": event.body.get("was")}


def _in_service(state: State) -> dict[str, Any] | None:
    """What users saw: the loss on each recent batch of the version that served it, with lag and coverage of its labels.

    A batch is left out when that version had been trained on its labels, or when it was served by none.
    """
    points = sorted((p for p in state.losses if _served(state, p)), key=lambda point: point.batch)
    if not points:
        return None
    rows = sum(point.rows for point in points)
    each = [
        {
            "batch": point.batch,
            "version": point.version,
            "loss": point.mean,
            "rows": point.rows,
            "coverage": state.batches[point.batch].coverage,
            "lag": state.batches[point.batch].lag,
        }
        for point in points
    ]
    loss = sum(point.mean * point.rows for point in points) / rows
    return {"loss": loss, "rows": rows, "batches": [point.batch for point in points], "each": each}


def _served(state: State, point: LossPoint) -> bool:
    record = state.batches.get(point.batch)
    return record is not None and record.version == point.version


def training_digest(manifest: Manifest) -> str:
    """One digest for the data of a version: of its files' digests and their labels', in order."""
    parts = "".join(f"{file.sha256} {file.labels}\n" for file in manifest.training)
    return hashlib.sha256(parts.encode()).hexdigest()


def history(ledger: Ledger, events: Sequence[Event] | None = None) -> list[dict[str, Any]]:
    """Every event, oldest first; `started` and `renewed` are the lease's and left out."""
    rows = []
    for event in events if events is not None else ledger.events():
        if event.event in ("started", "renewed"):
            continue
        row: dict[str, Any] = {
            "seq": event.seq,
            "at": event.at,
            "event": event.event,
            "action": None,
            "version": event.current.version if event.current else None,
            "reasons": [event.reason] if event.reason else [],
            "window": [],
            "run": event.run,
            "actor": event.actor,
            "outcome": None,
            "blocked": [],
            "batch": event.body.get("batch"),
            "deed": deed(event),
        }
        if event.event == "decided":
            decided = from_dict(Decided, event.body)
            row |= {
                "action": decided.decision.action.value,
                "reasons": list(decided.decision.reasons),
                "window": [batch.id for batch in decided.window],
                "outcome": decided.outcome.value,
                "blocked": [item.batch for item in decided.blocked],
            }
        elif event.event == "failed":
            row["reasons"] = [str(event.body.get("error", ""))]
        rows.append(row)
    return rows


def deed(event: Event) -> str | None:
    """What a person did, in a few words; None for what a run did."""
    batch = event.body.get("batch")
    match event.event:
        case "promoted":
            new, was = f"v{event.body['served']['version']}", event.body.get("was")
            old = event.body.get("replaced")
            if differences := event.body["served"].get("accepts"):
                was = f"{was}, accepted: {'; '.join(differences)}"
            place = f", in place of v{old}" if old else ""
            return f"{new} put in service{place}" + (f" ({was})" if was else "")
        case "accepted":
            return f"changed content of {batch} accepted"
        case "quarantined":
            learned = ", ".join(f"v{number}" for number in event.body.get("trained", ()))
            return f"labels of {batch} kept out of training" + (f" ({learned} learned them)" if learned else "")
        case "cleared":
            return f"labels of {batch} may be trained on again"
        case "snoozed":
            columns, until = ", ".join(event.body["columns"]), event.body["until"]
            return f"drift of {columns} expected until {until}" if until else f"drift of {columns} no longer expected"
        case "pruned":
            return f"payload of {', '.join(f'v{number}' for number in event.body['versions'])} removed"
        case "erased":
            rows, files = event.body["rows"], len(event.body["files"])
            kept = ", ".join(f"v{number}" for number in event.body["versions"])
            return f"a key erased: {rows} rows of {files} data files, {len(event.body['replaced'])} objects" + (
                f" ({kept} learned from it)" if kept else ""
            )
    return None


def _last_decision(ledger: Ledger, state: State) -> Decided | None:
    return from_dict(Decided, ledger.event(state.decided.seq).body) if state.decided else None


# --- one decision --------------------------------------------------------------------------------------------


def headline(decided: Decided, model: str) -> str:
    """The decision and its cause in one line: the message of the run's final state."""
    text = f"{about(decided, model)}: {short(decided)}"
    if ready := ready_to_promote(decided):
        text += f" v{ready} waits for `{promotion(model, ready)}`."
    return text


def about(decided: Decided, model: str) -> str:
    """What was decided on: the model and the batches."""
    names = [batch.id for batch in decided.window] or [item.batch for item in decided.blocked]
    return f"{model} · {names[0] if len(names) == 1 else f'{names[0]} to {names[-1]}' if names else 'no new batch'}"


def short(decided: Decided) -> str:
    """How it ended, and its cause, in one line whose first words say most."""
    ended, why = summary(decided)
    return f"{ended}; {why[0]}"


def promotion(model: str, version: int) -> str:
    """The command that puts a version in service."""
    return f"ror promote {model} v{version} --reason '...'"


def ready_to_promote(decided: Decided) -> int | None:
    """A version that passed the gate, and that only a person puts in service now."""
    attempt, service = decided.attempt, decided.in_service
    if attempt is None:
        return decided.evidence.waiting if decided.evidence else None
    passed = attempt.outcome in ("registered", "waiting")
    return attempt.version if passed and (service is None or service.version != attempt.version) else None


def summary(decided: Decided) -> tuple[str, list[str]]:
    """How it ended, in a few words; and why, the cause first, one line each."""
    version = f"v{decided.in_service.version}" if decided.in_service else "no version"
    return f"{decided.outcome.value} — {version} in service", [_cause(decided), *sentences(decided)]


def sentences(decided: Decided) -> list[str]:
    """What else a person must know, one line each."""
    return [line for line in _facts(decided) if line != _cause(decided)]


def _cause(decided: Decided) -> str:
    """What made the run end as it did: the broken data or the failed attempt, where there is one, else the decision."""
    facts = _facts(decided)
    if decided.blocked:
        return facts[0]
    if decided.attempt and decided.attempt.outcome in ("refused", "failed"):
        return facts[-1]
    if decided.outcome is Outcome.LABELS_OVERDUE:
        return f"{decided.decision.reasons[-1]}."
    return f"{decided.decision.reasons[0]}."


def _facts(decided: Decided) -> list[str]:
    lines = []
    for item in decided.blocked:
        what = f"{item.batch} is set aside" if item.sha256 else "the labels cannot be used"
        lines += [f"{what}: {problem.rstrip('.')}." for problem in item.problems]
    lines += [f"{reason}." for reason in decided.decision.reasons]
    attempt, service = decided.attempt, decided.in_service
    if attempt and attempt.gate:
        lines.append(f"v{attempt.version} {attempt.outcome}: {attempt.gate.reason}.")
        if attempt.outcome == "registered" and (service is None or service.version != attempt.version):
            lines.append("Somebody acted by hand during this run, so it is not put in service: their choice stands.")
    elif attempt:
        lines.append(f"{attempt.reason.rstrip('.')}.")
    return lines


def interval_text(metric: Metric) -> str:
    return f"{metric.low:.4g} to {metric.high:.4g}" if metric.low is not None and metric.high is not None else "unknown"


def named(names: Sequence[str], few: int = 5) -> str:
    """Names in a line of a log: the first few, and how many more."""
    rest = f" and {len(names) - few} more" if len(names) > few else ""
    return f"{', '.join(names[:few])}{rest}"


_MEANINGFUL = str.maketrans({"|": "\\|", "[": "\\[", "<": "&lt;", "\n": " ", "\r": " "})
"""What would end a cell, make a tag, or ask another host for a picture."""


def cell(text: str) -> str:
    """Text of anybody as a cell, or one line, of markdown that means just itself."""
    return text.translate(_MEANINGFUL)
