"""Drift: Evidently's distances, thresholds from the training data's own history, and columns that are hard."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.core.checks import drift
from tasks.core.checks.calibration import SCORE, TARGET
from tasks.core.checks.drift import DriftReport, check_drift
from tasks.core.types import Check, Verdict
from tests.helpers.windows import CALIBRATION, KINDS, REFERENCE, WINDOWS, calibrated, reference, window


def found(current: pd.DataFrame, **changes: Any) -> DriftReport:
    """Drift of a window from the reference, with the calibration of its columns changed."""
    return check_drift(REFERENCE, current, {**CALIBRATION, **changes})


def check(report: DriftReport, name: str) -> Check:
    (one,) = [check for check in report.checks if check.name == f"drift:{name}"]
    return one


# --- the check -----------------------------------------------------------------------------------------------


def test_only_the_shifted_column_is_flagged() -> None:
    """A column that moved is flagged with its importance, those that did not move are not."""
    report = found(window(9, shift=1.0).assign(**{SCORE: window(9)[SCORE]}))
    assert report.evidence == drift.DriftEvidence(("income",), 0.25, prediction=False, measured=True, stirred=0.25)
    assert check(report, "income").verdict is Verdict.FAIL
    assert [check(report, name).verdict for name in ("age", "city", "member", "the prediction")] == [Verdict.PASS] * 4


def test_a_quiet_window_raises_no_alarm() -> None:
    """New rows of the same kind are within their thresholds."""
    evidence = found(window(9)).evidence
    assert (evidence.drifted, evidence.weight, evidence.prediction) == ((), 0.0, False)


def test_a_shifted_category_is_flagged() -> None:
    """Other shares of known categories are drift, and so is a category that training never saw."""
    known = window(9).assign(city="Bergen")
    unseen = window(9).assign(city="Hamar")
    for current in (known, unseen):
        assert found(current).evidence.drifted == ("city",)


def test_the_prediction_is_told_from_the_features() -> None:
    """When the predictions move it is said of the prediction, and of no column."""
    evidence = found(window(9).assign(**{SCORE: 0.9})).evidence
    assert (evidence.drifted, evidence.prediction) == ((), True)


def test_a_feature_called_score_is_a_feature() -> None:
    """A feature that happens to be called score or target counts as a feature, not as the prediction."""
    names = {"income": "score", "age": "target"}
    windows = [item.rename(columns=names) for item in WINDOWS]
    kinds = {names.get(name, name): kind for name, kind in KINDS.items()}
    calibration = calibrated(windows, kinds, dict.fromkeys(kinds, 0.25))
    current = window(9, shift=1.0).rename(columns=names).assign(**{SCORE: window(9)[SCORE]})
    evidence = check_drift(reference(windows, calibration), current, calibration).evidence
    assert (evidence.drifted, evidence.prediction) == (("score",), False)


def test_an_outlier_does_not_hide_a_shift() -> None:
    """A column that moved is flagged although one absurd value stretches its scale, on either side."""
    shifted = window(9, shift=1.0)
    shifted.loc[0, "income"] = 1e9
    assert "income" in found(shifted).evidence.drifted
    windows = [item.copy() for item in WINDOWS]
    windows[0].loc[0, "income"] = 1e9
    calibration = calibrated(windows)
    report = check_drift(reference(windows, calibration), window(9, shift=1.0), calibration)
    assert "income" in report.evidence.drifted


def test_an_outlier_does_not_fake_a_shift() -> None:
    """One absurd value among four hundred usual ones is no drift."""
    current = window(9)
    current.loc[0, "income"] = 1e9
    assert found(current).evidence.drifted == ()


@pytest.mark.parametrize("name", ["income", "city"])
def test_a_column_without_values_is_skipped(name: str) -> None:
    """A column that is wholly missing is skipped with the reason, and the others are measured."""
    report = found(window(9, shift=1.0).assign(**{name: None}))
    assert check(report, name).verdict is Verdict.SKIPPED
    assert check(report, name).summary == f"{name} was not compared: it has no values in this window"
    assert check(report, "age").verdict is Verdict.PASS
    assert report.evidence.measured


def test_nothing_to_measure_is_no_alarm() -> None:
    """When no column has values nothing was measured, and that is what the rules are told."""
    report = found(window(9).assign(**dict.fromkeys([*KINDS, TARGET, SCORE])))
    assert [check(report, name).verdict for name in (*KINDS, "the prediction")] == [Verdict.SKIPPED] * 5
    assert report.evidence == drift.DriftEvidence()


def test_without_labels_the_target_is_left_out() -> None:
    """The target is looked at where it is known, and not mentioned elsewhere."""
    assert "drift:the target" in [check.name for check in found(window(9)).checks]
    assert "drift:the target" not in [check.name for check in found(window(9).drop(columns=TARGET)).checks]


def test_an_unimportant_column_only_warns() -> None:
    """A column that moved and that the model hardly uses is shown, and carries no weight."""
    current = window(9, shift=1.0).assign(**{SCORE: window(9)[SCORE]})
    report = found(current, income=replace(CALIBRATION["income"], weight=0.001))
    assert check(report, "income").verdict is Verdict.WARN
    assert "hardly uses it" in check(report, "income").summary
    assert report.evidence.drifted == ()


def test_the_most_important_column_comes_first() -> None:
    """Columns that moved are listed by importance, and their weights are added up."""
    importance = {"income": 0.1, "age": 0.5, "city": 0.3, "member": 0.1}
    current = window(9, shift=1.0).assign(age=90.0, city="Bergen")
    evidence = check_drift(REFERENCE, current, calibrated(importance=importance)).evidence
    assert evidence.drifted == ("age", "city", "income")
    assert evidence.weight == pytest.approx(0.9)


ODD = [
    "<script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "",
    "ror:income",
    "a'b\"c",
    "a,b\nc",
    "y" * 300,
]


@pytest.mark.filterwarnings("ignore")
def test_odd_column_names_survive() -> None:
    """Columns may have any name: all are measured, and none gets unescaped into a page."""
    windows = [pd.concat(dict.fromkeys(ODD, item["income"]), axis=1) for item in WINDOWS]
    windows = [item.assign(**{TARGET: 1.0, SCORE: 0.5}) for item in windows]
    calibration = calibrated(windows, dict.fromkeys(ODD, "number"), dict.fromkeys(ODD, 0.1))
    current = windows[0].copy()
    current[ODD[0]] += 2
    report = check_drift(reference(windows, calibration), current, calibration)
    distances = [check(report, name).value for name in (*ODD, "the target", "the prediction")]
    assert None not in distances
    assert report.evidence.drifted == (ODD[0],)
    page = report.snapshot.get_html_str(as_iframe=False)
    assert "<script>alert(1)" not in page
    assert "alert(1)" in page


@pytest.mark.filterwarnings("ignore")
def test_odd_categories_survive() -> None:
    """Categories may be any text: they are measured, and none gets unescaped into a page."""
    windows = [item.assign(city=item["city"].replace({"Oslo": "<img src=x onerror=alert(2)>"})) for item in WINDOWS]
    calibration = calibrated(windows)
    report = check_drift(reference(windows, calibration), windows[0].assign(city="Bergen"), calibration)
    assert "city" in report.evidence.drifted
    assert "<img src=x" not in report.snapshot.get_html_str(as_iframe=False)


def test_many_categories_are_compared_as_few() -> None:
    """Thousands of categories are compared by the most frequent ones, so that a check takes no time to speak of."""
    names = np.array([f"n{number}" for number in range(5000)])
    rng = np.random.default_rng(0)
    windows = [window(seed, 3000).assign(city=rng.choice(names, 3000)) for seed in range(3)]
    calibration = calibrated(windows)
    assert len(calibration["city"].levels) == 50
    report = check_drift(reference(windows, calibration), windows[1], calibration)
    assert check(report, "city").verdict is Verdict.PASS


def test_without_evidently_every_column_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """When Evidently fails, whatever the reason, each column says that it was not compared, and the run goes on."""
    for name in [name for name in sys.modules if name.startswith("evidently.legacy.calculations.stattests")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "evidently.legacy.calculations.stattests", None)
    report = found(window(9, shift=1.0))
    assert [item.verdict for item in report.checks] == [Verdict.SKIPPED] * 6
    assert {item.summary.partition(": ")[2] for item in report.checks} == {
        "Evidently could not measure drift: ModuleNotFoundError"
    }
    assert report.evidence == drift.DriftEvidence()


def test_without_evidentlys_page_the_verdicts_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidently's pictures are an addition: where it cannot draw them the columns are judged all the same."""
    import evidently

    def fail(*_: object) -> None:
        raise ValueError("no pictures today")

    monkeypatch.setattr(evidently.Report, "run", fail)
    report = found(window(9, shift=1.0))
    assert report.snapshot is None
    assert "income" in report.evidence.drifted


