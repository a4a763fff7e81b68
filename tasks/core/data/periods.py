"""One history cut into periods by its times: days, weeks from Monday on, or months. Pure: it sees times, not files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.core.data.dates import within

Every = Literal["day", "week", "month"]

SLACK = {"day": np.timedelta64(1, "h"), "week": np.timedelta64(1, "D"), "month": np.timedelta64(1, "D")}
"""Time between the last row of a period and its end that leaves no doubt that the period is over."""
ENOUGH = 0.5
"""Rows of a period, as a share of those of the median one, that it has when it is over."""


@dataclass(frozen=True)
class Period:
    """One day, week or month."""

    name: str
    """`2026-03-31`, `2026-W13` or `2026-03`: names sort in time order, and say their days."""
    rows: np.ndarray
    """Row numbers, in the order of the history."""


@dataclass(frozen=True)
class Cut:
    """A history in periods, and what is in none."""

    periods: tuple[Period, ...]
    """Those that are over, in time order; none is empty."""
    waiting: Period | None
    """The last one, if more of it is to come."""
    undated: np.ndarray
    """Numbers of the rows that have no time."""
    far: np.ndarray
    """Numbers of the rows whose time lies far from all others: slips, or marks for an open end."""


def cut(times: np.ndarray, every: Every) -> Cut:
    """`times` are datetime64[s], shape (rows,), in any order; NaT where there is none.

    The last period waits unless its rows come as near to its end as those of the earlier ones did to theirs. A time is
    far when nothing fills the way from the others to it, and that way is longer than all of those others together.
    """
    undated = np.flatnonzero(np.isnat(times))
    ends = within(times)
    if ends is None:
        return Cut((), None, undated, np.array([], int))
    dated = np.flatnonzero(~np.isnat(times))
    numbers = _number(times[dated], every)
    near = _near(np.unique(numbers), *(int(_number(np.array([end]), every)[0]) for end in ends))
    inside = np.isin(numbers, near)
    order = np.argsort(numbers, kind="stable")
    starts, stops = (np.searchsorted(numbers[order], near, side) for side in ("left", "right"))
    found = [
        Period(_name(number, every), dated[order[start:stop]])
        for number, start, stop in zip(near, starts, stops, strict=True)
    ]
    is_over = _is_over([times[period.rows] for period in found], near, every)
    return Cut(tuple(found if is_over else found[:-1]), None if is_over else found[-1], undated, dated[~inside])


def _near(there: np.ndarray, first: int, last: int) -> list[int]:
    """Those periods that are no further from the others than the bulk of them, from first to last, is long."""
    longest = last - first + 1
    kept = [int(number) for number in there if first <= number <= last]
    for number in there[there > last]:
        if number - kept[-1] > longest:
            break
        kept.append(int(number))
    for number in there[there < first][::-1]:
        if kept[0] - number > longest:
            break
        kept.insert(0, int(number))
    return kept


def _is_over(times: list[np.ndarray], numbers: list[int], every: Every) -> bool:
    left = [_start(number + 1, every) - its.max() for number, its in zip(numbers, times, strict=True)]
    if left[-1] <= SLACK[every]:
        return True
    usual = float(np.median([len(its) for its in times[:-1]])) if len(times) > 1 else 0.0
    full = [its for its, rows in zip(left[:-1], times[:-1], strict=True) if len(rows) >= ENOUGH * usual]
    allowed = max([*full, _usual_gap(times)] if every != "day" else full, default=SLACK[every])
    return len(times[-1]) >= ENOUGH * usual and bool(left[-1] <= allowed)


def _usual_gap(times: list[np.ndarray]) -> np.timedelta64:
    """Between days that have rows: three of them, where there are none at weekends."""
    gaps = np.diff(np.unique(np.concatenate(times).astype("datetime64[D]")))
    return np.timedelta64(int(np.quantile(gaps.astype(int), 0.95)) if len(gaps) else 0, "D")


def _number(times: np.ndarray, every: Every) -> np.ndarray:
    """Periods since 1970."""
    if every == "month":
        return times.astype("datetime64[M]").astype(int)
    days = times.astype("datetime64[D]").astype(int)
    return (days + 3) // 7 if every == "week" else days  # 1970 began on a Thursday


def _start(number: int, every: Every) -> np.datetime64:
    day = np.datetime64(number, "M").astype("datetime64[D]")
    if every != "month":
        day = np.datetime64(7 * number - 3 if every == "week" else number, "D")
    return np.datetime64(day, "s")


def _name(number: int, every: Every) -> str:
    start = _start(number, every)
    if every == "month":
        return str(start.astype("datetime64[M]"))
    day = start.astype("datetime64[D]")
    if every == "day":
        return str(day)
    year, week, _ = day.astype(object).isocalendar()
    return f"{year}-W{week:02d}"
