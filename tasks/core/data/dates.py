"""Which days a batch is about: by its time column, else by its name."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.data.files import parts
from tasks.core.data.notations import instants, is_day
from tasks.core.data.source import Source
from tasks.core.errors import DataError
from tasks.core.spec import CsvSpec, ModelSpec
from tasks.core.types import Batch

Days = tuple[date, date]
"""First and last day, both included."""
STRAY = 0.01
"""Share of a batch's rows at either end whose day does not count: one date of 2062 decides nothing."""
FEW = 20
"""Rows with a day below which none can be spared: all of them count."""
AT_MOST = timedelta(days=366)
"""Days between what a file records as first and last that are believed at a glance; with more, one may be a stray."""


def dates_of(root: Path, spec: ModelSpec, batch: Batch) -> Days | None:
    """First and last day of a batch: of its `time` column, in any notation that says which day it is, from its 1st to
    its 99th percentile; else as its name begins or ends (`2013-12-24`, `20131224`, `2013-12`, `2013-W51`); None when
    neither says."""
    return _in_rows(root, spec, batch) or dates_in_name(batch.id)


def dates_in_name(name: str) -> Days | None:
    """First and last day that a batch's name says: one that begins with one date and ends with another says both."""
    found = [span for pattern in (_BEGINS, _ENDS) if (match := pattern.search(name)) and (span := _parsed(match[1]))]
    return (min(span[0] for span in found), max(span[1] for span in found)) if found else None


def dates_at_a_glance(root: Path, spec: ModelSpec, batch: Batch) -> Days | None:
    """First and last day of a batch, about as `dates_of` finds them: what its file records of them, and its name, are
    believed before its rows are read."""
    return _in_statistics(root, spec, batch) or dates_in_name(batch.id) or _in_rows(root, spec, batch)


def dates_in_rows(root: Path, spec: ModelSpec, batch: Batch) -> Days | None:
    """First and last day that the rows of a batch say, whatever its name does; None where they say nothing."""
    return _in_statistics(root, spec, batch) or _in_rows(root, spec, batch)


def within(values: np.ndarray) -> tuple[np.datetime64, np.datetime64] | None:
    """First and last of these instants without STRAY of them at each end; None where there is none. NaT is passed over.

    Shape (rows,). They need not be sorted.
    """
    known = np.sort(values[~np.isnat(values)])
    if not len(known):
        return None
    spared = int(np.ceil(STRAY * (len(known) - 1))) if len(known) >= FEW else 0
    return known[spared], known[len(known) - 1 - spared]


def _in_statistics(root: Path, spec: ModelSpec, batch: Batch) -> Days | None:
    found = _recorded(root / batch.path, batch.sha256, spec.time) if spec.time else None
    return found if found and found[1] - found[0] <= AT_MOST else None


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
    if schema.names.count(column) != 1 or not is_day(kind := schema.field(column).type):
        raise _Unknown
    for number in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(number)
        chunks = (group.column(place) for place in range(group.num_columns))
        seen = next((chunk.statistics for chunk in chunks if chunk.path_in_schema == column), None)
        if seen is not None and seen.has_min_max:
            yield from _days(pa.array([seen.min, seen.max], kind)) or ()
        elif seen is None or not seen.has_null_count or seen.null_count < group.num_rows:
            raise _Unknown


@lru_cache(maxsize=4096)
def _streamed(root: Path, path: str, _sha256: str, column: str, written: CsvSpec) -> Days | None:
    """By reading the column; None for one that is not there or holds no dates, or a file that cannot be read."""
    try:
        source = Source(root, path, written)
        return _days(source.read([column]).column(0)) if source.names.count(column) == 1 else None
    except (DataError, pa.ArrowException, OverflowError, ValueError):
        return None  # a broken batch is named by its own check; days beyond the calendar are none


def _days(values: pa.Array | pa.ChunkedArray) -> Days | None:
    """None where there are no dates, or where month and day may be exchanged."""
    found = instants(values)
    ends = within(found.values) if found and not found.ambiguous else None
    if ends is None:
        return None
    first, last = (day.astype("datetime64[D]").astype(date) for day in ends)
    return (first, last) if isinstance(first, date) and isinstance(last, date) else None


def _span(days: set[date]) -> Days | None:
    return (min(days), max(days)) if days else None


_DATE = r"(\d{4}-\d{2}-\d{2}(?!\d)|\d{4}-?W\d{2}(?!\d)|\d{8}(?!\d)|\d{4}-\d{2}(?!-?\d))"
_BEGINS, _ENDS = re.compile(f"^{_DATE}"), re.compile(rf"(?<!\d){_DATE}$")


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
