"""What is in batches and label files: stream them, join late labels by key."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from tasks.core.columns import BOOLEAN, count_true, is_number, is_text
from tasks.core.errors import DataError, UnreadableData
from tasks.core.files import label_files, parts
from tasks.core.spec import ModelSpec
from tasks.core.types import Batch

CHUNK_ROWS = 65_536
"""Rows of one record batch: what is in memory at a time."""


class Source:
    """One data file or folder, read as a stream of record batches.

    Columns of a CSV file arrive as text (`is_text`), so that the contract can name every value that does not parse
    instead of failing at the first one. Raises UnreadableData for a file that is not what its name says.
    """

    def __init__(self, root: Path, path: str):
        self.path = path
        full = root / path
        self._files = parts(full) if full.is_dir() else [full]
        if not self._files:
            raise UnreadableData(path, "the folder holds no .parquet or .csv files.")
        self.is_text = self._files[0].suffix == ".csv"
        self.names = self._names()

    def stream(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Record batches of at most CHUNK_ROWS rows, with these columns or all."""
        names = list(self.names if columns is None else columns)
        for file in self._files:
            try:
                if self.is_text:
                    yield from self._stream_csv(file, names)
                else:
                    with pq.ParquetFile(file) as parquet:
                        yield from parquet.iter_batches(CHUNK_ROWS, columns=names)
            except (pa.ArrowException, OSError, KeyError) as error:
                raise UnreadableData(self.path, _plain(error)) from None

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The named columns of all rows."""
        return pa.Table.from_batches(list(self.stream(columns)) or [self._empty(columns)])

    def _empty(self, columns: Sequence[str]) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([pa.array([], pa.string()) for _ in columns], names=list(columns))

    def _names(self) -> list[str]:
        try:
            if not self.is_text:
                return list(pq.read_schema(self._files[0]).names)
            for file in self._files:
                _complete(self.path, file)
            with csv.open_csv(self._files[0], parse_options=_PARSE) as reader:
                return list(reader.schema.names)
        except (pa.ArrowException, OSError) as error:
            raise UnreadableData(self.path, _plain(error)) from None

    def _stream_csv(self, file: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
        convert = csv.ConvertOptions(
            column_types={name: pa.string() for name in self.names},
            strings_can_be_null=True,
            include_columns=names,
        )
        read = csv.ReadOptions(use_threads=False)
        with csv.open_csv(file, read_options=read, parse_options=_PARSE, convert_options=convert) as reader:
            yield from reader


_PARSE = csv.ParseOptions(newlines_in_values=True)


def _complete(path: str, file: Path) -> None:
    """A CSV that stops in the middle of a line was cut; in the last field nothing else would show it."""
    with file.open("rb") as handle:
        if handle.seek(0, 2) == 0:
            raise UnreadableData(path, "the file is empty.")
        handle.seek(-1, 2)
        if handle.read(1) not in b"\r\n":
            raise UnreadableData(
                path,
                "the last line does not end with a line break, so the file may be cut short. Deliver it again.",
            )


def _plain(error: Exception) -> str:
    """Arrow's reason without the offending row, which may hold private values."""
    text = str(error).strip().splitlines()[0]
    if "magic bytes" in text or "Parquet" in text or "thrift" in text.lower() or "file size" in text.lower():
        return f"it is cut short or not Parquet ({text.rstrip('.')}). Deliver it again."
    if "CSV parse error" in text:
        where = re.search(r"(Row #\d+: )?Expected \d+ columns, got \d+", text)
        return (
            f"{where[0] if where else 'a line does not parse'}. The file is cut short or malformed; deliver it again."
        )
    return f"{text.rstrip('.')}. Deliver it again."


# --- labels --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BatchLabels:
    """The labels of one batch, row by row."""

    values: pa.Array
    """One value a row, null where the label is not known."""
    known: int
    """Rows that have one."""
    digest: str

    @property
    def coverage(self) -> float:
        return self.known / len(self.values) if len(self.values) else 0.0


