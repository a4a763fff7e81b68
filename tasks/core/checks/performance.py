"""Losses, metrics and their intervals. Evidently measures what people read; the loss is what the rules use."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.utils.metaestimators import available_if

from tasks.core.checks.evidently_adapter import evidently_metrics
from tasks.core.errors import DataError, SpecError, in_short
from tasks.core.spec import DEFAULT_METRICS
from tasks.core.text import amount, counted, named
from tasks.core.types import Check, CheckKind, Comparison, LossPoint, Metric, Served, Verdict
from tasks.core.versions.persistence import Predictions, predict

RESAMPLES = 50
"""Enough for a standard error: within about a tenth of itself (Efron and Tibshirani 1993, section 6.4)."""
SUGGESTED = 15
"""Metrics that a message names, the most alike first."""
_TRIED = 50
"""Different labels that a metric is tried on."""
_MAX_ROWS = 5_000
"""Rows that an interval is bootstrapped from; beyond that it is scaled by the square root of the number of rows."""


_LARGEST = 1e150
"""The largest loss of a row: the square of a larger one is no number any more, nor is a variance."""


def row_losses(predictions: Predictions, target: np.ndarray, task: str) -> np.ndarray:
    """One loss per row, lower is better, shape (rows,).

    Brier score where there are probabilities (half the squared distance to the true class, so that two classes give
    the usual one; Brier 1950), else 0/1 error; absolute error for regression. Raises DataError for a loss with which
    nothing can be computed, and for labels of another kind than the answers.
    """
    if task == "regression":
        losses = np.abs(np.asarray(predictions.values, dtype=float) - target.astype(float))
        if (wrong := ~(losses <= _LARGEST)).any():
            many = counted(int(wrong.sum()), "loss is", "losses are")
            raise DataError(
                f"{many} too large to compute with, the first that of labelled row {int(wrong.argmax()) + 1:,} of "
                f"{len(losses):,}: the answer or the label there is beyond all measure"
            )
        return np.asarray(losses)
    if predictions.probabilities is None:
        return np.asarray(predictions.values != target, dtype=float)
    classes = np.asarray(predictions.classes)
    if (classes.dtype.kind in "OU") != (target.dtype.kind in "OU"):
        kinds = ("text", "numbers") if target.dtype.kind in "OU" else ("numbers", "text")
        raise DataError(f"The labels are {kinds[0]}, and the version learned {kinds[1]}. Deliver them as before.")
    truth = target[:, None] == classes.astype(target.dtype)[None, :]
    # A class that training never saw has no column: the probability that should have gone to it counts as lost.
    missing = ~truth.any(axis=1)
    return np.asarray((((predictions.probabilities - truth) ** 2).sum(axis=1) + missing) / 2)


def hard_losses(predictions: Predictions, target: np.ndarray, task: str) -> np.ndarray:
    """0/1 error of each row for classes, absolute error for regression, shape (rows,)."""
    return row_losses(Predictions(predictions.values, None, predictions.classes), target, task)


def loss_point(batch: str, version: int, losses: np.ndarray) -> LossPoint:
    """What a version loses on a batch, from the losses of its rows, shape (rows,)."""
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


def metric_problems(name: str, task: str, target: np.ndarray) -> list[str]:
    """Why a metric cannot be had for this task and these labels, shape (rows,), and which can; empty where it can.

    A stray third class of a binary target is no reason: its own check names it.
    """
    names = get_scorer_names()
    if name in names and _suits(name, task, target):
        return []
    suited = [other for other in names if _suits(other, task, target)]
    close = [other for other in difflib.get_close_matches(name, names, n=5, cutoff=0.5) if other in suited]
    usable = named([*dict.fromkeys([*close, DEFAULT_METRICS[task], *suited])], SUGGESTED)
    if name not in names:
        return [f"metric: {name!r} is not a scikit-learn scorer; for this target there are {usable}"]
    what = "numbers"
    if task != "regression":
        count, words = len(np.unique(target)), target.dtype.kind in "OU"
        what = f"{count} classes, which are {'text' if words else 'numbers'}"
    return [f"metric: {name!r} cannot be had where the target is {what}; use one of {usable}"]


def _suits(name: str, task: str, target: np.ndarray) -> bool:
    """Whether a scorer gives a number to perfect answers, and is one for classes or for numbers, as the task is."""
    numbers = np.linspace(0.5, 3.5, 4)
    words = np.repeat(np.array(["a", "b"], dtype=object), 2)
    of_numbers = _scores(name, numbers) and not _scores(name, words)
    values, counts = np.unique(target, return_counts=True)
    if task == "regression":
        return of_numbers and (len(values) < 2 or _scores(name, values[:_TRIED].astype(float)))
    if task == "binary":
        values = values[np.sort(np.argsort(-counts, kind="stable")[:2])]
    return not of_numbers and (len(values) < 2 or _scores(name, np.repeat(values[:_TRIED], 2)))


def _scores(name: str, truth: np.ndarray) -> bool:
    """Whether a scorer gives a finite number to answers that are right, with probabilities where they are classes."""
    predictions, task = Predictions(truth, None, ()), "regression"
    if truth.dtype.kind != "f":
        classes = np.unique(truth)
        right = (truth[:, None] == classes[None, :]).astype(float)
        predictions = Predictions(truth, (right + 0.5) / (right + 0.5).sum(1, keepdims=True), tuple(classes.tolist()))
        task = "classification"
    with warnings.catch_warnings(action="ignore"):
        try:
            return bool(np.isfinite(scorer(name, task)(predictions, truth)))
        except (ValueError, TypeError, AttributeError):
            return False


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
    with warnings.catch_warnings(action="ignore"):  # one class only: scikit-learn warns and gives nan
        try:
            value = scorer(name, task)(predictions, target)
        except (ValueError, AttributeError):  # undefined on these rows, or in need of probabilities that are not there
            return None
    return value if np.isfinite(value) else None


def why_undefined(name: str, predictions: Predictions, target: np.ndarray, task: str) -> str:
    """Why a scorer has no value on these rows, in a few words; empty where it has one."""
    if value_of(name, predictions, target, task) is not None:
        return ""
    if task == "regression":
        return (
            "they are too few, or all labels are the same" if len(np.unique(target)) < 2 else "it is not defined there"
        )
    there, known = np.unique(target), np.asarray(predictions.classes)
    if len(there) < 2:
        return "they all have one class"
    by_classes_alone = Predictions(predictions.values, None, predictions.classes)
    if predictions.probabilities is None and not _scores_classes(name, by_classes_alone):
        return "it needs probabilities, and the pipeline has no predict_proba"
    if not np.isin(there, known).all():
        return "they have a class that the version never learned"
    if len(there) < len(known):
        return f"they have {len(there)} of the {len(known)} classes"
    return "it is not defined there"


def _scores_classes(name: str, predictions: Predictions) -> bool:
    """Whether a scorer takes classes without probabilities."""
    return value_of(name, predictions, np.asarray(predictions.values), "classification") is not None


def _bootstrapped(predictions: Predictions, target: np.ndarray, name: str, task: str, seed: int) -> Metric | None:
    """None where the metric is not defined on these rows (one class only, say)."""
    rows, score = len(target), scorer(name, task)
    if (value := value_of(name, predictions, target, task)) is None:
        return None
    rng, size = np.random.default_rng(seed), min(rows, _MAX_ROWS)
    values = []
    with warnings.catch_warnings(action="ignore"):
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
    """Performance on newly labelled rows, with coverage and lag of the labels; never a crash of the run.

    Where the target is private no text of Evidently's is shown.
    """

    known = len(target) if task == "regression" else int(np.isin(target, np.asarray(predictions.classes)).sum())
    strange = len(target) - known
    about, others = f"{len(target):,}", ""
    if strange:  # Evidently's metrics can only count classes that there are answers for
        about = f"{known:,} of {len(target):,}"
        others = f"; {strange:,} have a class that the version never learned"

    def measured(name: str, value: float, more: str = "", rows: str = f"{len(target):,}") -> Check:
        text = f"{name} {amount(value, 4)} on {rows} labelled rows of {batch}{more}"
        return Check.of(CheckKind.PERFORMANCE, name, Verdict.PASS, text, value)

    late = f", {counted(lag, 'batch', 'batches')} later" if lag else ""
    loss = float(row_losses(predictions, target, task).mean())
    checks = [measured("loss", loss, f" ({coverage:.0%} of its rows{late})")]
    try:
        values, snapshot = evidently_metrics(predictions, target, task)
    except Exception as error:  # noqa: BLE001 - a measuring library must never stop a decision
        reason = f"Evidently could not measure performance on {batch}: {in_short(error, withheld=private)}"
        return (*checks, Check.of(CheckKind.PERFORMANCE, "evidently", Verdict.SKIPPED, reason)), None
    return (*checks, *(measured(name, value, others, about) for name, value in values.items())), snapshot


def dummy(target: np.ndarray, task: str, rows: int) -> Predictions:
    """What always predicting the usual would answer: class shares, or the median."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    model = DummyRegressor(strategy="median") if task == "regression" else DummyClassifier(strategy="prior")
    return predict(model.fit(np.zeros((len(target), 1)), target), np.zeros((rows, 1)))
