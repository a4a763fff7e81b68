"""A version that ranks well and loses all the same: the reason names metric, calibration and ways out that work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, QuantileRegressor
from sklearn.svm import LinearSVC

from tasks.core.training.gate import Rival, compare
from tasks.core.types import Gate, Verdict
from tasks.core.versions.persistence import Predictions
from tests.helpers.training import make_history, make_spec, train


def rare(rows: int = 3000, seed: int = 1) -> pd.DataFrame:
    """Three in a hundred are 1, and most of them can be told."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=rows), rng.normal(size=rows)
    likely = 1 / (1 + np.exp(6 - 2 * x - 1.5 * z))
    return pd.DataFrame({"id": np.arange(rows), "x": x, "z": z, "y": (rng.random(rows) < likely).astype(int)})


def amounts(rows: int = 3000, seed: int = 1) -> pd.DataFrame:
    """Amounts as of claims: most are small, a few very large."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    return pd.DataFrame({"id": np.arange(rows), "x": x, "y": np.exp(0.6 * x + 1.8 * rng.normal(size=rows))})


def gate_of(root: Path, rows: pd.DataFrame, factory: str, **spec: Any) -> Gate:
    made = make_spec(pipeline={"factory": f"{__name__}:{factory}"}, **spec)
    return train(root, made, make_history(root, made, rows)).gate


def weighted() -> Any:
    return LogisticRegression(class_weight="balanced")


def unweighted() -> Any:
    return LogisticRegression()


def calibrated() -> Any:
    return CalibratedClassifierCV(weighted(), cv=3)


def test_inflated_probabilities_are_named_with_both_ways_out(tmp_path: Path) -> None:
    """Class weights make good ranks and probabilities that are no shares: refused against Dummy, with the metric, both
    numbers and both ways out."""
    gate = gate_of(tmp_path, rare(), "weighted")
    assert gate.verdict is Verdict.FAIL
    assert "roc_auc is 0.9" in gate.reason and "that of Dummy 0.5" in gate.reason
    assert "asks for calibrated probabilities" in gate.reason and "of 1 they average" in gate.reason
    assert "class_weight" in gate.reason and "CalibratedClassifierCV" in gate.reason


@pytest.mark.parametrize("factory", ["unweighted", "calibrated"])
def test_both_ways_out_lead_out(tmp_path: Path, factory: str) -> None:
    """Without weights, or calibrated, the same pipeline passes."""
    gate = gate_of(tmp_path, rare(), factory)
    assert gate.verdict is Verdict.PASS and "calibrated" not in gate.reason


def test_no_value_of_a_private_target_is_shown(tmp_path: Path) -> None:
    """The class whose probabilities are off is not named."""
    gate = gate_of(tmp_path, rare(), "weighted", data={"batches": "*.parquet", "private": ["y"]})
    assert "of one class they average" in gate.reason


def mean() -> Any:
    return LinearRegression()


def median() -> Any:
    return QuantileRegressor(alpha=0)


def logarithm() -> Any:
    return TransformedTargetRegressor(LinearRegression(), func=np.log, inverse_func=np.exp)


def test_means_of_a_skewed_target_are_named(tmp_path: Path) -> None:
    """A fit of means loses to the median of a skewed target: said with two ways out, which work."""
    gate = gate_of(tmp_path, amounts(), "mean", task="regression")
    assert gate.verdict is Verdict.FAIL and "mean absolute error, which asks for medians" in gate.reason
    assert "absolute_error" in gate.reason and "TransformedTargetRegressor" in gate.reason
    for factory in ("median", "logarithm"):
        assert gate_of(tmp_path, amounts(), factory, task="regression").verdict is Verdict.PASS


def noise() -> Any:
    return LogisticRegression(C=1e6)


def test_a_pipeline_that_learns_nothing_gets_no_advice(tmp_path: Path) -> None:
    """Where probabilities are right on average, there is nothing to mend but the model."""
    data = rare(400)
    data["y"] = np.random.default_rng(5).integers(0, 2, len(data))
    gate = gate_of(tmp_path, data, "noise")
    assert "calibrated" not in gate.reason


def test_a_metric_that_cannot_be_measured_is_said_with_the_cause() -> None:
    """One class in the rows, no probabilities, a class that is missing: the metric's absence has a reason."""
    rows = 200
    truth = np.zeros(rows, dtype=int)
    sure = Predictions(truth, np.tile([0.9, 0.1], (rows, 1)), (0, 1))

    def reason(metric: str, answers: Predictions, truth: np.ndarray, task: str = "binary") -> str:
        spec = make_spec(metric=metric, task=task)
        return compare(spec, answers, truth, Rival(None, answers, truth, np.arange(rows)))[0].reason

    assert "roc_auc cannot be measured on these 200 rows: they all have one class" in reason("roc_auc", sure, truth)
    both = np.arange(rows) % 2
    alone = Predictions(both, None, (0, 1))
    assert "the pipeline has no predict_proba" in reason("neg_log_loss", alone, both)
    assert "cannot be measured" not in reason("accuracy", alone, both)
    three = Predictions(both, np.tile([0.4, 0.3, 0.3], (rows, 1)), (0, 1, 2))
    assert "they have 2 of the 3 classes" in reason("roc_auc_ovr", three, both, "multiclass")


def without_probabilities() -> Any:
    return LinearSVC()


def test_a_classifier_without_probabilities_says_what_its_metric_needs(tmp_path: Path) -> None:
    """The default metric of two classes needs probabilities: its absence is no silence."""
    gate = gate_of(tmp_path, rare(), "without_probabilities")
    assert "roc_auc cannot be measured" in gate.reason and "predict_proba" in gate.reason
