"""The policy's version: it is raised whenever the rules decide anything differently, and only on purpose.

Each group below is a table of evidence and settings around the thresholds of one rule. Its digest is made of what is
decided there and of the numbers that decided it, never of words. Thresholds are met exactly only where the arithmetic
is exact, in powers of two, so that every platform and every Python (which differ in how they sum) agrees.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tasks.core.decision import evidence, interval, policy
from tasks.core.decision.evidence import DriftEvidence, Evidence
from tasks.core.decision.policy import POLICY_VERSION, RULES, decide
from tasks.core.spec import Forgetting, PolicySpec
from tasks.core.types import Action, Comparison, LossPoint, Request

DIGESTS: dict[int, dict[str, str]] = {
    3: {
        "constants": "5b6ee058e1408151",
        "order": "83a22b9085a6be8e",
        "suspect": "2c66aded0c9ee829",
        "rollback": "f90dc140a1b21fc7",
        "drop": "e924f07c8d3068a5",
        "changed": "19259041d5e21f35",
        "stale": "a6ae308d5e698422",
        "drift": "61d055710c4f848d",
    },
}
"""By POLICY_VERSION and group. The lines of a version that was released are never edited."""

CHANGED = """
The policy does not decide what DIGESTS says of version {version}, in these groups: {groups}.
If this was not meant: mend tasks.core.decision.policy, tasks.core.decision.evidence or PolicySpec.price, not this test.
If the rules are meant to decide differently: raise POLICY_VERSION by one, so that every question is asked anew;
add a line for the new version to DIGESTS, below those that are there; say in CHANGELOG.md what is decided differently.
If only the evidence of a group was extended: check that this test passes without the change to the policy.
What is decided now: {found}"""

Case = tuple[dict[str, Any], dict[str, Any]]
"""What differs from a calm day, and from SETTINGS."""

SETTINGS: dict[str, Any] = {
    "retrain_cost": 0.05,
    "retrain": None,
    "error": None,
    "forgetting": Forgetting(window=None, half_life=None),
    "max_age": 16,
    "min_rows": 200,
    "drift": "early-warning",
    "drift_weight": 0.25,
    "on_change": "retrain",
    "promotion": "auto",
    "metric_floor": None,
}
"""Written out: another default of an option is another question by the digest of the model's file alone."""

NUMBERS = frozenset(
    ["loss", "limit", "usual", "dummy", "excess", "standard_error", "predecessor_loss", "interval", "slope", "base"]
)
"""What rules compare. Other numbers are shown only."""


def points(version: int, *means: float, first: int = 1, rows: int = 256, variance: float = 0.0) -> list[LossPoint]:
    """The losses of one version on batches b01, b02, ..."""
    return [LossPoint(f"b{n:02d}", version, rows, mean, variance) for n, mean in enumerate(means, start=first)]


def gains(*values: float, first: int = 1, version: int = 2, other: int = 1, **fields: Any) -> list[Comparison]:
    """What one version was worth beside another on batches b01, b02, ..."""
    known = {"rows": 256, "variance": 0.0, "gap": 1, **fields}
    return [Comparison(f"b{n:02d}", version, other, gain=gain, **known) for n, gain in enumerate(values, start=first)]


CALM = Evidence(
    pending=1,
    current=2,
    predecessor=1,
    predecessor_ready=True,
    labelled_rows=5000,
    new_batches=1,
    new_rows=256,
    losses=tuple(points(2, *[0.25] * 5)),
    newest="b05",
    dummy_loss=0.5,
)
"""v2 in service, five labelled batches with the usual loss, one of them new, and nothing amiss."""

MOVED = DriftEvidence(("income",), 0.5, measured=True)
STIRRED = DriftEvidence(measured=True, stirred=0.5)


def every(settings: Mapping[str, Sequence[Any]] | None = None, /, **evidence: Sequence[Any]) -> Iterator[Case]:
    """All combinations of these values of evidence, under all combinations of these settings."""
    for under in combinations(settings or {}):
        for changes in combinations(evidence):
            yield changes, under


