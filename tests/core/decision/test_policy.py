"""The decision: each rule, their order, and what holds a retrain back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.decision import policy
from tasks.core.decision.evidence import DriftEvidence, Evidence
from tasks.core.decision.policy import RULES, decide
from tasks.core.spec import PolicySpec
from tasks.core.types import Action, Comparison, Decision, LossPoint, Request


def points(version: int, *means: float, first: int = 1) -> tuple[LossPoint, ...]:
    """The losses of one version on batches b1, b2, ... of 500 rows each."""
    return tuple(LossPoint(f"b{number}", version, 500, mean, 0.01) for number, mean in enumerate(means, start=first))


def gains(*values: float, variance: float = 0.01) -> tuple[Comparison, ...]:
    """What v2 was worth beside v1 on batches b1, b2, ..."""
    return tuple(Comparison(f"b{place}", 2, 1, 500, gain, variance, 1) for place, gain in enumerate(values, start=1))


CALM = Evidence(
    pending=1,
    current=2,
    predecessor=1,
    predecessor_ready=True,
    labelled_rows=5000,
    new_batches=1,
    new_rows=500,
    losses=points(2, 0.2, 0.2, 0.2, 0.2, 0.2),
    newest="b5",
    dummy_loss=0.5,
)
"""v2 in service, five labelled batches with the usual loss, one of them new, and nothing amiss."""

BY_HAND = Request("retrain", "because", "ann")
MOVED = DriftEvidence(drifted=("income",), weight=0.5, measured=True)
STIRRED = DriftEvidence(measured=True, stirred=0.5)
BAD = points(2, 0.2, 0.2, 0.2, 0.2, 0.6)
DROPPED = points(2, 0.2, 0.2, 0.2, 0.2, 0.3)
WORSE = {"comparisons": gains(-0.1, -0.1, -0.1), "losses": points(2, 0.3, 0.3, 0.3) + points(1, 0.2, 0.2, 0.2)}

CASES: dict[str, tuple[dict[str, Any], Action]] = {
    "broken data": ({"blocked": ("b6",), "pending": 0}, Action.BLOCK),
    "asked by hand": ({"request": BY_HAND}, Action.RETRAIN),
    "first version": ({"current": None, "predecessor": None, "losses": ()}, Action.RETRAIN),
    "suspect labels": ({"losses": BAD}, Action.HOLD),
    "rollback": (WORSE, Action.ROLLBACK),
    "performance drop": ({"losses": DROPPED}, Action.RETRAIN),
    "assumptions changed": ({"novel": ("b5",)}, Action.RETRAIN),
    "stale": ({"new_batches": 9}, Action.RETRAIN),
    "drift": ({"new_batches": 2, "drift": MOVED}, Action.RETRAIN),
    "otherwise": ({}, Action.RELOAD),
}
"""For each rule what it takes, beside a calm day, to make it decide."""


def decision(changes: dict[str, Any] | None = None, **settings: Any) -> Decision:
    """What is decided on a calm day with these changes, under these settings of the policy."""
    return decide(replace(CALM, **(changes or {})), PolicySpec(**settings))


# --- each rule -----------------------------------------------------------------------------------------------


def test_the_rules_and_their_order() -> None:
    """The ten rules are looked at in the order that the design promises."""
    assert [name for name, _ in RULES] == list(CASES)


@pytest.mark.parametrize("rule", CASES)
def test_each_rule_decides(rule: str) -> None:
    """Each rule has evidence on which it decides, with a reason, after every rule before it has looked."""
    changes, action = CASES[rule]
    found = decision(changes)
    assert (found.rule, found.action) == (rule, action)
    assert [finding.rule for finding in found.findings] == list(CASES)[: list(CASES).index(rule) + 1]
    assert found.reasons[0] == found.findings[-1].reason != ""


@pytest.mark.parametrize("rule", CASES)
def test_no_rule_is_superfluous(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that rule another one decides on the same evidence, or none can."""
    monkeypatch.setattr(policy, "RULES", [item for item in RULES if item[0] != rule])
    if rule == "otherwise":
        with pytest.raises(AssertionError):
            decision(CASES[rule][0])
        return
    assert decision(CASES[rule][0]).rule != rule


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("broken data", "asked by hand"),
        ("asked by hand", "first version"),
        ("asked by hand", "suspect labels"),
        ("asked by hand", "rollback"),
        ("suspect labels", "rollback"),
        ("suspect labels", "performance drop"),
        ("rollback", "assumptions changed"),
        ("performance drop", "assumptions changed"),
        ("assumptions changed", "stale"),
        ("stale", "drift"),
    ],
)
def test_the_earlier_rule_wins(first: str, second: str) -> None:
    """Where two rules apply, the one that is looked at first decides."""
    both = {**CASES[second][0], **CASES[first][0]}
    if (first, second) == ("suspect labels", "rollback"):
        both |= {"losses": BAD + points(1, 0.1, 0.1, 0.1, 0.1, 0.55), "comparisons": gains(-0.1, -0.1, -0.1)}
    assert decision(both).rule == first


