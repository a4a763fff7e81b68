"""What waits for a person is said once per cause, until it is dealt with."""

from __future__ import annotations

from typing import Any

import pytest

from flows.server import launch
from tasks.core.reports.alerts import Alert, alerts
from tasks.core.types import Outcome
from tests.helpers.model import Model, make_rows
from tests.helpers.ror import QUICK

pytestmark = pytest.mark.usefixtures("prefect")

BROKEN_FIT = '[pipeline]\nfactory = "tests.flows.pipelines:broken"\n'


def remind(model: Model, name: str | None = None) -> Any:
    from flows.remind import remind as flow

    return flow(name, root=str(model.root), return_state=True)


def run(model: Model, **asked: Any) -> list[Alert]:
    launch.run(model.root, model.name, **asked)
    return alerts(model.workspace)


def test_a_blocked_batch_is_one_matter_until_it_is_repaired(grown: Model) -> None:
    """Its cause is the same in every run; it is a new one when other broken bytes arrive, and ends with good ones."""
    assert alerts(grown.workspace) == []
    grown.deliver("003", make_rows(seed=3).drop(columns="age"))
    (first,) = run(grown)
    assert (first.outcome, first.owner, first.purpose, first.runbook) == (Outcome.BLOCKED, "tests", "tests", None)
    assert "003 is set aside" in first.message and "repair" in first.act
    grown.deliver("004")
    assert run(grown) == [first]  # a good batch after it is no reason to forget it
    assert remind(grown).message == "1 matter waits for a person."
    grown.deliver("003", make_rows(seed=3).drop(columns="city"))
    (second,) = run(grown)
    assert second.cause != first.cause
    grown.deliver("003")
    assert run(grown) == []
    assert remind(grown).message == "Nothing is open."


def test_a_blocked_batch_that_is_taken_away_is_no_matter(grown: Model) -> None:
    """Nobody has to repair what is not there any more."""
    path = grown.deliver("003", make_rows(seed=3).drop(columns="age"))
    assert len(run(grown)) == 1
    path.unlink()
    assert alerts(grown.workspace) == []


def test_a_failed_fit_and_a_version_that_waits(grown: Model) -> None:
    """A failed fit is open until the next decision; a version that waits is one matter until it is promoted."""
    grown.write_spec(BROKEN_FIT)
    grown.deliver("003")
    (failed,) = run(grown, action="retrain", reason="try")
    assert failed.outcome is Outcome.RETRAIN_FAILED
    assert "cannot be fitted" in failed.message or "failed" in failed.message
    grown.write_spec(f'{QUICK}[policy]\npromotion = "approve"')
    (waits,) = run(grown, action="retrain", reason="again")
    assert waits.outcome is Outcome.AWAITING_APPROVAL
    assert "ror promote loans v" in waits.message
    number = grown.workspace.ledger.head().state.waiting[0].version
    launch.promote(grown.root, "loans", version=number, reason="looks good")
    assert alerts(grown.workspace) == []


def test_overdue_labels_are_one_matter_while_more_batches_arrive(model: Model) -> None:
    """The text counts on, the cause is the oldest batch that lacks its labels."""
    model.write_spec(f"label_delay = 0\noverdue = 0\n{QUICK}", late_labels=True)
    model.labels.mkdir(parents=True)
    rows = make_rows(seed=1)
    model.deliver("001", rows)
    rows[["id", "y"]].to_csv(model.labels / "001.csv", index=False)
    assert run(model) == []
    found = []
    for batch in ("002", "003", "004"):
        model.deliver(batch)
        found += [alert for alert in run(model) if alert.outcome is Outcome.LABELS_OVERDUE]
    assert len(found) == 2
    assert {alert.cause for alert in found} == {found[0].cause}
    assert len({alert.message for alert in found}) == 2


def test_unusable_labels_are_a_matter_of_their_own(model: Model) -> None:
    """Their cause is what is wrong with them: the same while it is, another one with another broken file; a batch that
    is set aside meanwhile does not hide them."""
    model.write_spec(QUICK, late_labels=True)
    model.labels.mkdir(parents=True)
    rows = make_rows(seed=1)
    model.deliver("001", rows)
    rows[["id", "y"]].to_csv(model.labels / "001.csv", index=False)
    assert run(model) == []
    (model.labels / "002.csv").write_text("id,answer\n1,1\n")
    (first,) = run(model)
    assert first.outcome is Outcome.BLOCKED
    assert "002.csv" in first.message
    model.deliver("002", make_rows(seed=2).drop(columns="age"))
    batch, again = run(model)
    assert ("002 is set aside" in batch.message, again) == (True, first)
    (model.labels / "002.csv").unlink()
    (model.labels / "003.csv").write_text("name,y\n1,1\n")
    assert run(model)[1].cause not in (batch.cause, first.cause)
    (model.labels / "003.csv").unlink()
    assert run(model) == [batch]


def test_a_failed_fit_is_told_beside_a_blocked_batch(grown: Model) -> None:
    """The run can end in one state only; both are said."""
    grown.write_spec(BROKEN_FIT)
    grown.deliver("003", make_rows(seed=3).drop(columns="age"))
    grown.deliver("004")
    told = run(grown, action="retrain", reason="try")
    assert [alert.outcome for alert in told] == [Outcome.BLOCKED, Outcome.RETRAIN_FAILED]


def test_a_model_that_cannot_be_read_hides_no_other(grown: Model) -> None:
    """The others have their turn, and the run fails naming it."""
    (grown.root / "deployments/broken.toml").write_text("task = 'magic'\n")
    state = remind(grown)
    assert (state.name, state.is_failed()) == ("Unreadable", True)
    assert "broken" in state.message and "loans" not in state.message
    assert remind(grown, "loans").message == "Nothing is open."
