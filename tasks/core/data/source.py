"""Data files as streams of record batches: Parquet and CSV, and a refusal for what only claims to be one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from tasks.core.data.arrow import decoded, without_views
from tasks.core.data.files import ending, is_text_file, parts
from tasks.core.data.unread import table_problems
from tasks.core.errors import DataError, UnavailableData, UnreadableData, is_unavailable
from tasks.core.spec import CsvSpec, ModelSpec
from tasks.core.types import Batch

CHUNK_ROWS = 65_536
"""Rows of one record batch: what is in memory at a time."""
READ_BYTES = 2**16
"""Of a column at a time. By default Arrow reads whole row groups ahead, and writers make those of a million rows."""

PLAIN = CsvSpec()


class Source:
    """One data file or folder, read as a stream of record batches.

    Columns of a CSV file arrive as text (`is_text`), so that the contract can name every value that does not parse
    instead of failing at the first one. Raises UnreadableData for a file that is not what its name says, and for a
    folder whose files do not belong together; UnavailableData for one that cannot be read at the moment.
    """

    def __init__(self, root: Path, path: str, written: CsvSpec = PLAIN):
        self.path, self._csv = path, written
        full = root / path
        self._folder = full.is_dir()
        self._files = parts(full) if self._folder else [full]
        self.problems = table_problems(full) if self._folder else []
        if not self._files:
            raise UnreadableData(path, "; ".join(self.problems) or "the folder holds no .parquet or .csv files.")
        self.is_text = is_text_file(self._files[0])
        if any(is_text_file(file) != self.is_text for file in self._files):
            raise UnreadableData(path, "the folder holds both Parquet and CSV files. Deliver all of it in one format.")
        self.names = self._names()

    @classmethod
    def of(cls, root: Path, spec: ModelSpec, batch: Batch) -> Source:
        """A batch below `root`, read as the model's file says that its data are written. Raises as a Source does."""
        return cls(root, batch.path, spec.data.csv)

    @property
    def decimal(self) -> str | None:
        """The mark in the numbers of a text file; None where the file itself says what is a number."""
        return self._csv.decimal if self.is_text else None

    def require(self, columns: Sequence[str]) -> None:
        """Raises DataError naming those of these columns that are missing, or there twice."""
        wrong = [name for name in columns if self.names.count(name) != 1]
        if wrong:
            what = {name: "there twice" if name in self.names else "missing" for name in wrong}
            raise DataError("\n".join(f"{self.path}: column {name!r} is {what[name]}." for name in wrong))

    def stream(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Record batches with these columns or all: of at most CHUNK_ROWS rows, or a megabyte of a CSV file."""
        names = list(self.names if columns is None else columns)
        for file in self._files:
            try:
                if self.is_text:
                    yield from self._stream_csv(file, names)
                else:
                    with pq.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES) as parquet:
                        yield from map(without_views, parquet.iter_batches(CHUNK_ROWS, columns=names))
            except (pa.ArrowException, OSError, KeyError, UnicodeError) as error:
                self._check_available(file, error)
                raise UnreadableData(self._where(file), self._plain(error)) from None

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The named columns of all rows. Raises UnreadableData where files of a folder differ in a column's kind."""
        chunks = list(self.stream(columns))
        arrays = [self._joined(name, [chunk.column(place) for chunk in chunks]) for place, name in enumerate(columns)]
        return pa.Table.from_arrays(arrays, names=list(columns))

    def _joined(self, name: str, arrays: list[pa.Array]) -> pa.ChunkedArray:
        arrays = [decoded(array) for array in arrays]
        kinds = sorted({str(array.type) for array in arrays})
        if len(kinds) < 2:
            return pa.chunked_array(arrays, arrays[0].type if arrays else pa.string())
        try:
            tables = [pa.table({"": array}) for array in arrays]
            return pa.concat_tables(tables, promote_options="permissive").column(0)
        except pa.ArrowException:
            found = f"column {name!r} is {' in one file and '.join(kinds)} in another"
            raise UnreadableData(self.path, f"{found}. Deliver all files of a folder alike.") from None

    # --- what a file is ---

    def _names(self) -> list[str]:
        """Names of the columns, the same in every file."""
        first = self._names_of(self._files[0])
        for file in self._files[1:]:
            names = self._names_of(file)
            if sorted(names) != sorted(first):
                # Not by name: without its header a file's first row would be shown.
                odd = next((place for place, name in enumerate(names, start=1) if name not in first), len(names))
                raise UnreadableData(
                    self._where(file),
                    f"its {len(names)} columns are not the {len(first)} of {self._files[0].name}; see column {odd}. "
                    "Deliver all files of a folder alike.",
                )
        return first

    def _names_of(self, file: Path) -> list[str]:
        where = self._where(file)
        try:
            _refuse_other_kinds(where, file, written_as(file, self._csv) if self.is_text else None)
            if not self.is_text:
                return list(pq.read_schema(file).names)
            with csv.open_csv(file, self._reading(), self._parsing(file)) as reader:
                return list(reader.schema.names)
        except (pa.ArrowException, OSError, UnicodeError) as error:
            self._check_available(file, error)
            raise UnreadableData(where, self._plain(error)) from None

    def _check_available(self, file: Path, error: Exception) -> None:
        """A share that is gone for a while is not the fault of the batch, which would be set aside for it."""
        if is_unavailable(error):
            raise UnavailableData(self._where(file), os.strerror(getattr(error, "errno", 0))) from error

    def _where(self, file: Path) -> str:
        return f"{self.path}/{file.name}" if self._folder else self.path

    def _stream_csv(self, file: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
        convert = csv.ConvertOptions(
            column_types={name: pa.string() for name in self.names},
            strings_can_be_null=True,
            include_columns=names,
        )
        with csv.open_csv(file, self._reading(), self._parsing(file), convert) as reader:
            yield from reader

    def _reading(self) -> csv.ReadOptions:
        return csv.ReadOptions(use_threads=False, encoding=self._csv.encoding)

    def _parsing(self, file: Path) -> csv.ParseOptions:
        return csv.ParseOptions(delimiter=written_as(file, self._csv).separator, newlines_in_values=True)

    def _plain(self, error: Exception) -> str:
        """A library's reason without the offending row, which may hold private values."""
        text = str(error).strip().splitlines()[0]
        if isinstance(error, UnicodeError) or "invalid UTF8" in text:
            row = re.search(r"Row #(\d+)", text)
            return (
                f"it is not {self._csv.encoding} text{f' (row {row[1]})' if row else ''}: set `encoding` under "
                '[data.csv], such as "latin-1", or deliver it as UTF-8.'
            )
        if not self.is_text and re.search("magic bytes|parquet|thrift|file size", text, re.I):
            return f"it is cut short or not Parquet ({text.rstrip('.')}). Deliver it again."
        if "straddling" in text:
            return "a line is longer than 1 MB, or a quote is never closed. Deliver it again."
        if "CSV parse error" in text:
            where = re.search(r"(Row #\d+: )?Expected \d+ columns, got \d+", text)
            found = where[0] if where else "a line does not parse"
            return f"{found}. The file is cut short or malformed; deliver it again."
        return f"{text.rstrip('.')}. Deliver it again."


def written_as(file: Path, written: CsvSpec) -> CsvSpec:
    """How a text file is written: as the model's file says, but for the tabs that an ending may stand for."""
    return written.model_copy(update={"separator": "\t"}) if ending(file) == ".tsv" else written


# --- what a file's first and last bytes say ------------------------------------------------------------------

_BINARY = (
    (b"PAR1", "a Parquet file: name it .parquet"),
    (b"PK\x03\x04", "a zip archive, or an Excel workbook: unpack or export it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook: export it"),
    (b"\x1f\x8b", "compressed with gzip: unpack it"),
    (b"BZh", "compressed with bzip2: unpack it"),
    (b"\xfd7zXZ", "compressed with xz: unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it"),
    (b"ARROW1", "an Arrow (Feather) file: convert it"),
    (b"ORC", "an ORC file: convert it"),
    (b"Obj\x01", "an Avro file: convert it"),
    (b"SQLite format 3", "a SQLite database: export it"),
)
_TEXTS = (
    (rb"(?i)\s*<(!doctype\s+)?html", "an HTML page, perhaps an error message: deliver the data again"),
    (rb"\s*<\?xml", "an XML document: convert it"),
    (rb'\s*(\{\s*["}]|\[\s*[\[{"\]])', "a JSON document: convert it"),
)
_UTF8_MARK = b"\xef\xbb\xbf"
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


def _refuse_other_kinds(path: str, file: Path, written: CsvSpec | None) -> None:
    """Raises UnreadableData, saying what the file is, where that is not what its name says; and where it was cut.

    `written` is how a CSV file should be written, None for Parquet.
    """
    with file.open("rb") as handle:
        start = handle.read(512)
        handle.seek(-min(8, handle.seek(0, 2)), 2)
        end = handle.read()
    if not start:
        raise UnreadableData(path, "the file is empty.")
    if not start.strip(b"\0"):
        raise UnreadableData(path, "it begins with zero bytes: it was not written to its end. Deliver it again.")
    if written is not None:
        _refuse_other_text(path, start, end, written)
    elif not start.startswith(b"PAR1"):
        plain = "text: if it is CSV, name it .csv" if b"\n" in start and b"\0" not in start else None
        found = _binary(start) or _text(start) or plain or "something else, or damaged. Deliver it again"
        raise UnreadableData(path, f"it is not Parquet but {found}.")


def _refuse_other_text(path: str, start: bytes, end: bytes, written: CsvSpec) -> None:
    wide = written.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32"))
    if found := _binary(start) or (None if wide else _wide(start)) or _text(start.removeprefix(_UTF8_MARK)):
        raise UnreadableData(path, f"it is not CSV but {found}.")
    if (end.rstrip(b"\0") if wide else end)[-1:] not in (b"\r", b"\n"):
        raise UnreadableData(
            path, "the last line does not end with a line break, so the file may be cut short. Deliver it again."
        )
    # Arrow would count the fields of the lines below first, and say something about those.
    header = (start.decode(written.encoding, "ignore").splitlines() or [""])[0]
    if written.separator not in header and (other := _separator_in(header)):
        ours = _SEPARATORS.get(written.separator, repr(written.separator))
        raise UnreadableData(
            path,
            f"it looks like a {other}-separated file: set `separator` under [data.csv], or deliver it with {ours}s.",
        )


def _binary(start: bytes) -> str | None:
    """A kind of binary file; a column of a CSV file may well be called ORC, so there must be bytes that no text has."""
    if not re.search(rb"[\x00-\x08\x80-\xff]", start):
        return None
    return next((kind for signature, kind in _BINARY if start.startswith(signature)), None)


def _text(start: bytes) -> str | None:
    return next((kind for pattern, kind in _TEXTS if re.match(pattern, start)), None)


def _wide(start: bytes) -> str | None:
    """Text in UTF-16: by its mark, or because every other byte is zero."""
    encoding = None
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif len(start) > 3 and not start[1:32:2].strip(b"\0"):
        encoding = "utf-16-le"
    elif len(start) > 3 and not start[0:32:2].strip(b"\0"):
        encoding = "utf-16-be"
    return (
        f'text in another encoding: set `encoding = "{encoding}"` under [data.csv], or deliver UTF-8'
        if encoding
        else None
    )


def _separator_in(header: str) -> str | None:
    """The separator that a header of one column was written with, if it looks like one."""
    counts = {name: header.count(mark) for mark, name in _SEPARATORS.items() if mark in header}
    return max(counts, key=lambda name: counts[name]) if counts else None
