"""Instants as people and programs write them: which notation a whole column has, and what it says then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.arrow import count_true, decoded, is_text

_CLOCK = (
    r"(?:(?:T|\s*,\s*|\s+)(?P<hour>\d{1,2})(?:[:.h](?P<minute>\d{2})(?:[:.](?P<second>\d{2})(?:[.,]\d+)?)?)?"
    r"\s*(?P<half>[AaPp][Mm])?\s*(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?)?\s*$"
)
"""A time of day after a date. Its zone is passed over: an instant counts as it is written."""
_DAY = r"(?P<day>\d{1,2})"
_MONTH = r"(?P<month>\d{1,2})"
_WORD = r"(?P<month>(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))[A-Za-z]*\.?"
_YEAR = r"(?P<year>\d{4}|\d{2})"
_WEEKDAY = r"(?:[A-Za-z]{3,9},?\s+)?"

NOTATIONS = {
    "2026-12-31": rf"^\s*(?P<year>\d{{4}})[-/.]{_MONTH}[-/.]{_DAY}{_CLOCK}",
    "20261231": rf"^\s*(?P<year>19\d\d|20\d\d)(?P<month>\d\d)(?P<day>\d\d)(?:\.0)?{_CLOCK}",
    "2026-12": r"^\s*(?P<year>\d{4})[-/](?P<month>\d{2})\s*$",
    "31.12.2026": rf"^\s*{_DAY}\.{_MONTH}\.{_YEAR}{_CLOCK}",
    "31/12/2026": rf"^\s*{_DAY}[/-]{_MONTH}[/-]{_YEAR}{_CLOCK}",
    "12/31/2026": rf"^\s*{_MONTH}[/-]{_DAY}[/-]{_YEAR}{_CLOCK}",
    "Dec 31, 2026": rf"^\s*{_WEEKDAY}{_WORD}\s+{_DAY}(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}}){_CLOCK}",
    "31 Dec 2026": rf"^\s*{_WEEKDAY}{_DAY}(?:st|nd|rd|th)?[\s./-]*{_WORD},?[\s/-]*{_YEAR}{_CLOCK}",
    "Dec 2026": rf"^\s*{_WORD}[\s-]+(?P<year>\d{{4}})\s*$",
}
"""Patterns of text, by an example. Of those that read the same number of values the earlier one is taken."""
EITHER = ("31/12/2026", "12/31/2026")
"""Two notations that only days beyond the 12th tell apart."""
COMPACT = "20261231"
"""A notation that is a number as well: it is taken only where nearly every value reads so."""
SINCE_1970 = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""Units of numbers that are instants, each in a second."""
EARLIEST, LATEST = (int(np.datetime64(day, "s").astype(np.int64)) for day in ("2000-01-01", "2100-01-01"))
"""Seconds since 1970 between which such numbers may be."""
CENTURY = 70
"""Years of two digits from this one on are of the last century."""
MOST = 0.95
"""Share of a column's values that say what it is."""
TRIED = 1_000
"""Values at the beginning of a column that say which notations are worth a try."""


@dataclass(frozen=True, slots=True)
class Instants:
    """A column read as instants."""

    values: np.ndarray
    """datetime64[s], shape (rows,): as they are written, whatever the zone; NaT where there is none."""
    notation: str
    """One of NOTATIONS, of SINCE_1970, or `typed`."""
    ambiguous: bool = False
    """Whether month and day may as well be exchanged."""

    @property
    def known(self) -> int:
        """Rows with an instant."""
        return int(np.count_nonzero(~np.isnat(self.values)))


