"""Drift: Evidently measures on guarded, scaled samples; thresholds calibrated at registration judge.

Evidently is imported when something is measured, never before: it costs four seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.checks.calibration import SCORE, TARGET, ColumnCalibration, comparable, distance
from tasks.core.checks.evidently_adapter import Samples, drift_page, evidently_distances
from tasks.core.checks.histograms import Picture, picture
from tasks.core.decision.evidence import DriftEvidence
from tasks.core.schema.contract import UNIMPORTANT
from tasks.core.types import Check, CheckKind, Verdict

USUAL = 0.05
"""Chance of a distance without drift below which a column has stirred."""
FALSE_DISCOVERIES = 0.01
"""Share of the columns called drifted that may be so by chance: in a quiet window, the chance of any alarm at all."""
SHOWN = 12
"""Columns on a page: all that moved would be a wall, and the others are in the table."""


@dataclass(frozen=True)
class DriftReport:
    """Checks for people, evidence for the rules, and Evidently's snapshot for a page."""

    checks: tuple[Check, ...]
    evidence: DriftEvidence
    pictures: tuple[Picture, ...] = ()
    """Of the columns that matter, those first."""
    snapshot: Any = None
    """Evidently's, of the same columns but the private ones."""


def check_drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    calibration: Mapping[str, ColumnCalibration],
    *,
    excused: Mapping[str, str] | None = None,
    private: Collection[str] = (),
    last_year: pd.DataFrame | None = None,
) -> DriftReport:
    """A verdict on every calibrated column that `current` has; a column that cannot be measured says why.

    `reference` is the sample of the training data that `reference_of` made, `excused` says why a column is expected to
    move, and `last_year` are rows of the same period a year earlier, for the pictures. Private columns are measured,
    and nothing of their values is shown.
    """
    excused = excused or {}
    now = comparable(current, calibration)
    then = {name: reference[name].to_numpy() for name in now}
    reasons = {name: reason for name in now if (reason := _unmeasurable(then[name], now[name], calibration[name]))}
    try:
        distances = evidently_distances(
            then, now, {name: calibration[name].numeric for name in now if name not in reasons}
        )
    except Exception as error:  # noqa: BLE001 - a measuring library must never stop a decision
        reason = f"Evidently could not measure drift: {type(error).__name__}"
        return DriftReport(tuple(_skipped(name, reason, calibration[name]) for name in now), DriftEvidence())
    measured = _measured(distances, then, now, calibration, excused)
    found = _judged(measured)
    checks = {name: found.get(name) or _skipped(name, reasons[name], calibration[name]) for name in now}
    shown = [name for name in ranked(checks) if name in found][:SHOWN]
    earlier = comparable(last_year[[*excused.keys() & {*last_year}]], calibration) if last_year is not None else {}

    def drawn(name: str) -> Picture:
        if name in private:
            return Picture(title_of(name), checks[name], private=True)
        sides = then[name], now[name], earlier.get(name)
        return picture(title_of(name), checks[name], calibration[name], *sides)

    return DriftReport(
        checks=tuple(checks.values()),
        evidence=_evidence(checks, calibration, _stirred(measured)),
        pictures=tuple(drawn(name) for name in shown),
        snapshot=drift_page(then, now, {name: calibration[name].numeric for name in shown if name not in private}),
    )


def drift_evidence(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    calibration: Mapping[str, ColumnCalibration],
    excused: Mapping[str, str] | None = None,
) -> DriftEvidence:
    """The evidence that `check_drift` would give, for a backtest's thousands of comparisons, where no page is shown.

    The numbers are scipy's, which are Evidently's.
    """
    now = comparable(current, calibration)
    then = {name: reference[name].to_numpy() for name in now}
    found = {name: distance(then[name], now[name], calibration[name].numeric) for name in now}
    distances = {name: value for name, value in found.items() if value is not None}
    measured = _measured(distances, then, now, calibration, excused or {})
    return _evidence(_judged(measured), calibration, _stirred(measured))


def ranked(checks: Mapping[str, Check]) -> list[str]:
    """Columns by how much they matter: alarms and warnings first, each by importance, then the nearest to an alarm."""

    def place(name: str) -> tuple[float, ...]:
        check = checks[name]
        nearness = check.value / check.threshold if check.value is not None and check.threshold else 0.0
        moved = check.verdict in (Verdict.FAIL, Verdict.WARN)
        rank = check.verdict.rank if moved else Verdict.SKIPPED.rank
        return (rank, -(check.weight or 0.0) if moved else 0.0, -nearness)

    return sorted(checks, key=place)


