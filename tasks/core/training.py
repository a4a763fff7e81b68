"""Fit a challenger on all labelled history, and gate it against the champion on rows that neither has seen."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.inspection import permutation_importance

from tasks.core import performance, persistence
from tasks.core.calibration import SCORE, TARGET, ColumnCalibration, calibrate, reference_of
from tasks.core.columns import sample_rows
from tasks.core.contract import Contract, infer
from tasks.core.environment import environment_of
from tasks.core.errors import DataError, SpecError, TrainingError, in_short
from tasks.core.forgetting import fit_arguments, recency, remembered
from tasks.core.gate import (
    FIRST_FOLD,
    FOLD,
    Champion,
    LabelledRows,
    TrainingSet,
    compare,
    features_of,
    rival_of,
    split,
    target_of,
)
from tasks.core.manifest import Candidate, TrainingFile
from tasks.core.persistence import Predictions
from tasks.core.records import to_dict
from tasks.core.sources import texts_of
from tasks.core.spec import ModelSpec
from tasks.core.types import Gate
from tasks.core.validation import conform, frame, validate

PROBE_ROWS = 32
UNSEEN = "a category that no training data had"
IMPORTANCE_ROWS, IMPORTANCE_LEAST, IMPORTANCE_REPEATS = 2_000, 500, 2


def tabular(task: str, seed: int, **parameters: Any) -> Any:
    """The default pipeline: impute and scale numbers, encode categories, histogram gradient boosting.

    Made of scikit-learn classes only, so that plain `joblib.load` needs nothing of ours. It survives columns that are
    wholly missing in training and categories that training never saw. `parameters` go to the booster.
    """
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder, StandardScaler

    numbers = Pipeline(
        [
            # An indicator keeps what imputation would hide; empty columns are kept or the width would change.
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True)),
            ("scale", StandardScaler()),
        ]
    )
    categories = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-2, encoded_missing_value=-1, dtype=np.float64
    )
    columns = ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("categories", categories, make_column_selector(dtype_exclude="number")),
        ]
    )
    booster = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    settings = {"max_iter": 100, "early_stopping": False, "random_state": seed, **parameters}
    return Pipeline([("columns", columns), ("model", booster(**settings))])


def build(spec: ModelSpec) -> Any:
    """The unfitted pipeline that the specification names. Raises SpecError when there is no such factory."""
    module_name, _, name = spec.pipeline.factory.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(
            "pipeline.factory",
            [
                f"{spec.pipeline.factory!r} cannot be imported: {error}. It must live in an installed module, or in a "
                'folder that the model\'s file names: code = ["src"]'
            ],
        ) from None
    offered = {"task": spec.task, "seed": spec.seed}
    accepted = inspect.signature(factory).parameters
    arguments = {key: value for key, value in offered.items() if key in accepted} | dict(spec.pipeline.parameters)
    try:
        pipeline = factory(**arguments)
    except Exception as error:
        raise SpecError(
            "pipeline", [f"{spec.pipeline.factory!r} with {arguments} failed: {type(error).__name__}: {error}"]
        ) from error
    if not _is_estimator(pipeline):
        raise SpecError(
            "pipeline.factory",
            [f"{spec.pipeline.factory!r} returned {type(pipeline).__name__}, no estimator"],
        )
    return pipeline


def _is_estimator(pipeline: Any) -> bool:
    """It can be fitted, and asked then: some that are made of others (stacking) show `predict` once they are fitted."""
    steps = getattr(pipeline, "steps", None)
    last = steps[-1][1] if steps else pipeline
    return hasattr(pipeline, "fit") and (hasattr(last, "predict") or hasattr(type(last), "predict"))


# --- the challenger ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learned:
    """A pipeline fitted on some rows, and the input schema they make."""

    contract: Contract
    pipeline: Any
    target: np.ndarray
    """What it learned from, shape (rows,)."""


@dataclass(frozen=True)
class Fitted(Learned):
    """A pipeline fitted on all labelled history but the gate's rows, with all that checks on later data need."""

    training: TrainingSet
    answers: Predictions | None
    """On the gate's rows, None where there are none."""
    importance: Mapping[str, float]
    reference: pd.DataFrame
    calibration: Mapping[str, ColumnCalibration]
    asked: pd.DataFrame
    """A few training rows as a user would send them; those of `reference` are scaled, as no pipeline sees them."""


