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

from tasks.core.contract import Contract
from tasks.core.evidence import DriftEvidence
from tasks.core.types import Check, Verdict

CLIP = 5.0
"""Scaled values beyond this are cut: one outlier must neither hide nor fake a shift."""
LEVELS = 50
"""Categories that are compared one by one; the rest count as one, because Evidently is quadratic in them."""
TARGET, SCORE = "ror:target", "ror:score"
UNIMPORTANT = 0.01
"""Share of the importance below which a column's drift is only a warning."""
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
    numeric = {column.name: column.kind != "category" for column in contract.features}
    for name in (TARGET, SCORE):
        numeric[name] = pd.api.types.is_numeric_dtype(whole[name])
    calibrated = {}
    rng = np.random.default_rng(seed)
    size = int(np.median([len(window) for window in windows]))
    for name, is_number in numeric.items():
        base = _fitted(whole[name], is_number, importance.get(name, 0.0))
        if len(windows) >= _WINDOWS:
            pairs = [
                (window[name], pd.concat([other[name] for other in windows if other is not window]))
                for window in windows
            ]
        else:
            draws = (rng.integers(0, len(whole), size) for _ in range(_DRAWS))
            pairs = [(whole[name].iloc[rows], whole[name]) for rows in draws]
        distances = [distance(_scaled(rest, base), _scaled(window, base), is_number) for window, rest in pairs]
        if name == SCORE and len(held_out_score):
            held_out = _scaled(pd.Series(held_out_score), base)
            unseen = distance(_scaled(whole[name], base), held_out, is_number)
            distances = [1.5 * unseen if unseen else 0.0, *distances]
        history = [value for value in distances if value is not None]
        threshold = max(floor, float(np.quantile(history, _QUANTILE)) if history else floor)
        calibrated[name] = ColumnCalibration(
            is_number, threshold, len(windows) < _WINDOWS, base.weight, base.center, base.scale, base.levels
        )
    return calibrated


def distance(reference: pd.Series, current: pd.Series, numeric: bool) -> float | None:
    """Evidently's number, computed by scipy: Wasserstein over the reference's deviation, or Jensen-Shannon distance.

    None where one side has no values. Both are measured on what is present: missing values are counted elsewhere.
    """
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import wasserstein_distance

    reference, current = reference.dropna(), current.dropna()
    if reference.empty or current.empty:
        return None
    if numeric:
        # Evidently 0.7 floors the deviation at 0.001 and takes it of the population.
        return float(wasserstein_distance(reference, current) / max(float(np.std(reference)), 0.001))
    then, now = reference.value_counts().to_dict(), current.value_counts().to_dict()
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


def _scaled(values: pd.Series, column: ColumnCalibration) -> pd.Series:
    """What is compared: clipped multiples of the IQR around the median, or the frequent levels and `other`."""
    if column.numeric:
        scaled = (pd.to_numeric(values, errors="coerce").astype("float64") - column.center) / column.scale
        return scaled.clip(-CLIP, CLIP)
    text = values.dropna().astype(str)
    known = text.isin(column.levels)
    # Category labels go unescaped into Evidently's page.
    return text.where(known, "(other)").map(html.escape).reindex(values.index)


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
    columns = [name for name in calibration if name in current.columns]
    then = {name: _scaled(reference[name], calibration[name]) for name in columns}
    now = {name: _scaled(current[name], calibration[name]) for name in columns}
    empty = {name for name in columns if then[name].isna().all() or now[name].isna().all()}
    measured = [name for name in columns if name not in empty]
    try:
        distances, snapshot = _evidently(then, now, {name: calibration[name].numeric for name in measured})
    except Exception as error:  # noqa: BLE001 - a measuring library must never stop a decision
        reason = f"Evidently could not measure drift: {type(error).__name__}: {error}"
        return DriftReport((Check("drift", Verdict.SKIPPED, reason),), DriftEvidence())
    checks = []
    for name in columns:
        label, column = name.removeprefix("ror:"), calibration[name]
        if name in empty:
            checks.append(Check(f"drift:{label}", Verdict.SKIPPED, f"{label} has no values on one side"))
            continue
        checks.append(_judged(name, label, distances[name], column))
    features = [
        c for c in checks if c.verdict is Verdict.FAIL and c.name.removeprefix("drift:") not in ("score", "target")
    ]
    features.sort(key=lambda check: -(check.weight or 0.0))
    return DriftReport(
        checks=tuple(checks),
        evidence=DriftEvidence(
            drifted=tuple(check.name.removeprefix("drift:") for check in features),
            weight=min(1.0, sum(check.weight or 0.0 for check in features)),
            prediction=any(c.name == "drift:score" and c.verdict is Verdict.FAIL for c in checks),
            measured=bool(measured),
        ),
        snapshot=snapshot,
    )


def _judged(name: str, label: str, value: float, column: ColumnCalibration) -> Check:
    moved = value > column.threshold
    important = name in (SCORE, TARGET) or column.weight >= UNIMPORTANT
    verdict = (Verdict.FAIL if important else Verdict.WARN) if moved else Verdict.PASS
    title = {SCORE: "the prediction", TARGET: "the target"}.get(name, label)
    summary = f"{title} {'moved' if moved else 'is stable'}: distance {value:.3f}, alarm at {column.threshold:.3f}"
    if moved and not important:
        summary += ", but the model hardly uses it"
    return Check(f"drift:{label}", verdict, summary, value, column.threshold, column.weight)


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


def _evidently(
    then: Mapping[str, pd.Series], now: Mapping[str, pd.Series], numeric: Mapping[str, bool]
) -> tuple[dict[str, float], Any]:
    """Distances by Evidently and its snapshot. Column names go unescaped into its page, so they are escaped here."""
    if not numeric:
        return {}, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import Dataset, Report
        from evidently.metrics import MissingValueCount, ValueDrift

        names = _safe_names(list(numeric))
        frames = [pd.DataFrame({names[name]: side[name].to_numpy() for name in numeric}) for side in (now, then)]
        described = definition(
            [names[name] for name, is_number in numeric.items() if is_number],
            [names[name] for name, is_number in numeric.items() if not is_number],
        )
        metrics = {
            name: ValueDrift(column=names[name], method="wasserstein" if is_number else "jensenshannon")
            for name, is_number in numeric.items()
        }
        missing = [MissingValueCount(column=name) for name in names.values()]
        current, reference = (Dataset.from_pandas(frame, described) for frame in frames)
        snapshot = Report([*metrics.values(), *missing]).run(current, reference)
    return {name: float(snapshot.metric_results[m.metric_id].value) for name, m in metrics.items()}, snapshot


def _safe_names(names: Sequence[str]) -> dict[str, str]:
    safe: dict[str, str] = {}
    for name in names:
        plain = html.escape(name.removeprefix("ror:")) or "(no name)"
        while plain in safe.values():
            plain += "'"
        safe[name] = plain
    return safe
