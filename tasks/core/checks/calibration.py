"""How far a column may move before it counts: scales and thresholds from the training stream's own history.

A distance between two samples has two causes besides drift: chance, which shrinks as samples grow, and the wobble
of the stream itself, season included, which does not. Chance is computed from the reference; the wobble is what is
left of the distances between each training batch and the rest once chance is taken off. Together they give every
distance, at whatever size the window has, the probability of one as large without any drift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tasks.core.data.arrow import sample_rows
from tasks.core.records import from_dict
from tasks.core.schema.contract import Contract

if TYPE_CHECKING:
    from tasks.core.versions.loaded import LoadedVersion

CLIP = 5.0
"""Scaled values beyond this are cut: one outlier must neither hide nor fake a shift."""
TAILS = 2.0
"""Scales that the outer hundredth of the training values may at most be away from the median: what is usual is well
within CLIP, so that a column which grows several times can be seen to. Of a normal column the IQR is larger."""
LEVELS = 50
"""Categories that are compared one by one; the rest count as one, because Evidently is quadratic in them."""
OTHER = "(other)"
TARGET, SCORE, LABEL = "ror:target", "ror:score", "ror:label"
WINDOWS = 3
"""Training batches from which on their wobble can be measured; with fewer, thresholds are provisional."""
PRIOR = 4
"""Batches' worth of belief that a column wobbles by a third of the floor, which is called immaterial: a handful of
batches says little."""

_DRAWS, _GRID, _STEPS = 2000, 256, 100
_TAIL = 0.01
"""Chance is matched to a half-normal here: distances under no drift have its tail, though not its middle."""


@dataclass(frozen=True, slots=True)
class ColumnCalibration:
    """How one column is scaled, and how far it moves without drift. Distances are Evidently's (see `distance`)."""

    numeric: bool
    weight: float
    """Share of the permutation importance, 0 to 1; 0 for prediction and target."""
    floor: float = 0.1
    """Distance below which nothing counts, however certain."""
    provisional: bool = True
    """Too few training batches for a history: only chance is known."""
    center: float = 0.0
    scale: float = 1.0
    levels: tuple[str, ...] = ()
    chance: float | None = None
    """Standard deviation of the distance of one row drawn by chance; None: calibrated by an earlier release."""
    wobble: float = 0.1 / 3
    """Standard deviation that the stream's own changes add, at any number of rows; above 0."""
    offset: float = 0.0
    """Distance of the prediction that rows show merely by not having been trained on."""
    windows: int = 0
    """Training batches with values that the wobble was measured on; 0 where there are too few."""
    window_rows: int = 1
    """Rows with a value in one of them, as a median."""

    def freedom(self, rows: int, reference_rows: int) -> float:
        """Degrees of freedom of that spread: chance is known, the wobble's share of it from a few batches only.

        (Satterthwaite 1946 would square the share; a wobble that chance has hidden is the reason not to.)
        """
        return (self.windows + PRIOR) * self.spread(rows, reference_rows) ** 2 / self.wobble**2

    def spread(self, rows: int, reference_rows: int) -> float:
        """Standard deviation of a distance without drift, between samples of these sizes.

        A history of small windows cannot tell a small wobble from chance, so rows far beyond theirs tell no more.
        """
        assert self.chance is not None
        resolved = min(float(rows), self.window_rows * max(1.0, ((self.windows + PRIOR) / 2) ** 0.5))
        return float(np.sqrt(self.chance**2 * (1 / resolved + 1 / reference_rows) + self.wobble**2))

    def chance_of(self, distance: float, rows: int, reference_rows: int) -> float:
        """Probability of such a distance, or a larger one, without drift."""
        from scipy.stats import t

        beyond = max(0.0, distance - self.offset) / self.spread(rows, reference_rows)
        return float(2 * t.sf(beyond, self.freedom(rows, reference_rows)))

    def limit(self, probability: float, rows: int, reference_rows: int) -> float:
        """The distance that is exceeded with this probability without drift, and at least the floor."""
        from scipy.stats import t

        quantile = float(t.isf(probability / 2, self.freedom(rows, reference_rows)))
        return max(self.floor, self.offset + quantile * self.spread(rows, reference_rows))


