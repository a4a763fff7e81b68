"""Runs of the flow, and what the ledger says of them."""

from __future__ import annotations

from flows.server import launch
from tasks.core.ledger.events import Decided
from tasks.core.records import from_dict
from tasks.core.reports import wording
from tests.helpers.model import Model


def run(model: Model, **parameters: str) -> launch.Result:
    return launch.run(model.root, model.name, **parameters)


def decided(model: Model) -> Decided:
    state = model.workspace.ledger.head().state
    assert state.decided is not None
    return from_dict(Decided, model.workspace.ledger.event(state.decided.seq).body)


def words(model: Model) -> str:
    """All that the last decision says."""
    return "\n".join([wording.headline(decided(model), model.name), *wording.sentences(decided(model))])


def serving(model: Model) -> int | None:
    current = model.workspace.ledger.head().state.current
    return current.version if current else None
