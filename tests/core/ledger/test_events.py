"""Bodies of events as records, and as they are stored."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from tasks.core.errors import CorruptObject
from tasks.core.ledger.events import (
    BODIES,
    Accepted,
    Body,
    Cleared,
    Decided,
    Erased,
    Event,
    EventKind,
    Failed,
    Promoted,
    Pruned,
    Quarantined,
    Renewed,
    Snoozed,
    Started,
)
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.signing import Trust
from tasks.core.ledger.state import LeaseRecord, State, Substitute
from tasks.core.records import from_json, to_dict, to_json
from tasks.core.store import Store
from tasks.core.types import Action, Attempt, AttemptOutcome, Gate, LossPoint, Served, Verdict
from tests.helpers.events import arrived, decided

RETRAINED = decided(
    Action.RETRAIN,
    in_service=Served(2, "m2", 3),
    attempt=Attempt(2, AttemptOutcome.REGISTERED, 2, "m2", gate=Gate(Verdict.PASS, "better", 10)),
    losses=(LossPoint("a", 1, 90, 0.1 + 0.2, 1e-17),),
    **arrived("a"),
)
STORED: list[tuple[Body, str]] = [
    (
        Started(LeaseRecord(0, "r", "2026-01-01T00:10:00+00:00", "host", "boot", 7, 1.5)),
        '{"lease": {"token": 0, "run": "r", "expires": "2026-01-01T00:10:00+00:00", "host": "host", "boot": "boot", '
        '"pid": 7, "process_started": 1.5}}',
    ),
    (Renewed("2026-01-01T00:20:00+00:00"), '{"expires": "2026-01-01T00:20:00+00:00"}'),
    (Failed("ValueError: no such column"), '{"error": "ValueError: no such column"}'),
    (
        RETRAINED,
        '{"outcome": "Reloaded", "decision": {"action": "retrain", "rule": "otherwise", "reasons": ["a test"], '
        '"findings": [], "interval": null, "suspect": null, "cleared": null, "quarantined": null}, "window": [{"id": '
        '"a", "path": "a.parquet", "sha256": "aaaaaaaa", "origin": null, "gone": []}], "window_rows": [100], '
        '"blocked": [], "labelled": [{"batch": "a", "labels": "l", "rows": 90, "coverage": 0.9, "lag": null, '
        '"corrected": false}], "losses": [{"batch": "a", "version": 1, "rows": 90, "mean": 0.30000000000000004, '
        '"variance": 1e-17}], "comparisons": [], "checks": [], "attempt": {"labelled": 2, "outcome": "registered", '
        '"version": 2, "manifest": "m2", "reason": "", "gate": {"verdict": "pass", "reason": "better", "rows": 10, '
        '"difference": null, "standard_error": null, "against": null, "negative_flips": null}, "looked": ""}, '
        '"in_service": {"version": 2, "manifest": "m2", "data_end": 3, "accepts": []}, "spec": "s", '
        '"policy_version": 1, "evidence": null, "label_files": null, "novel": [], "natural": false}',
    ),
    (
        Promoted(Served(1, "m1", 1, ("numpy é",)), "environment accepted", 2),
        '{"served": {"version": 1, "manifest": "m1", "data_end": 1, "accepts": ["numpy é"]}, '
        '"was": "environment accepted", "replaced": 2}',
    ),
    (
        Promoted(Served(1, "m1", 1), "chosen", None),
        '{"served": {"version": 1, "manifest": "m1", "data_end": 1, "accepts": []}, "was": "chosen", "replaced": null}',
    ),
    (Accepted("004", "f4"), '{"batch": "004", "sha256": "f4", "labels": false}'),
    (Quarantined("003", (1, 2), True), '{"batch": "003", "trained": [1, 2], "learned": true}'),
    (Cleared("003"), '{"batch": "003", "learned": false}'),
    (Snoozed(("age", "y"), "2026-12-31"), '{"columns": ["age", "y"], "until": "2026-12-31"}'),
    (Snoozed(("age",), None), '{"columns": ["age"], "until": null}'),
    (
        Pruned((1,), ("loans/versions/00000001/probe.parquet",), 42),
        '{"versions": [1], "files": ["loans/versions/00000001/probe.parquet"], "bytes": 42}',
    ),
    (
        Erased(
            rows=2,
            files=("data/a.parquet",),
            batches={
                "a": {"sha256": "a2", "rows": 99, "origin": "a1", "gone": [3], "labels": "l2", "labelled_rows": 89},
                "z": {"sha256": "z2", "rows": 9, "origin": "z1", "gone": [1]},
            },
            before={"a": "a1"},
            blocked={"b": "b2"},
            replaced={"loans/probe.parquet": Substitute("loans/probe-1.parquet", "e5", 5)},
            removed=("loans/report.html",),
            versions=(1,),
        ),
        '{"rows": 2, "files": ["data/a.parquet"], "batches": {"a": {"sha256": "a2", "rows": 99, "origin": "a1", '
        '"gone": [3], "labels": "l2", "labelled_rows": 89}, "z": {"sha256": "z2", "rows": 9, "origin": "z1", '
        '"gone": [1]}}, "before": {"a": "a1"}, "blocked": {"b": "b2"}, "label_files": null, "key": null, '
        '"replaced": {"loans/probe.parquet": {"path": "loans/probe-1.parquet", "sha256": "e5", "size": 5}}, '
        '"removed": ["loans/report.html"], "versions": [1]}',
    ),
]
"""Each kind of event, and its body: as the first release wrote it, and at the end what format 2 adds to a decision and
an acceptance."""


def event(kind: str, body: Any) -> Event:
    return Event(1, 7, None, "2026-01-01", kind, "run", "key", "ann", "why", None, body, State())


@pytest.mark.parametrize(("body", "text"), STORED, ids=[body.kind for body, _ in STORED])
def test_what_is_stored_is_what_was_always_stored(body: Body, text: str) -> None:
    """The same fields in the same order, those that are absent absent and those that are null null; and what was
    stored is read back as it was said."""
    store = Store("memory://")
    ledger = Ledger(store, "loans", Trust())
    ledger.append(ledger.head(), body, run="r", key="k", actor="ann", reason="why")
    record = json.loads(store.read("loans/ledger/00000001.json"))
    assert record["event"] == body.kind.value
    assert json.dumps(record["body"], ensure_ascii=False) == text
    assert ledger.event(1).content == body


def test_every_kind_has_a_body_and_a_place_here() -> None:
    """No kind is added without a record of its body, and none without what is stored of it."""
    assert {*BODIES} == {*EventKind} == {body.kind for body, _ in STORED}


def test_an_event_is_written_as_it_was_read() -> None:
    """To have looked at what an event says changes nothing of it: not its fields, nor its bytes."""
    read = event("accepted", {"batch": "004", "a later field": 1})
    before = to_json(read)
    assert read.content == Accepted("004")
    assert to_json(read) == before
    assert from_json(Event, before, "it") == read
    assert {*to_dict(read)} == {item.name for item in fields(Event)}
    assert replace(read, body={"batch": "005"}).content == Accepted("005")


@pytest.mark.parametrize(
    ("kind", "body", "content"),
    [
        ("promoted", {"served": {"version": 1, "manifest": "m1", "data_end": 1}}, Promoted(Served(1, "m1", 1))),
        ("accepted", {"batch": "004"}, Accepted("004")),
        ("quarantined", {"batch": "003"}, Quarantined("003")),
        ("cleared", {"version": 2}, Cleared(version=2)),
        ("pruned", {"versions": [1]}, Pruned((1,))),
        ("failed", {}, Failed()),
    ],
)
def test_older_events_say_less(kind: str, body: Any, content: Body) -> None:
    """A body without the fields that came later is read with what is true of it."""
    assert event(kind, body).content == content


def test_a_kind_of_a_later_release_says_nothing_here() -> None:
    """It is read past: only what would have to know its meaning refuses it."""
    assert event("forgotten", {"batch": "a"}).content is None


@pytest.mark.parametrize(
    ("kind", "body", "where"),
    [("accepted", {}, "batch"), ("promoted", {"served": {"version": 1}}, "served.manifest"), ("started", 1, "lease")],
)
def test_a_body_that_no_release_writes_is_corrupt(kind: str, body: Any, where: str) -> None:
    """The error names the event and what is wrong with it."""
    body = body if isinstance(body, dict) else {"lease": body}
    with pytest.raises(CorruptObject, match=rf"event 7 was altered: its content cannot be followed \({where}"):
        _ = event(kind, body).content


def test_an_event_of_another_kind_is_no_decision() -> None:
    """Whoever asks for a decision gets one, or an error that names what is there instead."""
    assert event("decided", to_dict(RETRAINED)).content_as(Decided) == RETRAINED
    with pytest.raises(CorruptObject, match="event 7 is 'accepted', not 'decided'"):
        event("accepted", {"batch": "004"}).content_as(Decided)
