"""How long a schedule is silent at most: what an alarm for runs that do not come must wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

YEARS = 2
"""Looked at, from a new year on: a year's every gap, also the one around New Year, lies in them."""


def longest_gap(cron: str, timezone: str, year: int) -> timedelta:
    """The longest time between two runs, from the beginning of that year on, with every change of the clock.

    It is found by days and times of day, whose product would be half a million runs of a schedule that starts one a
    minute. Raises ValueError for what is no schedule.
    """
    minute, hour, *day_fields = cron.split()
    days = [start.date() for start in _starts(" ".join(["0", "0", *day_fields]), year)]
    times = [start.time() for start in _starts(f"{minute} {hour} * * *", year, days=1)]
    zone = ZoneInfo(timezone)
    between = _gaps(_at(day, at, zone) for day in days for at in _ends(times))
    changed = (day for day in days if _at(day, time.min, zone).utcoffset() != _at(day, time.max, zone).utcoffset())
    within = [*_gaps(datetime.combine(date.min, at) for at in times)]
    within += [gap for day in changed for gap in _gaps(_at(day, at, zone) for at in times)]
    # Between the first and the last run of a day there may be others.
    nights = [*between][1::2] if len(times) > 1 else [*between]
    return max([*within, *nights])


def _starts(cron: str, year: int, *, days: int | None = None) -> list[datetime]:
    """When a schedule in UTC starts in that many days, or else in YEARS; of a rarer one, the next two times."""
    from prefect.server.schemas.schedules import CronSchedule

    schedule, begin = CronSchedule(cron=cron, timezone="UTC"), datetime(year, 1, 1, tzinfo=UTC)
    end = begin + timedelta(days=days or 366 * YEARS, microseconds=-1)
    found: list[datetime] = []
    while more := [*asyncio.run(schedule.get_dates(n=1000, start=found[-1] if found else begin, end=end))]:
        found += [start for start in more if not found or start > found[-1]]
        if len(more) < 1000:
            break
    return found if days or len(found) > 1 else [*asyncio.run(schedule.get_dates(n=2, start=begin))]


def _ends(times: Sequence[time]) -> Sequence[time]:
    return times if len(times) == 1 else (times[0], times[-1])


def _at(day: date, at: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, at, zone)


def _gaps(starts: Iterable[datetime]) -> Iterator[timedelta]:
    # In UTC: two times of one zone are subtracted as if no clock were ever changed.
    moments = [start.astimezone(UTC) if start.tzinfo else start for start in starts]
    return (later - earlier for earlier, later in pairwise(moments))
