"""The words of a decision: what happened, and why, in one line and then in detail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.core.ledger.events import Decided
from tasks.core.ledger.state import State
from tasks.core.reports.status import ServedBatch, _in_service, _snoozed
from tasks.core.reports.wording import also, headline, reasons, sentences, title
from tasks.core.types import Attempt, AttemptOutcome, BatchRecord, Blocked, Gate, LossPoint, Outcome, Snooze, Verdict
from tests.helpers.events import BROKEN, RELOADED

GATE = Gate(Verdict.FAIL, "worse than v2", 200, 0.1, 0.01, "v2")


@pytest.mark.parametrize(
    ("decided", "cause", "then"),
    [
        (RELOADED, "v2 stays.", []),
        (
            replace(RELOADED, outcome=Outcome.BLOCKED, blocked=(BROKEN,)),
            "008 is set aside: column 'age' is missing.",
            ["008 is set aside: column 'city' is missing.", "v2 stays."],
        ),
        (
            replace(RELOADED, outcome=Outcome.BLOCKED, blocked=(Blocked("labels", "", ("x.csv is empty.",)),)),
            "the labels cannot be used: x.csv is empty.",
            ["v2 stays."],
        ),
        (
            replace(RELOADED, outcome=Outcome.KEPT, attempt=Attempt(7, AttemptOutcome.REFUSED, 3, "d", gate=GATE)),
            "v3 refused: worse than v2.",
            ["v2 stays."],
        ),
        (
            replace(
                RELOADED,
                outcome=Outcome.LABELS_OVERDUE,
                decision=replace(RELOADED.decision, reasons=("v2 stays", "labels are overdue for 001")),
            ),
            "labels are overdue for 001.",
            ["v2 stays."],
        ),
        (
            replace(
                RELOADED,
                outcome=Outcome.RETRAIN_FAILED,
                attempt=Attempt(7, AttemptOutcome.FAILED, reason="Fitting failed."),
            ),
            "Fitting failed.",
            ["v2 stays."],
        ),
    ],
)
def test_the_cause_comes_first(decided: Decided, cause: str, then: list[str]) -> None:
    """The one line that Prefect and the terminal show names what made the run end so; nothing is said twice."""
    said = headline(decided, "loans")
    assert said == f"loans · 007: {decided.outcome.value} — v2 in service; {cause}"
    assert sentences(decided) == then


def test_a_broken_batch_alone_is_named() -> None:
    """Where no good batch was pending, the line names the broken one."""
    assert headline(replace(RELOADED, window=(), blocked=(BROKEN,)), "loans").startswith("loans · 008:")


def test_the_cause_is_the_first_reason() -> None:
    """What card and page show: the end in a few words, then every reason once, the cause first."""
    refused = replace(RELOADED, outcome=Outcome.KEPT, attempt=Attempt(7, AttemptOutcome.REFUSED, 3, "d", gate=GATE))
    assert title(refused, "loans") == "loans · 007: Kept — v2 in service"
    assert reasons(refused) == ["v3 refused: worse than v2.", "v2 stays."]


def test_the_headline_names_the_command() -> None:
    """Where a version waits for a person, the one line ends in the command that puts it in service, as it is typed."""
    made = Attempt(7, AttemptOutcome.WAITING, 3, "d", gate=replace(GATE, verdict=Verdict.PASS))
    said = headline(replace(RELOADED, outcome=Outcome.AWAITING_APPROVAL, attempt=made), "loans")
    assert said.endswith(" v3 waits for: ror promote loans v3 --reason '...'")


def test_loss_in_service_is_what_users_saw() -> None:
    """Each batch counts with the version that served it, whichever is in service now, beside coverage and lag."""
    state = State(
        batches={
            "001": BatchRecord("d", 100, "l", 100, 1, None),  # held before the first version: nobody saw a prediction
            "002": BatchRecord("d", 100, "l", 90, 1, 1),
            "003": BatchRecord("d", 100, "l", 50, 2, 2),
            "004": BatchRecord("d", 100, "l", 50, 0, 3),  # v3 was trained on it
        },
        losses=(
            *(LossPoint(batch, 2, 50, 0.5, 0.0) for batch in ("003", "004")),
            *(LossPoint(batch, 1, 90, 0.2, 0.0) for batch in ("001", "002", "003")),
        ),
    )
    seen = _in_service(state)
    assert seen is not None
    assert (seen.batches, seen.rows) == (("002", "003"), 140)
    assert seen.loss == pytest.approx((0.2 * 90 + 0.5 * 50) / 140)
    assert seen.each[-1] == ServedBatch(batch="003", version=2, loss=0.5, rows=50, coverage=0.5, lag=2)
    assert _in_service(State()) is None


def test_a_snooze_that_ran_out_is_not_shown() -> None:
    """Status lists what still holds; what ran out needs nobody."""
    over, holds = (Snooze(("age",), until, "why", "ann", "2020-01-01") for until in ("2020-02-01", "2999-12-31"))
    assert [snooze.until for snooze in _snoozed(State(snoozed=(over, holds)))] == ["2999-12-31"]


def test_all_that_is_wrong_with_a_batch_is_said_beside_the_headline() -> None:
    """Whoever mends a batch wants to do so once: the first problem is the headline's, the others follow, but not
    hundreds of them."""
    assert also(RELOADED) == []
    assert also(replace(RELOADED, blocked=(BROKEN,))) == ["Also: column 'city' is missing."]
    many = replace(BROKEN, problems=tuple(f"column {place} is missing." for place in range(9)))
    (said,) = also(replace(RELOADED, blocked=(many,)))
    assert said.startswith("Also: column 1 is missing; column 2") and said.endswith(" and 3 more.")