def test_a_version_of_an_earlier_release_is_not_judged() -> None:
    """A calibration without what this release needs is no alarm and no silence: the column says so."""
    report = found(window(9, shift=1.0), income=replace(CALIBRATION["income"], chance=None))
    assert check(report, "income").verdict is Verdict.SKIPPED
    assert "earlier release" in check(report, "income").summary
    assert "income" not in report.evidence.drifted


def test_an_expected_change_only_warns() -> None:
    """A column that is expected to move is shown with the reason, and no rule hears of it; others are judged."""
    current = window(9, shift=1.0).assign(city="Bergen")
    report = check_drift(REFERENCE, current, CALIBRATION, excused={"income": "expected: Christmas"})
    assert check(report, "income").verdict is Verdict.WARN
    assert check(report, "income").summary.endswith(", but expected: Christmas")
    assert report.evidence.drifted == ("city",)


@pytest.mark.filterwarnings("ignore")
def test_private_columns_are_judged_and_not_drawn() -> None:
    """The values of a private column stand on no page; that it moved is said."""
    current = window(9, shift=1.0).assign(city="Bergen")
    report = check_drift(REFERENCE, current, CALIBRATION, private=["city"])
    assert "city" in report.evidence.drifted
    page = report.snapshot.get_html_str(as_iframe=False)
    assert "income" in page
    assert "Bergen" not in page