# --- 1 to 3: broken data, by hand, the first version ---------------------------------------------------------


@pytest.mark.parametrize(("age", "made"), [(1, True), (0, False)])
def test_an_attempt_that_came_to_nothing_is_made_again(age: int, made: bool) -> None:
    """Once what it depended on has changed, and if there is anything to learn that the version in service has not."""
    found = decision({"new_batches": age, "mended": True}, max_age=16)
    assert (found.action is Action.RETRAIN) is made
    assert ("it is made again" in found.reasons[0]) is made


def test_what_stays_set_aside_is_said() -> None:
    """By the rule that looks at it; the others decide."""
    found = decision({"aside": ("003",)})
    assert found.action is Action.RELOAD
    assert found.findings[0].reason == "003 set aside as before; the other batches proceed"


def test_other_batches_proceed_beside_a_broken_one() -> None:
    """A broken batch blocks the run only when it is alone; the others are decided on, and it is mentioned."""
    found = decision({"blocked": ("b6",), "pending": 1})
    assert found.rule == "otherwise"
    assert found.findings[0].reason == "b6 set aside as broken; the other batches proceed"


@pytest.mark.parametrize(
    ("request_", "changes", "action"),
    [
        (Request("reload", "ok", "ann"), {"new_batches": 9}, Action.RELOAD),
        (Request("reload", "ok", "ann"), {"current": None}, Action.HOLD),
        (BY_HAND, {"new_batches": 0, "new_rows": 0}, Action.RETRAIN),
        (BY_HAND, {"cooldown": 3}, Action.RETRAIN),
        (BY_HAND, {"labelled_rows": 199}, Action.HOLD),
        (Request("auto"), {}, Action.RELOAD),
    ],
)
def test_a_request_is_carried_out(request_: Request, changes: dict[str, Any], action: Action) -> None:
    """A person gets what they ask for, whatever the other rules say, unless it cannot be done at all."""
    found = decision({"request": request_, **changes})
    assert found.action is action
    assert (found.rule == "asked by hand") is (request_.action != "auto")
    assert (request_.actor in found.reasons[0]) is (request_.action != "auto")


@pytest.mark.parametrize(("rows", "action"), [(0, Action.HOLD), (199, Action.HOLD), (200, Action.RETRAIN)])
def test_the_first_version_waits_for_labels(rows: int, action: Action) -> None:
    """Without a version there is nothing to predict with: it is trained as soon as there are enough labelled rows."""
    found = decision({"current": None, "losses": (), "labelled_rows": rows}, min_rows=200)
    assert (found.rule, found.action) == ("first version", action)


def test_a_refused_first_version_is_not_tried_again_on_the_same_rows() -> None:
    """When the first attempt failed, the next one waits for new labels."""
    found = decision({"current": None, "losses": (), "new_batches": 0, "new_rows": 0})
    assert (found.rule, found.action) == ("first version", Action.HOLD)
    assert "nothing new to learn" in found.reasons[1]


