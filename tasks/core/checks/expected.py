"""Expected change: the periods of a model's file, what people snoozed, and which batches fall into either.

A batch's days are those of its `time` column, else those that its name says; drift in them is excused, not hidden.
"""

from __future__ import annotations

import calendar
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from tasks.core.checks.calibration import SCORE, TARGET
from tasks.core.data.dates import Days, dates_at_a_glance, dates_of
from tasks.core.spec import PREDICTION, Expected, ModelSpec
from tasks.core.text import named
from tasks.core.types import Batch, Check, CheckKind, Snooze, Verdict


@dataclass(frozen=True, slots=True)
class Excused:
    """Columns whose drift is expected in some batches."""

    columns: Mapping[str, str]
    """The reason in words, by feature, SCORE or TARGET."""
    checks: tuple[Check, ...] = ()
    """What a person must mend before a period can be applied."""


def today() -> date:
    """In UTC, as all times of the history are."""
    return datetime.now(UTC).date()


def excused(
    root: Path,
    spec: ModelSpec,
    snoozes: Sequence[Snooze],
    batches: Sequence[Batch],
    features: Sequence[str],
    now: date | None = None,
) -> Excused:
    """Which columns may drift in these batches: `features`, those of the version in service, prediction and target.

    A period applies when the days of some batch overlap it. A snooze counts for data up to its last day; where the
    days of a batch are not known, today's date (`now`) counts instead. No file is looked at unless there is either.
    """
    if not batches or not (spec.expected or snoozes):
        return Excused({})
    days = {batch.id: dates_of(root, spec, batch) for batch in batches}
    known = [span for span in days.values() if span]
    latest = [span[0] for span in known] + [now or today()] * (len(known) < len(days))
    found: dict[str, list[str]] = {}
    checks = []
    for period in spec.expected:
        keys, unknown = _keys(period.columns, features, spec.target)
        checks += [_unknown(period, name, features) for name in unknown]
        if any(covers(period, span) for span in known):
            for key in keys:
                found.setdefault(key, []).append(_described(period))
    for snooze in snoozes:
        if any(first <= date.fromisoformat(snooze.until) for first in latest):
            for key in _keys(snooze.columns, features, spec.target)[0]:
                found.setdefault(key, []).append(snoozed(snooze))
    undated = [name for name, span in days.items() if span is None]
    if spec.expected and undated:
        checks.append(_undated(undated, spec))
    return Excused({name: "; ".join(reasons) for name, reasons in found.items()}, tuple(checks))


def snoozed(snooze: Snooze) -> str:
    """A snooze in words."""
    return f"snoozed until {snooze.until} by {snooze.actor}: {snooze.reason}"


def last_year(root: Path, spec: ModelSpec, batches: Sequence[Batch], known: Sequence[Batch]) -> tuple[Batch, ...]:
    """Those of `known`, in its order, whose days overlap the days of `batches` a year earlier.

    Looks at the days of every known batch; where a file's own statistics do not have them its name is believed, and
    only then is it read.
    """
    spans = [_year_before(span) for batch in batches if (span := dates_of(root, spec, batch))]
    window = {batch.id for batch in batches}
    if not spans:
        return ()
    found = []
    for batch in known:
        days = None if batch.id in window else dates_at_a_glance(root, spec, batch)
        if days and any(_overlap(days, span) for span in spans):
            found.append(batch)
    return tuple(found)


# --- periods -------------------------------------------------------------------------------------------------


def covers(period: Expected, days: Days) -> bool:
    """Whether a period and these days have one in common."""
    if not period.yearly:
        return _overlap(days, (date.fromisoformat(period.start), date.fromisoformat(period.until)))
    wraps = period.until < period.start
    years = range(max(date.min.year, days[0].year - 1), min(days[1].year, date.max.year - 1) + 1)
    return any(_overlap(days, (_in(year, period.start), _in(year + wraps, period.until))) for year in years)


def _in(year: int, day: str) -> date:
    """A day of every year in one of them; 29 February is the 28th in most."""
    month, number = int(day[:2]), int(day[3:])
    return date(year, month, min(number, calendar.monthrange(year, month)[1]))


def _overlap(one: Days, other: Days) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _year_before(days: Days) -> Days:
    first, last = (_in(max(date.min.year, day.year - 1), day.isoformat()[5:]) for day in days)
    return first, last


def _described(period: Expected) -> str:
    span = period.start if period.start == period.until else f"{period.start} to {period.until}"
    return f"expected: {period.name}, {span}"


def _keys(columns: Sequence[str], features: Sequence[str], target: str) -> tuple[list[str], list[str]]:
    """What drift calls these columns (none: all there are), and those that nothing is called.

    A feature may be called like the target or `prediction`: then both are meant.
    """
    if not columns:
        return [*features, SCORE, TARGET], []
    special = {PREDICTION: SCORE, target: TARGET}
    keys = [name for name in columns if name in features] + [special[name] for name in columns if name in special]
    return keys, [name for name in columns if name not in features and name not in special]


def _unknown(period: Expected, name: str, features: Sequence[str]) -> Check:
    close = ", ".join(difflib.get_close_matches(name, features, n=3))
    hint = f"; did you mean {close}?" if close else ""
    text = (
        f"the period {period.name!r} of [[expected]] lists {name!r}, which the version in service does not have{hint}"
    )
    return Check.of(CheckKind.EXPECTED, None, Verdict.WARN, text)


def _undated(names: Sequence[str], spec: ModelSpec) -> Check:
    shown = named(names, 3)
    column = f"the column {spec.time!r} (`time`) holds none" if spec.time else "`time` is not set"
    text = (
        f"the dates of {shown} are not known ({column}), so no [[expected]] period was looked for there: set `time` to "
        "a column of dates, or name batches by date, 2026-12-24 or 2026-12"
    )
    return Check.of(CheckKind.EXPECTED, None, Verdict.WARN, text)
