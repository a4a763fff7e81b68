"""Losses, metrics and their intervals. Evidently measures what people read; the loss is what the rules use."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.utils.metaestimators import available_if

from tasks.core.errors import DataError, SpecError, in_short
from tasks.core.persistence import Predictions
from tasks.core.types import Check, Comparison, LossPoint, Metric, Served, Verdict

RESAMPLES = 200
_MAX_ROWS = 5_000
"""Rows that an interval is bootstrapped from; beyond that it is scaled by the square root of the number of rows."""


def row_losses(predictions: Predictions, target: np.ndarray, task: str) -> np.ndarray:
    """One loss per row, lower is better, shape (rows,).

    Brier score where there are probabilities (half the squared distance to the true class, so that two classes give
    the usual one; Brier 1950), else 0/1 error; absolute error for regression.
    """
    if task == "regression":
        return np.abs(np.asarray(predictions.values, dtype=float) - target.astype(float))
    if predictions.probabilities is None:
        return (predictions.values != target).astype(float)
    classes = np.asarray(predictions.classes)
    if (classes.dtype.kind in "OU") != (target.dtype.kind in "OU"):
        kinds = ("text", "numbers") if target.dtype.kind in "OU" else ("numbers", "text")
        raise DataError(f"The labels are {kinds[0]}, and the version learned {kinds[1]}. Deliver them as before.")
    truth = target[:, None] == classes.astype(target.dtype)[None, :]
    # A class that training never saw has no column: the probability that should have gone to it counts as lost.
    missing = ~truth.any(axis=1)
    return (((predictions.probabilities - truth) ** 2).sum(axis=1) + missing) / 2


def hard_losses(predictions: Predictions, target: np.ndarray, task: str) -> np.ndarray:
    """0/1 error of each row for classes, absolute error for regression, shape (rows,)."""
    return row_losses(Predictions(predictions.values, None, predictions.classes), target, task)


def loss_point(batch: str, version: int, losses: np.ndarray) -> LossPoint:
    return LossPoint(batch, version, len(losses), float(losses.mean()), float(losses.var()))


def comparison(batch: str, current: Served, predecessor: Served, ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    """Two versions on the same rows of one batch, from their losses, each of shape (rows,)."""
    return Comparison(
        batch=batch,
        version=current.version,
        predecessor=predecessor.version,
        rows=len(ours),
        gain=float((theirs - ours).mean()),
        variance=float((theirs - ours).var()),
        gap=max(1, abs(current.data_end - predecessor.data_end)),
    )


def mean_metric(values: np.ndarray) -> Metric:
    """A mean over rows with its 95 % interval."""
    mean = float(values.mean())
    half = 1.96 * float(values.std()) / np.sqrt(len(values))
    return Metric(mean, mean - half, mean + half, len(values))


def scorer(name: str, task: str) -> Callable[[Predictions, np.ndarray], float]:
    """A scikit-learn scorer by name, on predictions that are there already. Raises SpecError for an unknown name."""
    if name not in get_scorer_names():
        close = difflib.get_close_matches(name, get_scorer_names(), n=3)
        raise SpecError("metric", [f"{name!r} is not a scikit-learn scorer; close: {', '.join(close) or 'none'}"])
    score, dressed = get_scorer(name), _RegressorAnswers if task == "regression" else _ClassifierAnswers

    def call(predictions: Predictions, target: np.ndarray) -> float:
        return float(score(dressed(predictions), np.empty((len(target), 0)), target))

    return call


class _Answers(BaseEstimator):
    """Predictions dressed as a fitted estimator: scorers ask an estimator, we have its answers already."""

    def __init__(self, predictions: Predictions):
        self.predictions = predictions
        self.classes_ = np.asarray(predictions.classes)

    def fit(self, *_: Any) -> _Answers:
        return self

    def predict(self, _: Any) -> np.ndarray:
        return self.predictions.values

    @available_if(lambda self: self.predictions.probabilities is not None)
    def predict_proba(self, _: Any) -> np.ndarray | None:
        return self.predictions.probabilities


class _ClassifierAnswers(ClassifierMixin, _Answers):
    pass


class _RegressorAnswers(RegressorMixin, _Answers):
    pass


def metrics(predictions: Predictions, target: np.ndarray, primary: str, task: str, seed: int) -> dict[str, Metric]:
    """The loss and the primary metric, each with a 95 % interval (normal for the loss, bootstrap for the metric)."""
    losses = row_losses(predictions, target, task)
    measured = {"loss": mean_metric(losses)}
    if (value := _bootstrapped(predictions, target, primary, task, seed)) is not None:
        measured[primary] = value
    return measured


def value_of(name: str, predictions: Predictions, target: np.ndarray, task: str) -> float | None:
    """A scikit-learn scorer's value on these rows, None where it is not defined there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one class only: scikit-learn warns and gives nan
        try:
            value = scorer(name, task)(predictions, target)
        except (ValueError, AttributeError):  # undefined on these rows, or in need of probabilities that are not there
            return None
    return value if np.isfinite(value) else None


