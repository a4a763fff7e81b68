"""Rows of one key in data files, and the same files without them: nothing else of a file changes."""

from __future__ import annotations

import csv
import html
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.data.arrow import as_text, decoded, is_text, is_usable
from tasks.core.data.dialect import as_it_says
from tasks.core.data.files import is_text_file
from tasks.core.data.source import Source
from tasks.core.errors import DataError, StoreError, UnreadableData
from tasks.core.spec import CsvSpec

ERASED = "[erased]"
"""Replaces the key in a text."""


@dataclass(frozen=True, slots=True)
class KeyRows:
    """Where a key is in one data file."""

    rows: np.ndarray
    """Row numbers, sorted."""
    total: int
    """Rows that the file has."""
    elsewhere: tuple[tuple[str, int], ...] = ()
    """Text columns that hold the key in rows of others, with how many: references to the person."""


def key_rows(path: Path, columns: Sequence[str], key: str, written: CsvSpec) -> KeyRows | None:
    """Rows of a Parquet or CSV file whose key column (any of `columns` that it has) is the key; None where it has none.

    Keys are compared as text: `7.0` is `7`. Raises UnreadableData.
    """
    source = Source(path.parent, path.name, written)
    names = [name for name in dict.fromkeys(columns) if source.names.count(name) == 1]
    if not names:
        return None
    others = [name for name in source.names if source.names.count(name) == 1 and name not in names]
    found, start, elsewhere = [], 0, dict.fromkeys(others, 0)
    for chunk in source.stream([*names, *others]):
        hit = np.zeros(chunk.num_rows, dtype=bool)
        for name in names:
            hit |= _equal(chunk.column(name), key)
        found.append(np.flatnonzero(hit) + start)
        start += chunk.num_rows
        for name in others:
            if is_text(decoded(chunk.column(name)).type):
                elsewhere[name] += int((_equal(chunk.column(name), key) & ~hit).sum())
    rows = np.concatenate(found) if found else np.array([], dtype=np.int64)
    return KeyRows(rows, start, tuple((name, count) for name, count in elsewhere.items() if count))


def _equal(column: pa.Array, key: str) -> np.ndarray:
    array = decoded(column)
    try:
        text = as_text(array) if is_usable(array.type) else array.cast(pa.string())
    except (pa.ArrowException, UnicodeError):
        text = pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.string())
    return np.asarray(pc.fill_null(pc.equal(text, key.strip()), False))


# --- the same file without some rows -------------------------------------------------------------------------


def write_without(path: Path, output: Path, rows: np.ndarray, written: CsvSpec, about: Mapping[str, str]) -> None:
    """Write a data file again without some rows (sorted), with the mode and the times of the original.

    `about` replaces values of a Parquet file's metadata, old by new. Raises DataError when it cannot be done safely,
    StoreError when it cannot be written; the original is not touched.
    """
    try:
        if is_text_file(path):
            _csv_without(path, output, rows, *as_it_says(path, written))
        else:
            _parquet_without(path, output, rows, about)
        shutil.copystat(path, output)
        with output.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(f"Could not write {output}: {error.strerror or error}.") from error


def _parquet_without(path: Path, output: Path, rows: np.ndarray, about: Mapping[str, str]) -> None:
    with pq.ParquetFile(path) as file:
        schema, start = file.schema_arrow, 0
        if metadata := schema.metadata:
            new = {old.encode(): now.encode() for old, now in about.items()}
            schema = schema.with_metadata({name: new.get(value, value) for name, value in metadata.items()})
        groups = file.metadata.num_row_groups
        packed = file.metadata.row_group(0).column(0).compression if groups and len(schema) else "SNAPPY"
        compression = "NONE" if packed == "UNCOMPRESSED" else packed
        with pq.ParquetWriter(output, schema, compression=compression, write_page_checksum=True) as writer:
            for group in range(groups):
                table = file.read_row_group(group)
                mask = np.ones(len(table), dtype=bool)
                first, last = np.searchsorted(rows, [start, start + len(table)])
                mask[rows[first:last] - start] = False
                start += len(table)
                writer.write_table(table.filter(pa.array(mask)).replace_schema_metadata(schema.metadata))


