"""Why a version that ranks well may still lose, and what a person can do: the loss asks for numbers that are right, and
many a pipeline is built for others."""

from __future__ import annotations

import math

import numpy as np

from tasks.core.checks import performance
from tasks.core.spec import ModelSpec
from tasks.core.text import amount, portion
from tasks.core.types import Metric
from tasks.core.versions.persistence import Predictions


def unmeasured(spec: ModelSpec, answers: Predictions, truth: np.ndarray) -> list[str]:
    """That the metric for people has no value on these rows, and why; empty where it has one."""
    why = performance.why_undefined(spec.metric, answers, truth, spec.task)
    return [f"{spec.metric} cannot be measured on these {len(truth):,} rows: {why}"] if why else []


def advice(
    spec: ModelSpec, answers: Predictions, truth: np.ndarray, metric: Metric | None, others: Metric | None, rival: str
) -> list[str]:
    """What is said of a version that loses more than its rival on these rows, and what can be done, one sentence each;
    empty where nothing more is known than the loss. `metric` is the primary one, and `others` the rival's."""
    found = _inflated(spec, answers, truth) if spec.task != "regression" else _skewed(answers, truth)
    if found and metric:
        theirs = f", that of {rival} {amount(others.value)}" if others else ""
        return [f"{spec.metric} is {amount(metric.value)}{theirs}", *found]
    return found


def _inflated(spec: ModelSpec, answers: Predictions, truth: np.ndarray) -> list[str]:
    """Probabilities that are no shares, beyond two standard errors: as class weights and resampling make them."""
    if answers.probabilities is None:
        return []
    expected = answers.probabilities.mean(axis=0)
    shares = np.array([(truth == name).mean() for name in answers.classes])
    errors = np.sqrt(np.maximum(expected * (1 - expected), shares * (1 - shares)) / len(truth))
    beyond = np.abs(expected - shares) - 2 * errors
    worst = int(beyond.argmax()) if len(answers.classes) != 2 else 1
    if beyond[worst] <= 0:
        return []
    name = "one class" if spec.target in spec.data.private else repr(answers.classes[worst])
    return [
        f"the loss is the Brier score, which asks for calibrated probabilities, and these are none: of {name} they "
        f"average {portion(float(expected[worst]), 1)}, and {portion(float(shares[worst]), 1)} of the rows are it",
        "leave out class_weight, sample weights and resampling, and choose the class by a threshold "
        "(TunedThresholdClassifierCV); or keep them and calibrate (CalibratedClassifierCV around the classifier)",
    ]


def _skewed(answers: Predictions, truth: np.ndarray) -> list[str]:
    """Answers that are no medians, beyond two standard errors: as means of a skewed target are."""
    above = float((np.asarray(answers.values, dtype=float) > truth.astype(float)).mean())
    if abs(above - 0.5) <= 1 / math.sqrt(len(truth)):
        return []
    return [
        "the loss is the mean absolute error, which asks for medians, and these answers are none: "
        f"{portion(above, 1)} of them are above the label",
        "fit medians (loss = 'absolute_error' where the estimator has it); or means of the target's logarithm "
        "(TransformedTargetRegressor)",
    ]
