"""How many rows a batch has and how many days it covers, compared with the batches that the version in service was
trained on. It only warns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa

from tasks.core.checks.calibration import PRIOR, WINDOWS
from tasks.core.data.arrow import decoded, is_usable
from tasks.core.data.dates import Days
from tasks.core.data.source import Source
from tasks.core.types import Check, CheckKind, Verdict

CLEARLY = 2.0
"""Half as many rows as usual, or twice as many, are no cause for a remark, however steady the stream was."""
WOBBLE = math.log(1.25)
"""Deviation of the logarithm of the rows that is believed of a stream before anything is known of it."""
FALSE_ALARMS = 0.005
"""Chance of a remark about a batch that is like the earlier ones."""
NEWEST = 16
"""Training batches that say what is usual: a stream may grow."""
FEWER_DAYS = 1.2
"""A period that is this many times as long as a batch is not over: months differ by less, and a week may miss a day."""


def check_rows(source: Source, batch: str, rows: int, earlier: Sequence[int]) -> Check | None:
    """A warning with both numbers where `rows` is beyond what these `earlier` batches make usual, else None.

    None, too, after fewer than WINDOWS of them: the first is often a history of many periods.
    """
    counts = _newest(earlier)
    if len(counts) < WINDOWS or rows <= 0:
        return None
    usual, factor = usual_rows(counts)
    ratio = max(rows / usual, usual / rows)
    if ratio <= factor:
        return None
    text = (
        f"{batch} has {rows:,} rows where about {usual:,.0f} are usual "
        f"({usual / factor:,.0f} to {usual * factor:,.0f} raise no remark)"
    )
    if rows > usual and (different := _different(source)) is not None and different < rows:
        text += f"; only {different:,} of them differ, the others are there more than once: did a join repeat them?"
    return Check.of(CheckKind.ROWS, batch, Verdict.WARN, text, ratio, factor)


def is_fewer(rows: int, earlier: Sequence[int]) -> bool:
    """Whether that is less than usual, be it little: reason enough to look how many days they cover."""
    counts = _newest(earlier)
    return len(counts) >= WINDOWS and rows < usual_rows(counts)[0]


def _newest(earlier: Sequence[int]) -> list[int]:
    return [count for count in earlier if count > 0][-NEWEST:]


def check_days(batch: str, days: Days, earlier: Sequence[Days]) -> Check | None:
    """A warning where a batch covers clearly fewer days than each of these `earlier` ones did, else None.

    None, too, after fewer than WINDOWS of them.
    """
    length, lengths = _length(days), sorted(_length(one) for one in earlier)
    if len(lengths) < WINDOWS or (ratio := lengths[0] / length) < FEWER_DAYS:
        return None
    usual = f"{lengths[0]:,} to {lengths[-1]:,}" if lengths[0] < lengths[-1] else f"{lengths[0]:,}"
    text = f"{batch} covers {length:,} day{'s' * (length > 1)}, {days[0]} to {days[1]}, where {usual} are usual"
    return Check.of(CheckKind.ROWS, batch, Verdict.WARN, f"{text}: is it all of its period?", ratio, FEWER_DAYS)


def _length(days: Days) -> int:
    return (days[1] - days[0]).days + 1


def usual_rows(counts: Sequence[int]) -> tuple[float, float]:
    """The usual number of rows, the geometric mean, and the factor around it that is still usual."""
    from scipy.stats import t

    logs = [math.log(count) for count in counts]
    mean = math.fsum(logs) / len(logs)
    own = math.fsum((one - mean) ** 2 for one in logs)
    # Of one more batch: its own deviation, and that of the mean. What is believed beforehand only adds to it.
    spread = math.sqrt((own + PRIOR * WOBBLE**2) / (len(logs) - 1) * (1 + 1 / len(logs)))
    beyond = float(t.isf(FALSE_ALARMS / 2, len(logs) + PRIOR)) * spread
    return math.exp(mean), max(CLEARLY, math.exp(beyond))


def _different(source: Source) -> int | None:
    """How many rows differ in what a pipeline could read; None where nothing can be compared."""
    table = source.read(list(dict.fromkeys(source.names)))
    columns = [decoded(column.combine_chunks()) for column in table.columns if is_usable(column.type)]
    if not columns:
        return None
    names = [str(place) for place in range(len(columns))]
    return len(pa.Table.from_arrays(columns, names=names).group_by(names).aggregate([]))
