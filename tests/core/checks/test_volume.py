"""How many rows a batch has: a warning with both numbers, and no false alarm for streams that vary."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.core.checks.volume import check_days, check_rows, is_fewer
from tasks.core.types import Check, CheckKind, Verdict
from tests.helpers.model import make_rows
from tests.helpers.training import put


def look(root: Path, frame: pd.DataFrame, earlier: list[int], name: str = "new.parquet") -> Check | None:
    return check_rows(put(root, frame, name), "new", len(frame), earlier)


@pytest.mark.parametrize("rows", [1, 20, 200, 1_300, 5_000])
def test_far_fewer_or_more_rows(tmp_path: Path, rows: int) -> None:
    """Both counts are named, and it is a warning, never a failure."""
    remark = look(tmp_path, make_rows(rows, seed=1), [500] * 12)
    assert remark is not None and remark.kind is CheckKind.ROWS and remark.verdict is Verdict.WARN
    assert f"new has {rows:,} rows where about 500 are usual" in remark.summary
    assert remark.value is not None and remark.threshold is not None and remark.value > remark.threshold


@pytest.mark.parametrize("name", ["new.parquet", "new.csv"])
@pytest.mark.parametrize("times", [3, 4])
def test_rows_that_a_join_repeated(tmp_path: Path, times: int, name: str) -> None:
    """Where there are more rows than usual, those that are there more than once are counted; missing values, too."""
    once = make_rows(500, seed=2)
    remark = look(tmp_path, pd.concat([once] * times, ignore_index=True), [480, 500, 520, 510, 490], name)
    assert remark is not None and "only 500 of them differ, the others are there more than once" in remark.summary
    more = look(tmp_path, make_rows(500 * times, seed=3), [500] * 5, name)
    assert more is not None and "more than once" not in more.summary


@pytest.mark.parametrize(
    ("rows", "earlier"),
    [
        (20, []),
        (20, [6_000]),
        (20, [6_000, 500]),
        (500, [500, 480, 530]),
        (260, [500] * 12),
        (950, [500] * 12),
        (100, [300, 310, 290, 305, 300, 100, 90] * 2),
        (700, [100, 200, 400, 800, 300, 150]),
        (500, [6_000, 500, 510, 490]),
    ],
    ids=["no history", "one file", "two", "like them", "half", "nearly twice", "weekends", "irregular", "a history"],
)
def test_what_is_usual(tmp_path: Path, rows: int, earlier: list[int]) -> None:
    """Too little history, half as many rows, and streams whose batches vary anyway are no cause for a remark."""
    assert look(tmp_path, make_rows(rows, seed=4), earlier) is None


@pytest.mark.parametrize("deviation", [0.0, 0.1, 0.3, 0.6])
def test_remarks_for_nothing_are_rare(tmp_path: Path, deviation: float) -> None:
    """Of batches like the earlier ones fewer than one in fifty is remarked, however much their sizes vary."""
    source, rng = put(tmp_path, make_rows(5, seed=5)), np.random.default_rng(6)
    alarms = 0
    for _ in range(300):
        sizes = np.exp(rng.normal(6, deviation, 9)).astype(int)
        alarms += check_rows(source, "new", int(sizes[-1]), sizes[:-1].tolist()) is not None
    assert alarms <= 6


MONTHS = [(date(2026, month, 1), date(2026, month, last)) for month, last in ((1, 31), (2, 28), (3, 31), (4, 30))]


def test_a_batch_that_ends_in_the_middle_of_its_period() -> None:
    """A warning says how many days it covers, which, and how many are usual; its end or beginning may be missing."""
    remark = check_days("2026-05", (date(2026, 5, 1), date(2026, 5, 17)), MONTHS)
    assert remark is not None and remark.kind is CheckKind.ROWS and remark.verdict is Verdict.WARN
    assert "2026-05 covers 17 days, 2026-05-01 to 2026-05-17, where 28 to 31 are usual" in remark.summary
    assert check_days("2026-05", (date(2026, 5, 20), date(2026, 5, 31)), MONTHS)
    days = [(date(2026, 5, day), date(2026, 5, day)) for day in (1, 2, 3)]
    assert check_days("2026-05-04", (date(2026, 5, 4), date(2026, 5, 4)), days) is None


@pytest.mark.parametrize(("first", "last", "known"), [(1, 28, 4), (3, 31, 4), (1, 17, 2), (1, 17, 0)])
def test_days_that_are_usual(first: int, last: int, known: int) -> None:
    """Months differ, a holiday at either end is none, and two batches are too little to say what is usual."""
    assert check_days("2026-05", (date(2026, 5, first), date(2026, 5, last)), MONTHS[:known]) is None


def test_where_days_are_looked_for() -> None:
    """Only where there are fewer rows than usual, after enough batches."""
    assert is_fewer(400, [500, 500, 500]) and not is_fewer(600, [500, 500, 500])
    assert not is_fewer(400, [500, 500])
