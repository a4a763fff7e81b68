"""What a column of first data looks like: a number, a word, a day, the rows' own numbers, or a number in disguise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.arrow import as_numbers, count_true, decoded, is_number, is_text, is_usable, reads_as_number
from tasks.core.data.notations import MOST, SINCE_1970, Instants, instants, is_day
from tasks.core.data.source import Source

ROWS = 100_000
"""The largest number of rows that are read."""
FEW = 20
"""The largest number of different whole numbers that are taken for classes or codes; more are quantities."""
HOURS = 24
"""Different times of day that are names; more are times."""
OF_ITS_OWN = 0.1
"""Different numbers of a column that is called like an id, as a share of the rows, beyond which they are no names."""

NAMES_A_ROW = re.compile(r"(^|[_ .-])(?i:id|key|uuid|guid|nr|no|number)$|[a-z](Id|ID|Key|No|Nr|Number)$")
NAMES_A_KIND = re.compile(r"(^|[_ .-])(id|code|zip|type|class|kind|group|branch|store|region)$", re.IGNORECASE)
NAMES_A_THING = re.compile(r"(^|[_ .-])(?i:id|key|uuid|guid)$|[a-z](Id|ID|Key|No|Nr)$")
NAMES_AN_INDEX = re.compile(
    r"^(unnamed: ?\d+(\.\d+)?|level_\d+|__index_level_\d+__|index|rownames?|row\.names|)$", re.I
)
NAMES_A_TIME = re.compile(
    r"(^|[_ .-])(time|date|day|timestamp|ts|epoch|unix|created|updated|at)($|[_ .-])|[a-z](Time|Date|At)$",
    re.IGNORECASE,
)
OF_A_DAY = r"^\s*\d{1,2}[:.]\d{2}([:.]\d{2}([.,]\d+)?)?\s*([AaPp][Mm])?\s*$"


@dataclass(eq=False)
class Column:
    """One column of the first rows."""

    name: str
    values: pa.ChunkedArray
    """Without the missing ones; numbers of a text file as numbers."""
    rows: int
    written: pa.ChunkedArray
    """The same as they are in the file."""

    @cached_property
    def kind(self) -> str:
        """number, text, day, time of day, or the name of a type that pipelines cannot take."""
        of = self.values.type
        if self.instants is not None:
            return "day"
        if pa.types.is_time(of):
            return "time of day"
        if is_text(of):
            clock = len(self.values) and share(pc.match_substring_regex(self.values, OF_A_DAY)) >= MOST
            return "time of day" if clock else "text"
        return "number" if is_number(of) else str(of)

    @cached_property
    def instants(self) -> Instants | None:
        """What it says as a time, if it is one. A number since 1970 is one where it is called so, or never falls."""
        if is_day(self.values.type):
            return instants(self.values) or Instants(np.array([], "datetime64[s]"), "typed")
        found = instants(self.values)
        if found is None or found.known < MOST * len(self.values):
            return None
        is_clock = found.notation in SINCE_1970
        return found if not is_clock or NAMES_A_TIME.search(self.name) or self.is_sorted else None

    @cached_property
    def distinct(self) -> int:
        """Different values."""
        return int(pc.count_distinct(self.values).as_py())

    @cached_property
    def is_whole(self) -> bool:
        """Whether its numbers are; true of what is no number."""
        if not pa.types.is_floating(self.values.type):
            return True
        values = self.values.cast(pa.float64())  # of half precision Arrow cannot say it
        finite = values.filter(pc.is_finite(values))
        return all_true(pc.equal(finite, pc.floor(finite)))

    @property
    def is_unique(self) -> bool:
        """Whether every row has a value of its own."""
        return len(self.values) == self.rows > 1 and self.distinct == self.rows

    @property
    def is_sorted(self) -> bool:
        """Whether it never falls."""
        values = self.values.combine_chunks()
        if is_text(values.type) and (found := instants(values)):
            values = pa.array(found.values[~np.isnat(found.values)])
        return len(values) > 1 and all_true(pc.less_equal(values[:-1], values[1:]))

    @cached_property
    def first(self) -> int | None:
        """Where it counts the rows, one by one, from what; None for any other column."""
        if self.kind != "number" or not self.is_unique or not self.is_whole:
            return None
        numbers = self.values.combine_chunks().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return int(numbers[0]) if bool((np.diff(numbers) == 1).all()) else None

    @property
    def is_index(self) -> bool:
        """Whether it is the index that a table was written with, or has no name at all."""
        if not NAMES_AN_INDEX.match(self.name.strip()):
            return False
        return not self.name.strip() or self.first is not None or self.is_unique

    @property
    def is_dense(self) -> bool:
        """Whether its whole numbers leave few gaps, as ids do in any order."""
        if self.kind != "number" or not self.is_whole or self.rows <= FEW:
            return False
        ends = pc.min_max(self.values)
        return bool(ends["max"].as_py() - ends["min"].as_py() < 2 * self.rows)

    @property
    def has_zeros(self) -> bool:
        """Whether it is digits in a text file, some with zeros in front, which a number loses."""
        if self.kind != "number" or not is_text(self.written.type):
            return False
        digits = all_true(pc.match_substring_regex(self.written, r"^\d+$"))
        return digits and count_true(pc.match_substring_regex(self.written, r"^0\d")) > 0


def columns_of(source: Source) -> Iterator[Column]:
    """The columns of the first ROWS rows. Raises UnreadableData."""
    chunks, rows = [], 0
    for chunk in source.stream():
        chunks.append(chunk.slice(0, ROWS - rows))
        rows += len(chunks[-1])
        if rows >= ROWS:
            break
    for place, name in enumerate(source.names):
        arrays = [_present(decoded(chunk.column(place))) for chunk in chunks]
        values = written = pa.chunked_array(arrays, arrays[0].type if arrays else pa.null())
        if source.numerals and len(values) and is_text(values.type):
            fine = reads_as_number(values, source.numerals)
            values = as_numbers(values, source.numerals, fine) if all_true(fine) else values
        yield Column(name, values, rows, written)


def _present(array: pa.Array) -> pa.Array:
    """The values that are there; of a type that no pipeline takes only how many, for Arrow cannot choose among all."""
    if is_usable(array.type) or pa.types.is_temporal(array.type):
        return array.drop_null()
    return array.slice(0, len(array) - array.null_count)


def all_true(values: pa.ChunkedArray) -> bool:
    """Whether all of these booleans are true."""
    return count_true(values) == len(values)


def share(values: pa.ChunkedArray) -> float:
    """Booleans that are true, as a share of all, 0 to 1."""
    return count_true(values) / len(values) if len(values) else 0.0


# --- what no pipeline can use --------------------------------------------------------------------------------


def no_feature(column: Column) -> str | None:
    """Why a pipeline cannot learn from it as it is; None where it can."""
    if column.is_index:
        return "the row numbers of a table" if column.name.strip() else "a column without a name"
    if column.kind == "day":
        return _day(column)
    if column.kind == "time of day":
        return None if is_text(column.values.type) and column.distinct <= HOURS else "a time of day: derive the hour"
    if column.kind not in ("number", "text"):
        return f"of type {one_line(column.kind)}" if len(column.values) else "without any value"
    if column.first is not None:
        return f"counts the rows from {column.first:,}"
    if column.kind == "number":
        return _id(column)
    if column.rows > FEW and column.distinct > column.rows / 2:
        return "text that nearly every row has of its own"
    return None


def _day(column: Column) -> str:
    found = column.instants
    if found and found.ambiguous:
        return "dates whose day and month cannot be told apart: deliver them as 2026-12-31"
    if found and found.notation in SINCE_1970:
        return f"a clock, {found.notation} since 1970: derive numbers from it in the pipeline, and list it again"
    written = "" if not found or found.notation == "typed" else f", written like {found.notation}"
    return f"a date{written}: derive numbers from it in the pipeline, and list it again"


def _id(column: Column) -> str | None:
    """Numbers that name a row or a thing. A number that merely differs in every row is an amount."""
    if not column.is_whole or column.rows <= FEW:
        return None
    if column.is_unique and (NAMES_A_ROW.search(column.name) or column.is_dense):
        return "an id: every row has its own"
    if NAMES_A_THING.search(column.name) and column.distinct > max(FEW, OF_ITS_OWN * column.rows):
        return f"an id: {column.distinct:,} different numbers"
    return None


def may_be_code(column: Column) -> bool:
    """Whether its whole numbers may be names."""
    is_code = column.kind == "number" and column.is_whole and column.distinct > 2
    return is_code and NAMES_A_KIND.search(column.name) is not None


def one_line(value: str) -> str:
    """Text that ends no comment."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", value)