def test_few_false_discoveries_among_many_columns() -> None:
    """Of forty quiet columns none is called drifted in twenty windows, at sizes where each alone would be now and then;
    one that moved is found among them."""
    rng = np.random.default_rng(0)
    names = [f"n{place}" for place in range(40)]

    def quiet(rows: int) -> pd.DataFrame:
        made = pd.DataFrame(rng.normal(size=(rows, len(names))), columns=names)
        return made.assign(**{TARGET: 0.0, SCORE: 0.0})

    windows = [quiet(100) for _ in range(12)]
    calibration = calibrated(windows, dict.fromkeys(names, "number"), dict.fromkeys(names, 1 / 40))
    then = reference(windows, calibration)
    later = [quiet(100) for _ in range(20)]
    assert [drift.drift_evidence(then, item, calibration).drifted for item in later] == [()] * 20
    beyond = [
        name for item in later for name in names
        if drift.distance(then[name].to_numpy(), item[name].to_numpy(), True) > 2 * calibration[name].spread(100, 1200)
    ]  # fmt: skip
    assert len(beyond) > 5
    moved = later[0].assign(n7=later[0]["n7"] + 1.0)
    assert drift.drift_evidence(then, moved, calibration).drifted == ("n7",)


def test_the_evidence_of_a_replay_is_that_of_production() -> None:
    """A backtest compares thousands of windows without a page, and sees what production would see."""
    current = window(9, shift=1.0).assign(city="Bergen", member=None)
    assert drift.drift_evidence(REFERENCE, current, CALIBRATION) == found(current).evidence


def test_what_has_stirred_is_no_alarm() -> None:
    """A column beyond what it does in 95 of 100 windows, but not beyond its alarm, passes; its importance is counted,
    for the rule that does not wait long with a retrain that is half due. What is excused does not count."""
    current = window(9, shift=0.1)
    report = found(current)
    assert check(report, "income").verdict is Verdict.PASS
    assert (report.evidence.drifted, report.evidence.stirred) == ((), 0.25)
    excused = check_drift(REFERENCE, current, CALIBRATION, excused={"income": "expected: a sale"})
    assert excused.evidence.stirred == 0


def test_the_same_window_gives_the_same_number_in_every_process() -> None:
    """Weights are added up in the order of the columns: a set's order, and so a sum's last digit, differs between
    processes, and a replay would not decide what production decided."""
    names = [f"n{place}" for place in range(12)]
    weights = {name: 0.7 / (13 + place) for place, name in enumerate(names)}
    windows = [pd.concat(dict.fromkeys(names, item["age"]), axis=1) for item in WINDOWS]
    windows = [item.assign(**{TARGET: 1.0, SCORE: 0.5}) for item in windows]
    calibration = calibrated(windows, dict.fromkeys(names, "number"), weights)
    moved = windows[0][names] + 50.0
    evidence = drift.drift_evidence(reference(windows, calibration), moved, calibration)
    assert evidence.stirred == sum(weights.values()) < 1
