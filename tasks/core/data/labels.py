"""The labels of batches: a column of their own files, or later files joined by key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.arrow import (
    BOOLEAN,
    as_numbers,
    as_text,
    comparable,
    count_true,
    decoded,
    is_number,
    is_text,
    is_usable,
    reads_as_number,
)
from tasks.core.data.files import label_files
from tasks.core.data.source import Source
from tasks.core.errors import DataError
from tasks.core.spec import ModelSpec
from tasks.core.types import Batch


@dataclass(frozen=True, slots=True)
class BatchLabels:
    """The labels of one batch, row by row."""

    values: pa.Array
    """One value a row, null where the label is not known."""
    digest: str

    @property
    def known(self) -> int:
        """Rows that have one."""
        return int(len(self.values) - self.values.null_count)

    def without(self, rows: Sequence[int]) -> BatchLabels:
        """The labels that are left when these rows are gone."""
        kept = self.values.take(pa.array(sorted({*range(len(self.values))} - {*rows}), pa.int64()))
        return BatchLabels(kept, _digest(kept))


@contextmanager
def label_errors(path: str) -> Iterator[None]:
    """What Arrow cannot do with keys or labels is a DataError; without its text, which may quote them."""
    try:
        yield
    except (pa.ArrowException, UnicodeError) as error:
        raise DataError(
            f"{path}: the keys or labels that belong to it cannot be read ({type(error).__name__}): text that is not "
            "UTF-8, or numbers with more digits than a number keeps. Deliver them again."
        ) from None


class Labels:
    """Where the target of a batch comes from: its own column, or later files joined by key.

    A later file (by name) supersedes an earlier one, key by key. `files` are the label files to look at; by default
    those that are there now.
    """

    def __init__(self, root: Path, spec: ModelSpec, files: Sequence[Path] | None = None):
        self._root, self.spec = root, spec
        self.files = label_files(root, spec) if files is None else list(files)

    def of(self, batch: Batch) -> BatchLabels:
        """Labels of one batch. Raises DataError when the columns that carry them are not there, or hold no labels."""
        with label_errors(batch.path):
            return self._of(batch)

    def _of(self, batch: Batch) -> BatchLabels:
        source = Source.of(self._root, self.spec, batch)
        if self.spec.data.labels is None:
            _require(source, [self.spec.target])
            values = _joined(_labels(source, source.read([self.spec.target]).column(0), self.spec.target))
        else:
            where, known = self._where(self._keys(source)), self._known.column(1)
            values = _joined(known).take(where) if len(known) else pa.nulls(len(where), pa.float64())
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        return BatchLabels(values, _digest(values))

    def touch(self, batch: Batch) -> bool:
        """Whether these files say anything about a row of the batch. Raises DataError as `of` does."""
        with label_errors(batch.path):
            where = self._where(self._keys(Source.of(self._root, self.spec, batch)))
            return bool(where.null_count < len(where))

    def _keys(self, source: Source) -> pa.Array:
        assert self.spec.key is not None
        _require(source, [self.spec.key])
        return comparable(_joined(source.read([self.spec.key]).column(0)))

    def _where(self, keys: pa.Array) -> pa.Array:
        """Which row of the label files each key finds, null for none."""
        known = self._known.column(0)
        try:
            if known.type != keys.type:
                known, keys = _key_text(known), _key_text(keys)
            return pc.index_in(keys, value_set=known, skip_nulls=True)
        except pa.ArrowException:  # its text may quote a key
            raise DataError(
                f"{self.spec.data.labels}: keys of type {known.type} cannot be found among those of the batch, of type "
                f"{keys.type}. Deliver {self.spec.key!r} alike in both."
            ) from None

    @cached_property
    def _known(self) -> pa.Table:
        """Key and target of every label file, newest file and last row first: the first match wins."""
        columns = [self.spec.key or "", self.spec.target]
        tables = []
        for path in self.files:
            source = Source(self._root, path.relative_to(self._root).as_posix(), self.spec.data.csv)
            _require(source, columns)
            table = source.read(columns)
            table = table.set_column(0, columns[0], comparable(_joined(table.column(0))))
            table = table.set_column(1, self.spec.target, _labels(source, table.column(1), self.spec.target))
            tables.append(table.filter(pc.is_valid(table.column(0))))
        if not tables:
            return pa.table({columns[0]: pa.array([], pa.string()), columns[1]: pa.array([], pa.string())})
        table = _combined(tables, columns, self.spec.data.labels or "")
        return table.take(pa.array(range(len(table) - 1, -1, -1), pa.int64()))


def _require(source: Source, columns: Sequence[str]) -> None:
    missing = [name for name in columns if source.names.count(name) != 1]
    if missing:
        what = {name: "there twice" if name in source.names else "missing" for name in missing}
        raise DataError("\n".join(f"{source.path}: column {name!r} is {what[name]}." for name in missing))


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return decoded(column.combine_chunks())


def _combined(tables: Sequence[pa.Table], columns: Sequence[str], where: str) -> pa.Table:
    """Label files as one table, whatever files they came in. Raises DataError where their targets contradict."""
    keys = {table.schema.field(0).type for table in tables}
    kinds = {table.schema.field(1).type for table in tables if not pa.types.is_null(table.schema.field(1).type)}
    if len(keys) > 1:
        try:
            tables = [table.set_column(0, columns[0], _key_text(table.column(0))) for table in tables]
        except pa.ArrowException:  # its text may quote a key
            found = " and ".join(sorted(str(kind) for kind in keys))
            raise DataError(
                f"{where}: the files do not agree, {columns[0]!r} is {found}. Deliver them all alike."
            ) from None
    if len(kinds) > 1:
        if not all(is_number(kind) for kind in kinds) and not all(is_text(kind) for kind in kinds):
            found = " and ".join(sorted(str(kind) for kind in kinds))
            raise DataError(f"{where}: the files do not agree, {columns[1]!r} is {found}. Deliver them all alike.")
        common = pa.float64() if is_number(next(iter(kinds))) else pa.string()
        tables = [table.set_column(1, columns[1], table.column(1).cast(common)) for table in tables]
    return pa.concat_tables(tables, promote_options="permissive").combine_chunks()


def _key_text(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """Keys as text, so that those of one type can be found among those of another: `7.0` is `7`."""
    return as_text(keys) if is_usable(keys.type) else keys.cast(pa.string())


def _labels(source: Source, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Labels of one file: what is typed as it is; text of a CSV file as booleans or numbers where all of it parses.

    Raises DataError for dates and nested values.
    """
    if not is_usable(column.type):
        raise DataError(f"{source.path}: column {name!r} is {column.type}; labels are numbers, booleans or text.")
    if not source.is_text:
        return column
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column))])  # joins with a column of any kind
    text = as_text(column.combine_chunks())
    present = len(text) - text.null_count
    if count_true(pc.match_substring_regex(text, BOOLEAN)) == present:
        return pa.chunked_array([pc.equal(pc.utf8_lower(text), "true")])
    fine = reads_as_number(text, source.decimal or ".")
    numeric = count_true(fine) == present
    return pa.chunked_array([as_numbers(text, source.decimal or ".", fine)]) if numeric else column


def _digest(values: pa.Array) -> str:
    text = pc.fill_null(values.cast(pa.large_string()), "\0")
    digest = hashlib.sha256(len(text).to_bytes(8, "little"))
    for buffer in pa.concat_arrays([text]).buffers()[1:]:
        digest.update(memoryview(buffer) if buffer is not None else b"")
    return digest.hexdigest()
