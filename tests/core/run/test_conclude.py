"""From a decision to the run's single commit: who serves, and under which name the run ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.core.decision.evidence import Evidence
from tasks.core.ledger.events import Decided
from tasks.core.ledger.state import LastDecision, State
from tasks.core.ledger.transitions import after_decision
from tasks.core.reports import wording
from tasks.core.run.assess import DataFindings, Findings
from tasks.core.run.conclude import conclude
from tasks.core.run.labels import LabelFindings, Overdue
from tasks.core.types import (
    Action,
    Attempt,
    AttemptOutcome,
    Batch,
    BatchRecord,
    Blocked,
    Comparison,
    Decision,
    Labelled,
    LossPoint,
    Outcome,
    Rule,
    Served,
)
from tests.helpers.training import make_spec

V1, V2, V3 = (Served(number, f"digest of v{number}", number) for number in (1, 2, 3))
TWO = State(served=(V1, V2))
NEW = Attempt(3, AttemptOutcome.REGISTERED, 3, V3.manifest)


def concluded(
    action: Action, attempt: Attempt | None = None, *, now: State = TWO, promotion: str = "auto", broken: bool = False
) -> Decided:
    blocked = (Blocked("009", "f" * 64, ("no rows",)),) if broken else ()
    return conclude(
        TWO,
        now,
        make_spec(policy={"promotion": promotion}),
        Findings(DataFindings(blocked=blocked)),
        Evidence(current=2),
        Decision(action, Rule.OTHERWISE, ("a reason",), ()),
        attempt,
    )


NOTHING = Findings(DataFindings(nothing="no batch under data/loans/batches/*: correct it"))
REASON = Decision(Action.RELOAD, Rule.OTHERWISE, ("as expected",), ())


def test_nothing_is_there_yet() -> None:
    """Before the first batch the run is held, and its cause is that the pattern matches nothing."""
    held = replace(REASON, action=Action.HOLD, reasons=("no version yet",))
    done = conclude(State(), State(), make_spec(), NOTHING, Evidence(), held, None)
    assert (done.outcome, done.blocked) == (Outcome.HELD, ())
    assert wording.headline(done, "loans").endswith("no batch under data/loans/batches/*: correct it.")


@pytest.mark.parametrize("action", [Action.RELOAD, Action.HOLD, Action.ROLLBACK])
def test_nothing_is_there_any_more(action: Action) -> None:
    """A pattern that matches nothing although batches were decided on fails the run, and changes no version but as
    the decision says; nothing is called as expected, and no batch is set aside for it."""
    state = replace(TWO, batches={"001": BatchRecord("d", 10)})
    done = conclude(state, state, make_spec(), NOTHING, Evidence(current=2), replace(REASON, action=action), None)
    assert done.outcome is Outcome.BLOCKED and done.outcome.failed
    assert done.in_service == (V1 if action is Action.ROLLBACK else V2)
    assert "nothing is there to decide on: no batch under data/loans/batches/*" in wording.headline(done, "loans")
    assert ("as expected" in " ".join(wording.reasons(done))) is (action is not Action.RELOAD)
    assert dict(after_decision(state, done, LastDecision("k", 1), "2026").blocked) == {}


@pytest.mark.parametrize(
    ("action", "attempt", "outcome", "in_service"),
    [
        (Action.RELOAD, None, Outcome.RELOADED, V2),
        (Action.HOLD, None, Outcome.HELD, V2),
        (Action.BLOCK, None, Outcome.BLOCKED, V2),
        (Action.ROLLBACK, None, Outcome.ROLLED_BACK, V1),
        (Action.RETRAIN, NEW, Outcome.RETRAINED, V3),
        (Action.RETRAIN, replace(NEW, outcome=AttemptOutcome.REFUSED), Outcome.KEPT, V2),
        (Action.RETRAIN, Attempt(3, AttemptOutcome.FAILED, reason="no"), Outcome.RETRAIN_FAILED, V2),
    ],
)
def test_outcome_and_version_in_service(
    action: Action, attempt: Attempt | None, outcome: Outcome, in_service: Served
) -> None:
    """Each action ends under its own name; only a rollback and an accepted challenger change who serves."""
    decided = concluded(action, attempt)
    assert (decided.outcome, decided.in_service) == (outcome, in_service)


def test_a_persons_choice_stands() -> None:
    """If somebody promoted a version while the run was at work, the challenger is registered and not put in service."""
    by_hand = replace(TWO, served=(V1, V2, V1), by_hand=7)
    decided = concluded(Action.RETRAIN, NEW, now=by_hand)
    assert (decided.outcome, decided.in_service) == (Outcome.KEPT, V1)
    assert concluded(Action.ROLLBACK, now=by_hand).in_service == V1


def test_approval_waits_even_beside_a_broken_batch() -> None:
    """With approval asked for, the challenger waits, whatever name the run ends under."""
    alone = concluded(Action.RETRAIN, NEW, promotion="approve")
    beside = concluded(Action.RETRAIN, NEW, promotion="approve", broken=True)
    assert (alone.outcome, beside.outcome) == (Outcome.AWAITING_APPROVAL, Outcome.BLOCKED)
    for decided in (alone, beside):
        assert decided.in_service == V2
        assert decided.attempt is not None and decided.attempt.outcome == "waiting"


def test_a_broken_batch_makes_the_run_blocked() -> None:
    """Whatever was decided on the good batches, a broken one makes the run end Blocked, and somebody is told."""
    decided = concluded(Action.RETRAIN, NEW, broken=True)
    assert (decided.outcome, decided.in_service) == (Outcome.BLOCKED, V3)


def test_labels_of_a_batch_that_waits_do_not_count_yet() -> None:
    """What was measured on a batch that the version now in service would not accept is left for a later run."""
    measured = Findings(labels=LabelFindings(
        labelled=(Labelled("001", "l", 9, 1.0), Labelled("002", "l", 9, 1.0)),
        losses=tuple(LossPoint(batch, 2, 9, 0.1, 0.1) for batch in ("001", "002")),
        comparisons=tuple(Comparison(batch, 2, 1, 9, 0.1, 0.1, 1) for batch in ("001", "002")),
    ))  # fmt: skip
    now = replace(TWO, served=(V2, V1), by_hand=7, batches={"001": BatchRecord("a", 9)})
    decided = conclude(
        TWO, now, make_spec(), measured, Evidence(current=2), Decision(Action.RELOAD, Rule.OTHERWISE, ("r",), ()), None
    )
    kept = (decided.labelled, decided.losses, decided.comparisons)
    assert [[item.batch for item in items] for items in kept] == [["001"], ["001"], ["001"]]


def test_a_quarantine_meanwhile_moves_the_data_end() -> None:
    """A run that trained on a batch that a person then put in quarantine counts the batches that are left."""
    batches = {name: BatchRecord("a", 9, "l", 9) for name in ("001", "002", "003")}
    now = replace(TWO, by_hand=7, batches=batches, quarantined=("002",))
    attempt = concluded(Action.RETRAIN, NEW, now=now).attempt
    assert attempt is not None and attempt.labelled == 2
    assert concluded(Action.RETRAIN, NEW, now=replace(now, by_hand=0)).attempt == NEW


@pytest.mark.parametrize(
    ("attempt", "window"),
    [
        (NEW, ("009",)),
        (replace(NEW, outcome=AttemptOutcome.REFUSED), ()),
        (Attempt(3, AttemptOutcome.FAILED, reason="no"), ()),
    ],
)
def test_what_no_version_here_could_predict_is_left(attempt: Attempt, window: tuple[str, ...]) -> None:
    """Where the version in service does not load here, a retrain by hand decides on batches only if the new version
    takes its place; what is known of changed batches is not forgotten either."""
    batch = Batch("009", "data/009.parquet", "f" * 64)
    found = replace(TWO, novel=("007",))
    measured = Findings(DataFindings(valid=(batch,), rows=(9,)))
    decision = Decision(Action.RETRAIN, Rule.OTHERWISE, ("r",), ())
    decided = conclude(found, found, make_spec(), measured, Evidence(current=None), decision, attempt)
    assert tuple(item.id for item in decided.window) == window
    assert decided.novel == (() if window else ("007",))


def test_overdue_labels_are_the_last_reason() -> None:
    """Headline and alert quote it, whatever is said of batches that nobody predicted or of files that are gone."""
    found = LabelFindings(overdue=Overdue(("001",), "labels are overdue for 001"))
    decision = Decision(Action.RELOAD, Rule.OTHERWISE, ("a reason",), ())
    known = replace(TWO, batches={"001": BatchRecord("d", 10)})
    for data in (DataFindings(early="1 batch was not predicted"), DataFindings(nothing="no batch under data/*")):
        done = conclude(known, known, make_spec(), Findings(data, found), Evidence(current=2), decision, None)
        assert done.decision.reasons[-1] == "labels are overdue for 001"
    assert done.outcome is Outcome.BLOCKED


@pytest.mark.parametrize(
    ("action", "attempt", "broken", "outcome"),
    [
        (Action.RELOAD, None, False, Outcome.LABELS_OVERDUE),
        (Action.HOLD, None, False, Outcome.LABELS_OVERDUE),
        (Action.RELOAD, None, True, Outcome.BLOCKED),
        (Action.RETRAIN, NEW, False, Outcome.RETRAINED),
    ],
)
def test_overdue_labels_end_a_run_that_changes_nothing(
    action: Action, attempt: Attempt | None, broken: bool, outcome: Outcome
) -> None:
    """A reload or a hold with overdue labels is an alarm that says why; broken data and a retrain come first."""
    found = Findings(
        DataFindings(blocked=(Blocked("009", "f" * 64, ("no rows",)),) if broken else ()),
        LabelFindings(overdue=Overdue(("001",), "labels are overdue for 001")),
    )
    decision = Decision(action, Rule.OTHERWISE, ("a reason",), ())
    decided = conclude(TWO, TWO, make_spec(), found, Evidence(current=2), decision, attempt)
    assert (decided.outcome, decided.outcome.failed) == (outcome, outcome is not Outcome.RETRAINED)
    told = "labels are overdue for 001" in decided.decision.reasons
    assert told == (action is not Action.RETRAIN)
