"""One history cut into periods: which are over, what waits, and what is in none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.core.data.periods import Cut, Every, cut

SNAPSHOTS = ["2026-01-01"] * 9 + ["2026-02-01"] * 9


def pieces(times: Any, every: Every) -> Cut:
    return cut(np.array(pd.DatetimeIndex(times), "datetime64[s]"), every)


def names(found: Cut) -> list[str]:
    return [period.name for period in found.periods]


def hours(first: str, last: str) -> pd.DatetimeIndex:
    return pd.date_range(first, last, freq="h")


@pytest.mark.parametrize(
    ("times", "every", "over", "waits"),
    [
        (hours("2026-01-01", "2026-04-12"), "month", ["2026-01", "2026-02", "2026-03"], "2026-04"),
        (hours("2026-01-01", "2026-03-31 23:00"), "month", ["2026-01", "2026-02", "2026-03"], None),
        (hours("2025-12-29", "2026-01-13"), "week", ["2026-W01", "2026-W02"], "2026-W03"),
        (hours("2026-01-01", "2026-01-03 12:00"), "day", ["2026-01-01", "2026-01-02"], "2026-01-03"),
        (pd.bdate_range("2026-03-02", "2026-05-29"), "month", ["2026-03", "2026-04", "2026-05"], None),
        (pd.bdate_range("2026-03-02", "2026-05-20"), "month", ["2026-03", "2026-04"], "2026-05"),
        (
            ["2026-01-01"] * 9 + ["2026-02-01"] * 9 + ["2026-03-01"] * 8,
            "month",
            ["2026-01", "2026-02", "2026-03"],
            None,
        ),
        (["2026-01-01"] * 9 + ["2026-02-01"] * 9 + ["2026-03-01"] * 4, "month", ["2026-01", "2026-02"], "2026-03"),
        (["2026-01-10"], "month", [], "2026-01"),
    ],
    ids=["begun", "to its end", "weeks", "days", "no weekends", "half a month", "snapshots", "half a snapshot", "only"],
)
def test_the_last_period_waits_until_it_is_over(times: Any, every: Every, over: list[str], waits: str | None) -> None:
    """It is over when its rows come as near to its end as is usual; names sort in time order, and no row is lost."""
    found = pieces(times, every)
    assert names(found) == over and (found.waiting.name if found.waiting else None) == waits
    rows = [period.rows for period in (*found.periods, *([found.waiting] if found.waiting else []))]
    assert sorted(np.concatenate(rows)) == list(range(len(times)))


def test_rows_that_are_in_no_period() -> None:
    """Times that are missing, and single ones far from all others, are kept out by number: one of 2062 makes no batch,
    and does not say that the last month is over."""
    times = [*hours("2026-01-01", "2026-02-12"), pd.NaT, pd.Timestamp("2062-01-01"), pd.Timestamp("2008-12-31")]
    found = pieces(times, "month")
    assert names(found) == ["2026-01"] and found.waiting is not None and found.waiting.name == "2026-02"
    last = len(times)
    assert found.undated.tolist() == [last - 3] and found.far.tolist() == [last - 2, last - 1]


def test_a_gap_is_no_stray() -> None:
    """A history with months missing, and one that began slowly, are cut whole."""
    slow = pd.date_range("2015-01-01", "2024-12-31", freq="MS")
    found = pieces([*slow, *hours("2025-01-01", "2025-12-31 23:00")], "month")
    assert len(found.periods) == 132 and not len(found.far)
    gap = [*hours("2025-01-01", "2025-03-31 23:00"), *hours("2025-06-01", "2025-07-31 23:00")]
    assert names(pieces(gap, "month")) == ["2025-01", "2025-02", "2025-03", "2025-06", "2025-07"]


def test_the_order_of_the_rows_does_not_matter() -> None:
    """A shuffled history has the same periods, each with its rows in the order of the file."""
    times = hours("2026-01-01", "2026-03-31 23:00").to_numpy()
    order = np.random.default_rng(0).permutation(len(times))
    found = pieces(times[order], "month")
    assert names(found) == ["2026-01", "2026-02", "2026-03"]
    assert all((np.diff(period.rows) > 0).all() for period in found.periods)


def test_nothing_to_cut() -> None:
    """Without any time there is no period."""
    found = pieces([pd.NaT, pd.NaT], "day")
    assert (found.periods, found.waiting, found.undated.tolist()) == ((), None, [0, 1])