def combinations(choices: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """One value each."""
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def newest_of(losses: list[LossPoint], **evidence: Sequence[Any]) -> Iterator[Case]:
    """All combinations of these values on the day that brought the last of these losses."""
    return every(losses=[losses], newest=[losses[-1].batch], **evidence)


def order() -> Iterator[Case]:
    """Which rule comes first where several apply, and what holds a retrain back."""
    yield from every(
        blocked=[(), ("b06",)],
        pending=[0, 1],
        request=[Request(), Request("reload", "so", "ann"), Request("retrain", "so", "ann")],
        current=[None, 2],
        labelled_rows=[199, 200],
        losses=[points(2, 0.25, 0.25, 0.25, 0.25, last) for last in (0.25, 0.4, 0.9)],
        novel=[(), ("b05",)],
        new_batches=[0, 9],
    )
    yield from every(
        losses=[points(2, *[0.25] * 4, last) + points(1, *[0.125] * 4, 0.9) for last in (0.25, 0.9)],
        comparisons=[(), gains(-0.25, -0.25, -0.25)],
        accepted=[(), ("b04",)],
        novel=[(), ("b05",)],
        suspect=[None, "b04"],
        new_batches=[0, 1, 9],
        cooldown=[0, 1],
        waiting=[None, 3],
    )
    yield from every(
        losses=[points(2, 0.25, 0.25, 0.25, 0.25, last) for last in (0.25, 0.4, 0.9)],
        drift=[DriftEvidence(), MOVED, STIRRED],
        new_batches=[1, 2, 9],
        new_rows=[0, 1],
        cooldown=[0, 1, 2],
        waiting=[None, 3],
    )


def suspect() -> Iterator[Case]:
    """Labels that are doubted, confirmed or cleared."""
    lasts = [0.2, 0.37, 0.38, 0.49, 0.5, 0.51, 0.74, 0.75, 0.76, 2.4, 2.5, 2.6]
    yield from every(
        losses=[
            [*points(2, *[usual] * 4, last), *other]
            for usual in (0.25, 0.5)
            for last in lasts
            for other in ([], points(1, 0.5, first=5), points(1, 0.9, first=5), points(1, 0.9, first=4))
        ],
        suspect=[None, "b04"],
        dummy_loss=[None, 0.125, 0.5],
    )
    yield from every(
        losses=[points(2, *[0.25] * 4, last) for last in (0.25, 0.9)],
        suspect=[None, "b04", "b05"],
        newest=[None, "b04", "b05"],
    )
    past = [2.0**-n for n in range(14)]
    for length in range(14):  # how much of it is usual, with and without the suspect batch
        yield from newest_of(points(2, *past[:length], 9.0), suspect=[None, "before"])
    for length in (0, 1, 2, 4, 14):  # a young champion, beside what was usual in service
        for own in ([0.2], [0.38], [2.4], [2.5], [2.6], [9.0], [0.25, 0.5], [0.25, 2.6], [4.0, 9.0], [0.25, 0.25, 0.4]):
            for before in (past[:length], [0.25] * length):
                losses = [*points(1, *before), *points(2, *own, first=length + 1)]
                yield from newest_of(losses, suspect=[None, f"b{length:02d}"], dummy_loss=[0.125])


def rollback() -> Iterator[Case]:
    """When the predecessor is clearly better."""
    yield from every(
        comparisons=[
            gains(*[-gain] * number, variance=variance)
            for number in range(5)
            for gain in (-0.1, 0.0, 0.049, 0.051, 0.124, 0.125, 0.126, 0.18, 0.1875, 0.19)
            for variance in (0.0, 1.0, 3.0)
        ],
        losses=[[*points(2, *[0.5] * 4), *points(1, *[0.25] * 4), *points(3, *[0.1] * 4)]],
        newest=[None],
        predecessor_ready=[False, True],
        predecessor=[None, 1],
    )
    yield from every(  # the newest three only, weighed by rows; only of these two versions and these batches
        comparisons=[
            [*gains(*first), *gains(*last, first=len(first) + 1, rows=rows, variance=variance), *others]
            for first in ([], [-9.0], [9.0], [0.5, -0.5])
            for last in ([-0.25], [0.25, -0.5], [-0.25, -0.5, 0.25], [-0.125] * 3)
            for rows in (64, 1024)
            for variance in (0.25, 4.0)
            for others in ([], gains(0.5, version=2, other=3), gains(-0.5, version=3, other=1, rows=9))
        ],
        losses=[
            [*points(1, 0.5, 0.25, 0.125, rows=64), *points(1, 0.25, 0.5, first=4), *points(2, *[0.5] * 5)],
            points(2, *[0.5] * 5),
        ],
        newest=[None],
    )


def drop() -> Iterator[Case]:
    """When performance dropped."""
    lasts = [0.2, 0.274, 0.276, 0.37, 0.375, 0.38, 0.42, 0.4375, 0.44, 0.5, 0.7, 0.8]
    histories = [[0.25], [0.25] * 2, [0.25] * 4, [0.5] * 4 + [0.25] * 9, [0.125, 0.375] * 5, [0.0] * 3]
    for earlier, last, before, variance in itertools.product(histories, lasts, (0.0, 1.0), (0.0, 1.0, 4.0)):
        own = points(2, *earlier, variance=before)
        yield from newest_of([*own, *points(2, last, first=len(own) + 1, variance=variance)], dummy_loss=[9.0])
    for earlier, last in itertools.product(histories, lasts):  # young: whoever was measured first on a batch counts
        known = [*points(3, *[0.5] * 6), *points(1, *earlier, first=5)]
        yield from newest_of([*known, *points(2, last, first=len(earlier) + 5)], dummy_loss=[None, 9.0])


def changed() -> Iterator[Case]:
    """Content that changed, that is new to the version, or that a person accepted."""
    yield from every(
        {"on_change": ["retrain", "block"]},
        changes=[(), ("b06: city",), ("a", "b", "c", "d")],
        accepted=[(), ("b04",), ("b04", "b05")],
        novel=[(), ("b05",), ("b04", "b05")],
        unlearnable=[(), ("b04",), ("b05",), ("b04", "b05")],
        new_batches=[0, 1],
        waiting=[None, 3],
    )


def stale() -> Iterator[Case]:
    """The economic interval, from comparisons, prices and the age limit."""
    ages = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 40]
    yield from every(
        {"retrain_cost": [0.001, 0.031, 0.03125, 0.0315, 0.05, 0.5, 2.0], "max_age": [1, 4, 16, "never"]},
        new_batches=ages,
        waiting=[None, 3],
    )
    yield from every(
        {"max_age": [8, "never"]},
        comparisons=[
            [*gains(*values, gap=gap), *gains(*back, first=9, version=1, other=2)]
            for values in ([], [0.01], [-0.005], [0.1, 0.0, 0.05], [-0.01] * 2, [0.02, 0.01] * 4)
            for gap in (1, 3)
            for back in ([], [-0.02], [0.001])
        ],
        losses=[
            [],
            points(2, 0.0, 0.0),
            points(2, 0.25, 0.25),
            points(1, *[0.5] * 3) + points(3, 0.25),
            points(1, *[0.5] * 9) + points(2, 0.125, 0.25, 0.125, 0.25, 0.375, rows=100, first=5),
            [*points(2, 0.25, 0.25, rows=100), *points(2, 0.25, 0.25, 0.25, first=3, rows=400)],
        ],
        new_batches=[1, 3],
        newest=[None],
    )
    yield from every(
        {"retrain": [5.0, 40.0], "error": [0.25, 1.0]},
        losses=[
            points(2, *[0.25] * 5, rows=10),
            points(2, 0.25, 0.25, rows=10) + points(2, 0.25, 0.25, 0.25, first=3, rows=250),
            [],
        ],
        new_batches=ages,
    )
    yield from every(  # once more after a rollback: the version that goes was no measure
        {"max_age": [16, "never"]},
        losses=[points(2, *[0.5] * 5) + points(1, *[0.25] * 5)],
        comparisons=[
            [*gains(0.1, 0.05, version=1, other=0), *gains(-0.25, -0.25, first=3), *gains(0.1, version=3, other=2)]
        ],
        newest=[None],
    )