def calibrate(
    windows: Sequence[pd.DataFrame],
    contract: Contract,
    importance: Mapping[str, float],
    held_out_score: np.ndarray,
    floor: float,
    seed: int,
) -> dict[str, ColumnCalibration]:
    """Scale, chance and wobble of every feature, of the prediction and of the target.

    `windows` are samples of the training batches in time order, with TARGET and SCORE columns; `held_out_score` are
    scores of rows that were not trained on, shape (rows,). `floor` is the distance below which nothing counts.
    """
    whole = pd.concat(windows, ignore_index=True)
    origin = np.repeat(np.arange(len(windows)), [len(window) for window in windows])
    numeric = {column.name: column.kind != "category" for column in contract.features}
    for name in (TARGET, SCORE):
        numeric[name] = pd.api.types.is_numeric_dtype(whole[name])
    found = {}
    for name, is_number in numeric.items():
        column = _fitted(whole[name], is_number, importance.get(name, 0.0))
        values = scaled(whole[name], column)
        here = ~pd.isna(values)
        distances, sizes = window_distances(values[here], origin[here], is_number)
        rows = max(1, int(np.median(sizes))) if len(sizes) else max(1, int(here.sum()))
        chance, mean_square = _chance(values[here], is_number, rows, seed)
        if name == SCORE and len(held_out_score):
            unseen = distance(values, scaled(pd.Series(held_out_score), column), is_number) or 0.0
            excess = unseen**2 - mean_square * (1 / len(held_out_score) + 1 / len(values))
            column = replace(column, offset=float(np.sqrt(max(0.0, excess))))
        known, own = len(sizes) if len(sizes) >= WINDOWS else 0, 0.0
        if known:
            by_chance = mean_square * (1 / sizes + 1 / (sizes.sum() - sizes))
            own = max(0.0, float(np.mean(distances**2 - by_chance)))
        wobble = np.sqrt((known * own + PRIOR * (floor / 3) ** 2) / (known + PRIOR))
        found[name] = replace(
            column, floor=floor, provisional=not known, windows=known, window_rows=rows, chance=chance,
            wobble=float(wobble),
        )  # fmt: skip
    return found


def distance(reference: np.ndarray, current: np.ndarray, numeric: bool) -> float | None:
    """Evidently's number, computed by scipy: Wasserstein over the reference's deviation, or Jensen-Shannon distance.

    Both sides have shape (rows,) and are measured on what is present: missing values are counted elsewhere. None where
    one side has no values.
    """
    from scipy.stats import wasserstein_distance

    reference, current = reference[~pd.isna(reference)], current[~pd.isna(current)]
    if not len(reference) or not len(current):
        return None
    if numeric:
        return float(wasserstein_distance(reference, current) / _deviation(np.std(reference)))
    then, now = (pd.Series(side).value_counts().to_dict() for side in (reference, current))
    keys = list({**then, **now})
    before, after = (np.array([side.get(key, 0) for key in keys]) for side in (then, now))
    return float(_jensen_shannon(before, after))


def _jensen_shannon(one: np.ndarray, other: np.ndarray, axis: int = 0) -> np.ndarray:
    """SciPy's distance; 0 where rounding makes the divergence of equal shares negative, by 1e-17."""
    from scipy.spatial.distance import jensenshannon

    with np.errstate(invalid="ignore"):
        return np.asarray(np.nan_to_num(jensenshannon(one, other, axis=axis)))


def scaled(values: pd.Series, column: ColumnCalibration) -> np.ndarray:
    """What is compared, shape (rows,): clipped multiples of the scale around the median; levels and `other`."""
    if column.numeric:
        numbers = (pd.to_numeric(values, errors="coerce").to_numpy(dtype="float64") - column.center) / column.scale
        return np.asarray(np.clip(numbers, -CLIP, CLIP))
    text = values.dropna().astype(str)
    known = text.isin(column.levels)
    return np.asarray(text.where(known, OTHER).reindex(values.index), dtype=object)


def comparable(frame: pd.DataFrame, calibration: Mapping[str, ColumnCalibration]) -> dict[str, np.ndarray]:
    """The calibrated columns that a frame has, as they are compared."""
    return {name: scaled(frame[name], column) for name, column in calibration.items() if name in frame.columns}


def reference_of(
    trained: pd.DataFrame, calibration: Mapping[str, ColumnCalibration], rows: int, seed: int
) -> pd.DataFrame:
    """A sample of at most `rows` rows of the training data as they are compared, and their labels as LABEL."""
    sample = trained.iloc[sample_rows(len(trained), rows, seed)]
    return pd.DataFrame({**comparable(sample, calibration), LABEL: sample[TARGET].to_numpy()})