# --- 4: suspect labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "suspected"),
    [
        ({"losses": points(2, 0.2, 0.2, 0.2, 0.2, 0.49)}, False),
        ({"losses": points(2, 0.2, 0.2, 0.2, 0.2, 0.51)}, True),
        ({"losses": points(2, 0.4, 0.4, 0.4, 0.4, 0.59)}, False),
        ({"losses": points(2, 0.4, 0.4, 0.4, 0.4, 0.61)}, True),
        ({"losses": BAD + points(1, 0.3, first=5)}, False),
        ({"losses": BAD + points(1, 0.7, first=5)}, True),
        ({"losses": points(2, 0.2, 0.6), "newest": "b2"}, False),
        ({"losses": points(1, 0.2, 0.2, 0.2, 0.2) + points(2, 2.1, first=5)}, True),
        ({"losses": points(1, 0.2, 0.2, 0.2, 0.2) + points(2, 1.9, first=5)}, False),
        ({"losses": BAD, "newest": None}, False),
        ({"losses": BAD, "dummy_loss": None}, False),
    ],
    ids=[
        "below what Dummy loses",
        "above it",
        "below one and a half times the usual",
        "above it",
        "the predecessor does well",
        "the predecessor fails, too",
        "one earlier batch is no history",
        "a young champion, beside what was usual before it",
        "not ruinous beside it",
        "nothing was labelled",
        "Dummy is not known",
    ],
)
def test_labels_are_doubted_when_every_version_fails(changes: dict[str, Any], suspected: bool) -> None:
    """Labels are suspect when champion and predecessor lose more than Dummy and far more than the champion usually."""
    found = decision(changes)
    assert (found.rule == "suspect labels") is suspected
    assert found.suspect == ("b5" if suspected else None)


def test_a_second_bad_batch_confirms_the_suspect() -> None:
    """When the next labelled batch is as bad, the world has changed: the suspect is cleared and trained on."""
    losses = points(2, 0.2, 0.2, 0.2, 0.6, 0.6)
    found = decision({"suspect": "b4", "losses": losses, "new_batches": 2})
    assert (found.rule, found.action) == ("suspect labels", Action.RETRAIN)
    assert (found.cleared, found.quarantined, found.suspect) == ("b4", None, None)


def test_a_suspect_is_no_part_of_the_usual() -> None:
    """The loss on the suspect batch does not raise the bar that the next one has to pass to confirm it."""
    found = decision({"suspect": "b4", "losses": points(2, 0.3, 0.3, 0.3, 0.9, 0.6), "new_batches": 2})
    assert (found.rule, found.cleared) == ("suspect labels", "b4")


def test_a_good_batch_quarantines_the_suspect() -> None:
    """When the next labelled batch is as usual, the suspect's labels were wrong: they are kept out for good."""
    losses = points(2, 0.2, 0.2, 0.2, 0.6, 0.2)
    found = decision({"suspect": "b4", "losses": losses})
    assert found.quarantined == "b4"
    assert (found.cleared, found.suspect) == (None, None)
    assert found.action is Action.RELOAD


@pytest.mark.parametrize("newest", [None, "b4"])
def test_a_suspect_waits_for_the_next_labels(newest: str | None) -> None:
    """As long as no later batch is labelled, a suspect is neither cleared nor quarantined."""
    found = decision({"suspect": "b4", "losses": points(2, 0.2, 0.2, 0.2, 0.6), "newest": newest, "new_batches": 0})
    assert (found.cleared, found.quarantined) == (None, None)