def _bootstrapped(predictions: Predictions, target: np.ndarray, name: str, task: str, seed: int) -> Metric | None:
    """None where the metric is not defined on these rows (one class only, say)."""
    rows, score = len(target), scorer(name, task)
    if (value := value_of(name, predictions, target, task)) is None:
        return None
    rng, size = np.random.default_rng(seed), min(rows, _MAX_ROWS)
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(RESAMPLES):
            chosen = rng.integers(0, rows, size)
            try:
                values.append(score(take(predictions, chosen), target[chosen]))
            except ValueError:
                continue
    spread = np.nanstd(values) * np.sqrt(size / rows) if values else np.nan
    if not np.isfinite(spread):
        return Metric(value, None, None, rows)
    return Metric(value, value - 1.96 * float(spread), value + 1.96 * float(spread), rows)


def take(predictions: Predictions, rows: np.ndarray) -> Predictions:
    """The answers of some rows."""
    probabilities = predictions.probabilities
    return Predictions(
        predictions.values[rows],
        probabilities[rows] if probabilities is not None else None,
        predictions.classes,
    )


# --- Evidently -----------------------------------------------------------------------------------------------


def evidently_metrics(predictions: Predictions, target: np.ndarray, task: str) -> tuple[Mapping[str, float], Any]:
    """What Evidently says of the performance on these rows, and its snapshot for a page.

    Labels are recoded to integers and the answers passed as two tasks, labels and probabilities: given both in one,
    Evidently 0.7 ignores the labels. Raises whatever Evidently raises; the caller turns that into a skipped check.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import BinaryClassification, Dataset, MulticlassClassification, Regression, Report
        from evidently import metrics as m

        from tasks.core.drift import definition

        if task == "regression":
            frame = pd.DataFrame({"target": target.astype(float), "prediction": predictions.values.astype(float)})
            described = definition(
                ["target", "prediction"],
                [],
                regression=[Regression(target="target", prediction="prediction")],
            )
            wanted: dict[str, Any] = {"mae": m.MAE(), "rmse": m.RMSE(), "r2": m.R2Score()}
        else:
            classes = list(predictions.classes)
            codes = {value: code for code, value in enumerate(classes)}
            known = np.array([value in codes for value in target.tolist()])
            frame = pd.DataFrame(
                {
                    "target": [codes[value] for value in target[known].tolist()],
                    "label": [codes[value] for value in predictions.values[known].tolist()],
                }
            )
            if len(classes) == 2:
                kind, shared = BinaryClassification, {"pos_label": 1}
            else:
                kind, shared = MulticlassClassification, {}
            views = [kind(name="label", target="target", prediction_labels="label", **shared)]
            wanted = {"accuracy": m.Accuracy(classification_name="label")}
            several = frame["target"].nunique() > 1
            if several:
                wanted["f1"] = m.F1Score(classification_name="label")
                wanted["precision"] = m.Precision(classification_name="label")
                wanted["recall"] = m.Recall(classification_name="label")
            numbers: list[str] = []
            if predictions.probabilities is not None:
                if len(classes) == 2:
                    numbers = ["score"]
                    frame["score"] = predictions.probabilities[known, 1]
                    views.append(kind(name="proba", target="target", prediction_probas="score", **shared))
                else:
                    numbers = [str(code) for code in codes.values()]
                    frame[numbers] = predictions.probabilities[known]
                    views.append(kind(name="proba", target="target", prediction_probas=numbers))
                wanted["log_loss"] = m.LogLoss(classification_name="proba")
                if several:
                    wanted["roc_auc"] = m.RocAuc(classification_name="proba")
            described = definition(numbers, ["target", "label"], classification=views)
        snapshot = Report(list(wanted.values())).run(Dataset.from_pandas(frame, described))
        results = {name: snapshot.metric_results[metric.metric_id] for name, metric in wanted.items()}
    values = {name: float(getattr(result, "mean", result).value) for name, result in results.items()}
    return {name: value for name, value in values.items() if np.isfinite(value)}, snapshot


def performance_checks(
    batch: str,
    predictions: Predictions,
    target: np.ndarray,
    task: str,
    coverage: float,
    lag: int | None = None,
    *,
    private: bool = False,
) -> tuple[tuple[Check, ...], Any]:
    """Performance on newly labelled rows, with coverage and lag of the labels beside it; never a crash of the run.

    Where the target is private no text of Evidently's is shown.
    """
    late = f", {lag} {'batch' if lag == 1 else 'batches'} later" if lag else ""
    loss = float(row_losses(predictions, target, task).mean())
    checks = [
        Check(
            name="performance:loss",
            verdict=Verdict.PASS,
            summary=f"loss {loss:.4g} on {len(target):,} labelled rows of {batch} ({coverage:.0%} of its rows{late})",
            value=loss,
        )
    ]
    try:
        values, snapshot = evidently_metrics(predictions, target, task)
    except Exception as error:  # noqa: BLE001 - a measuring library must never stop a decision
        reason = f"Evidently could not measure performance on {batch}: {in_short(error, withheld=private)}"
        return (*checks, Check("performance:evidently", Verdict.SKIPPED, reason)), None
    checks += [
        Check(
            f"performance:{name}",
            Verdict.PASS,
            f"{name} {value:.4g} on {len(target):,} labelled rows of {batch}",
            value,
        )
        for name, value in values.items()
    ]
    return tuple(checks), snapshot