def _fitted(values: pd.Series, numeric: bool, weight: float) -> ColumnCalibration:
    if not numeric:
        levels = tuple(str(level) for level in values.dropna().astype(str).value_counts().index[:LEVELS])
        return ColumnCalibration(False, weight, levels=levels)
    present = values.dropna().astype(float)
    if present.empty:
        return ColumnCalibration(True, weight)
    bottom, low, middle, high, top = np.quantile(present, [0.01, 0.25, 0.5, 0.75, 0.99])
    # Where most values are one (rain, claims), the IQR says nothing of the others, which would all be cut alike.
    tail = max(top - middle, middle - bottom) / TAILS
    scale = float(max(high - low, tail)) or float(present.std(ddof=0)) or 1.0
    return ColumnCalibration(True, weight, center=float(middle), scale=scale)


def _deviation(std: float | np.ndarray) -> np.ndarray:
    """Evidently 0.7 floors the deviation at 0.001 and takes it of the population."""
    return np.maximum(std, 0.001)


# --- chance --------------------------------------------------------------------------------------------------


def _chance(present: np.ndarray, numeric: bool, rows: int, seed: int) -> tuple[float, float]:
    """Of the distance that a sample has by chance, times the root of its rows: deviation, and mean of the square."""
    if not len(present):
        return 0.0, 0.0
    drawn = _numbers_by_chance(present) if numeric else _names_by_chance(present, max(1, rows), seed)
    from scipy.stats import norm

    return float(np.quantile(drawn, 1 - _TAIL) / norm.isf(_TAIL / 2)), float(np.mean(drawn**2))


def _numbers_by_chance(present: np.ndarray) -> np.ndarray:
    """Wasserstein distances of samples from their own population, times the root of their rows, in the limit of many.

    The distance is the area under |F_n - F|, and sqrt(n) (F_n - F) a Brownian bridge at F (Donsker 1952).
    """
    steps = np.unique(np.quantile(present, np.linspace(0, 1, _STEPS + 1), method="nearest"))
    below = np.searchsorted(np.sort(present), steps[:-1], side="right") / len(present)
    heights = _bridges()[:, np.round(below * _GRID).astype(int)]
    return np.asarray(heights @ np.diff(steps) / _deviation(np.std(present)))


@cache
def _bridges() -> np.ndarray:
    """|Brownian bridges|, the same ones for every column and version, shape (_DRAWS, _GRID + 1)."""
    walks = np.cumsum(np.random.default_rng(0).normal(size=(_DRAWS, _GRID)), axis=1) / np.sqrt(_GRID)
    walks -= walks[:, -1:] * np.arange(1, _GRID + 1) / _GRID
    return np.asarray(np.abs(np.column_stack([np.zeros(_DRAWS), walks])))


def _names_by_chance(present: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """Jensen-Shannon distances of samples of this size from their own population, times the root of their rows."""
    shares = pd.Series(present).value_counts(normalize=True).to_numpy()
    draws = np.random.default_rng(seed).multinomial(rows, shares, size=_DRAWS // 4)
    return np.asarray(_jensen_shannon(draws, shares[None, :], axis=1) * np.sqrt(rows))


# --- wobble --------------------------------------------------------------------------------------------------


def window_distances(values: np.ndarray, origin: np.ndarray, numeric: bool) -> tuple[np.ndarray, np.ndarray]:
    """`distance` between each window and all the others, and each window's rows; shapes (windows,).

    In one pass over the sorted values: where F is the share of all values below, the others' is
    (N F - n F_n) / (N - n), so that the distance from the others is N / (N - n) times that from all.
    """
    known, place = np.unique(origin, return_inverse=True)
    if len(known) < 2:
        return np.array([]), np.bincount(place).astype(float)
    rows = np.bincount(place).astype(float)
    if not numeric:
        _, codes = np.unique(values.astype(str), return_inverse=True)
        counts = np.zeros((len(known), codes.max() + 1))
        np.add.at(counts, (place, codes), 1)
        return _jensen_shannon(counts.sum(0) - counts, counts, axis=1), rows
    order = np.argsort(values, kind="stable")
    gaps = np.diff(values[order])
    everything = np.arange(1, len(values)) / len(values)
    numbers, total, squares = values.astype(float), values.sum(), (values**2).sum()
    found = np.empty(len(known))
    for window, size in enumerate(rows):
        own = place[order] == window
        apart = np.abs(np.cumsum(own)[:-1] / size - everything) @ gaps
        others, rest = len(values) - size, numbers[place == window]
        mean = (total - rest.sum()) / others
        variance = max(0.0, (squares - (rest**2).sum()) / others - mean**2)
        found[window] = apart * len(values) / others / _deviation(np.sqrt(variance))
    return found, rows


def calibration_of(version: LoadedVersion) -> dict[str, ColumnCalibration]:
    """The calibration that a version was registered with, by column."""
    return {name: from_dict(ColumnCalibration, column) for name, column in version.calibration.items()}
