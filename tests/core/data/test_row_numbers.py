"""Rows as numbers: the same for the same values in any file, others for others; what is new beyond what was known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tasks.core.data.row_numbers import beyond, row_numbers
from tasks.core.data.source import Source
from tests.helpers.training import put

ROWS = pd.DataFrame(
    {
        "amount": [1.5, 0.0, None, 2.0],
        "city": ["Oslo", "Bergen", None, "7"],
        "at": pd.to_datetime(["2026-01-01", "2026-01-02", None, "2026-01-02"]),
    }
)


def test_the_same_rows_in_another_file(tmp_path: Path) -> None:
    """Format, trailing zeros and blanks make no other row; order of columns, values and missing ones do."""
    columns = ["amount", "city"]
    ours = row_numbers(put(tmp_path, ROWS, "a.parquet"), columns)
    (tmp_path / "b.csv").write_text("city,amount\n Oslo ,1.50\nBergen,-0\n,\n7,2\n")
    theirs = Source(tmp_path, "b.csv")
    assert (row_numbers(theirs, columns) == ours).all() and len(set(ours)) == 4
    assert np.isin(row_numbers(theirs, columns[::-1]), ours).tolist() == [False, False, True, False]
    later = put(tmp_path, ROWS.assign(at=ROWS["at"] + pd.Timedelta("1s")), "c.parquet")
    same = row_numbers(later, ["at"]) == row_numbers(put(tmp_path, ROWS, "a.parquet"), ["at"])
    assert same.tolist() == [False, False, True, False]


def test_a_row_may_be_there_more_often_than_before() -> None:
    """Of equal rows, those are new that are more than the known ones; order does not matter."""
    rows, known = np.array([5, 5, 7, 5, 9], np.uint64), np.array([5, 9, 5, 1], np.uint64)
    assert beyond(rows, known).tolist() == [False, False, True, True, False]
    assert beyond(rows, known[:0]).all() and not len(beyond(rows[:0], known))