def is_day(kind: pa.DataType) -> bool:
    """Whether values of this type say a day."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def instants(column: pa.Array | pa.ChunkedArray) -> Instants | None:
    """The instants of a column: timestamps and dates; text, in that notation which reads most of it; whole numbers that
    are nearly all days like 20261231, or all times since 1970. None where there is no instant."""
    array = decoded(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    if is_day(array.type):
        found: Instants | None = Instants(_typed(array), "typed")
    elif is_text(array.type):
        found = _of_text(array) or _since_1970(_whole(array))
    elif pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        whole = _whole(array)
        found = _of_text(whole.cast(pa.string()), [COMPACT]) or _since_1970(whole)
    else:
        found = None
    return found if found and found.known else None


def says_days(column: pa.Array | pa.ChunkedArray) -> bool:
    """Whether nearly all values of a column are instants, so that the others may be slips."""
    found = instants(column)
    return found is not None and found.known >= MOST * (len(column) - column.null_count)


def _typed(array: pa.Array) -> np.ndarray:
    if pa.types.is_timestamp(array.type) and array.type.tz:
        array = pc.local_timestamp(array)
    kind = pa.date32() if pa.types.is_date(array.type) else pa.timestamp("s")
    found: np.ndarray = array.cast(kind, safe=False).to_numpy(zero_copy_only=False).astype("datetime64[s]")
    return found


def _of_text(text: pa.Array, notations: list[str] | None = None) -> Instants | None:
    """None where no value is in one of these notations, by default all."""
    first = text.drop_null()[:TRIED]
    tried = [name for name in notations or NOTATIONS if count_true(pc.match_substring_regex(first, NOTATIONS[name]))]
    read = {name: _read(text, NOTATIONS[name]) for name in tried}
    known = {name: int(np.count_nonzero(~np.isnat(values))) for name, values in read.items()}
    if known.get(COMPACT, 0) < MOST * (len(text) - text.null_count):
        known.pop(COMPACT, None)
    best = max(known, key=lambda name: known[name], default=None)
    if best is None or not known[best]:
        return None
    exchanged = next((other for other in EITHER if best in EITHER and other != best), None)
    doubtful = exchanged is not None and known.get(exchanged) == known[best]
    alike = doubtful and np.array_equal(read[best], read[exchanged or best], equal_nan=True)
    return Instants(read[best], best, doubtful and not alike)


def _read(text: pa.Array, pattern: str) -> np.ndarray:
    """Instants of texts that match and name a day that exists, NaT for all others."""
    parts = pc.extract_regex(text, pattern)
    fields = {field.name: parts.field(place) for place, field in enumerate(parts.type)}
    year, day = _numbers(fields["year"]), _numbers(fields["day"], 1) if "day" in fields else np.ones(len(text), int)
    year = np.where(year < CENTURY, 2000 + year, np.where(year < 100, 1900 + year, year))
    named = pc.index_in(pc.utf8_lower(fields["month"]), value_set=pa.array(_MONTHS))
    month = np.where(np.asarray(named.is_valid()), _filled(named, 0) + 1, _numbers(fields["month"]))
    hour, minute, second = (_numbers(fields[name]) if name in fields else 0 for name in ("hour", "minute", "second"))
    if "half" in fields:
        half = pc.utf8_lower(fields["half"])
        hour = np.where(_is(half, ""), hour, hour % 12 + 12 * _is(half, "pm"))
    fine = np.asarray(parts.is_valid()) & (month >= 1) & (month <= 12) & (year >= 1) & (day >= 1)
    start = np.where(fine, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = ((start + np.timedelta64(1, "M")).astype("datetime64[D]") - start.astype("datetime64[D]")).astype(int)
    fine &= (day <= days) & (hour < 25) & (minute < 60) & (second < 61)
    seconds = (day - 1) * 86_400 + hour * 3_600 + minute * 60 + second
    found = start.astype("datetime64[s]") + np.where(fine, seconds, 0).astype("timedelta64[s]")
    return np.where(fine, found, np.datetime64("NaT", "s"))


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def _is(text: pa.Array, word: str) -> np.ndarray:
    found: np.ndarray = pc.fill_null(pc.equal(text, word), word == "").to_numpy(zero_copy_only=False)
    return found


def _numbers(digits: pa.Array, none: int = 0) -> np.ndarray:
    """Digits as numbers; `none` where there are not any."""
    plain = pc.if_else(pc.match_substring_regex(digits, r"^\d+$"), digits, pa.scalar(None, pa.string()))
    return _filled(plain.cast(pa.int64()), none)


def _filled(numbers: pa.Array, none: int) -> np.ndarray:
    found: np.ndarray = pc.fill_null(numbers.cast(pa.int64()), none).to_numpy(zero_copy_only=False)
    return found


def _whole(array: pa.Array) -> pa.Array:
    """Whole numbers; null where one is missing, and no values at all where some are no whole numbers."""
    try:
        if pa.types.is_floating(array.type):
            array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
        return array.cast(pa.int64())
    except pa.ArrowInvalid:
        return pa.nulls(len(array), pa.int64())


def _since_1970(whole: pa.Array) -> Instants | None:
    if whole.null_count == len(whole):
        return None
    ends = pc.min_max(whole)
    for unit, parts in SINCE_1970.items():
        if EARLIEST * parts <= ends["min"].as_py() and ends["max"].as_py() < LATEST * parts:
            seconds = pc.divide(whole, parts).cast(pa.timestamp("s"))
            return Instants(seconds.to_numpy(zero_copy_only=False).astype("datetime64[s]"), unit)
    return None