def _csv_without(path: Path, output: Path, rows: np.ndarray, written: CsvSpec, above: int) -> None:
    """The text of every other record stays as it is, byte by byte, and so do the lines `above` the header."""
    text = path.read_bytes().decode(written.encoding)
    lines: list[str] = []

    def remembered() -> Iterable[str]:
        for line in io.StringIO(text, newline=""):
            lines.append(line)
            yield line

    gone, kept, number = {int(row) for row in rows}, [], -1 - above  # the header is record -1
    try:
        for record in csv.reader(remembered(), delimiter=written.separator):
            raw = "".join(lines)
            lines.clear()
            if not record or number not in gone:
                kept.append(raw)
            number += bool(record)  # empty lines are no rows
    except csv.Error as error:
        raise DataError(f"{path.name}: it is not valid CSV ({error}). Remove the row by hand.") from None
    output.write_bytes("".join(kept).encode(written.encoding))


# --- texts ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyMatcher:
    """A key as a word of a text: not within a longer word or number."""

    pattern: re.Pattern[str] | None
    """None for a key that cannot be told from any other number or short word."""

    @classmethod
    def of(cls, key: str) -> KeyMatcher:
        """Of fewer than 4 characters, or of fewer than 6 digits, a key cannot be told from other words and numbers."""
        if len(key) < 4 or (len(key) < 6 and re.fullmatch(r"[\d.+-]+", key)):
            return cls(None)
        return cls(whole_word(key))

    def count(self, data: bytes) -> int:
        """How often the key is in a text, or in bytes of any kind."""
        return len(self.pattern.findall(data.decode("utf-8", "replace"))) if self.pattern else 0

    def count_in(self, path: Path) -> int:
        """How often the key is in a file of any kind."""
        return self.count(path.read_bytes())

    def erased(self, data: bytes) -> bytes:
        """The text without the key; bytes that are not text stay as they are."""
        if self.pattern is None:
            return data
        return self.pattern.sub(ERASED, data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def count_json(self, data: bytes) -> int:
        """How often the key is in the strings of a JSON document: a number in it is never a key."""
        found = 0

        def look(text: str) -> str:
            nonlocal found
            found += len(self.pattern.findall(text)) if self.pattern else 0
            return text

        _strings(json.loads(data), look)
        return found

    def erased_json(self, data: bytes) -> bytes:
        """The JSON document without the key, written as records are."""
        assert self.pattern is not None
        pattern = self.pattern
        value = _strings(json.loads(data), lambda text: pattern.sub(ERASED, text))
        return json.dumps(value, indent=1, ensure_ascii=False).encode()


def whole_word(key: str) -> re.Pattern[str]:
    """Finds the key where it is not part of a longer word, as text, HTML or JSON spells it."""
    spellings = {key, html.escape(key), json.dumps(key)[1:-1], json.dumps(key, ensure_ascii=False)[1:-1]}
    either = "|".join(re.escape(word) for word in sorted(spellings, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{either})(?![\w-])")


def _strings(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every string in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_strings(item, change) for item in value]
    if isinstance(value, dict):
        return {change(name): _strings(item, change) for name, item in value.items()}
    return value


def is_table(path: Path) -> bool:
    """Whether a file is to be read as a table, by its name or, for a Parquet file of any name, by its first bytes."""
    if is_text_file(path):
        return True
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def check_rewritten(path: Path, columns: Sequence[str], key: str, written: CsvSpec, rows: int) -> None:
    """Raises DataError unless a rewritten file can be read, has `rows` rows, and none of the key."""
    try:
        found = key_rows(path, columns, key, written)
    except UnreadableData as error:
        raise DataError(f"{path.name} could not be rewritten: {error}. Remove the row by hand.") from None
    if found is None or len(found.rows) or found.total != rows:
        raise DataError(f"{path.name} could not be rewritten: its rows do not add up. Remove the row by hand.")
