"""What people and scripts read: status, history, and the text of a decision, for card, page and terminal alike."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tasks.core.data.files import arriving
from tasks.core.ledger.events import Decided, Event
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.state import State
from tasks.core.records import from_dict, to_dict
from tasks.core.reports.wording import deed
from tasks.core.run.work import pending_names
from tasks.core.types import LossPoint
from tasks.core.versions.manifest import training_digest
from tasks.core.workspace import Workspace

REPORT = "report.html"
"""The page of a run, among its files in the store."""


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


def _last_decision(ledger: Ledger, state: State) -> Decided | None:
    return from_dict(Decided, ledger.event(state.decided.seq).body) if state.decided else None


# --- one decision --------------------------------------------------------------------------------------------
