"""What `ror status --json` and `ror history --json` print: keys, their order and nulls are a promise to scripts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tasks.core import overrides
from tasks.core.data.files import fingerprint
from tasks.core.ledger.lease import Lease
from tasks.core.records import to_dict
from tasks.core.reports.status import history, status
from tasks.core.types import Action, Attempt, AttemptOutcome, Blocked, Finding, LossPoint, Outcome, Rule, Served
from tasks.core.versions.manifest import training_digest
from tests.helpers.events import arrived, decide, decided
from tests.helpers.model import Model
from tests.helpers.training import Trained

WHO: dict[str, Any] = {"reason": "a test", "actor": "ann"}
EMPTY = """{
 "model": "loans", "version": null, "since": null, "promoted": null, "decision": null, "reasons": [], "metrics": {},
 "trained_on": null, "pending_batches": ["001"], "waiting": [], "outcome": null, "made_because": [],
 "next_retrain": null, "prequential": null, "blocked": [], "changed": [], "suspect": null, "quarantined": [],
 "accepted": [], "barred": [], "snoozed": [], "arriving": [], "unlabelled": [],
 "unread": [], "remarks": []
}"""

BUSY = """{
 "model": "loans", "version": 2, "since": null,
 "promoted": {"seq": 5, "actor": "ann", "reason": "a test", "was": "approved"},
 "decision": "reload", "reasons": ["a test"], "metrics": {},
 "trained_on": {"rows": 1667, "batches": ["001", "002", "003"], "sha256": null},
 "pending_batches": ["004", "005"], "waiting": [], "outcome": "Reloaded", "made_because": ["a test"],
 "next_retrain": "1 labelled batch since the last attempt to train",
 "prequential": {
  "loss": 0.25, "rows": 90, "batches": ["001"],
  "each": [{"batch": "001", "version": 1, "loss": 0.25, "rows": 90, "coverage": 0.9, "lag": null}]
 },
 "blocked": ["005"], "changed": ["005"], "suspect": null, "quarantined": ["002"], "accepted": [], "barred": [],
 "snoozed": [{"columns": ["age"], "until": "2999-12-31", "reason": "a test", "actor": "ann", "at": null}],
 "arriving": [], "unlabelled": ["003"], "unread": [], "remarks": []
}"""
"""What differs from one run of the tests to the next is filled in."""

KEYS = ["seq", "at", "event", "action", "version", "reasons", "window", "run", "actor", "outcome", "blocked", "batch",
        "deed"]  # fmt: skip
ROWS = [
    [2, "decided", "retrain", 1, ["a test"], ["001"], "r", "tests", "Retrained", [], None, None],
    [4, "decided", "retrain", 1, ["a test"], ["002"], "r", "tests", "Retrained", [], None, None],
    [5, "promoted", None, 2, ["a test"], [], "by hand", "ann", None, [], None,
     "v2 put in service, in place of v1 (approved)"],
    [6, "snoozed", None, 2, ["a test"], [], "by hand", "ann", None, [], None, "drift of age expected until 2999-12-31"],
    [7, "quarantined", None, 2, ["a test"], [], "by hand", "ann", None, [], "002",
     "labels of 002 kept out of training (v1, v2 learned them)"],
    [9, "failed", None, 2, ["ZeroDivisionError: division by zero"], [], "r", "tests", None, [], None, None],
    [11, "decided", "reload", 2, ["a test"], ["003"], "r", "tests", "Reloaded", ["005"], None, None],
]  # fmt: skip


@pytest.fixture
def busy(model: Model, trained: Trained) -> Model:
    """v2 was put in service by hand, in place of v1; 005 is set aside, 002 in quarantine, a column snoozed."""
    workspace = model.workspace
    for name in ("001", "002", "003", "004", "005"):
        model.deliver(name, rows=10)
    for number in (1, 2):
        version, sha256 = workspace.registry.register("loans", f"run {number}", trained.challenger.candidate)
        outcome = AttemptOutcome.REGISTERED if number == 1 else AttemptOutcome.WAITING
        attempt = Attempt(number, outcome, version, sha256, gate=trained.challenger.gate)
        served = Served(version, sha256, number) if number == 1 else workspace.ledger.head().state.current
        losses = (LossPoint(f"{number:03d}", 1, 90, 0.25, 0.0),)
        how = {"outcome": Outcome.RETRAINED, "attempt": attempt, "losses": losses, **arrived(f"{number:03d}")}
        decide(workspace, decided(Action.RETRAIN, in_service=served, **how))
    overrides.promote(workspace, 2, **WHO)
    overrides.snooze(workspace, ["age"], until="2999-12-31", **WHO)
    overrides.quarantine(workspace, "002", **WHO)
    with pytest.raises(ZeroDivisionError), Lease(workspace.ledger, run="r", key="k", actor="tests", reason=""):
        _ = 1 / 0
    with Lease(workspace.ledger, run="r", key="k", actor="tests", reason="") as lease:
        state = workspace.ledger.head().state
        aside = Blocked("005", fingerprint(model.batches / "005.parquet"), ("age: 40 % missing",), changed=True)
        record = decided(in_service=state.current, blocked=(aside,), **arrived("003", labels=False))
        stale = Finding(Rule.STALE, False, "1 labelled batch since the last attempt to train", {"age": 1})
        lease.commit(lambda _: replace(record, decision=replace(record.decision, findings=(stale,))))
    return model


def shown(answer: Any) -> str:
    """As it is printed: texts are compared, so that the order of keys is."""
    return json.dumps(answer, indent=1)


def test_before_the_first_run(model: Model) -> None:
    """Every key is there from the start, in this order."""
    model.deliver("001", rows=10)
    assert shown(to_dict(status(model.workspace))) == shown(json.loads(EMPTY))


def test_a_version_in_service(busy: Model, trained: Trained) -> None:
    """Who is in service and why, what was seen of it, and what waits for a person."""
    workspace, expected = busy.workspace, json.loads(BUSY)
    state = workspace.ledger.head().state
    manifest, _ = workspace.registry.manifest("loans", 2)
    expected["since"], expected["snoozed"][0]["at"] = state.since, state.snoozed[0].at
    expected["trained_on"]["sha256"] = training_digest(manifest)
    for name, metric in manifest.metrics.items():
        bounds = {"value": metric.value, "low": metric.low, "high": metric.high, "rows": metric.rows}
        expected["metrics"][name] = bounds
    assert shown(to_dict(status(workspace))) == shown(expected)


def test_entries_of_the_history(busy: Model) -> None:
    """Every event has the same keys in the same order, whatever its kind."""
    ledger = busy.workspace.ledger
    entries = [to_dict(entry) for entry in history(ledger)]
    assert [list(entry) for entry in entries] == [KEYS] * len(ROWS)
    assert [entry["at"] for entry in entries] == [ledger.event(entry["seq"]).at for entry in entries]
    assert [[value for key, value in entry.items() if key != "at"] for entry in entries] == ROWS
