"""The longest silence of a schedule: an alarm that knows a part of the year rings every weekend, or one night in it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flows.server.cadence import longest_gap


@pytest.mark.parametrize(
    ("cron", "timezone", "hours"),
    [
        pytest.param("0 6 * * *", "UTC", 24, id="daily"),
        pytest.param("0 6 * * *", "Europe/Berlin", 25, id="daily, over the end of summer time"),
        pytest.param("0 6 * * 1", "Europe/Berlin", 7 * 24 + 1, id="weekly"),
        pytest.param("0 6 * * 1-5", "Asia/Tokyo", 72, id="a weekend"),
        pytest.param("*/5 8-18 * * 1-5", "UTC", 61 + 5 / 60, id="thousands of runs between two weekends"),
        pytest.param("* * * * *", "America/New_York", 1 + 1 / 60, id="an hour that comes twice, and counts once"),
        pytest.param("0 */6 * * *", "Europe/Berlin", 7, id="four a day"),
        pytest.param("0 8 1 3,6 *", "UTC", 273 * 24, id="most of a year"),
        pytest.param("*/5 * * 1-3 *", "UTC", 275 * 24 + 5 / 60, id="three months of each year"),
        pytest.param("0 0 29 2 *", "UTC", 1461 * 24, id="leap days"),
        pytest.param("0 6 13 * 5", "UTC", 7 * 24, id="day of the month, or of the week"),
    ],
)
def test_the_longest_gap(cron: str, timezone: str, hours: float) -> None:
    """Of all gaps in a year, with nights, weekends, months without a run, and clocks that are set."""
    assert longest_gap(cron, timezone, 2026) == pytest.approx(timedelta(hours=hours), abs=timedelta(seconds=1))


def test_what_is_no_schedule() -> None:
    """It is refused as Prefect refuses it."""
    with pytest.raises(ValueError, match="Invalid cron string"):
        longest_gap("0 25 * * *", "UTC", 2026)
