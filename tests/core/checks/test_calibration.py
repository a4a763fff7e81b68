"""Calibration: Evidently's distance, and how far a column goes without drift: chance, the stream's wobble, history."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tasks.core.checks import calibration, drift, evidently_adapter
from tasks.core.checks.calibration import CLIP, SCORE, TARGET, calibrate, comparable, distance, scaled, window_distances
from tasks.core.schema.contract import Column, Contract
from tests.helpers.windows import CALIBRATION, WINDOWS, calibrated, reference, window

# --- the distance --------------------------------------------------------------------------------------------


NUMBERS = pd.Series(np.random.default_rng(1).normal(size=400))
WORDS = pd.Series(np.random.default_rng(2).choice(["a", "b", "c"], 400, p=[0.6, 0.3, 0.1]))


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        (NUMBERS, NUMBERS[:150] * 2 + 1),
        (NUMBERS.where(NUMBERS > -1), NUMBERS.where(NUMBERS < 0.5)),
        (NUMBERS * 0, NUMBERS[:50]),
        (NUMBERS * 1e-5, NUMBERS[:50] * 1e-5 + 1e-5),
        (WORDS, WORDS[:150].replace({"a": "c"})),
        (WORDS, WORDS[:150].replace({"a": "unseen"})),
        (WORDS.where(WORDS != "a"), WORDS[:150].where(WORDS != "b")),
        (WORDS.replace({"a": "x"}), WORDS.replace({"a": "y", "b": "z", "c": "w"})),
    ],
    ids=[
        "other numbers",
        "numbers with gaps",
        "constant reference",
        "tiny numbers",
        "other shares",
        "an unseen category",
        "categories with gaps",
        "nothing in common",
    ],
)
def test_the_distance_is_evidentlys(reference: pd.Series, current: pd.Series) -> None:
    """Calibration and check use one number: what scipy computes is what Evidently reports, to nine digits."""
    from evidently import Dataset, Report
    from evidently.metrics import ValueDrift

    numeric = pd.api.types.is_numeric_dtype(reference)
    described = evidently_adapter.definition(["x"] if numeric else [], [] if numeric else ["x"])
    metric = ValueDrift(column="x", method="wasserstein" if numeric else "jensenshannon")
    now, then = (
        Dataset.from_pandas(side.rename("x").reset_index(drop=True).to_frame(), described)
        for side in (current, reference)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = Report([metric]).run(now, then).metric_results[metric.metric_id].value
    assert distance(reference, current, numeric) == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_the_distance_by_hand() -> None:
    """Numbers: how far the values moved, in standard deviations of the reference; categories: between 0 and 0.83."""
    zero_or_two = pd.Series([0.0, 2.0] * 50)
    assert distance(zero_or_two, zero_or_two + 3, numeric=True) == pytest.approx(3.0)
    one, other = pd.Series(["a"] * 10), pd.Series(["b"] * 7)
    assert distance(one, other, numeric=False) == pytest.approx(np.sqrt(np.log(2)))
    assert distance(one, one, numeric=False) == 0.0
    assert distance(one, other.where(other == "none"), numeric=False) is None


# --- what is compared ----------------------------------------------------------------------------------------


def test_numbers_are_compared_in_robust_units() -> None:
    """Multiples of the interquartile range around the median, cut at five: one absurd value moves neither."""
    made = [window(0, 100).assign(income=np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 20)) for _ in range(4)]
    made[0].loc[0, "income"] = 1e9
    column = calibrated(made)["income"]
    assert (column.center, column.scale) == (0.0, 2.0)
    assert scaled(pd.Series([0.0, 1.0, -1e12, np.inf, np.nan]), column).tolist()[:4] == [0.0, 0.5, -CLIP, CLIP]


def test_the_reference_is_scaled_once() -> None:
    """What a version keeps of its training rows is what later windows are compared with; and its labels."""
    kept = reference()
    whole = pd.concat(WINDOWS, ignore_index=True)
    for name, values in comparable(whole, CALIBRATION).items():
        np.testing.assert_array_equal(kept[name].to_numpy(), values)
    assert kept[calibration.LABEL].tolist() == whole[TARGET].tolist()


# --- chance --------------------------------------------------------------------------------------------------


def columns_of(frame: pd.DataFrame, kind: str) -> Contract:
    return Contract(1, len(frame), (Column("x", kind, kind, 0.0),), ())


@pytest.mark.slow
@pytest.mark.parametrize("rows", [100, 1000])
@pytest.mark.parametrize("kind", ["normal", "skewed", "counts", "boolean", "category"])
def test_chance_is_as_likely_as_it_says(kind: str, rows: int) -> None:
    """Of windows of the same kind one in a hundred is beyond the distance that one in a hundred exceeds, give or take:
    whatever the distribution, at the size that was calibrated and at a tenth of it."""
    rng = np.random.default_rng(1)
    draw = {
        "normal": lambda size: rng.normal(size=size),
        "skewed": lambda size: rng.exponential(size=size),
        "counts": lambda size: rng.poisson(2.0, size).astype(float),
        "boolean": lambda size: (rng.random(size) < 0.2).astype(float),
        "category": lambda size: rng.choice(list("abcdefgh"), size, p=[0.3, 0.2, 0.15, 0.12, 0.1, 0.06, 0.04, 0.03]),
    }[kind]
    frame = pd.DataFrame({"x": draw(20_000)}).assign(**{TARGET: 0.0, SCORE: 0.0})
    name = "category" if kind == "category" else "number"
    column = calibrate([frame], columns_of(frame, name), {}, np.array([]), 1e-9, seed=0)["x"]
    then = scaled(frame["x"], column)
    beyond = [
        distance(then, scaled(pd.Series(draw(rows)), column), column.numeric)
        > column.spread(rows, len(then)) * 2.576  # the half-normal's one in a hundred
        for _ in range(600)
    ]
    assert sum(beyond) <= 15


def test_chance_shrinks_with_the_root_of_the_rows() -> None:
    """Four times the rows, half the distance that chance explains; the wobble of the stream stays."""
    column = replace(CALIBRATION["age"], wobble=1e-9)
    assert column.spread(100, 10**9) == pytest.approx(2 * column.spread(400, 10**9), rel=0.05)
    seasonal = calibrated([window(seed, shift=shift) for seed, shift in enumerate((-1.0, 1.0, -1.0, 1.0))])["income"]
    assert seasonal.spread(100, 10**9) < 1.1 * seasonal.spread(400, 10**9)


def test_rows_beyond_those_of_the_history_tell_little_more() -> None:
    """A history of windows of 400 rows cannot rule out a wobble that a million rows would show."""
    column = CALIBRATION["age"]
    assert column.window_rows == 400
    assert column.spread(10**6, 10**9) == column.spread(400 * 2, 10**9)


# --- wobble --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numeric", [True, False])
def test_each_window_is_compared_with_the_rest(numeric: bool) -> None:
    """The distances of the history, found in one pass, are those of `distance` between each window and the others."""
    rng = np.random.default_rng(3)
    origin = np.repeat([0, 1, 2, 3], [50, 80, 30, 40])
    values = rng.normal(size=200).round(1) + origin if numeric else rng.choice(list("abc"), 200).astype(object)
    if not numeric:
        values[origin == 2] = "a"
    distances, rows = window_distances(values, origin, numeric)
    assert rows.tolist() == [50, 80, 30, 40]
    expected = [distance(values[origin != place], values[origin == place], numeric) for place in range(4)]
    assert distances == pytest.approx(expected)


def test_thresholds_come_from_the_training_data() -> None:
    """A column that always moved between training windows may move as far again; a steady one may not."""
    seasonal = [window(seed, shift=shift) for seed, shift in enumerate((-1.0, 1.0, -1.0, 1.0))]
    found = calibrated(seasonal)
    assert found["income"].wobble > 0.3 > 0.1 > CALIBRATION["income"].wobble
    current = window(9, shift=1.0).assign(**{SCORE: window(9)[SCORE]})
    assert drift.check_drift(reference(seasonal, found), current, found).evidence.drifted == ()
    assert drift.check_drift(reference(), current, CALIBRATION).evidence.drifted == ("income",)


def test_a_short_history_counts_for_half() -> None:
    """A wobble measured on four windows counts as much as the belief that it is a third of the floor."""
    seasonal = [window(seed, shift=shift) for seed, shift in enumerate((-1.0, 1.0, -1.0, 1.0))]
    column = calibrated(seasonal)["income"]
    values = scaled(pd.concat(seasonal)["income"], column)
    origin, here = np.repeat(range(4), 400), ~np.isnan(values)
    own, _ = window_distances(values[here], origin[here], numeric=True)
    assert column.windows == 4
    assert column.wobble == pytest.approx(np.sqrt((np.mean(own**2) + (0.1 / 3) ** 2) / 2), rel=0.05)


@pytest.mark.parametrize(("count", "provisional"), [(1, True), (2, True), (3, False)])
def test_few_windows_give_a_provisional_threshold(count: int, provisional: bool) -> None:
    """With fewer than three windows there is no history: a threshold is drawn, and marked as provisional."""
    column = calibrated(WINDOWS[:count])["income"]
    assert column.provisional is provisional
    assert (column.windows == 0) is provisional
    assert 0.1 <= column.limit(0.01, 400, 1600) < 0.5


def test_unseen_rows_score_differently_by_nature() -> None:
    """The threshold for the prediction covers the distance that rows show merely by not having been trained on."""
    held_out = pd.concat(WINDOWS)[SCORE] * 0.7
    wide = calibrated(held_out=held_out)
    then, now = (scaled(values, wide[SCORE]) for values in (pd.concat(WINDOWS)[SCORE], held_out))
    assert wide[SCORE].offset == pytest.approx(distance(then, now, numeric=True), rel=0.05)
    assert wide[SCORE].limit(0.01, 400, 1600) > wide[SCORE].offset + 0.1
    assert CALIBRATION[SCORE].offset == 0
    assert wide["income"] == CALIBRATION["income"]


@pytest.mark.parametrize("values", [[5.0] * 400, [0.0] * 399 + [1.0], [np.nan] * 400])
def test_columns_that_hardly_vary_can_be_calibrated(values: list[float]) -> None:
    """A constant, nearly constant or empty column has a scale and a threshold, and causes no alarm on itself."""
    windows = [item.assign(income=values) for item in WINDOWS]
    found = calibrated(windows)
    assert np.isfinite(found["income"].limit(0.001, 400, 1600))
    assert found["income"].scale > 0
    assert drift.check_drift(reference(windows, found), windows[0], found).evidence.drifted == ()


def test_batches_without_values_tell_nothing() -> None:
    """A column that only one of twenty training batches had is as unknown as one with a single batch."""
    windows = [window(seed, 100) for seed in range(20)]
    empty = [item.assign(income=np.nan) if seed else item for seed, item in enumerate(windows)]
    column = calibrated(empty)["income"]
    assert (column.windows, column.provisional) == (0, True)
    assert column.wobble == pytest.approx(0.1 / 3)
    assert column.window_rows == windows[0]["income"].notna().sum()


@pytest.mark.parametrize("zeros", [0.5, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("times", [3, 5])
def test_a_column_of_mostly_zeros_cannot_grow_unseen(zeros: float, times: int) -> None:
    """Rain, claims, visits: where most values are zero, the others times three or five are far beyond the floor, and
    another quiet window is not."""
    rng = np.random.default_rng(11)

    def rain(rows: int) -> pd.Series:
        return pd.Series(np.where(rng.random(rows) < zeros, 0.0, rng.gamma(1.0, 10.0, rows)))

    training = [window.assign(income=rain(len(window))) for window in WINDOWS]
    column = calibrated(training)["income"]
    then = scaled(pd.concat(training)["income"], column)
    grown, quiet = (distance(then, scaled(values, column), numeric=True) for values in (rain(500) * times, rain(500)))
    assert grown is not None and grown > 0.3
    assert quiet is not None and quiet < 0.12


def test_a_normal_column_is_scaled_by_its_quartiles() -> None:
    """Columns without a heavy tail are compared as ever, and one absurd value in a thousand changes nothing."""
    values = np.random.default_rng(12).normal(size=3_000)
    training = [window.assign(income=values[: len(window)]) for window in WINDOWS]
    found = calibrated(training)["income"]
    low, high = np.quantile(pd.concat(training)["income"], [0.25, 0.75])
    assert found.scale == pytest.approx(high - low)
    odd = [window.assign(income=window["income"].where(window.index != 0, 1e9)) for window in training]
    assert calibrated(odd)["income"].scale == pytest.approx(found.scale, rel=0.02)