def drift() -> Iterator[Case]:
    """Columns and predictions that moved, or that stirred."""
    modes = ["early-warning", "trigger", "report"]
    yield from every(
        {"drift": modes, "max_age": [4], "retrain_cost": [2.0]},
        drift=[
            DriftEvidence(("income",), weight, prediction, measured, stirred, stirred_prediction)
            for weight in (0.24, 0.25)
            for prediction in (False, True)
            for measured in (False, True)
            for stirred in (0.24, 0.25)
            for stirred_prediction in (False, True)
        ],
        label_delay=[None, 0, 1, 2],
        new_batches=[1, 2],
    )
    yield from every(
        {"drift": modes, "drift_weight": [0.25, 0.75], "max_age": [4, 9, "never"], "retrain_cost": [0.05, 2.0]},
        drift=[MOVED, STIRRED],
        new_batches=[0, 1, 3, 8],
        comparisons=[(), gains(-0.01, -0.02)],
    )


GROUPS: dict[str, Callable[[], Iterator[Case]]] = {
    made.__name__: made for made in (order, suspect, rollback, drop, changed, stale, drift)
}

CONSTANTS = (
    (policy.DROP, policy.DROP_YOUNG, policy.DOUBT, policy.RUIN),
    (evidence.HISTORY, interval.DECAY, interval.PRIOR_WEIGHT, interval.PRIOR_SLOPE),
)


