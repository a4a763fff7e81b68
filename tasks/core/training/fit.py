"""Fit a challenger on all labelled history, and gate it against the champion on rows that neither has seen."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import permutation_importance

from tasks.core.checks import performance
from tasks.core.checks.calibration import SCORE, TARGET, ColumnCalibration, calibrate, reference_of
from tasks.core.data.arrow import sample_rows
from tasks.core.data.rows import LabelledRows, target_of
from tasks.core.errors import CODE_OF_USERS, DataError, TrainingError, UnavailablePipeline
from tasks.core.schema.contract import Contract, infer
from tasks.core.schema.dtypes import as_seen
from tasks.core.schema.frames import frame
from tasks.core.schema.validation import validate
from tasks.core.spec import ModelSpec
from tasks.core.training.factory import build, is_default, without_caches
from tasks.core.training.forgetting import fit_arguments, recency, remembered
from tasks.core.training.holdout import FIRST_HOLDOUT_EVERY, HOLDOUT_EVERY, TrainingSet, features_of, split
from tasks.core.versions import namespaces, persistence
from tasks.core.versions.configuration import applied, changed, put_back
from tasks.core.versions.opened import by_pipeline
from tasks.core.versions.persistence import Predictions
from tasks.core.versions.steps import said_by

PROBE_ROWS, SAMPLE_ROWS = 32, 2_000
IMPORTANCE_ROWS, IMPORTANCE_LEAST, IMPORTANCE_REPEATS = 2_000, 500, 2


@dataclass(frozen=True)
class Rows:
    """Labelled rows as a pipeline takes them, in time order."""

    contract: Contract
    """Of the batches that they come from."""
    features: pd.DataFrame
    target: np.ndarray
    """Shape (rows,)."""
    weights: np.ndarray | None
    """Shape (rows,); None where all count alike."""

    def __getitem__(self, places: slice) -> Rows:
        weights = None if self.weights is None else self.weights[places]
        return Rows(self.contract, self.features.iloc[places], self.target[places], weights)


@dataclass(frozen=True)
class FittedPipeline:
    """A pipeline fitted on some rows, and the input schema they make."""

    contract: Contract
    pipeline: Any
    target: np.ndarray
    """What it learned from, shape (rows,)."""


@dataclass(frozen=True)
class CalibratedFit(FittedPipeline):
    """A pipeline fitted on all labelled history but the gate's rows, with all that checks on later data need."""

    training: TrainingSet
    answers: Predictions | None
    """On the gate's rows, None where there are none."""
    importance: Mapping[str, float]
    reference: pd.DataFrame
    calibration: Mapping[str, ColumnCalibration]
    asked: pd.DataFrame
    """A few training rows as a user would send them; those of `reference` are scaled, as no pipeline sees them."""
    sample: pd.DataFrame
    """More of them, with their labels as TARGET."""


def fit(spec: ModelSpec, history: Sequence[LabelledRows], *, first: bool = False) -> CalibratedFit:
    """Fit on the history but the gate's rows, and measure what the checks on later data will need.

    Raises TrainingError when the pipeline cannot be fitted, DataError when the data contradict their own contract.
    """
    training, learned = learn_apart(spec, history, FIRST_HOLDOUT_EVERY if first else HOLDOUT_EVERY)
    contract, pipeline = learned.contract, learned.pipeline
    kept, truth = features_of(contract, training.gate), target_of(training.gate)
    try:
        answers = persistence.predict(pipeline, kept, contract=contract) if len(kept) else None
    except (DataError, UnavailablePipeline) as error:
        raise TrainingError(f"It was fitted, but fails on other rows. {error}") from error
    windows = _windows(spec, pipeline, contract, training.learn)
    trained = pd.concat(windows, ignore_index=True)
    if len(kept) < IMPORTANCE_LEAST:  # few rows would call columns unimportant by chance, and their drift silent
        kept, truth = trained[contract.names], trained[TARGET].to_numpy()
    importance = _importance(spec, learned, kept, truth)
    held_out = answers.score if answers else np.array([])
    calibration = calibrate(windows, contract, importance, held_out, spec.checks.drift_floor, spec.seed)
    return CalibratedFit(
        contract,
        pipeline,
        learned.target,
        training,
        answers,
        importance,
        reference=reference_of(trained, calibration, spec.checks.sample_rows, spec.seed),
        calibration=calibration,
        asked=trained[contract.names].iloc[sample_rows(len(trained), PROBE_ROWS, spec.seed)],
        sample=trained.iloc[sample_rows(len(trained), SAMPLE_ROWS, spec.seed)],
    )


def learn_apart(spec: ModelSpec, history: Sequence[LabelledRows], every: int) -> tuple[TrainingSet, FittedPipeline]:
    """Keep one row in `every` of the newest batches for the gate, and fit on all others. Raises as `fit` does."""
    training = split(remembered(history, spec.policy.forgetting), every)
    return training, learn(spec, training.learn)