def title_of(name: str) -> str:
    """How a calibrated column is called in what people read."""
    return {SCORE: "the prediction", TARGET: "the target"}.get(name, name)


def _evidence(
    checks: Mapping[str, Check], calibration: Mapping[str, ColumnCalibration], stirred: Sequence[str]
) -> DriftEvidence:
    moved = [name for name, check in checks.items() if check.verdict is Verdict.FAIL and name not in (SCORE, TARGET)]
    moved.sort(key=lambda name: -calibration[name].weight)
    return DriftEvidence(
        drifted=tuple(moved),
        weight=min(1.0, sum(calibration[name].weight for name in moved)),
        prediction=SCORE in checks and checks[SCORE].verdict is Verdict.FAIL,
        stirred=min(1.0, sum(calibration[name].weight for name in stirred)),
        stirred_prediction=SCORE in stirred,
        measured=any(check.value is not None for check in checks.values()),
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    """The distance of one column, and what it is judged by."""

    value: float
    sizes: tuple[int, int]
    """Rows with a value, of the window and of the reference."""
    column: ColumnCalibration
    excuse: str | None

    def limit(self, probability: float) -> float:
        return self.column.limit(probability, *self.sizes)


def _measured(
    distances: Mapping[str, float],
    then: Samples,
    now: Samples,
    calibration: Mapping[str, ColumnCalibration],
    excused: Mapping[str, str],
) -> dict[str, _Measured]:
    def present(values: np.ndarray) -> int:
        return int(np.count_nonzero(~pd.isna(values)))

    return {
        name: _Measured(value, (present(now[name]), present(then[name])), calibration[name], excused.get(name))
        for name, value in distances.items()
    }


def _stirred(measured: Mapping[str, _Measured]) -> list[str]:
    """Columns beyond what each of them does in 95 of 100 windows without drift, in the order of the calibration: their
    weights are added up, and a sum in another order is another number."""
    return [name for name, item in measured.items() if not item.excuse and item.value > item.limit(USUAL)]


def _unmeasurable(then: np.ndarray, now: np.ndarray, column: ColumnCalibration) -> str | None:
    if column.chance is None:
        return "its version was calibrated by an earlier release; the next version has it"
    for side, values in (("the training data", then), ("this window", now)):
        if pd.isna(values).all():
            return f"it has no values in {side}"
    return None


def _skipped(name: str, reason: str, column: ColumnCalibration) -> Check:
    title = title_of(name)
    summary = f"{title} was not compared: {reason}"
    return Check.of(CheckKind.DRIFT, title, Verdict.SKIPPED, summary, weight=column.weight)


def _judged(measured: Mapping[str, _Measured]) -> dict[str, Check]:
    """Which of the distances go beyond what happens without drift, with few false discoveries among them.

    (Benjamini and Hochberg 1995.) The alarm shown with each distance is where that verdict changes.
    """
    from scipy.stats import false_discovery_control

    chances = [item.column.chance_of(item.value, *item.sizes) for item in measured.values()]
    if not chances:
        return {}
    beyond = int((false_discovery_control(chances) <= FALSE_DISCOVERIES).sum())
    level = FALSE_DISCOVERIES * max(1, beyond) / len(chances)
    return {name: _verdict(name, item, item.limit(level)) for name, item in measured.items()}


def _verdict(name: str, item: _Measured, limit: float) -> Check:
    title, value, column, moved = title_of(name), item.value, item.column, item.value > limit
    summary = f"{title} {'moved' if moved else 'is stable'}: distance {value:.3f}, alarm at {limit:.3f}"
    if column.provisional:
        summary += " (provisional: too few training batches for a history)"
    verdict = Verdict.FAIL if moved else Verdict.PASS
    if moved and item.excuse:
        verdict, summary = Verdict.WARN, f"{summary}, but {item.excuse}"
    elif moved and name not in (SCORE, TARGET) and column.weight < UNIMPORTANT:
        verdict, summary = Verdict.WARN, f"{summary}, but the model hardly uses it"
    return Check.of(CheckKind.DRIFT, title, verdict, summary, value, limit, column.weight)
