"""Fit a challenger on all labelled history, and gate it against the champion on rows that neither has seen."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import resource
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.core import drift, performance, persistence
from tasks.core.batches import Labels, Source
from tasks.core.contract import Contract, frame, infer, sample_rows, target_values, validate
from tasks.core.errors import DataError, SpecError, TrainingError
from tasks.core.records import to_dict
from tasks.core.registry import Candidate, LoadedVersion, TrainingFile
from tasks.core.spec import ModelSpec
from tasks.core.types import Batch, Gate, Metric, Verdict

FOLD = 5
"""One row in FOLD of the newest labelled batches is kept for the gate."""
GATE_ROWS = 100
"""Rows that the gate needs; folds of earlier batches are added, newest first, until there are as many."""
GATE_BATCHES = 8
PROBE_ROWS = 32
IMPORTANCE_ROWS = 2_000


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
            [f"{spec.pipeline.factory!r} cannot be imported: {error}. It must live in an installed module"],
        ) from None
    offered = {"task": spec.task, "seed": spec.seed}
    accepted = inspect.signature(factory).parameters
    arguments = {key: value for key, value in offered.items() if key in accepted} | dict(spec.pipeline.parameters)
    pipeline = factory(**arguments)
    if not (hasattr(pipeline, "fit") and hasattr(pipeline, "predict")):
        raise SpecError(
            "pipeline.factory",
            [f"{spec.pipeline.factory!r} returned {type(pipeline).__name__}, no estimator"],
        )
    return pipeline


def fold_rows(batch: Batch, rows: int) -> np.ndarray:
    """Row numbers kept for the gate: blake2b(batch digest, row number) mod 5 is 0, so anybody can derive them again."""
    prefix = hashlib.blake2b(bytes.fromhex(batch.sha256), digest_size=8)
    kept = []
    for row in range(rows):
        mark = prefix.copy()
        mark.update(row.to_bytes(8, "little"))
        if int.from_bytes(mark.digest(), "little") % FOLD == 0:
            kept.append(row)
    return np.array(kept, dtype=np.int64)


# --- data ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one batch that have labels: where they are, and the labels themselves."""

    batch: Batch
    source: Source
    rows: np.ndarray
    """Row numbers, sorted."""
    target: np.ndarray
    labels: str
    """Digest of the joined labels."""
    total: int

    def part(self, keep: np.ndarray) -> LabelledRows:
        """The rows whose number is in `keep`."""
        inside = np.isin(self.rows, keep)
        return LabelledRows(self.batch, self.source, self.rows[inside], self.target[inside], self.labels, self.total)

    def without(self, leave_out: np.ndarray) -> LabelledRows:
        return self.part(np.setdiff1d(self.rows, leave_out))


def labelled_rows(root: Path, batch: Batch, labels: Labels, task: str) -> LabelledRows:
    """Raises DataError for labels that do not fit the task."""
    found = labels.of(batch)
    known = np.flatnonzero(np.asarray(found.values.is_valid()))
    target = target_values(found.values.take(pa.array(known)), task)
    return LabelledRows(batch, Source(root, batch.path), known, target, found.digest, len(found.values))


@dataclass(frozen=True)
class TrainingSet:
    """All labelled history, split into rows to learn from and rows kept for the gate."""

    learn: tuple[LabelledRows, ...]
    gate: tuple[LabelledRows, ...]


def split(history: Sequence[LabelledRows]) -> TrainingSet:
    """Keep the fold of the newest batches for the gate, going back until there are GATE_ROWS of them."""
    learn, gate, kept = list(history), [], 0
    for index in range(len(history) - 1, max(-1, len(history) - 1 - GATE_BATCHES), -1):
        item = history[index]
        fold = fold_rows(item.batch, item.total)
        gate.append(item.part(fold))
        learn[index] = item.without(fold)
        kept += len(gate[-1].rows)
        if kept >= GATE_ROWS:
            break
    return TrainingSet(tuple(learn), tuple(reversed(gate)))


def _features(contract: Contract, parts: Sequence[LabelledRows]) -> pd.DataFrame:
    return pd.concat([frame(contract, part.source, part.rows) for part in parts], ignore_index=True)


def _target(parts: Sequence[LabelledRows]) -> np.ndarray:
    return np.concatenate([part.target for part in parts])


