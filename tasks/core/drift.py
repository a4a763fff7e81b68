"""Drift: Evidently measures on guarded, scaled samples; thresholds calibrated at registration judge.

Evidently is imported when something is measured, never before: it costs four seconds.
"""

from __future__ import annotations

import html
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.contract import UNIMPORTANT, Contract
from tasks.core.evidence import DriftEvidence
from tasks.core.types import Check, Verdict

CLIP = 5.0
"""Scaled values beyond this are cut: one outlier must neither hide nor fake a shift."""
LEVELS = 50
"""Categories that are compared one by one; the rest count as one, because Evidently is quadratic in them."""
TARGET, SCORE = "ror:target", "ror:score"
_WINDOWS, _DRAWS, _QUANTILE = 3, 20, 0.95


@dataclass(frozen=True, slots=True)
class ColumnCalibration:
    """How one column is scaled and from which distance on it counts as drifted."""

    numeric: bool
    threshold: float
    provisional: bool
    """Too few training batches for a history: a bootstrap at the batch's size stands in."""
    weight: float
    """Share of the permutation importance, 0 to 1; 0 for prediction and target."""
    center: float = 0.0
    scale: float = 1.0
    levels: tuple[str, ...] = ()


def calibrate(
    windows: Sequence[pd.DataFrame],
    contract: Contract,
    importance: Mapping[str, float],
    held_out_score: np.ndarray,
    floor: float,
    seed: int,
) -> dict[str, ColumnCalibration]:
    """A threshold per column from the training data's own history.

    `windows` are samples of the training batches in time order, with TARGET and SCORE columns. Each window is compared
    with the rest; a column drifts beyond the larger of `floor` and the 95 % quantile of that history, so season and
    noise at this batch size are normal by construction. The score's threshold also covers the distance that rows show
    merely by not having been trained on (`held_out_score`).
    """
    whole = pd.concat(windows, ignore_index=True)
    origin = np.repeat(np.arange(len(windows)), [len(window) for window in windows])
    numeric = {column.name: column.kind != "category" for column in contract.features}
    for name in (TARGET, SCORE):
        numeric[name] = pd.api.types.is_numeric_dtype(whole[name])
    calibrated = {}
    rng = np.random.default_rng(seed)
    size = int(np.median([len(window) for window in windows]))
    for name, is_number in numeric.items():
        base = _fitted(whole[name], is_number, importance.get(name, 0.0))
        everything = _scaled(whole[name], base)
        if len(windows) >= _WINDOWS:
            pairs = [(everything[origin != window], everything[origin == window]) for window in range(len(windows))]
        else:
            draws = (rng.integers(0, len(whole), size) for _ in range(_DRAWS))
            pairs = [(everything, everything[rows]) for rows in draws]
        distances = [distance(rest, window, is_number) for rest, window in pairs]
        if name == SCORE and len(held_out_score):
            held_out = _scaled(pd.Series(held_out_score), base)
            unseen = distance(everything, held_out, is_number)
            distances = [1.5 * unseen if unseen else 0.0, *distances]
        history = [value for value in distances if value is not None]
        threshold = max(floor, float(np.quantile(history, _QUANTILE)) if history else floor)
        calibrated[name] = ColumnCalibration(
            is_number, threshold, len(windows) < _WINDOWS, base.weight, base.center, base.scale, base.levels
        )
    return calibrated


def distance(reference: np.ndarray, current: np.ndarray, numeric: bool) -> float | None:
    """Evidently's number, computed by scipy: Wasserstein over the reference's deviation, or Jensen-Shannon distance.

    Both sides have shape (rows,) and are measured on what is present: missing values are counted elsewhere. None where
    one side has no values.
    """
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import wasserstein_distance

    reference, current = reference[~pd.isna(reference)], current[~pd.isna(current)]
    if not len(reference) or not len(current):
        return None
    if numeric:
        # Evidently 0.7 floors the deviation at 0.001 and takes it of the population.
        return float(wasserstein_distance(reference, current) / max(float(np.std(reference)), 0.001))
    then, now = (pd.Series(side).value_counts().to_dict() for side in (reference, current))
    keys = list({**then, **now})
    return float(jensenshannon([then.get(key, 0) for key in keys], [now.get(key, 0) for key in keys]))


