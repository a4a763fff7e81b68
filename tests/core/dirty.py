"""The matrix of dirty data: what arrives, and what has to come of it, case by case."""

from __future__ import annotations

import datetime
import gzip
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.core.conftest import ROWS

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

# --- files ---------------------------------------------------------------------------------------------------

TEXT = ROWS.to_csv(index=False)
LINES = TEXT.splitlines(keepends=True)
SEMICOLON = {"separator": ";", "decimal": ","}


def bytes_of(root: Path, rows: pd.DataFrame = ROWS) -> bytes:
    rows.to_parquet(root / ".made.parquet", index=False)
    return (root / ".made.parquet").read_bytes()


def zipped(root: Path) -> bytes:
    with zipfile.ZipFile(root / ".made.zip", "w") as file:
        file.writestr("b.csv", TEXT)
    return (root / ".made.zip").read_bytes()


def swapped(column: str, values: Sequence[str]) -> str:
    """The CSV file with the first values of a column written otherwise."""
    texts = pd.read_csv(pd.io.common.StringIO(TEXT), dtype=str, keep_default_na=False)
    texts.loc[: len(values) - 1, column] = list(values)
    return texts.to_csv(index=False)


Content = str | bytes | Callable[[Path], bytes]

FILES: dict[str, tuple[str, Content, dict[str, str], Outcome]] = {
    # name: the file's name, what is in it, [data.csv] of the model's file, and what comes of it
    "plain": ("b.csv", TEXT, {}, SAME),
    "byte order mark": ("b.csv", b"\xef\xbb\xbf" + TEXT.encode(), {}, SAME),
    "Windows line ends": ("b.csv", TEXT.replace("\n", "\r\n"), {}, SAME),
    "old Mac line ends": ("b.csv", TEXT.replace("\n", "\r"), {}, SAME),
    "blank lines": ("b.csv", TEXT.replace("\n", "\n\n"), {}, SAME),
    "line breaks in quotes": ("b.csv", TEXT.replace("Oslo", '"Oslo\r\n"'), {}, SAME),
    "latin-1": ("b.csv", TEXT.encode("latin-1"), {}, Refused("b.csv cannot be read: it is not utf-8 text (row ")),
    "latin-1, declared": ("b.csv", TEXT.encode("latin-1"), {"encoding": "latin-1"}, SAME),
    "latin-1 header": ("b.csv", TEXT.replace("y\n", "ø\n", 1).encode("latin-1"), {}, Refused("set `encoding`")),
    "UTF-8, declared latin-1": ("b.csv", TEXT, {"encoding": "latin-1"}, Changed("city", "not seen in training")),
    "UTF-16": ("b.csv", TEXT.encode("utf-16"), {}, Refused('b.csv cannot be read: it is not CSV but text in')),
    "UTF-16 without mark": ("b.csv", TEXT.encode("utf-16-le"), {}, Refused('set `encoding = "utf-16-le"`')),
    "UTF-16, declared": ("b.csv", TEXT.encode("utf-16"), {"encoding": "utf-16"}, SAME),
    "UTF-16, declared, cut": ("b.csv", TEXT.encode("utf-16")[:-6], {"encoding": "utf-16"}, Refused("cut short")),
    "UTF-8, declared UTF-16": ("b.csv", TEXT, {"encoding": "utf-16"}, Refused("it is not utf-16 text")),
    "semicolons": ("b.csv", TEXT.replace(",", ";"), {}, Refused("it looks like a semicolon-separated file: set `sep")),
    "semicolons, declared": ("b.csv", TEXT.replace(",", ";"), {"separator": ";"}, SAME),
    "tabs": ("b.csv", TEXT.replace(",", "\t"), {}, Refused("b.csv cannot be read: it looks like a tab-separated")),
    "tabs, declared": ("b.csv", TEXT.replace(",", "\t"), {"separator": "\t"}, SAME),
    "commas, declared semicolons": ("b.csv", TEXT, {"separator": ";"}, Refused("deliver it with semicolons")),
    "decimal comma": ("b.csv", TEXT.replace(",", ";").replace(".", ","), {}, Refused("looks like a semicolon")),
    "decimal comma, declared": ("b.csv", TEXT.replace(",", ";").replace(".", ","), SEMICOLON, SAME),
    "decimal comma, half declared": (
        "b.csv",
        TEXT.replace(",", ";").replace(".", ","),
        {"separator": ";"},
        Refused("column 'income': "),
    ),
    "decimal comma in quotes": ("b.csv", swapped("income", ["1,5"]), {}, Refused("a number, for example '1,5'")),
    "decimal point, declared comma": ("b.csv", TEXT.replace(",", ";"), SEMICOLON, Refused("column 'income': ")),
    "thousands": ("b.csv", swapped("age", ["1.234,5"]), {}, bad("age", "number", 1, ", for example '1.234,5'")),
    "words for numbers": ("b.csv", swapped("age", ["old", "n.a.", "-"]), {}, bad("age", "number", 3)),
    "units": ("b.csv", swapped("age", ["41 years"]), {}, bad("age", "number", 1)),
    "hexadecimal": ("b.csv", swapped("age", ["0x1F"]), {}, bad("age", "number", 1)),
    "underscores": ("b.csv", swapped("age", ["1_000"]), {}, bad("age", "number", 1)),
    "NUL in a number": ("b.csv", swapped("age", ["4\x001"]), {}, bad("age", "number", 1)),
    "words for booleans": ("b.csv", TEXT.replace("True", "yes"), {}, Refused("a boolean, for example 'yes'")),
    "booleans in other letters": ("b.csv", TEXT.replace("True", "TRUE").replace("False", "false"), {}, SAME),
    "words for missing": ("b.csv", swapped("income", ["NA", "nan", "NULL", ""]), {}, OTHER),
    "too large": ("b.csv", swapped("income", ["1e999"]), {}, Warned("income: 1 infinite values, read as missing")),
    "other ways to write numbers": ("b.csv", swapped("age", ["+3.6e1", " 71 "]), {}, SAME),
    "no header": ("b.csv", "".join(LINES[1:]), {}, Refused("b.csv: column 'id' is missing")),
    "a header only": ("b.csv", LINES[0], {}, Refused("the file has no rows")),
    "a line break only": ("b.csv", "\n", {}, Refused("b.csv cannot be read: a line does not parse")),
    "a name twice": ("b.csv", TEXT.replace("member", "city", 1), {}, Refused("b.csv: column 'city' is there twice")),
    "no name": ("b.csv", TEXT.replace("member", "", 1), {}, Refused("b.csv: a column has no name")),
    "a field too few": ("b.csv", TEXT + "7,8\n", {}, Refused("Row #202: Expected 6 columns, got 2")),
    "a field too many": ("b.csv", TEXT + LINES[1][:-1] + ",1\n", {}, Refused("Expected 6 columns, got 7")),
    "a quote left open": ("b.csv", TEXT.replace("Oslo", '"Oslo', 1), {}, Refused("b.csv cannot be read: ")),
    "cut in a line": ("b.csv", TEXT[: len(TEXT) // 2], {}, Refused("b.csv cannot be read: the last line does not end")),
    "zeros at the end": ("b.csv", TEXT + "\0" * 999, {}, Refused("b.csv cannot be read: the last line does not end")),
    "zeros": ("b.csv", b"\0" * 5000, {}, Refused("b.csv cannot be read: it begins with zero bytes")),
    "nothing": ("b.csv", b"", {}, Refused("b.csv cannot be read: the file is empty")),
    "gzip": ("b.csv", lambda _: gzip.compress(TEXT.encode()), {}, Refused("it is not CSV but compressed with gzip")),
    "a workbook": ("b.csv", zipped, {}, Refused("it is not CSV but a zip archive, or an Excel workbook")),
    "a page": ("b.csv", "<!DOCTYPE html>\n<p>404</p>\n", {}, Refused("it is not CSV but an HTML page")),
    "XML": ("b.csv", "<?xml version='1.0'?>\n<a/>\n", {}, Refused("it is not CSV but an XML document")),
    "JSON": ("b.csv", '[{"id": 1}]\n', {}, Refused("it is not CSV but a JSON document")),
    "JSON lines": ("b.csv", '{"id": 1}\n{"id": 2}\n', {}, Refused("b.csv cannot be read: it is not CSV but a JSON")),
    "Parquet called CSV": ("b.csv", bytes_of, {}, Refused("it is not CSV but a Parquet file: name it .parquet")),
    "CSV called Parquet": ("b.parquet", TEXT, {}, Refused("it is not Parquet but text: if it is CSV, name it .csv")),
    "gzip called Parquet": ("b.parquet", lambda _: gzip.compress(b"x"), {}, Refused("not Parquet but compressed")),
    "JSON called Parquet": ("b.parquet", '{"id": 1}\n', {}, Refused("it is not Parquet but a JSON document")),
    "anything called Parquet": ("b.parquet", b"\x07\x00\x99", {}, Refused("it is not Parquet but something else")),
    "Parquet, cut": ("b.parquet", lambda root: bytes_of(root)[:-100], {}, Refused("b.parquet cannot be read: ")),
    "Parquet, half of it": ("b.parquet", lambda root: bytes_of(root)[:2000], {}, Refused("b.parquet cannot be read: ")),
    "Parquet, its head lost": ("b.parquet", lambda root: bytes_of(root)[2000:], {}, Refused("it is not Parquet but")),
    "Parquet, zeros at the end": ("b.parquet", lambda root: bytes_of(root) + b"\0" * 9, {}, Refused("it is cut short")),
    "Parquet, nothing": ("b.parquet", b"", {}, Refused("b.parquet cannot be read: the file is empty")),
    "Parquet, zeros": ("b.parquet", b"\0" * 5000, {}, Refused("b.parquet cannot be read: it begins with zero bytes")),
}  # fmt: skip


def invalid_text() -> pa.Table:
    """Text that is not UTF-8: Parquet does not look."""
    offsets = pa.py_buffer(np.arange(201, dtype="int32").tobytes())
    broken = pa.Array.from_buffers(pa.string(), 200, [None, offsets, pa.py_buffer(b"\xff" * 200)])
    table = pa.Table.from_pandas(ROWS, preserve_index=False)
    return table.set_column(table.column_names.index("city"), "city", broken)


def twice() -> pa.Table:
    table = pa.Table.from_pandas(ROWS, preserve_index=False)
    return table.append_column("city", table.column("age"))


FILES |= {
    "text that is not UTF-8": ("b.parquet", lambda root: _written(root, invalid_text()), {}, bad("city", "category")),
    "Parquet, a name twice": ("b.parquet", lambda root: _written(root, twice()), {}, Refused("'city' is there twice")),
}


def _written(root: Path, table: pa.Table) -> bytes:
    pq.write_table(table, root / ".made.parquet")
    return (root / ".made.parquet").read_bytes()


# --- folders: parts by their names ---------------------------------------------------------------------------

HALVES = ROWS[:100], ROWS[100:]


def shown_as(**kinds: str) -> pd.DataFrame:
    return HALVES[1].astype(kinds)


FOLDERS: dict[str, tuple[dict[str, pd.DataFrame | bytes], Outcome]] = {
    "two parts": ({"1.parquet": HALVES[0], "2.parquet": HALVES[1]}, SAME),
    "two parts in CSV": ({"1.csv": HALVES[0], "2.csv": HALVES[1]}, SAME),
    "other order": ({"1.parquet": HALVES[0], "2.parquet": HALVES[1][ROWS.columns[::-1]]}, SAME),
    "other order in CSV": ({"1.csv": HALVES[0], "2.csv": HALVES[1][ROWS.columns[::-1]]}, SAME),
    "integers, then floats": (
        {"1.parquet": HALVES[0], "2.parquet": shown_as(age="float")},
        Coerced("age: double read as number"),
    ),
    "numbers, then text": ({"1.parquet": HALVES[0], "2.parquet": shown_as(age="str")}, bad("age", "number", 100)),
    "a column fewer": (
        {"1.parquet": HALVES[0], "2.parquet": HALVES[1].drop(columns="age")},
        Refused("b/2.parquet cannot be read: its 5 columns are not the 6 of 1.parquet"),
    ),
    "another column in CSV": (
        {"1.csv": HALVES[0], "2.csv": HALVES[1].rename(columns={"age": "years"})},
        Refused("b/2.csv cannot be read: its 6 columns are not the 6 of 1.csv; see column 3"),
    ),
    "both kinds": ({"1.parquet": HALVES[0], "2.csv": HALVES[1]}, Refused("b cannot be read: the folder holds both")),
    "nothing": ({}, Refused("b cannot be read: the folder holds no .parquet or .csv files")),
    "an empty part": ({"1.parquet": ROWS, "2.parquet": ROWS[:0]}, SAME),
    "a cut part": ({"1.csv": ROWS, "2.csv": b"id,income\n1"}, Refused("b/2.csv cannot be read: the last line")),
    "a part that is something else": ({"1.csv": ROWS, "2.csv": b"<html>"}, Refused("b/2.csv cannot be read: ")),
}  # fmt: skip