# --- the challenger ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Challenger:
    """A fitted pipeline and the gate's verdict on it."""

    candidate: Candidate
    gate: Gate


def train(
    root: Path,
    spec: ModelSpec,
    history: Sequence[LabelledRows],
    champion: LoadedVersion | None,
    action: str,
    reasons: Sequence[str],
) -> Challenger:
    """Fit on all labelled history but the gate's rows, compare with the champion on those, and collect the record.

    Raises TrainingError when the pipeline cannot be fitted, DataError when the data contradict their own contract.
    """
    started = time.monotonic()
    training = split(history)
    contract = infer([part.source for part in training.learn], spec)
    _consistent(contract, training.learn, spec)
    features, target = _features(contract, training.learn), _target(training.learn)
    pipeline = _fit(spec, features, target)
    kept, truth = _features(contract, training.gate), _target(training.gate)
    try:
        answers = persistence.predict(pipeline, kept) if len(kept) else None
    except Exception as error:
        raise TrainingError(f"The fitted pipeline cannot predict: {type(error).__name__}: {error}") from error

    rivals = _rivals(spec, training, target, champion)
    gate, metrics, rival_metrics = _compare(spec, answers, truth, rivals, champion)
    importance = _importance(spec, pipeline, kept, truth)
    windows = _windows(spec, pipeline, contract, training.learn)
    reference = pd.concat(windows, ignore_index=True)
    reference = reference.iloc[sample_rows(len(reference), spec.checks.sample_rows, spec.seed)]
    calibration = drift.calibrate(
        windows,
        contract,
        importance,
        answers.score if answers else np.array([]),
        spec.checks.drift_floor,
        spec.seed,
    )
    probe = reference[contract.names].iloc[sample_rows(len(reference), PROBE_ROWS, spec.seed)].reset_index(drop=True)
    evaluation = {
        "metrics": to_dict(metrics),
        "rival": gate.against,
        "rival_metrics": to_dict(rival_metrics),
        "gate": to_dict(gate),
        "importance": importance,
    }
    candidate = Candidate(
        pipeline=persistence.dump(pipeline),
        contract=contract,
        reference=reference,
        probe=persistence.make_probe(pipeline, probe),
        calibration={name: to_dict(column) for name, column in calibration.items()},
        evaluation=evaluation,
        environment=persistence.environment(pipeline, root),
        manifest={
            "parent": champion.version if champion else None,
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
            "champion_metrics": rival_metrics if champion else {},
            "gate": gate,
            "action": action,
            "reasons": list(reasons),
            "duration_seconds": round(time.monotonic() - started, 2),
            "peak_memory_mb": _peak_memory(),
        },
    )
    return Challenger(candidate, gate)


def _fit(spec: ModelSpec, features: pd.DataFrame, target: np.ndarray) -> Any:
    performance.scorer(spec.metric, spec.task)  # an unknown metric is refused before the work, not after it
    pipeline = build(spec)
    if spec.task != "regression" and len(np.unique(target)) < 2:
        raise TrainingError(f"All {len(target):,} labels are {target[0]!r}: there is nothing to tell apart.")
    try:
        return pipeline.fit(features, target)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise TrainingError(
            f"Fitting failed on {len(target):,} rows: {type(error).__name__}: {error} "
            f"({Path(where.filename).name}:{where.lineno})."
        ) from error


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


# --- the gate ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rival:
    name: str
    answers: persistence.Predictions
    truth: np.ndarray
    clean: np.ndarray
    """Gate rows, by position, that this rival never saw."""


def _rivals(
    spec: ModelSpec, training: TrainingSet, target: np.ndarray, champion: LoadedVersion | None
) -> _Rival | None:
    """Who has to be beaten: the champion, or for a first version scikit-learn's Dummy."""
    truth = _target(training.gate)
    if not len(truth):
        return None
    if champion is None:
        return _Rival("Dummy", dummy(target, spec.task, len(truth)), truth, np.arange(len(truth)))
    answers, clean, start = [], [], 0
    seen = {file.batch: file.held_out for file in champion.manifest.training}
    for part in training.gate:
        if seen.get(part.batch.id, True):
            clean.append(np.arange(start, start + len(part.rows)))
        answers.append(frame(champion.contract, part.source, part.rows))
        start += len(part.rows)
    predicted = persistence.predict(champion.pipeline, pd.concat(answers, ignore_index=True))
    rows = np.concatenate(clean) if clean else np.array([], dtype=int)
    return _Rival(f"v{champion.version}", predicted, truth, rows)