@dataclass(frozen=True)
class Challenger:
    """A fitted pipeline and the gate's verdict on it."""

    candidate: Candidate
    gate: Gate


def train(
    root: Path,
    spec: ModelSpec,
    history: Sequence[LabelledRows],
    champion: Champion | None,
    action: str,
    reasons: Sequence[str],
) -> Challenger:
    """Fit on all labelled history but the gate's rows, compare with the champion on those, and collect the record.

    Raises TrainingError when the pipeline cannot be fitted, DataError when the data contradict their own contract.
    """
    started = time.monotonic()
    fitted = fit(root, spec, history, first=champion is None)
    training, truth = fitted.training, target_of(fitted.training.gate)
    rival = rival_of(spec, training, fitted.target, champion)
    gate, metrics, rival_metrics = compare(spec, fitted.answers, truth, rival)
    saved = persistence.dump(fitted.pipeline, spec.pipeline.format)
    if spec.pipeline.format == "skops":
        persistence.check_types(saved.data, spec.pipeline.types)
    evaluation = {
        "metrics": to_dict(metrics),
        "rival": gate.against,
        "rival_metrics": to_dict(rival_metrics),
        "gate": to_dict(gate),
        "importance": fitted.importance,
    }
    candidate = Candidate(
        pipeline=saved.data,
        form=spec.pipeline.format,
        contract=fitted.contract,
        reference=fitted.reference,
        probe=persistence.make_probe(fitted.pipeline, _probe(spec, fitted), private=fitted.contract.private),
        calibration={name: to_dict(column) for name, column in fitted.calibration.items()},
        evaluation=evaluation,
        environment=environment_of(saved.modules, root),
        sources=texts_of([*saved.modules, spec.pipeline.factory.partition(":")[0]]),
        manifest={
            "parent": champion.manifest.version if champion else None,
            "factory": spec.pipeline.factory,
            "parameters": dict(spec.pipeline.parameters),
            "spec": spec.model_dump(mode="json"),
            "seed": spec.seed,
            "training": [
                TrainingFile(
                    part.batch.id,
                    part.batch.path,
                    part.batch.sha256,
                    part.labels,
                    len(part.rows),
                    held_out=any(part.batch == other.batch for other in training.gate),
                )
                for part in training.learn
            ],
            "data_end": len(history),
            "metrics": metrics,
            "champion_metrics": rival_metrics if rival and rival.version is not None else {},
            "gate": gate,
            "action": action,
            "reasons": list(reasons),
            "duration_seconds": round(time.monotonic() - started, 2),
            "peak_memory_mb": _peak_memory(),
        },
    )
    return Challenger(candidate, gate)


def _probe(spec: ModelSpec, fitted: Fitted) -> pd.DataFrame:
    """Input rows whose answers are stored: a sample of the training rows, one row with nothing in it and one of
    categories that training never saw. Where other libraries begin to differ, it is on such rows.

    A pipeline that cannot answer one of the two is not asked for it.
    """
    contract, rows = fitted.contract, fitted.asked
    probe = conform(contract, rows)
    empty, unseen = rows.iloc[:1].astype(object), rows.iloc[:1].astype(object)
    empty[:] = None
    unseen[[column.name for column in contract.features if column.kind == "category"]] = UNSEEN
    for row in (empty, unseen):
        with contextlib.suppress(DataError):
            longer = conform(contract, pd.concat([probe.astype(object), row]).infer_objects())
            persistence.predict(fitted.pipeline, longer, private=contract.private)
            probe = longer
    return probe


