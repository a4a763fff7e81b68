"""How many rows a batch has, compared with the batches that the version in service was trained on. It only warns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa

from tasks.core.checks.calibration import PRIOR, WINDOWS
from tasks.core.data.arrow import decoded, is_usable
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


def check_rows(source: Source, batch: str, rows: int, earlier: Sequence[int]) -> Check | None:
    """A warning with both numbers where `rows` is beyond what these `earlier` batches make usual, else None.

    None, too, after fewer than WINDOWS of them: the first is often a history of many periods.
    """
    counts = [count for count in earlier if count > 0][-NEWEST:]
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