def dummy(target: np.ndarray, task: str, rows: int) -> persistence.Predictions:
    """What always predicting the usual would answer: class shares, or the median."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    model = DummyRegressor(strategy="median") if task == "regression" else DummyClassifier(strategy="prior")
    return persistence.predict(model.fit(np.zeros((len(target), 1)), target), np.zeros((rows, 1)))


def _compare(
    spec: ModelSpec,
    answers: persistence.Predictions | None,
    truth: np.ndarray,
    rival: _Rival | None,
    champion: LoadedVersion | None,
) -> tuple[Gate, dict[str, Metric], dict[str, Metric]]:
    """Paired on the same rows: refused when worse beyond two standard errors, or below the floor if one is set."""
    if answers is None or rival is None:
        return Gate(Verdict.SKIPPED, "no rows were kept for the comparison", 0), {}, {}
    metrics = performance.metrics(answers, truth, spec.metric, spec.task, spec.seed)
    rival_metrics = performance.metrics(rival.answers, truth, spec.metric, spec.task, spec.seed)
    rows = rival.clean
    if champion and len(rows) < GATE_ROWS:
        reason = f"only {len(rows)} rows that v{champion.version} has not seen ({GATE_ROWS} needed): it stays"
        return Gate(Verdict.SKIPPED, reason, len(rows), against=rival.name), metrics, rival_metrics
    ours = performance.row_losses(answers, truth, spec.task)[rows]
    theirs = performance.row_losses(rival.answers, truth, spec.task)[rows]
    difference = float((ours - theirs).mean())
    error = float((ours - theirs).std(ddof=1) / math.sqrt(len(rows))) if len(rows) > 1 else math.inf
    flips = None
    if spec.task != "regression" and champion:
        flips = float(((rival.answers.values == truth) & (answers.values != truth))[rows].mean())
    better = "better" if difference < 0 else "not worse"
    verdict, reason = Verdict.PASS, f"{better} than {rival.name} on {len(rows):,} rows that neither has seen"
    floor, reached = spec.policy.metric_floor, metrics.get(spec.metric)
    if champion is None and difference >= 0:
        verdict, reason = Verdict.FAIL, f"loses {difference:.4g} a row more than always predicting the usual"
    elif champion is not None and difference > 2 * error:
        verdict = Verdict.FAIL
        reason = f"worse than {rival.name} by {difference:.4g} a row on {len(rows):,} rows, beyond two standard errors"
    elif floor is not None and (reached is None or reached.value < floor):
        shown = f"{reached.value:.4g}" if reached else "undefined"
        verdict, reason = Verdict.FAIL, f"{spec.metric} is {shown}, below the floor of {floor:g}"
    finite = error if math.isfinite(error) else None
    return Gate(verdict, reason, len(rows), difference, finite, rival.name, flips), metrics, rival_metrics


# --- what drift checks will need -----------------------------------------------------------------------------


def _importance(spec: ModelSpec, pipeline: Any, features: pd.DataFrame, target: np.ndarray) -> dict[str, float]:
    """Permutation importance on gate rows as shares of the whole (Breiman 2001), by the loss the rules use."""
    rows = sample_rows(len(features), IMPORTANCE_ROWS, spec.seed)
    if not len(rows):
        return dict.fromkeys(features.columns, 1 / features.shape[1])
    features, target = features.iloc[rows].reset_index(drop=True), target[rows]
    base = performance.row_losses(persistence.predict(pipeline, features), target, spec.task).mean()
    rng = np.random.default_rng(spec.seed)
    rises = {}
    for name in features.columns:
        shuffled = features.assign(**{name: features[name].to_numpy()[rng.permutation(len(features))]})
        losses = performance.row_losses(persistence.predict(pipeline, shuffled), target, spec.task)
        rises[name] = max(0.0, float(losses.mean() - base))
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
        score = persistence.predict(pipeline, window).score
        windows.append(window.assign(**{drift.TARGET: part.target[chosen], drift.SCORE: score}))
    return windows


def _peak_memory() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
