"""Dirty files and folders: what arrives, and what has to come of it, case by case."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.core.dirty import OTHER, SAME, Changed, Coerced, Outcome, Refused, Warned, bad
from tests.helpers.training import ROWS

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
    "latin-1 header": ("b.csv", TEXT.replace("y\n", "ø\n", 1).encode("latin-1"), {}, Refused("set `encoding = ")),
    "UTF-8, declared latin-1": ("b.csv", TEXT, {"encoding": "latin-1"}, Changed("city", "not seen in training")),
    "UTF-16": ("b.csv", TEXT.encode("utf-16"), {}, Refused('it is not utf-8 text: set `encoding = "utf-16"`')),
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