def decided(changes: dict[str, Any], settings: dict[str, Any]) -> list[Any]:
    """What is decided on such a day, and the numbers that decided it."""
    frozen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()
    }
    found = decide(replace(CALM, **frozen), PolicySpec(**{**SETTINGS, **settings}))
    seen = [
        [item.rule, item.applies, {name: rounded(value) for name, value in item.numbers.items() if name in NUMBERS}]
        for item in found.findings
    ]
    return [found.action, found.rule, rounded(found.interval), found.suspect, found.cleared, found.quarantined, seen]


def rounded(value: Any) -> Any:
    """Six significant digits: platforms differ in the last bits. A zero has no sign."""
    return float(f"{value:.6g}") + 0.0 if isinstance(value, float) else value


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


Made = dict[str, list[list[Any]]]


@pytest.fixture(scope="module")
def made() -> Made:
    """What is decided in each group."""
    return {name: [decided(*case) for case in cases()] for name, cases in GROUPS.items()}


def test_the_policy_decides_what_its_version_says(made: Made) -> None:
    """What is decided on fixed evidence changes only together with POLICY_VERSION, which is part of the run key."""
    found = {"constants": digest(CONSTANTS), **{name: digest(decisions) for name, decisions in made.items()}}
    known = DIGESTS.get(POLICY_VERSION, {})
    if found != known:
        groups = ", ".join(name for name in found if known.get(name) != found[name])
        pytest.fail(CHANGED.format(version=POLICY_VERSION, groups=groups, found=json.dumps(found, indent=4)))


def test_the_evidence_reaches_every_rule(made: Made) -> None:
    """Among the evidence there is some for every rule to decide on, and for every action."""
    reached = [(action, rule) for decisions in made.values() for action, rule, *_ in decisions]
    assert {rule for _, rule in reached} == {name for name, _ in RULES}
    assert {action for action, _ in reached} == {*Action}