def learn(spec: ModelSpec, parts: Sequence[LabelledRows]) -> FittedPipeline:
    """Fit on these rows, all of them. Raises TrainingError and DataError as `fit` does."""
    rows = rows_of(spec, parts)
    return FittedPipeline(rows.contract, fit_on(spec, rows), rows.target)


def rows_of(spec: ModelSpec, parts: Sequence[LabelledRows]) -> Rows:
    """What a pipeline learns from these parts. Raises DataError when they contradict their own contract."""
    contract = infer([part.source for part in parts], spec)
    _consistent(contract, parts, spec)
    return Rows(contract, features_of(contract, parts), target_of(parts), recency(parts, spec.policy.forgetting))


def fit_on(spec: ModelSpec, rows: Rows) -> Any:
    """The pipeline of this specification, fitted. Raises TrainingError when it cannot be."""
    features, target = rows.features, rows.target
    performance.scorer(spec.metric, spec.task)  # an unknown metric is refused before the work, not after it
    with by_pipeline(), put_back():
        before = changed()
        pipeline = build(spec)
        settings = before | namespaces.settings_set(before, spec.pipeline.factory)
    without_caches(pipeline)
    arguments = fit_arguments(pipeline, rows.weights)
    if spec.task != "regression" and len(np.unique(target)) < 2:
        one = "the same" if spec.target in spec.data.private else target[0]
        raise TrainingError(f"All {len(target):,} labels are {one}: there is nothing to tell apart.")
    # Nobody chose the solver of the default pipeline, and the gate judges it: that it stopped early helps nobody.
    default = is_default(spec)
    quiet = warnings.catch_warnings(action="ignore", category=ConvergenceWarning) if default else nullcontext()
    try:
        with quiet, by_pipeline(), applied(settings):
            seen = as_seen(rows.contract, features)
            # A step of a user's may change the frame that it is given, of which a reference is made afterwards.
            fitted = pipeline.fit(seen if default else seen.copy(), target, **arguments)
    except CODE_OF_USERS as error:
        private = bool(spec.data.private)
        reason = f"Fitting failed on {len(target):,} rows: {said_by(pipeline, error, withheld=private)}."
        # What was raised is not chained to it where logs would show its text.
        raise TrainingError(reason) from (None if private else error)
    namespaces.belongs(fitted, namespaces.active(), settings)
    return fitted


def _consistent(contract: Contract, parts: Sequence[LabelledRows], spec: ModelSpec) -> None:
    """A version whose own training data break its contract must not exist."""
    problems = [
        f"{part.source.path}: {problem}"
        for part in parts
        for problem in validate(contract, part.source, spec).problems
        if "values are missing" not in problem
    ]
    if problems:
        raise DataError("The training data do not agree with each other:\n" + "\n".join(problems))


# --- what drift checks will need -----------------------------------------------------------------------------


def _importance(
    spec: ModelSpec, fitted: FittedPipeline, features: pd.DataFrame, target: np.ndarray
) -> dict[str, float]:
    """Permutation importance on a sample of these rows, as shares of the whole (Breiman 2001), by the rules' loss."""
    rows = sample_rows(len(features), IMPORTANCE_ROWS, spec.seed)
    features, target = features.iloc[rows].reset_index(drop=True), target[rows]

    def score(pipeline: Any, features: pd.DataFrame, target: np.ndarray) -> float:
        try:
            answers = persistence.predict(pipeline, features, contract=fitted.contract)
            return -float(performance.row_losses(answers, target, spec.task).mean())
        except DataError:  # rows that were mixed up are none that ever came: to fail on them is no fault
            return np.nan

    found = permutation_importance(
        fitted.pipeline, features, target, scoring=score, n_repeats=IMPORTANCE_REPEATS, random_state=spec.seed
    )
    means = np.maximum(found.importances_mean, 0.0)
    # A column without whose own values the pipeline cannot answer counts as much as the one that counts most.
    means = np.where(np.isnan(means), np.max(means, initial=0.0, where=~np.isnan(means)), means)
    rises = dict(zip(features.columns, means.tolist(), strict=True))
    total = sum(rises.values())
    return {name: rise / total if total else 1 / len(rises) for name, rise in rises.items()}


def _windows(spec: ModelSpec, pipeline: Any, contract: Contract, parts: Sequence[LabelledRows]) -> list[pd.DataFrame]:
    """A bounded sample of every training batch with its target and score, in time order."""
    limit = max(1, spec.checks.sample_rows // len(parts))
    windows = []
    for part in parts:
        chosen = sample_rows(len(part.rows), limit, spec.seed)
        if not len(chosen):
            continue
        window = frame(contract, part.source, part.rows[chosen])
        score = persistence.predict(pipeline, window, contract=contract).score
        windows.append(window.assign(**{TARGET: part.target[chosen], SCORE: score}))
    return windows