# --- 5 and 6: rollback, performance --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rolled_back"),
    [
        ({}, True),
        ({"comparisons": gains(0.1, 0.1, 0.1)}, False),
        ({"comparisons": gains(-0.039, -0.039, -0.039)}, False),
        ({"comparisons": gains(-0.041, -0.041, -0.041)}, True),
        ({"comparisons": gains(-0.1, -0.1, -0.1, variance=2.0)}, False),
        ({"comparisons": gains(-0.1, -0.1, -0.1, variance=1.5)}, True),
        ({"comparisons": gains(-9.0, 0.0, 0.0, 0.0)}, False),
        ({"comparisons": gains(-0.09)}, False),
        ({"comparisons": gains(-0.11)}, True),
        ({"predecessor_ready": False}, False),
        ({"predecessor": None}, False),
        ({"comparisons": ()}, False),
    ],
    ids=[
        "clearly worse",
        "better",
        "19.5 % of the predecessor's loss",
        "20.5 % of it",
        "within three standard errors",
        "beyond them",
        "only the newest three batches count",
        "45 % on one batch",
        "55 % on one batch",
        "the predecessor is barred",
        "no predecessor",
        "never compared",
    ],
)
def test_a_worse_version_is_rolled_back(changes: dict[str, Any], rolled_back: bool) -> None:
    """The predecessor comes back when it is better beyond chance and by more than a fifth of its own loss."""
    found = decision({**WORSE, "newest": None, **changes})
    assert (found.rule == "rollback") is rolled_back
    assert (found.action is Action.ROLLBACK) is rolled_back


@pytest.mark.parametrize(
    ("losses", "dropped"),
    [
        (points(2, 0.2, 0.2, 0.2, 0.2, 0.218), False),
        (points(2, 0.2, 0.2, 0.2, 0.2, 0.23), True),
        (points(2, 0.01, 0.01, 0.01, 0.01, 0.02), False),
        (points(2, 0.2, 0.23), False),
        (points(1, 0.2, 0.2, 0.2, 0.2) + points(2, 0.29, first=5), False),
        (points(1, 0.2, 0.2, 0.2, 0.2) + points(2, 0.31, first=5), True),
        (points(2, *[0.9] * 4, *[0.2] * 9, 0.23), True),
    ],
    ids=[
        "within ten per cent",
        "beyond ten per cent and chance",
        "within chance",
        "no history",
        "a young version, within half of what was usual before",
        "a young version, beyond half of it",
        "old losses are gone",
    ],
)
def test_a_drop_is_beyond_ten_per_cent_and_beyond_chance(losses: tuple[LossPoint, ...], dropped: bool) -> None:
    """Performance dropped when the newest loss is far above the mean of this version's last nine batches."""
    found = decision({"losses": losses, "newest": losses[-1].batch, "dummy_loss": 9.0})
    assert (found.rule == "performance drop") is dropped


# --- 7 to 9: assumptions, age, drift -------------------------------------------------------------------------


def test_changed_content_may_block() -> None:
    """With on_change = block changed content blocks, until a person accepts it."""
    changes = {"changes": ("a", "b", "c", "d", "e")}
    found = decision(changes, on_change="block")
    assert (found.rule, found.action) == ("assumptions changed", Action.BLOCK)
    assert "a; b; c and 2 more" in found.reasons[0]
    accepted = decision({**changes, "accepted": ("b5",)}, on_change="block")
    assert (accepted.rule, accepted.action) == ("assumptions changed", Action.RETRAIN)


@pytest.mark.parametrize("kind", ["accepted", "novel"])
def test_a_change_is_learned_once_it_is_labelled(kind: str) -> None:
    """A changed batch without labels holds, saying so, unless something else can be learned: then that is judged."""
    accepted = {kind: ("b5", "b6")}
    unlabelled = {**accepted, "unlearnable": ("b5", "b6")}
    held = decision({**unlabelled, "new_batches": 0})
    assert (held.rule, held.action) == ("assumptions changed", Action.HOLD)
    assert "its labels must arrive" in held.reasons[0]
    flagged = decision({**unlabelled, "new_batches": 1, "changes": ("b6: city: 40% new",)})
    assert (flagged.rule, flagged.action) == ("otherwise", Action.HOLD)
    assert "b5, b6 waits for its labels" in flagged.reasons[0]
    assert "city: 40% new" in flagged.findings[6].reason
    assert decision({**unlabelled, "new_batches": 9}).rule == "stale"
    assert decision({**unlabelled, "changes": ("b7: a",)}, on_change="block").action is Action.BLOCK
    found = decision({**accepted, "unlearnable": ("b6",)})
    assert (found.rule, found.action) == ("assumptions changed", Action.RETRAIN)


