"""Pictures as numbers: what is drawn of a column before and after, in its own units."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.core.checks.calibration import OTHER, ColumnCalibration
from tasks.core.checks.histograms import BARS, BINS, picture
from tasks.core.types import Check, Verdict

CHECK = Check("drift:x", Verdict.FAIL, "x moved", 0.4, 0.2, 0.3)
NUMBER = ColumnCalibration(True, 0.3, center=100.0, scale=10.0)
NAMES = ColumnCalibration(False, 0.3, levels=("a", "b"))


def test_numbers_are_drawn_in_their_own_units() -> None:
    """What is compared are multiples of the interquartile range; what is drawn is what people know."""
    rng = np.random.default_rng(0)
    drawn = picture("x", CHECK, NUMBER, rng.normal(size=2000), rng.normal(1, 1, size=500))
    assert len(drawn.edges) == BINS + 1
    assert 70 < drawn.edges[0] < drawn.edges[-1] < 145
    assert sum(drawn.before) == pytest.approx(1)
    assert sum(drawn.after) == pytest.approx(1)
    middle = np.array(drawn.edges[:-1])
    assert np.dot(middle, drawn.after) - np.dot(middle, drawn.before) == pytest.approx(10, abs=1.5)
    assert drawn.last_year == ()


def test_few_values_get_bars() -> None:
    """A number of few values is shown value by value, on both sides, also where one side lacks one."""
    drawn = picture("x", CHECK, NUMBER, np.array([0.0, 0.0, 0.1, np.nan]), np.array([0.2]))
    assert (drawn.labels, drawn.edges) == (("100", "101", "102"), ())
    assert drawn.before == pytest.approx((2 / 3, 1 / 3, 0))
    assert drawn.after == (0, 0, 1)


def test_names_beyond_the_most_frequent_share_a_bar() -> None:
    """Of many names the most frequent are drawn; nothing is left out of the shares."""
    before = np.array([f"n{place}" for place in range(20)] * 5, dtype=object)
    after = np.array(["new"] * 30 + ["n1"] * 10 + [None] * 4, dtype=object)
    drawn = picture("x", CHECK, NAMES, before, after)
    assert len(drawn.labels) == BARS + 1
    assert drawn.labels[:2] == ("new", "n1")
    assert drawn.labels[-1] == "other"
    assert sum(drawn.before) == pytest.approx(1)
    assert drawn.after[:2] == (0.75, 0.25)


def test_the_same_period_of_last_year_stands_beside() -> None:
    """Where there are rows of a year ago they are a third distribution over the same bars."""
    year = np.array(["a", "b"], dtype=object)
    drawn = picture("x", CHECK, NAMES, np.array(["a"], dtype=object), np.array(["b", OTHER], dtype=object), year)
    shares = dict(zip(drawn.labels, drawn.last_year, strict=True))
    assert (shares["a"], shares["b"]) == (0.5, 0.5)


@pytest.mark.parametrize("values", [[0.0] * 50, [0.0] * 49 + [5.0], list(np.linspace(-5, 5, 50))])
def test_hardly_varying_numbers_can_be_drawn(values: list[float]) -> None:
    """Constants and single outliers are no division by nothing."""
    drawn = picture("x", CHECK, NUMBER, np.array(values), np.array(values[:9]))
    assert sum(drawn.before) == pytest.approx(1)
    assert sum(drawn.after) == pytest.approx(1)


def test_large_numbers_keep_their_digits() -> None:
    """Values and bounds that differ in the seventh digit are told apart."""
    big = ColumnCalibration(True, 0.3, center=1_000_002.0, scale=1.0)
    drawn = picture("x", CHECK, big, np.array([-1.0, 0.0, 0.0, 1.0]), np.array([1.0]))
    assert drawn.labels == ("1000001", "1000002", "1000003")
    assert (drawn.before, drawn.after) == ((0.25, 0.5, 0.25), (0, 0, 1))
    low, high = picture("x", CHECK, big, np.linspace(-4, 4, 100), np.linspace(-4, 4, 100)).ends
    assert float(low) < 1_000_000 < 1_000_004 < float(high)
