"""Which days a batch is about: by its time column, else by its name."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.data.arrow import decoded, is_text
from tasks.core.data.files import parts
from tasks.core.data.source import Source
from tasks.core.errors import DataError
from tasks.core.spec import CsvSpec, ModelSpec
from tasks.core.types import Batch

Days = tuple[date, date]
"""First and last day, both included."""


def dates_of(root: Path, spec: ModelSpec, batch: Batch) -> Days | None:
    """First and last day of a batch: of its `time` column (timestamps, dates, or text that begins with an ISO date),
    else as its name begins or ends (`2013-12-24`, `20131224`, `2013-12`, `2013-W51`); None when neither says."""
    return _in_statistics(root, spec, batch) or _in_rows(root, spec, batch) or _in_name(batch.id)


def dates_at_a_glance(root: Path, spec: ModelSpec, batch: Batch) -> Days | None:
    """First and last day of a batch as `dates_of` finds them, but its name is believed before its rows are read."""
    return _in_statistics(root, spec, batch) or _in_name(batch.id) or _in_rows(root, spec, batch)


def _in_statistics(root: Path, spec: ModelSpec, batch: Batch) -> Days | None:
    return _recorded(root / batch.path, batch.sha256, spec.time) if spec.time else None


def _in_rows(root: Path, spec: ModelSpec, batch: Batch) -> Days | None:
    return _streamed(root, batch.path, batch.sha256, spec.time, spec.data.csv) if spec.time else None


@lru_cache(maxsize=4096)
def _recorded(path: Path, _sha256: str, column: str) -> Days | None:
    """By what Parquet files record of their row groups; None where one does not say, or is not Parquet."""
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
    found: list[date] = both.cast(pa.date32(), safe=False).drop_null().to_pylist()
    return found


def _is_temporal(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


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