@pytest.mark.parametrize(
    ("age", "settings", "due"),
    [
        (2, {}, False),
        (3, {}, True),
        (2, {"max_age": 2}, True),
        (1, {"max_age": 2}, False),
        (1, {"retrain_cost": 0.01}, True),
        (9, {"retrain_cost": 2.0, "max_age": "never"}, False),
    ],
)
def test_a_version_is_stale_at_its_interval(age: int, settings: dict[str, Any], due: bool) -> None:
    """A version is retrained once its age, to the nearest batch, has reached the economic interval."""
    found = decision({"new_batches": age}, **settings)
    assert (found.rule == "stale") is due


def test_never_is_never() -> None:
    """Without an age limit, and without evidence of staleness, age alone does not retrain."""
    found = decision({"new_batches": 10_000, "comparisons": gains(-0.01, -0.02, variance=2.0)}, max_age="never")
    assert (found.rule, found.interval) == ("otherwise", None)


@pytest.mark.parametrize(
    ("mode", "age", "changes", "retrained"),
    [
        ("early-warning", 1, {}, False),
        ("early-warning", 2, {}, True),
        ("early-warning", 2, {"label_delay": 1}, True),
        ("early-warning", 2, {"label_delay": 2}, False),
        ("trigger", 1, {}, True),
        ("report", 2, {}, False),
        ("trigger", 1, {"drift": replace(MOVED, weight=0.24)}, False),
        ("trigger", 1, {"drift": replace(MOVED, weight=0.24, prediction=True)}, True),
        ("trigger", 1, {"drift": replace(MOVED, measured=False)}, False),
        ("early-warning", 2, {"drift": STIRRED}, True),
        ("early-warning", 2, {"drift": replace(STIRRED, stirred=0.24)}, False),
        ("early-warning", 2, {"drift": replace(STIRRED, stirred=0.0, stirred_prediction=True)}, True),
        ("early-warning", 1, {"drift": STIRRED}, False),
        ("early-warning", 2, {"drift": STIRRED, "label_delay": 2}, False),
        ("trigger", 2, {"drift": STIRRED}, False),
        ("report", 2, {"drift": STIRRED}, False),
    ],
)
def test_drift_is_a_warning_a_trigger_or_a_report(
    mode: str, age: int, changes: dict[str, Any], retrained: bool
) -> None:
    """Drift that carries enough importance retrains at once, from half the interval on, or not at all, as set; what has
    only stirred does from half the interval on, if at all."""
    found = decision({"drift": MOVED, "new_batches": age, **changes}, drift=mode)
    assert (found.rule == "drift") is retrained


# --- what holds a retrain back -------------------------------------------------------------------------------


PROPOSALS = ("first version", "performance drop", "assumptions changed", "stale", "drift")


@pytest.mark.parametrize("rule", PROPOSALS)
@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"labelled_rows": 199}, "199 labelled rows"),
        ({"new_rows": 0}, "nothing new to learn"),
        ({"cooldown": 2}, "2 more labelled batches must arrive first"),
        ({"cooldown": 1}, "1 more labelled batch must arrive first"),
    ],
)
def test_a_retrain_that_cannot_help_is_held(rule: str, changes: dict[str, Any], missing: str) -> None:
    """Where nothing new could be learnt, or a rollback was just made, the decision is to hold and says why."""
    found = decision({**CASES[rule][0], **changes})
    assert (found.rule, found.action) == (rule, Action.HOLD)
    assert missing in " ".join(found.reasons)


@pytest.mark.parametrize("rule", PROPOSALS)
def test_no_queue_of_challengers(rule: str) -> None:
    """While a challenger waits for approval no other is trained, until that one has grown old as well."""
    waiting = {**CASES[rule][0], "waiting": 3}
    if rule != "stale":
        young = decision({**waiting, "new_batches": 1}, drift="trigger")
        assert (young.rule, young.action) == (rule, Action.HOLD)
        assert young.reasons[1] == "but v3, trained since, waits for approval"
    assert decision({**waiting, "new_batches": 16}).action is Action.RETRAIN


