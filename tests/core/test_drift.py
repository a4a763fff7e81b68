"""Drift: Evidently's distances, thresholds from the training data's own history, and columns that are hard."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.core import drift
from tasks.core.contract import Column, Contract
from tasks.core.drift import SCORE, TARGET, ColumnCalibration, DriftReport, calibrate, check_drift
from tasks.core.types import Check, Verdict
from tests.conftest import make_rows

KINDS = {"income": "number", "age": "number", "city": "category", "member": "boolean"}
EVEN = dict.fromkeys(KINDS, 0.25)


def window(seed: int, rows: int = 400, **changes: Any) -> pd.DataFrame:
    """Rows as a pipeline sees them, with their target and a score that follows the income."""
    made = make_rows(rows, seed, **changes)
    score = 1 / (1 + np.exp(-made["income"].fillna(0)))
    return made[list(KINDS)].astype({"age": float, "member": float}).assign(**{TARGET: made["y"], SCORE: score})


WINDOWS = [window(seed) for seed in range(4)]
REFERENCE = pd.concat(WINDOWS, ignore_index=True)


def calibrated(
    windows: list[pd.DataFrame] = WINDOWS,
    kinds: Mapping[str, str] = KINDS,
    importance: Mapping[str, float] = EVEN,
    held_out: Any = (),
) -> dict[str, ColumnCalibration]:
    features = tuple(Column(name, kind, kind, 0.0) for name, kind in kinds.items())
    return calibrate(windows, Contract(1, 1600, features, ()), importance, np.array(held_out), 0.1, seed=0)


CALIBRATION = calibrated()


def found(current: pd.DataFrame, **changes: Any) -> DriftReport:
    """Drift of a window from the reference, with the calibration of its columns changed."""
    return check_drift(REFERENCE, current, {**CALIBRATION, **changes})


def check(report: DriftReport, name: str) -> Check:
    (one,) = [check for check in report.checks if check.name == f"drift:{name}"]
    return one


# --- the distance --------------------------------------------------------------------------------------------


NUMBERS = pd.Series(np.random.default_rng(1).normal(size=400))
WORDS = pd.Series(np.random.default_rng(2).choice(["a", "b", "c"], 400, p=[0.6, 0.3, 0.1]))


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        (NUMBERS, NUMBERS[:150] * 2 + 1),
        (NUMBERS.where(NUMBERS > -1), NUMBERS.where(NUMBERS < 0.5)),
        (NUMBERS * 0, NUMBERS[:50]),
        (NUMBERS * 1e-5, NUMBERS[:50] * 1e-5 + 1e-5),
        (WORDS, WORDS[:150].replace({"a": "c"})),
        (WORDS, WORDS[:150].replace({"a": "unseen"})),
        (WORDS.where(WORDS != "a"), WORDS[:150].where(WORDS != "b")),
        (WORDS.replace({"a": "x"}), WORDS.replace({"a": "y", "b": "z", "c": "w"})),
    ],
    ids=[
        "other numbers",
        "numbers with gaps",
        "constant reference",
        "tiny numbers",
        "other shares",
        "an unseen category",
        "categories with gaps",
        "nothing in common",
    ],
)
def test_the_distance_is_evidentlys(reference: pd.Series, current: pd.Series) -> None:
    """Calibration and check use one number: what scipy computes is what Evidently reports, to nine digits."""
    from evidently import Dataset, Report
    from evidently.metrics import ValueDrift

    numeric = pd.api.types.is_numeric_dtype(reference)
    described = drift.definition(["x"] if numeric else [], [] if numeric else ["x"])
    metric = ValueDrift(column="x", method="wasserstein" if numeric else "jensenshannon")
    now, then = (
        Dataset.from_pandas(side.rename("x").reset_index(drop=True).to_frame(), described)
        for side in (current, reference)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = Report([metric]).run(now, then).metric_results[metric.metric_id].value
    assert drift.distance(reference, current, numeric) == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_the_distance_by_hand() -> None:
    """Numbers: how far the values moved, in standard deviations of the reference; categories: between 0 and 0.83."""
    zero_or_two = pd.Series([0.0, 2.0] * 50)
    assert drift.distance(zero_or_two, zero_or_two + 3, numeric=True) == pytest.approx(3.0)
    one, other = pd.Series(["a"] * 10), pd.Series(["b"] * 7)
    assert drift.distance(one, other, numeric=False) == pytest.approx(np.sqrt(np.log(2)))
    assert drift.distance(one, one, numeric=False) == 0.0
    assert drift.distance(one, other.where(other == "none"), numeric=False) is None


# --- the check -----------------------------------------------------------------------------------------------


def test_only_the_shifted_column_is_flagged() -> None:
    """A column that moved is flagged with its importance, those that did not move are not."""
    report = found(window(9, shift=1.0).assign(**{SCORE: window(9)[SCORE]}))
    assert report.evidence == drift.DriftEvidence(("income",), weight=0.25, prediction=False, measured=True)
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
    evidence = check_drift(pd.concat(windows), current, calibration).evidence
    assert (evidence.drifted, evidence.prediction) == (("score",), False)


def test_an_outlier_does_not_hide_a_shift() -> None:
    """A column that moved is flagged although one absurd value stretches its scale, on either side."""
    shifted = window(9, shift=1.0)
    shifted.loc[0, "income"] = 1e9
    assert "income" in found(shifted).evidence.drifted
    windows = [item.copy() for item in WINDOWS]
    windows[0].loc[0, "income"] = 1e9
    report = check_drift(pd.concat(windows), window(9, shift=1.0), calibrated(windows))
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
    assert check(report, name).summary == f"{name} has no values on one side"
    assert check(report, "age").verdict is Verdict.PASS
    assert report.evidence.measured


def test_nothing_to_measure_is_no_alarm() -> None:
    """When no column has values nothing was measured, and that is what the rules are told."""
    report = found(window(9).assign(**dict.fromkeys([*KINDS, TARGET, SCORE])))
    assert [check(report, name).verdict for name in (*KINDS, "the prediction")] == [Verdict.SKIPPED] * 5
    assert report.evidence == drift.DriftEvidence()


def test_missing_values_are_counted() -> None:
    """How many cells are missing is shown for the whole window and for the columns that lack the most."""
    report = found(window(9, 100).assign(income=np.nan, age=[np.nan] * 50 + [1.0] * 50))
    (missing,) = [check for check in report.checks if check.name == "missing values"]
    assert missing.value == pytest.approx(1.5 / 5)
    assert "income 100%, age 50%" in missing.summary


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
    report = check_drift(pd.concat(windows, ignore_index=True), current, calibration)
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
    report = check_drift(pd.concat(windows), windows[0].assign(city="Bergen"), calibrated(windows))
    assert "city" in report.evidence.drifted
    assert "<img src=x" not in report.snapshot.get_html_str(as_iframe=False)


def test_many_categories_are_compared_as_few() -> None:
    """Thousands of categories are compared by the most frequent ones, so that a check takes no time to speak of."""
    names = np.array([f"n{number}" for number in range(5000)])
    rng = np.random.default_rng(0)
    windows = [window(seed, 3000).assign(city=rng.choice(names, 3000)) for seed in range(3)]
    calibration = calibrated(windows)
    assert len(calibration["city"].levels) == 50
    report = check_drift(windows[0], windows[1], calibration)
    assert check(report, "city").verdict is Verdict.PASS


def test_without_evidently_the_check_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """When Evidently fails, whatever the reason, the check is skipped with that reason and the run goes on."""
    monkeypatch.setitem(sys.modules, "evidently", None)
    report = found(window(9, shift=1.0))
    assert [check.verdict for check in report.checks] == [Verdict.SKIPPED]
    assert "Evidently could not measure drift: " in report.checks[0].summary
    assert report.evidence == drift.DriftEvidence()


# --- thresholds ----------------------------------------------------------------------------------------------


def test_thresholds_come_from_the_training_data() -> None:
    """A column that always moved between training windows may move as far again; a steady one may not."""
    seasonal = [window(seed, shift=shift) for seed, shift in enumerate((-1.0, 1.0, -1.0, 1.0))]
    calibration = calibrated(seasonal)
    assert calibration["income"].threshold > 0.5 > 0.2 > CALIBRATION["income"].threshold >= 0.1
    current = window(9, shift=1.0).assign(**{SCORE: window(9)[SCORE]})
    assert check_drift(pd.concat(seasonal), current, calibration).evidence.drifted == ()
    assert found(current).evidence.drifted == ("income",)


def test_the_threshold_is_the_high_quantile_of_the_history() -> None:
    """A threshold is the 95 % quantile of each window's distance from the rest, and never below the floor."""
    numbers = [np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 20) + shift for shift in (0.0, 0.0, 0.0, 1.0)]
    made = [window(0, 100).assign(income=values) for values in numbers]
    base = calibrated(made)["income"]
    whole = pd.Series(np.concatenate(numbers))
    scale = whole.quantile(0.75) - whole.quantile(0.25)
    scaled = [pd.Series((values - whole.median()) / scale).clip(-5, 5) for values in numbers]
    distances = [
        drift.distance(pd.concat(scaled[:place] + scaled[place + 1 :]), scaled[place], numeric=True)
        for place in range(4)
    ]
    assert (base.center, base.scale) == (whole.median(), scale)
    assert base.threshold == pytest.approx(np.quantile(distances, 0.95))
    assert calibrated([made[0].copy() for _ in range(4)])["income"].threshold == 0.1


