"""Instants as people write them: the notation is found for a whole column, and what is none stays unknown."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.core.data.notations import instants, says_days

LAST, FIRST = datetime(2026, 12, 31, 10, 30), datetime(2026, 1, 2)


@pytest.mark.parametrize(
    ("last", "first", "notation"),
    [
        ("2026-12-31T10:30", "2026-01-02", "2026-12-31"),
        ("2026-12-31 10:30:00.123+02:00", "2026-1-2", "2026-12-31"),
        ("2026/12/31 10:30", "2026/01/02", "2026-12-31"),
        ("31/12/2026 10:30", "02/01/2026", "31/12/2026"),
        ("31-12-26 10:30", "02-01-26", "31/12/2026"),
        ("12/31/2026 10:30 AM", "1/2/2026", "12/31/2026"),
        ("31.12.2026 10.30.00", "2.1.2026", "31.12.2026"),
        ("Dec 31, 2026 10:30", "January 2, 2026", "Dec 31, 2026"),
        ("Thu, 31 Dec 2026 10:30:00 GMT", "02-JAN-2026", "31 Dec 2026"),
    ],
)
def test_a_column_has_one_notation(last: str, first: str, notation: str) -> None:
    """Common notations are read as they are written, whatever the zone; days that do not exist, and words, are not."""
    found = instants(pa.array([last, first, None, "soon", last.replace("31", "32").replace("-30", "-31")]))
    assert found is not None and found.notation == notation and not found.ambiguous
    assert found.values[:2].astype(object).tolist() == [LAST, FIRST]
    assert np.isnat(found.values[2:]).all() and found.known == 2


def test_day_and_month_may_be_exchanged() -> None:
    """Without a day beyond the 12th nobody can tell; with one, or where it makes no difference, there is no doubt.
    With points the day comes first."""
    for texts, ambiguous in (
        (["01/02/2026", "03/04/2026"], True),
        (["01/02/2026", "13/04/2026"], False),
        (["01/02/2026", "04/13/2026"], False),
        (["01/01/2026", "02/02/2026"], False),
        (["01.02.2026"], False),
    ):
        found = instants(pa.array(texts))
        assert found is not None and found.ambiguous is ambiguous, texts


@pytest.mark.parametrize(
    ("values", "notation"),
    [
        (pa.array([20261231, 20260102, None]), "20261231"),
        (pa.array([20261231.0, None]), "20261231"),
        (pa.array(["20261231 10:30", "20260102"]), "20261231"),
        (pa.array([1767225600, 1767225660]), "seconds"),
        (pa.array([1767225600000.0, None]), "milliseconds"),
        (pa.array(["1767225600"]), "seconds"),
        (pa.array([date(2026, 1, 2)]), "typed"),
        (pa.array([LAST], pa.timestamp("ns", "Europe/Berlin")), "typed"),
    ],
    ids=str,
)
def test_numbers_and_types(values: pa.Array, notation: str) -> None:
    """Whole numbers are instants where nearly all are days, or all times since 1970; types of time always are."""
    found = instants(values)
    assert found is not None and found.notation == notation and found.known == len(values) - values.null_count


@pytest.mark.parametrize(
    "values",
    [
        pa.array([20261231, 20261331]),
        pa.array([1, 2, 3]),
        pa.array([1767225600, 5]),
        pa.array([20261231.5]),
        pa.array(["north", "12%", "1,200"]),
        pa.array([None], pa.string()),
        pa.array([None], pa.timestamp("ns")),
        pa.array([True]),
        pa.array([[1]]),
    ],
    ids=str,
)
def test_what_is_no_instant(values: Any) -> None:
    """Amounts, words, flags, nested values and nothing at all say no time."""
    assert instants(values) is None


def test_slips_are_forgiven() -> None:
    """A column is one of days where nearly all values are; with many others it is none."""
    assert says_days(pa.array(["31.12.2026"] * 99 + ["?"]))
    assert not says_days(pa.array(["31.12.2026"] * 50 + ["?"] * 50))
    assert not says_days(pa.array(["a"]))