def _fitted(values: pd.Series, numeric: bool, weight: float) -> ColumnCalibration:
    if not numeric:
        levels = tuple(str(level) for level in values.dropna().astype(str).value_counts().index[:LEVELS])
        return ColumnCalibration(False, 0.0, True, weight, levels=levels)
    present = values.dropna().astype(float)
    if present.empty:
        return ColumnCalibration(True, 0.0, True, weight)
    low, high = np.quantile(present, [0.25, 0.75])
    scale = float(high - low) or float(present.std(ddof=0)) or 1.0
    return ColumnCalibration(True, 0.0, True, weight, center=float(present.median()), scale=scale)


def _scaled(values: pd.Series, column: ColumnCalibration) -> np.ndarray:
    """What is compared, shape (rows,): clipped multiples of the IQR around the median; frequent levels and `other`."""
    if column.numeric:
        scaled = (pd.to_numeric(values, errors="coerce").to_numpy(dtype="float64") - column.center) / column.scale
        return np.clip(scaled, -CLIP, CLIP)
    text = values.dropna().astype(str)
    known = text.isin(column.levels)
    # Category labels go unescaped into Evidently's page.
    return text.where(known, "(other)").map(html.escape).reindex(values.index).to_numpy(dtype=object)


# --- the check -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DriftReport:
    """Checks for people, evidence for the rules, and Evidently's snapshot for a page."""

    checks: tuple[Check, ...]
    evidence: DriftEvidence
    snapshot: Any = None


def check_drift(
    reference: pd.DataFrame, current: pd.DataFrame, calibration: Mapping[str, ColumnCalibration]
) -> DriftReport:
    """Distance of every calibrated column that `current` has; a column that cannot be measured says why."""
    now = comparable(current, calibration)
    then = {name: values for name, values in comparable(reference, calibration).items() if name in now}
    measured = [name for name in then if not (pd.isna(then[name]).all() or pd.isna(now[name]).all())]
    try:
        measurement = _evidently(then, now, {name: calibration[name].numeric for name in then}, measured)
    except Exception as error:  # noqa: BLE001 - a measuring library must never stop a decision
        reason = f"Evidently could not measure drift: {type(error).__name__}: {error}"
        return DriftReport((Check("drift", Verdict.SKIPPED, reason),), DriftEvidence())
    checks = {name: _judged(name, measurement.distances.get(name), calibration[name]) for name in then}
    return DriftReport(
        checks=(*checks.values(), *([_missing(measurement.missing)] if SCORE in checks else [])),
        evidence=_evidence(checks, calibration),
        snapshot=measurement.snapshot,
    )


def drift_evidence(
    reference: Mapping[str, np.ndarray], current: pd.DataFrame, calibration: Mapping[str, ColumnCalibration]
) -> DriftEvidence:
    """The evidence that `check_drift` would give, for a backtest's thousands of comparisons, where no page is shown.

    The numbers are scipy's, which are Evidently's. `reference` is what `comparable` makes of the reference sample.
    """
    now = comparable(current, calibration)
    distances = {name: distance(reference[name], values, calibration[name].numeric) for name, values in now.items()}
    return _evidence({name: _judged(name, value, calibration[name]) for name, value in distances.items()}, calibration)


def comparable(frame: pd.DataFrame, calibration: Mapping[str, ColumnCalibration]) -> dict[str, np.ndarray]:
    """The calibrated columns that a frame has, as they are compared."""
    return {name: _scaled(frame[name], column) for name, column in calibration.items() if name in frame.columns}


def _evidence(checks: Mapping[str, Check], calibration: Mapping[str, ColumnCalibration]) -> DriftEvidence:
    moved = [name for name, check in checks.items() if check.verdict is Verdict.FAIL and name not in (SCORE, TARGET)]
    moved.sort(key=lambda name: -calibration[name].weight)
    return DriftEvidence(
        drifted=tuple(moved),
        weight=min(1.0, sum(calibration[name].weight for name in moved)),
        prediction=SCORE in checks and checks[SCORE].verdict is Verdict.FAIL,
        measured=any(check.value is not None for check in checks.values()),
    )