def test_new_cause_is_no_queue() -> None:
    """What a person accepted, and a shift that was confirmed, are learned although a challenger waits."""
    assert decision({"accepted": ("b5",), "waiting": 3}).action is Action.RETRAIN
    losses = points(2, 0.2, 0.2, 0.2, 0.6, 0.6)
    assert decision({"suspect": "b4", "losses": losses, "waiting": 3}).action is Action.RETRAIN


def test_without_new_batches_nothing_is_learnt() -> None:
    """A drop that is still there holds until labels arrive that no version has been trained on."""
    found = decision({"losses": DROPPED, "new_batches": 0})
    assert (found.rule, found.action) == ("performance drop", Action.HOLD)
    assert "nothing new to learn, waiting for labels" in found.reasons[1]


# --- every evidence ------------------------------------------------------------------------------------------


COUNTS = st.integers(0, 30)
NUMBERS = st.floats(0, 1e6) | st.floats(0, 1)
VERSIONS = st.none() | st.integers(1, 3)
BATCHES = st.none() | st.sampled_from(["b1", "b2", "b3"])
NAMES = st.lists(st.sampled_from(["b1", "b2", "b3"]), unique=True).map(tuple)
ANY = st.builds(
    Evidence,
    request=st.builds(Request, st.sampled_from(["auto", "reload", "retrain"]), st.none() | st.text(), st.text()),
    pending=COUNTS,
    blocked=NAMES,
    aside=NAMES,
    mended=st.booleans(),
    current=VERSIONS,
    predecessor=VERSIONS,
    predecessor_ready=st.booleans(),
    labelled_rows=st.integers(0, 1000),
    new_batches=st.integers(-3, 30),
    new_rows=COUNTS,
    cooldown=COUNTS,
    losses=st.lists(
        st.builds(LossPoint, BATCHES.map(str), st.integers(1, 3), st.integers(1, 999), NUMBERS, NUMBERS), max_size=12
    ).map(tuple),
    comparisons=st.lists(
        st.builds(
            Comparison,
            BATCHES.map(str),
            st.integers(1, 3),
            st.integers(1, 3),
            st.integers(1, 999),
            st.floats(-1e6, 1e6),
            NUMBERS,
            st.integers(1, 9),
        ),
        max_size=8,
    ).map(tuple),
    newest=BATCHES,
    dummy_loss=st.none() | NUMBERS,
    suspect=BATCHES,
    changes=NAMES,
    accepted=NAMES,
    unlearnable=NAMES,
    waiting=VERSIONS,
    drift=st.builds(
        DriftEvidence, NAMES, st.floats(0, 1), st.booleans(), st.booleans(), st.floats(0, 1), st.booleans()
    ),
    label_delay=st.one_of(st.none(), st.integers(1, 5)),
)
POLICIES = st.builds(
    PolicySpec,
    retrain_cost=st.floats(0.001, 10),
    max_age=st.integers(1, 40) | st.just("never"),
    min_rows=st.integers(10, 500),
    drift=st.sampled_from(["early-warning", "trigger", "report"]),
    drift_weight=st.floats(0.01, 1),
    on_change=st.sampled_from(["retrain", "block"]),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(ANY, POLICIES)
def test_every_evidence_has_a_decision(evidence: Evidence, settings_: PolicySpec) -> None:
    """Whatever was measured there is one decision, made by the first rule that applies, and it can be carried out."""
    found = decide(evidence, settings_)
    assert [finding.applies for finding in found.findings] == [False] * (len(found.findings) - 1) + [True]
    assert found.findings[-1].rule == found.rule
    assert all(finding.reason for finding in found.findings)
    assert found == decide(evidence, settings_)
    if found.action is Action.RETRAIN:
        assert evidence.labelled_rows >= settings_.min_rows
    if found.action is Action.ROLLBACK:
        assert evidence.predecessor_ready
        assert evidence.predecessor is not None
    if found.action is Action.RELOAD:
        assert evidence.current is not None
    assert found.interval is None or found.interval >= 1
    assert not (found.cleared and found.quarantined)
    assert {found.cleared, found.quarantined} <= {None, evidence.suspect}
