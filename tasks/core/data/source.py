"""Data files as streams of record batches: Parquet and CSV, and a refusal for what only claims to be one."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from tasks.core.data.arrow import Numerals, decoded, without_views
from tasks.core.data.dialect import SEPARATORS, as_it_says, ends_with_nothing, is_ended, is_wide, look, wide
from tasks.core.data.files import is_text_file, parts
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
        self._renamed: dict[str, str] = {}
        self._in_file: dict[Path, list[str]] = {}
        self.names = self._names()

    @classmethod
    def of(cls, root: Path, spec: ModelSpec, batch: Batch) -> Source:
        """A batch below `root`, read as the model's file says that its data are written. Raises as a Source does."""
        source = cls(root, batch.path, spec.data.csv)
        times = [spec.time] if spec.time else []
        source.adopt([spec.target, *spec.key_columns, *times, *(spec.features or ()), *spec.categorical])
        return source

    @property
    def numerals(self) -> Numerals | None:
        """How a text file writes numbers; None where the file itself says what is a number."""
        return Numerals(self._csv.decimal, self._csv.thousands, self._csv.strip) if self.is_text else None

    @property
    def written(self) -> CsvSpec:
        """How its text files are written, as the model's file says."""
        return self._csv

    def adopt(self, names: Iterable[str]) -> None:
        """Columns that have one of these names in other Unicode characters for the same letters are called so: `é` may
        be one character, or an `e` and an accent."""
        for name in names:
            if name not in self.names and not name.isascii():
                same = [one for one in self.names if _composed(one) == _composed(name)]
                if len(same) == 1:
                    self._renamed[name] = self._renamed.pop(same[0], same[0])
                    self.names[self.names.index(same[0])] = name

    def nearly(self, name: str) -> str:
        """What to say after a column that is missing: one of that name but for blanks and capitals, if there is one."""
        near = [one for one in self.names if _folded(one) == _folded(name)]
        return f"; {near[0]!r} is nearly it: rename it to {name!r}" if len(near) == 1 and near[0] != name else ""

    def require(self, columns: Sequence[str]) -> None:
        """Raises DataError naming those of these columns that are missing, or there twice."""
        wrong = [name for name in columns if self.names.count(name) != 1]
        if wrong:
            what = {name: "there twice" if name in self.names else f"missing{self.nearly(name)}" for name in wrong}
            raise DataError("\n".join(f"{self.path}: column {name!r} is {what[name]}." for name in wrong))

    def stream(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Record batches with these columns or all: of at most CHUNK_ROWS rows, or a megabyte of a CSV file."""
        names = list(self.names if columns is None else columns)
        for file in self._files:
            try:
                if self.is_text:
                    yield from self._stream_csv(file, names)
                else:
                    there = [self._renamed.get(name, name) for name in names]
                    with pq.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES) as parquet:
                        for chunk in parquet.iter_batches(CHUNK_ROWS, columns=there):
                            yield without_views(chunk.rename_columns(names) if self._renamed else chunk)
            except (pa.ArrowException, OSError, KeyError, UnicodeError) as error:
                self._check_available(file, error)
                raise UnreadableData(self._where(file), self._plain(file, error)) from None

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
            check_kind(where, file, is_text=self.is_text)
            if self.is_text:
                _check_written(where, file, self._csv)
            if not self.is_text:
                return list(pq.read_schema(file).names)
            with self._open_csv(file) as reader:
                self._in_file[file] = list(reader.schema.names)
            return _named(self._in_file[file])
        except (pa.ArrowException, OSError, UnicodeError) as error:
            self._check_available(file, error)
            raise UnreadableData(where, self._plain(file, error)) from None

    def _check_available(self, file: Path, error: Exception) -> None:
        """A share that is gone for a while is not the fault of the batch, which would be set aside for it."""
        if is_unavailable(error):
            raise UnavailableData(self._where(file), os.strerror(getattr(error, "errno", 0))) from error

    def _where(self, file: Path) -> str:
        return f"{self.path}/{file.name}" if self._folder else self.path

    def _stream_csv(self, file: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
        there = [self._renamed.get(name, name) for name in names]
        every = self._in_file[file]
        named = _named(every)
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(every, pa.string()),
            strings_can_be_null=True,
            include_columns=there if len(named) == len(every) else None,
        )
        with self._open_csv(file, convert) as reader:
            for chunk in reader:
                if len(named) < len(every):
                    self._check_nothing(file, chunk.columns[len(named) :])
                    chunk = chunk.select([every.index(name) for name in there])
                yield self._without_missing(chunk.rename_columns(names) if self._renamed else chunk)

    def _check_nothing(self, file: Path, unnamed: Sequence[pa.Array]) -> None:
        """Raises UnreadableData where columns without a name, at the end of each line, have a value."""
        if any(len(array) > array.null_count for array in unnamed):
            said = look(file, self._csv).said(self._csv) or "columns without a name have values: name them"
            raise UnreadableData(self._where(file), f"{said}.")

    def _without_missing(self, chunk: pa.RecordBatch) -> pa.RecordBatch:
        """The same without the texts that the model's file says to mean missing."""
        if not self._csv.missing:
            return chunk
        words = pa.array([word.strip() for word in self._csv.missing], pa.string())
        nothing = pa.scalar(None, pa.string())
        arrays = [
            pc.if_else(pc.is_in(pc.utf8_trim_whitespace(array), words), nothing, array) for array in chunk.columns
        ]
        return pa.RecordBatch.from_arrays(arrays, names=chunk.schema.names)

    def _open_csv(self, file: Path, convert: csv.ConvertOptions | None = None) -> csv.CSVStreamingReader:
        written, above = as_it_says(file, self._csv)
        reading = csv.ReadOptions(use_threads=False, encoding=written.encoding, skip_rows=above)
        parsing = csv.ParseOptions(delimiter=written.separator, newlines_in_values=True)
        return csv.open_csv(file, reading, parsing, convert)

    def _plain(self, file: Path, error: Exception) -> str:
        """A library's reason without the offending row, which may hold private values; of a text file all that is to
        be said of how it is written."""
        text = (str(error).strip().splitlines() or [""])[0]
        if self.is_text and isinstance(error, pa.ArrowException | UnicodeError):
            row = re.search(r"Row #(\d+).*UTF8", text)
            if said := look(file, self._csv, row=row[1] if row else None).said(self._csv):
                return f"{said}."
        if not self.is_text and re.search("magic bytes|parquet|thrift|file size", text, re.I):
            return f"it is cut short or not Parquet ({text.rstrip('.')}). Deliver it again."
        if "straddling" in text:
            return "a line is longer than 1 MB, or a quote is never closed. Deliver it again."
        if "CSV parse error" in text:
            where = re.search(r"(Row #\d+: )?Expected \d+ columns, got \d+", text)
            found = where[0] if where else "a line does not parse"
            return (
                f"{found}. The file is cut short or malformed; deliver it again, with texts that hold a separator in "
                "quotes, and without lines below its rows."
            )
        return f"{text.rstrip('.')}. Deliver it again."


def _named(names: Sequence[str]) -> list[str]:
    """Names without the empty ones at the end, as spreadsheets write columns that were emptied."""
    last = max((place for place, name in enumerate(names, start=1) if name.strip()), default=len(names))
    return list(names[:last])


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(name).strip().casefold()


# --- what a file's first and last bytes say ------------------------------------------------------------------

_BINARY = (
    (b"PAR1", "a Parquet file: name it .parquet"),
    (b"PK\x03\x04", "a zip archive, or an Excel workbook: unpack or export it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook: export it"),
    (b"\x1f\x8b", "compressed with gzip: unpack it, `mv {0} {0}.gz && gunzip {0}.gz`"),
    (b"BZh", "compressed with bzip2: unpack it, `mv {0} {0}.bz2 && bunzip2 {0}.bz2`"),
    (b"\xfd7zXZ", "compressed with xz: unpack it, `mv {0} {0}.xz && unxz {0}.xz`"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it, `mv {0} {0}.zst && unzstd --rm {0}.zst`"),
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


def check_kind(path: str, file: Path, *, is_text: bool) -> None:
    """Raises UnreadableData, saying what the file is, where that is not Parquet, or not text, as its name says."""
    with file.open("rb") as handle:
        start = handle.read(512)
    if not start:
        raise UnreadableData(path, "the file is empty.")
    if not start.strip(b"\0"):
        raise UnreadableData(path, "it begins with zero bytes: it was not written to its end. Deliver it again.")
    if is_text:
        if found := _binary(file, start) or _text(start.removeprefix(_UTF8_MARK)):
            raise UnreadableData(path, f"it is not CSV but {found}.")
    elif not start.startswith(b"PAR1"):
        plain = "text: if it is CSV, name it .csv" if b"\n" in start and b"\0" not in start else None
        found = _binary(file, start) or _text(start) or plain or "something else, or damaged. Deliver it again"
        raise UnreadableData(path, f"it is not Parquet but {found}.")


def _check_written(path: str, file: Path, written: CsvSpec) -> None:
    """Raises UnreadableData, with all that is wrong, for a text file that plainly is not written so, or was cut."""
    with file.open("rb") as handle:
        start = handle.read(512)
    ours, above = as_it_says(file, written)
    # Arrow would count the fields of the lines below first, and say something about those.
    header = ("".join(start.decode(ours.encoding, "ignore").splitlines()[above:][:1])).lstrip("\ufeff")
    odd = bool(header) and ours.separator not in header and any(mark in header for mark in SEPARATORS)
    odd |= is_wide(ours.encoding) != bool(wide(start)) and (not is_wide(ours.encoding) or b"\0" not in start)
    odd |= not is_ended(file, ours.encoding) or ends_with_nothing(file, ours)
    if odd and (said := look(file, written).said(written)):
        raise UnreadableData(path, f"{said}.")


def _binary(file: Path, start: bytes) -> str | None:
    """A kind of binary file; a column of a CSV file may well be called ORC, so there must be bytes that no text has."""
    if not re.search(rb"[\x00-\x08\x80-\xff]", start):
        return None
    kind = next((kind for signature, kind in _BINARY if start.startswith(signature)), None)
    return kind and kind.format(shlex.quote(file.name))


def _text(start: bytes) -> str | None:
    return next((kind for pattern, kind in _TEXTS if re.match(pattern, start)), None)