class Labels:
    """Where the target of a batch comes from: its own column, or later files joined by key.

    A later file (by name) supersedes an earlier one, key by key. `files` are the label files to look at; by default
    those that are there now.
    """

    def __init__(self, root: Path, spec: ModelSpec, files: Sequence[Path] | None = None):
        self._root, self._spec = root, spec
        self.files = label_files(root, spec) if files is None else list(files)

    def of(self, batch: Batch) -> BatchLabels:
        """Labels of one batch. Raises DataError when the columns that carry them are not there."""
        source = Source(self._root, batch.path)
        if self._spec.data.labels is None:
            _require(source, [self._spec.target])
            column = source.read([self._spec.target]).column(0)
            values = _joined(_parsed(column) if source.is_text else column)
        else:
            values = self._look_up(self._keys(source))
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        known = len(values) - values.null_count
        return BatchLabels(values, known, _digest(values))

    def touch(self, batch: Batch) -> bool:
        """Whether these files say anything about a row of the batch. Raises DataError as `of` does."""
        where = self._where(self._keys(Source(self._root, batch.path)))
        return where.null_count < len(where)

    def _keys(self, source: Source) -> pa.Array:
        assert self._spec.key is not None
        _require(source, [self._spec.key])
        return _joined(source.read([self._spec.key]).column(0))

    def _look_up(self, keys: pa.Array) -> pa.Array:
        where = self._where(keys)
        if len(self._known) == 0:
            return pa.nulls(len(keys), pa.float64())
        return _joined(self._known.column(1)).take(where)

    def _where(self, keys: pa.Array) -> pa.Array:
        """Which row of the label files each key finds, null for none."""
        known = self._known.column(0)
        if known.type != keys.type:
            known, keys = known.cast(pa.string()), keys.cast(pa.string())
        return pc.index_in(keys, value_set=known, skip_nulls=True)

    @cached_property
    def _known(self) -> pa.Table:
        return self._read()

    def _read(self) -> pa.Table:
        """Key and target of every label file, newest file and last row first: the first match wins."""
        columns = [self._spec.key or "", self._spec.target]
        tables = []
        for path in self.files:
            source = Source(self._root, path.relative_to(self._root).as_posix())
            _require(source, columns)
            table = source.read(columns)
            if source.is_text:
                table = table.set_column(1, self._spec.target, _parsed(table.column(1)))
            tables.append(table.filter(pc.is_valid(table.column(0))))
        if not tables:
            return pa.table({columns[0]: pa.array([], pa.string()), columns[1]: pa.array([], pa.string())})
        table = _combined(tables, columns, self._spec.data.labels or "")
        return table.take(pa.array(range(len(table) - 1, -1, -1), pa.int64()))


def _require(source: Source, columns: Sequence[str]) -> None:
    missing = [name for name in columns if source.names.count(name) != 1]
    if missing:
        raise DataError(
            "\n".join(
                f"{source.path}: column {name!r} is {'missing' if name not in source.names else 'there twice'}."
                for name in missing
            )
        )


def _joined(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _combined(tables: Sequence[pa.Table], columns: Sequence[str], where: str) -> pa.Table:
    """Label files as one table, whatever files they came in. Raises DataError where their targets contradict."""
    keys = {table.schema.field(0).type for table in tables}
    kinds = {table.schema.field(1).type for table in tables if not pa.types.is_null(table.schema.field(1).type)}
    if len(keys) > 1:
        tables = [table.set_column(0, columns[0], table.column(0).cast(pa.string())) for table in tables]
    if len(kinds) > 1:
        if not all(is_number(kind) for kind in kinds) and not all(is_text(kind) for kind in kinds):
            found = " and ".join(sorted(str(kind) for kind in kinds))
            raise DataError(f"{where}: the files do not agree, {columns[1]!r} is {found}. Deliver them all alike.")
        common = pa.float64() if is_number(next(iter(kinds))) else pa.string()
        tables = [table.set_column(1, columns[1], _cast(table.column(1), common)) for table in tables]
    return pa.concat_tables(tables, promote_options="permissive").combine_chunks()


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_boolean(column.type) and pa.types.is_floating(kind):
        column = column.cast(pa.int8())
    return column.cast(kind)


def _parsed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as booleans or numbers where all of it parses, else as it is."""
    text = column.combine_chunks()
    if text.null_count == len(text):
        return pa.chunked_array([pa.nulls(len(text))])  # fits beside a column of any kind
    if count_true(pc.match_substring_regex(text, BOOLEAN)) == len(text) - text.null_count:
        return pa.chunked_array([pc.equal(pc.utf8_lower(text), "true")])
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        return column


def _digest(values: pa.Array) -> str:
    text = pc.fill_null(values.cast(pa.large_string()), "\0")
    digest = hashlib.sha256(len(text).to_bytes(8, "little"))
    for buffer in pa.concat_arrays([text]).buffers()[1:]:
        digest.update(memoryview(buffer) if buffer is not None else b"")
    return digest.hexdigest()
