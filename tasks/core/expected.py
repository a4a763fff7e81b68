"""Expected change: the periods of a model's file, what people snoozed, and which batches fall into either.

A batch's days are those of its `time` column, else those that its name says; drift in them is excused, not hidden.
"""

from __future__ import annotations

import calendar
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.calibration import SCORE, TARGET
from tasks.core.columns import decoded, is_text
from tasks.core.errors import DataError
from tasks.core.files import parts
from tasks.core.source import Source
from tasks.core.spec import PREDICTION, CsvSpec, Expected, ModelSpec
from tasks.core.types import Batch, Check, Snooze, Verdict

Days = tuple[date, date]
"""First and last day, both included."""


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
        days = None if batch.id in window else _quick(root, spec, batch)
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
    return Check("expected", Verdict.WARN, text)


def _undated(names: Sequence[str], spec: ModelSpec) -> Check:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    column = f"the column {spec.time!r} (`time`) holds none" if spec.time else "`time` is not set"
    text = (
        f"the dates of {shown} are not known ({column}), so no [[expected]] period was looked for there: set `time` to "
        "a column of dates, or name batches by date, 2026-12-24 or 2026-12"
    )
    return Check("expected", Verdict.WARN, text)


# --- the days of a batch -------------------------------------------------------------------------------------


def dates_of(root: Path, spec: ModelSpec, batch: Batch) -> Days | None:
    """First and last day of a batch: of its `time` column (timestamps, dates, or text that begins with an ISO date),
    else as its name begins or ends (`2013-12-24`, `20131224`, `2013-12`, `2013-W51`); None when neither says."""
    return _in_statistics(root, spec, batch) or _in_rows(root, spec, batch) or _in_name(batch.id)


def _quick(root: Path, spec: ModelSpec, batch: Batch) -> Days | None:
    return _in_statistics(root, spec, batch) or _in_name(batch.id) or _in_rows(root, spec, batch)


def _in_statistics(root: Path, spec: ModelSpec, batch: Batch) -> Days | None:
    return _recorded(root / batch.path, batch.sha256, spec.time) if spec.time else None


def _in_rows(root: Path, spec: ModelSpec, batch: Batch) -> Days | None:
    return _streamed(root, batch.path, batch.sha256, spec.time, spec.data.csv) if spec.time else None


@lru_cache(maxsize=4096)
def _recorded(path: Path, _sha256: str, column: str) -> Days | None:
    """By what Parquet files record of their row groups; None where one does not say, or is no Parquet file."""
    found: set[date] = set()
    try:
        for file in parts(path) if path.is_dir() else [path]:
            with pq.ParquetFile(file) as parquet:
                found.update(_of_row_groups(parquet, column))
    except (pa.ArrowException, OSError, OverflowError, ValueError, _Unknown):
        return None
    return _span(found)


class _Unknown(Exception):
    """A row group says nothing about its dates."""


def _of_row_groups(parquet: pq.ParquetFile, column: str) -> Iterator[date]:
    schema = parquet.schema_arrow
    if schema.names.count(column) != 1 or not _is_temporal(kind := schema.field(column).type):
        raise _Unknown
    for number in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(number)
        chunks = (group.column(place) for place in range(group.num_columns))
        seen = next((chunk.statistics for chunk in chunks if chunk.path_in_schema == column), None)
        if seen is not None and seen.has_min_max:
            yield from _days(pa.array([seen.min, seen.max], kind))
        elif seen is None or not seen.has_null_count or seen.null_count < group.num_rows:
            raise _Unknown


@lru_cache(maxsize=4096)
def _streamed(root: Path, path: str, _sha256: str, column: str, written: CsvSpec) -> Days | None:
    """By reading the column; None for one that is not there or holds no dates, or a file that cannot be read."""
    found: set[date] = set()
    try:
        source = Source(root, path, written)
        if source.names.count(column) == 1:
            for part in source.stream([column]):
                found.update(_days(part.column(0)))
    except (DataError, pa.ArrowException, OverflowError, ValueError):
        return None  # a broken batch is named by its own check; days beyond the calendar are none
    return _span(found)


def _days(values: pa.Array) -> list[date]:
    """First and last day of timestamps (where they were written) or dates, every day of text; none of other types."""
    values = decoded(values)
    if is_text(values.type):
        # Text that begins like this sorts by date, but may still name a day that does not exist.
        dated = values.filter(pc.fill_null(pc.match_substring_regex(values, r"^\d{4}-\d{2}-\d{2}($|[T ])"), False))
        each = pc.unique(pc.utf8_slice_codeunits(dated, 0, 10)).to_pylist()
        return [span[0] for text in each if (span := _parsed(text))]
    if not _is_temporal(values.type):
        return []
    if pa.types.is_timestamp(values.type) and values.type.tz:
        values = pc.local_timestamp(values)
    ends = pc.min_max(values)
    both = pa.array([ends["min"].as_py(), ends["max"].as_py()], values.type)
    return both.cast(pa.date32(), safe=False).drop_null().to_pylist()


def _is_temporal(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def _span(days: set[date]) -> Days | None:
    return (min(days), max(days)) if days else None


_DATE = r"(\d{4}-\d{2}-\d{2}(?!\d)|\d{4}-?W\d{2}(?!\d)|\d{8}(?!\d)|\d{4}-\d{2}(?!-?\d))"
_BEGINS, _ENDS = re.compile(f"^{_DATE}"), re.compile(rf"(?<!\d){_DATE}$")


def _in_name(name: str) -> Days | None:
    """A name that begins with one date and ends with another says both."""
    found = [span for pattern in (_BEGINS, _ENDS) if (match := pattern.search(name)) and (span := _parsed(match[1]))]
    return (min(span[0] for span in found), max(span[1] for span in found)) if found else None


def _parsed(text: str) -> Days | None:
    """A day, a week or a month; None for one that does not exist, or before 1900: a number, more likely."""
    try:
        if len(text) == len("2013-12") and "W" not in text:
            year, month = int(text[:4]), int(text[5:])
            first, days = date(year, month, 1), calendar.monthrange(year, month)[1]
        else:
            first, days = date.fromisoformat(text), 7 if "W" in text else 1
        return (first, first + timedelta(days - 1)) if first.year >= 1900 else None
    except (ValueError, OverflowError):
        return None
