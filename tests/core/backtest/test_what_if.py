"""Another policy on the evidence that the history recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.backtest.what_if import ask, read_policy
from tasks.core.decision.evidence import DriftEvidence, Evidence
from tasks.core.decision.policy import decide
from tasks.core.errors import SpecError
from tasks.core.ledger.events import Decided, Event
from tasks.core.ledger.state import State
from tasks.core.records import to_dict
from tasks.core.spec import PolicySpec
from tasks.core.types import LossPoint, Outcome

DRIFTED = Evidence(
    pending=1,
    current=1,
    labelled_rows=1000,
    new_batches=1,
    new_rows=200,
    losses=(LossPoint("001", 1, 200, 0.2, 0.1), LossPoint("002", 1, 200, 0.2, 0.1)),
    newest="002",
    drift=DriftEvidence(drifted=("income",), weight=0.6, measured=True),
)


def event(evidence: Evidence | None) -> Event:
    """A `decided` event of the default policy on this evidence."""
    decision = decide(evidence or DRIFTED, PolicySpec())
    body = Decided(
        outcome=Outcome.RELOADED, decision=decision, window=(), window_rows=(), blocked=(), labelled=(), losses=(),
        comparisons=(), checks=(), attempt=None, in_service=None, spec="", policy_version=1, evidence=evidence,
    )  # fmt: skip
    return Event(1, 7, None, "2026-01-01", "decided", "run", "key", "me", "", None, to_dict(body), State())


def test_the_same_policy_decides_the_same() -> None:
    """Recorded evidence is all that a decision rests on: asked again, the policy gives the decision it gave."""
    (answer,) = ask([event(DRIFTED)], PolicySpec())
    assert answer.same and answer.rule == answer.other_rule


def test_another_policy_may_decide_otherwise() -> None:
    """With drift as a trigger the young version would have been retrained, and the answer says by which rule."""
    (answer,) = ask([event(DRIFTED)], PolicySpec(drift="trigger"))
    assert (answer.action, answer.other_action, answer.other_rule) == ("reload", "retrain", "drift")
    assert not answer.same and "income moved" in answer.other_reasons[0]


def test_decisions_without_evidence_are_left_out() -> None:
    """Nothing is invented for decisions that an earlier release recorded without their evidence."""
    assert ask([event(None)], PolicySpec()) == []


@pytest.mark.parametrize("text", ['[policy]\ndrift = "trigger"\n', 'task = "binary"\n[policy]\ndrift = "trigger"\n'])
def test_a_policy_is_read_from_any_file_that_has_one(tmp_path: Path, text: str) -> None:
    """A whole model file will do, and so will its [policy] section alone."""
    path = tmp_path / "other.toml"
    path.write_text(text)
    assert read_policy(path) == PolicySpec(drift="trigger")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "there is no such file"),
        ("[policy", "not valid TOML"),
        ("drift = 1", "no .policy. section"),
        ("[policy]\ndrift = 'loud'\nmax_agee = 3", r"policy.drift = 'loud'.*\n.*did you mean 'max_age'"),
        ("[policy]\nretrain = 3.0", "retrain and error belong together"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str | None, says: str) -> None:
    """Every mistake in the file is named at once, as for a model's file."""
    path = tmp_path / "other.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SpecError, match=says):
        read_policy(path)