def fit(root: Path, spec: ModelSpec, history: Sequence[LabelledRows], *, first: bool = False) -> Fitted:
    """Fit on the history but the gate's rows, and measure what the checks on later data will need.

    Raises TrainingError when the pipeline cannot be fitted, DataError when the data contradict their own contract.
    """
    training, learned = learn_apart(spec, history, FIRST_FOLD if first else FOLD)
    contract, pipeline = learned.contract, learned.pipeline
    kept, truth = features_of(contract, training.gate), target_of(training.gate)
    try:
        answers = persistence.predict(pipeline, kept, private=contract.private) if len(kept) else None
    except DataError as error:
        raise TrainingError(f"It was fitted, but fails on other rows. {error}") from error
    windows = _windows(spec, pipeline, contract, training.learn)
    if len(kept) < IMPORTANCE_LEAST:  # few rows would call columns unimportant by chance, and their drift silent
        trained = pd.concat(windows, ignore_index=True)
        importance = _importance(spec, pipeline, trained[contract.names], trained[TARGET].to_numpy())
    else:
        importance = _importance(spec, pipeline, kept, truth)
    calibrated = calibrate(
        windows,
        contract,
        importance,
        answers.score if answers else np.array([]),
        spec.checks.drift_floor,
        spec.seed,
    )
    reference = reference_of(windows, calibrated, spec.checks.sample_rows, spec.seed)
    whole = pd.concat(windows, ignore_index=True)[contract.names]
    asked = whole.iloc[sample_rows(len(whole), PROBE_ROWS, spec.seed)]
    return Fitted(contract, pipeline, learned.target, training, answers, importance, reference, calibrated, asked)


def learn_apart(spec: ModelSpec, history: Sequence[LabelledRows], fold: int) -> tuple[TrainingSet, Learned]:
    """Keep one row in `fold` of the newest batches for the gate, and fit on all others. Raises as `fit` does."""
    training = split(remembered(history, spec.policy.forgetting), fold)
    return training, learn(spec, training.learn)


def learn(spec: ModelSpec, parts: Sequence[LabelledRows]) -> Learned:
    """Fit on these rows, all of them. Raises TrainingError and DataError as `fit` does."""
    contract = infer([part.source for part in parts], spec)
    _consistent(contract, parts, spec)
    target = target_of(parts)
    weights = recency(parts, spec.policy.forgetting)
    return Learned(contract, _fit(spec, features_of(contract, parts), target, weights), target)


def _fit(spec: ModelSpec, features: pd.DataFrame, target: np.ndarray, weights: np.ndarray | None) -> Any:
    performance.scorer(spec.metric, spec.task)  # an unknown metric is refused before the work, not after it
    pipeline = build(spec)
    arguments = fit_arguments(pipeline, weights)
    if spec.task != "regression" and len(np.unique(target)) < 2:
        one = "the same" if spec.target in spec.data.private else target[0]
        raise TrainingError(f"All {len(target):,} labels are {one}: there is nothing to tell apart.")
    try:
        return pipeline.fit(features, target, **arguments)
    except Exception as error:  # noqa: BLE001 - a pipeline is anybody's code
        private = bool(spec.data.private)
        reason = f"Fitting failed on {len(target):,} rows: {in_short(error, withheld=private)}."
        # What was raised is not chained to it where logs would show its text.
        raise TrainingError(reason) from (None if private else error)


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


def _importance(spec: ModelSpec, pipeline: Any, features: pd.DataFrame, target: np.ndarray) -> dict[str, float]:
    """Permutation importance on a sample of these rows, as shares of the whole (Breiman 2001), by the rules' loss."""
    rows = sample_rows(len(features), IMPORTANCE_ROWS, spec.seed)
    features, target = features.iloc[rows].reset_index(drop=True), target[rows]
    private = bool(spec.data.private)

    def score(pipeline: Any, features: pd.DataFrame, target: np.ndarray) -> float:
        answers = persistence.predict(pipeline, features, private=private)
        return -float(performance.row_losses(answers, target, spec.task).mean())

    found = permutation_importance(
        pipeline, features, target, scoring=score, n_repeats=IMPORTANCE_REPEATS, random_state=spec.seed
    )
    rises = dict(zip(features.columns, np.maximum(found.importances_mean, 0.0).tolist(), strict=True))
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
        score = persistence.predict(pipeline, window, private=contract.private).score
        windows.append(window.assign(**{TARGET: part.target[chosen], SCORE: score}))
    return windows


def _peak_memory() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
