"""The matrix of dirty data: what arrives, and what has to come of it, case by case."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from tests.helpers.training import ROWS

# --- what can come of it -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Accepted:
    """Checked, and nothing to report. `same`: a pipeline sees the very values of the clean rows."""

    same: bool = True


@dataclass(frozen=True)
class Coerced:
    """Read as what it means, without loss, and reported in these words."""

    note: str
    same: bool = True


@dataclass(frozen=True)
class Warned:
    """Accepted, with this said about a column."""

    summary: str
    same: bool = False


@dataclass(frozen=True)
class Changed:
    """Accepted by a pipeline; the content of this column is evidence that assumptions changed."""

    column: str
    summary: str
    same: bool = False


@dataclass(frozen=True)
class Refused:
    """A DataError whose text has this in it: the column or file, and the reason."""

    message: str
    same: bool = False


Outcome = Accepted | Coerced | Warned | Changed | Refused
SAME, OTHER = Accepted(), Accepted(same=False)


# --- values and types: each once in a Parquet file and once in the frame of a service ------------------------


def of(column: str, values: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The rows with one column replaced: by a type, one value, or what a function makes of the column."""

    def make(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(**{column: values(rows[column]) if callable(values) else values})

    return make


def typed(column: str, kind: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return of(column, lambda values: values.astype(kind))


def first(column: str, count: int, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The first values of a column replaced."""
    return of(column, lambda values: pd.Series([value] * count + values.tolist()[count:], dtype=object))


def bad(column: str, kind: str, count: int = 200, example: str = "") -> Refused:
    return Refused(f"column '{column}': {count} of 200 values are not a {kind}{example}")


NOON = datetime.datetime(2026, 1, 1, 12)
ZONE = datetime.timezone(datetime.timedelta(hours=1))
MANY = pd.concat([ROWS] * 500, ignore_index=True)

VALUES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], Outcome, Outcome | None]] = {
    # name: what is done to the clean rows, what comes of it in a file, and in a service where that is something else
    "nullable integers": (typed("age", "Int64"), SAME, None),
    "nullable integers, some missing": (of("age", lambda v: v.astype("Int64").mask(v.index < 5)), OTHER, None),
    "uint8": (typed("age", "uint8"), Coerced("age: uint8 read as number"), None),
    "int8": (typed("age", "Int8"), Coerced("age: int8 read as number"), None),
    "uint64": (typed("age", "uint64"), Coerced("age: uint64 read as number"), None),
    "integers that became floats": (typed("age", float), Coerced("age: double read as number"), None),
    "single precision": (typed("income", "float32"), Coerced("income: float read as number", same=False), None),
    "half precision": (typed("income", "float16"), Coerced("income: halffloat read as number", same=False), None),
    "nullable floats": (typed("income", "Float64"), SAME, None),
    "Decimal": (of("age", lambda v: v.map(Decimal)), Coerced("age: decimal128(2, 0) read as number"), None),
    "Decimal with cents": (
        of("age", lambda v: [Decimal(f"{x}.00") for x in v]),
        Coerced("age: decimal128(4, 2) read as number"),
        None,
    ),
    "integers as objects": (typed("age", object), SAME, None),
    "categories of integers": (typed("age", "category"), SAME, None),
    "nullable booleans": (typed("member", "boolean"), SAME, None),
    "booleans with gaps": (first("member", 5, None), OTHER, None),
    "booleans as integers": (typed("member", int), Coerced("member: int64 read as boolean"), None),
    "codes for booleans": (
        of("member", lambda v: v.astype(int) + 1),
        Changed("member", "outside the training range 0 to 1"),
        Coerced("member: int64 read as boolean", same=False),
    ),
    "booleans as words": (of("member", "yes"), bad("member", "boolean", example=", for example 'yes'"), None),
    "categories": (typed("city", "category"), SAME, None),
    "pandas strings": (typed("city", "string"), SAME, None),
    "Arrow strings": (typed("city", "string[pyarrow]"), SAME, None),
    "all Arrow-backed": (lambda rows: rows.convert_dtypes(dtype_backend="pyarrow"), SAME, None),
    "all nullable": (lambda rows: rows.convert_dtypes(), SAME, None),
    "spaces around text": (of("city", lambda v: " " + v + "\t"), SAME, None),
    "codes for names": (of("city", 7), Changed("city", "100% in categories not seen in training such as 7"), OTHER),
    "other capitals": (of("city", lambda v: v.str.upper()), Changed("city", "such as '"), OTHER),
    "empty text": (of("city", ""), Changed("city", "such as ''"), OTHER),
    "markup": (of("city", "<script>alert(1)</script>"), Changed("city", "<script>"), OTHER),
    "very long text": (of("city", "x" * 100_000), Changed("city", "xxx..."), OTHER),
    "NUL in text": (of("city", "Os\0lo"), Changed("city", "such as 'Os\\x00lo'"), OTHER),
    "a few new names": (first("city", 1, "Hamar"), OTHER, None),
    "datetimes": (of("age", NOON), bad("age", "number"), None),
    "datetimes with a zone": (of("age", NOON.replace(tzinfo=ZONE)), bad("age", "number"), None),
    "datetimes for names": (of("city", NOON), bad("city", "category"), None),
    "dates": (of("age", NOON.date()), bad("age", "number", example=", for example datetime.date(2026, 1, 1)"), None),
    "dates as text": (of("age", "2026-01-01"), bad("age", "number", example=", for example '2026-01-01'"), None),
    "dates as names": (of("city", "2026-01-01"), Changed("city", "such as '2026-01-01'"), OTHER),
    "durations": (of("age", pd.Timedelta(hours=1)), bad("age", "number"), None),
    "bytes": (of("city", b"Oslo"), bad("city", "category", example=", for example b'Oslo'"), None),
    "lists": (of("age", lambda v: [[x] for x in v]), bad("age", "number", example=", for example [36]"), None),
    "mappings": (of("city", lambda v: [{"name": x} for x in v]), bad("city", "category"), None),
    "numbers as text": (of("age", lambda v: v.astype(str)), bad("age", "number"), None),
    "one word among them": (
        of("age", lambda v: ["old", *v.astype(str)[1:]]),
        bad("age", "number", example=", for example 'old'"),
        None,
    ),
    "periods": (of("age", pd.Period("2026-01")), bad("age", "number"), None),
    "infinite": (first("income", 1, np.inf), Warned("income: 1 infinite values, read as missing"), OTHER),
    "many infinite": (
        first("income", 80, -np.inf),
        Changed("income", "80 infinite values, read as missing"),
        OTHER,
    ),
    "all infinite": (of("income", np.inf), Refused("column 'income': all 200 values are missing"), OTHER),
    "all missing": (of("income", np.nan), Refused("column 'income': all 200 values are missing"), OTHER),
    "all names missing": (of("city", None), Refused("column 'city': all 200 values are missing"), OTHER),
    "missing dates": (of("income", pd.NaT), Refused("column 'income': all 200 values are missing"), OTHER),
    "many missing": (first("city", 60, None), Changed("city", "30% missing, in training at most 0%"), OTHER),
    "a few missing": (first("city", 5, None), OTHER, None),
    "constant": (of("income", 0.0), OTHER, None),
    "constant name": (of("city", "Oslo"), OTHER, None),
    "out of range": (of("age", 1000), Changed("age", "100% outside the training range 18 to 79"), OTHER),
    "one out of range": (first("age", 1, 1000), OTHER, None),
    "too many digits": (first("age", 1, 2**60), Refused("column 'age': 1 of 200 values have more digits"), None),
    "100,000 names": (
        lambda _: MANY.assign(city=[f"town {row}" for row in range(len(MANY))]),
        Changed("city", "100% in categories not seen"),
        OTHER,
    ),
    "other order": (lambda rows: rows[rows.columns[::-1]], SAME, None),
    "one more column": (lambda rows: rows.assign(extra="x"), SAME, None),
    "1,000 more columns": (
        lambda rows: pd.concat([rows, pd.DataFrame(0.5, rows.index, [f"c{n}" for n in range(1000)])], axis=1),
        SAME,
        None,
    ),
    "odd names beside": (lambda rows: rows.assign(**{"<script>": 1, "a.b": 2, "'": 3, "æ\n": 4}), SAME, None),
    "no such column": (lambda rows: rows.drop(columns="income"), Refused("column 'income' is missing"), None),
    "two no such columns": (
        lambda rows: rows.drop(columns=["income", "city"]),
        Refused("column 'income' is missing (expected double)\ncolumn 'city' is missing (expected string)"),
        None,
    ),
    "one row": (lambda rows: rows.head(1), SAME, None),
    "one row, all missing": (
        lambda rows: rows.head(1).assign(income=np.nan, age=None, city=None, member=None),
        OTHER,
        None,
    ),
    "one new name": (lambda rows: rows.head(1).assign(city="Hamar"), OTHER, None),
    "no rows": (lambda rows: rows.head(0), Refused("no rows"), None),
}


# --- frames that only a service can get ----------------------------------------------------------------------

FRAMES: dict[str, tuple[Callable[[pd.DataFrame], Any], Outcome]] = {
    "mixed objects": (
        first("age", 1, "old"),
        Refused("column 'age': its values are not of one kind (int and str) (expected int64)"),
    ),
    "booleans and integers": (first("member", 60, 7), Refused("column 'member': its values are not of one kind")),
    "huge integers": (first("age", 1, 2**70), Refused("column 'age': its values are not of one kind (int)")),
    "half a character": (of("city", "\ud800"), Refused("column 'city': its values are not of one kind (str)")),
    "complex numbers": (of("age", 1j), Refused("column 'age': its values are not of one kind (complex128)")),
    "sparse": (typed("age", "Sparse[int64]"), Refused("column 'age': its values are not of one kind (Sparse")),
    "objects of any class": (of("age", object()), Refused("column 'age': its values are not of one kind (object)")),
    "decimals and floats": (first("income", 1, Decimal("1.5")), Refused("(Decimal and float) (expected double)")),
    "a name twice": (
        lambda rows: pd.concat([rows, rows[["city"]]], axis=1),
        Refused("column 'city' is there twice"),
    ),
    "integer names": (
        lambda rows: rows.rename(columns={"age": 7}),
        Refused("column 'age' is missing"),
    ),
    "integer names beside": (lambda rows: rows.assign(**{"x": 1}).rename(columns={"x": 7}), SAME),
    "tuple names": (
        lambda rows: rows.set_axis(pd.MultiIndex.from_product([["x"], rows.columns]), axis=1),
        Refused("column 'income' is missing"),
    ),
    "a level above the names": (
        lambda rows: rows.set_axis(pd.MultiIndex.from_product([rows.columns, ["x"]]), axis=1),
        Refused("column 'income' is missing"),
    ),
    "no name": (lambda rows: rows.assign(x=1).rename(columns={"x": None}), SAME),
    "other index": (lambda rows: rows.set_index(rows.index * 3 % 7), SAME),
    "an index of dates": (lambda rows: rows.set_index(pd.date_range("2026", periods=200)), SAME),
    "chunked Arrow": (
        lambda rows: pd.concat([rows[:90], rows[90:]]).convert_dtypes(dtype_backend="pyarrow"),
        SAME,
    ),
    "a mapping": (lambda rows: rows.to_dict("list"), Refused("the input is a dict; a pandas DataFrame is expected")),
    "everything at once": (
        lambda rows: first("age", 1, "old")(rows).drop(columns="income").assign(city=NOON, member="yes"),
        Refused(
            "column 'income' is missing (expected double)\n"
            "column 'age': its values are not of one kind (int and str) (expected int64)\n"
            "column 'city': 200 of 200 values are not a category"
        ),
    ),
}
