"""Text that goes into cards, logs and pages alike."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from tasks.core.types import Metric


def number(value: float) -> str:
    """Four significant digits; from a thousand on whole, with separators: `0.7125`, `73,570`."""
    rounded = float(f"{value:.4g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:.4g}"


def interval_text(metric: Metric) -> str:
    """The 95 % interval of a metric, `0.70 to 0.72`."""
    if metric.low is None or metric.high is None:
        return "unknown"
    return f"{number(metric.low)} to {number(metric.high)}"


def metric_text(metric: Metric) -> str:
    """A metric in one line: `0.71 (0.70 to 0.72) on 1,200 rows`."""
    return f"{number(metric.value)} ({interval_text(metric)}) on {metric.rows:,} rows"


def named(names: Sequence[str], few: int = 5, separator: str = ", ") -> str:
    """Names in one line: the first few, and how many more."""
    rest = f" and {len(names) - few} more" if len(names) > few else ""
    return f"{separator.join(names[:few])}{rest}"


def span(names: Sequence[str], none: str = "-") -> str:
    """Batches that follow one another, by the first and the last; `none` where there is none."""
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}" if names else none


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 entry`, `2 entries`; without `many`, an s is added."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def days_of(age: str) -> int:
    """Days that `90d`, `12w` or `2y` are, a year having 365 of them."""
    return int(age[:-1]) * {"d": 1, "w": 7, "y": 365}[age[-1]]


# --- numbers -------------------------------------------------------------------------------------------------


def amount(value: float, digits: int = 3) -> str:
    """A number rounded to so many significant digits and written out: `0.0712`, `73,600`."""
    return f"{Decimal(f'{value:.{digits}g}'):,f}"


def portion(part: float, whole: float) -> str:
    """A part in percent of the whole, to two digits: `5%`, `0.34%`; the part itself where the whole is 0."""
    return f"{amount(100 * part / whole, 2)}%" if whole else amount(part)


def of_loss(part: float, loss: float) -> str:
    """A difference of losses per row, as a share of one of them: `5% of its loss`; `0.02 a row` where that is 0."""
    return f"{portion(part, loss)} {'of its loss' if loss else 'a row'}"


# --- times ---------------------------------------------------------------------------------------------------


def minute(at: str) -> str:
    """A time that was written as ISO 8601, to the minute: `2026-11-24 08:07`, in the zone it was written in (UTC)."""
    return at[:16].replace("T", " ")


def second(at: str) -> str:
    """A time that was written as ISO 8601, to the second, in its own zone (UTC): `2026-11-24 08:07:31`."""
    return at[:19].replace("T", " ")


def ago(at: datetime | None) -> str:
    """How long ago a time was by this machine's clock, in the largest unit of which it was two or more: `36 hours ago`.

    A time yet to come was 0 seconds ago, and None is `never`. `at` has a zone.
    """
    if at is None:
        return "never"
    passed = max(0, round((datetime.now(UTC) - at).total_seconds()))
    for unit, seconds in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if passed >= 2 * seconds:
            return f"{counted(passed // seconds, unit)} ago"
    return f"{counted(passed, 'second')} ago"


# --- markdown ------------------------------------------------------------------------------------------------


_MEANINGFUL = str.maketrans({"|": "\\|", "[": "\\[", "<": "&lt;", "\n": " ", "\r": " "})
"""What would end a cell, make a tag, or ask another host for a picture."""


def cell(text: str) -> str:
    """Any text as a cell, or one line, of markdown: nothing in it is taken for markup."""
    return text.translate(_MEANINGFUL)