def _missing(shares: Mapping[str, float]) -> Check:
    """Missing values for people; the contract judges them, column by column and on every row."""
    features = {name: share for name, share in shares.items() if name != SCORE}
    worst = sorted((name for name in features if features[name]), key=lambda name: -features[name])[:3]
    named = ", ".join(f"{name} {features[name]:.0%}" for name in worst) or "no column has any"
    mean = sum(features.values()) / max(1, len(features))
    return Check("missing values", Verdict.PASS, f"{mean:.1%} of the cells are missing ({named})", mean)


def _judged(name: str, value: float | None, column: ColumnCalibration) -> Check:
    title = {SCORE: "the prediction", TARGET: "the target"}.get(name, name)
    label = f"drift:{title}"
    if value is None:
        return Check(label, Verdict.SKIPPED, f"{title} has no values on one side", weight=column.weight)
    moved = value > column.threshold
    important = name in (SCORE, TARGET) or column.weight >= UNIMPORTANT
    verdict = (Verdict.FAIL if important else Verdict.WARN) if moved else Verdict.PASS
    summary = f"{title} {'moved' if moved else 'is stable'}: distance {value:.3f}, alarm at {column.threshold:.3f}"
    if moved and not important:
        summary += ", but the model hardly uses it"
    return Check(label, verdict, summary, value, column.threshold, column.weight)


def definition(numeric: Sequence[str], categorical: Sequence[str], **tasks: Any) -> Any:
    """A DataDefinition with every list set: a list that is left out has Evidently infer types, frame by frame."""
    from evidently import DataDefinition

    return DataDefinition(
        numerical_columns=list(numeric),
        categorical_columns=list(categorical),
        text_columns=[],
        datetime_columns=[],
        unknown_columns=[],
        list_columns=[],
        **tasks,
    )


@dataclass(frozen=True)
class _Measurement:
    distances: Mapping[str, float]
    missing: Mapping[str, float]
    """Share of each column's current values, 0 to 1."""
    snapshot: Any


def _evidently(
    then: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray], numeric: Mapping[str, bool], measured: Sequence[str]
) -> _Measurement:
    """What Evidently measures. Column names go unescaped into its page, so they are escaped here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import Dataset, Report
        from evidently.metrics import MissingValueCount, ValueDrift

        names = _safe_names(list(numeric))
        frames = [pd.DataFrame({names[name]: side[name] for name in numeric}) for side in (now, then)]
        described = definition(
            [names[name] for name, is_number in numeric.items() if is_number],
            [names[name] for name, is_number in numeric.items() if not is_number],
        )
        metrics = {
            name: ValueDrift(column=names[name], method="wasserstein" if numeric[name] else "jensenshannon")
            for name in measured
        }
        missing = {name: MissingValueCount(column=names[name]) for name in numeric}
        current, reference = (Dataset.from_pandas(frame, described) for frame in frames)
        snapshot = Report([*metrics.values(), *missing.values()]).run(current, reference)
    found = snapshot.metric_results
    return _Measurement(
        distances={name: float(found[metric.metric_id].value) for name, metric in metrics.items()},
        missing={name: float(found[metric.metric_id].share.value) for name, metric in missing.items()},
        snapshot=snapshot,
    )


def preset_share(reference: pd.DataFrame, current: pd.DataFrame, numeric: Mapping[str, bool]) -> float:
    """Share of columns, 0 to 1, that Evidently's own defaults call drifted: what tutorials alarm on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import Dataset, Report
        from evidently.metrics import DriftedColumnsCount

        names = [name for name in numeric if not (reference[name].isna().all() or current[name].isna().all())]
        safe = _safe_names(names)
        described = definition(
            [safe[name] for name in names if numeric[name]], [safe[name] for name in names if not numeric[name]]
        )
        sides = [Dataset.from_pandas(side[names].rename(columns=safe), described) for side in (current, reference)]
        metric = DriftedColumnsCount()
        snapshot = Report([metric]).run(*sides)
    return float(snapshot.metric_results[metric.metric_id].share.value) * len(names) / max(1, len(numeric))


def _safe_names(names: Sequence[str]) -> dict[str, str]:
    safe: dict[str, str] = {}
    for name in names:
        plain = html.escape(name.removeprefix("ror:")) or "(no name)"
        while plain in safe.values():
            plain += "'"
        safe[name] = plain
    return safe
