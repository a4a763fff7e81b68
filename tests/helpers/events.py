"""Events of a ledger, made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tasks.core.ledger.events import Decided, Event
from tasks.core.ledger.lease import Lease
from tasks.core.types import (
    Action,
    Batch,
    Blocked,
    Decision,
    Finding,
    Labelled,
    Outcome,
    Served,
)
from tasks.core.workspace import Workspace

V1, V2 = Served(1, "a" * 64, data_end=1), Served(2, "b" * 64, data_end=3)


def decided(action: Action = Action.RELOAD, *, in_service: Served | None = V1, **changes: Any) -> Decided:
    """The body of a `decided` event about nothing; `changes` go to the record, `decision` to the decision in it."""
    decision = Decision(action, "otherwise", ("a test",), (), **changes.pop("decision", {}))
    nothing: dict[str, Any] = dict.fromkeys(
        ("window", "window_rows", "blocked", "labelled", "losses", "comparisons", "checks"), ()
    )
    record = Decided(
        outcome=Outcome.RELOADED,
        decision=decision,
        attempt=None,
        in_service=in_service,
        spec="s",
        policy_version=1,
        **nothing,
    )
    return replace(record, **changes)


def arrived(name: str, *, labels: bool = True) -> dict[str, Any]:
    """One batch in a decision's window, with its labels or without."""
    return {
        "window": (Batch(name, f"{name}.parquet", name * 8),),
        "window_rows": (100,),
        "labelled": (Labelled(name, "l", 90, 0.9),) if labels else (),
    }


def decide(workspace: Workspace, record: Decided) -> Event:
    with Lease(workspace.ledger, run="r", key="k", actor="tests", reason="") as lease:
        return lease.commit(lambda _: record)


RELOADED = Decided(
    outcome=Outcome.RELOADED,
    decision=Decision(Action.RELOAD, "otherwise", ("v2 stays",), (Finding("otherwise", True, "v2 stays | as it was"),)),
    window=(Batch("007", "data/007.parquet", "a" * 64),),
    window_rows=(10,),
    blocked=(),
    labelled=(),
    losses=(),
    comparisons=(),
    checks=(),
    attempt=None,
    in_service=Served(2, "digest", 6),
    spec="s",
    policy_version=1,
)


BROKEN = Blocked("008", "b" * 64, ("column 'age' is missing", "column 'city' is missing"))