@pytest.mark.parametrize(("count", "provisional"), [(1, True), (2, True), (3, False)])
def test_few_windows_give_a_provisional_threshold(count: int, provisional: bool) -> None:
    """With fewer than three windows there is no history: a threshold is drawn, and marked as provisional."""
    column = calibrated(WINDOWS[:count])["income"]
    assert column.provisional is provisional
    assert 0.1 <= column.threshold < 0.5


def test_unseen_rows_score_differently_by_nature() -> None:
    """The threshold for the prediction covers the distance that rows show merely by not having been trained on."""
    held_out = REFERENCE[SCORE] * 0.7
    wide = calibrated(held_out=held_out)
    assert wide[SCORE].threshold > 1.2 * CALIBRATION[SCORE].threshold
    assert wide["income"] == CALIBRATION["income"]


@pytest.mark.parametrize("values", [[5.0] * 400, [0.0] * 399 + [1.0], [np.nan] * 400])
def test_columns_that_hardly_vary_can_be_calibrated(values: list[float]) -> None:
    """A constant, nearly constant or empty column has a scale and a threshold, and causes no alarm on itself."""
    windows = [item.assign(income=values) for item in WINDOWS]
    calibration = calibrated(windows)
    assert np.isfinite(calibration["income"].threshold)
    assert calibration["income"].scale > 0
    assert check_drift(pd.concat(windows), windows[0], calibration).evidence.drifted == ()
