"""The labels of batches: a column of their own files, or later files joined by key."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.arrow import (
    BOOLEAN,
    PLAIN,
    as_floats,
    as_numbers,
    as_text,
    count_true,
    decoded,
    is_number,
    is_text,
    is_usable,
    reads_as_number,
)
from tasks.core.data.classes import STRAYS, Answers, brought
from tasks.core.data.files import batch_name, find_batches, label_files
from tasks.core.data.identity import Identity, Names, identity_of
from tasks.core.data.keys import Keys, check_exact, composed, keys_of, kind_of, label_errors, naming
from tasks.core.data.source import Source
from tasks.core.errors import DataError
from tasks.core.spec import KeyKind, ModelSpec
from tasks.core.text import named
from tasks.core.types import Batch

FAR = 1000
"""Times the usual distance from the median from which on a number is more likely a slip than a label: of eight real
streams none comes near."""
TELLING = 10
"""Labels of a batch that tell what is usual."""


@dataclass(frozen=True, slots=True)
class BatchLabels:
    """The labels of one batch, row by row."""

    values: pa.Array
    """One value a row, null where the label is not known."""
    digest: str
    far: int = 0
    """Rows whose label is not among them, because it is too far from the others and nobody accepted it."""
    example: float = math.nan
    """One of those labels."""

    @property
    def known(self) -> int:
        """Rows that have one."""
        return int(len(self.values) - self.values.null_count)

    def without(self, rows: Sequence[int]) -> BatchLabels:
        """The labels that are left when these rows are gone."""
        kept = self.values.take(pa.array(sorted({*range(len(self.values))} - {*rows}), pa.int64()))
        return BatchLabels(kept, _digest(kept))


class Labels:
    """Where the target of a batch comes from: its own column, or later files joined by key.

    A later file (by name) supersedes an earlier one, key by key; within a file the last row of a key counts. Where the
    key names a row of a batch only, a file labels the batch that it is called by; where it names nothing, none does.
    """

    def __init__(
        self,
        root: Path,
        spec: ModelSpec,
        files: Sequence[Path] | None = None,
        *,
        batches: Sequence[Batch] | None = None,
        trusted: Collection[str] | None = (),
        mixed: bool = False,
    ):
        """`files` are the label files to look at, and `batches` those that own rows, in that order; by default what is
        there now, in time order. Of batches that are `trusted` (None: of all) labels count however far they are from
        the others. `mixed` reads files of which some hold text and others numbers, all as text."""
        self._trusted = trusted
        self.root, self.spec, self._mixed, self._batches = root, spec, mixed, batches
        self.answers: dict[str, Answers] = {}
        """What was read of the labels so far, by the path of the file that holds them."""
        self.files = label_files(root, spec) if files is None else list(files)
        self._read: dict[Path, LabelFile] = {}
        self._joining: dict[tuple[tuple[Path, ...], tuple[KeyKind, ...]], tuple[pa.Array, pa.Array]] = {}

    @classmethod
    def usable(
        cls,
        root: Path,
        spec: ModelSpec,
        files: Sequence[Path],
        batches: Sequence[Batch] | None = None,
        *,
        trusted: Collection[str] = (),
        mixed: bool = False,
    ) -> tuple[Labels, tuple[str, ...]]:
        """Labels of those files that can be used, and why each of the others cannot."""
        labels, problems = cls(root, spec, files, batches=batches, trusted=trusted, mixed=mixed), []
        for path in files:
            try:
                labels.file(path)
            except DataError as error:
                problems.append(str(error))
        labels.files = [path for path in files if path in labels._read]
        return labels, tuple(problems)

    @cached_property
    def identity(self) -> Identity:
        """What a row is, and which of them were there before."""
        here = find_batches(self.root, self.spec) if self._batches is None and self.spec.key_columns else ()
        return identity_of(self.root, self.spec, here if self._batches is None else self._batches)

    def about(self, batch: Batch) -> tuple[Path, ...]:
        """The label files that may label this batch."""
        names = self.identity.names
        if names is Names.ROW:
            return tuple(self.files)
        if names is Names.NOTHING:
            return ()
        return tuple(path for path in self.files if is_called_by(path, batch) and not self.file(path).is_ambiguous)

    def share(self, one: Path, other: Path) -> bool:
        """Whether two label files may say something about the same row."""
        if self.identity.names is Names.ROW:
            return True
        return any({one, other} <= {*self.about(batch)} for batch in self.identity.batches)

    def of(self, batch: Batch) -> BatchLabels:
        """Labels of one batch. Raises DataError when the columns that carry them are not there, or hold no labels."""
        with label_errors(batch.path):
            return self._of(batch)

    def _of(self, batch: Batch) -> BatchLabels:
        if self.spec.data.labels is None:
            source = Source.of(self.root, self.spec, batch)
            source.require([self.spec.target])
            values = self._answers(source, source.read([self.spec.target]).column(0))
        else:
            keys = self.keys(batch)
            known, answers = self._known(batch, keys)
            where = pc.index_in(keys.values, value_set=known, skip_nulls=True)
            values = answers.take(where) if len(known) else pa.nulls(len(where), pa.float64())
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        if self._trusted is None or batch.id in self._trusted or self.spec.task != "regression":
            return BatchLabels(values, _digest(values))
        where = far(values)
        kept = pc.if_else(pa.array(where), pa.scalar(None, values.type), values) if where.any() else values
        example = as_floats(values)[where][0] if where.any() else math.nan
        return BatchLabels(kept, _digest(kept), int(where.sum()), float(example))

    def touch(self, batch: Batch) -> bool:
        """Whether these files say anything about a row of the batch. Raises DataError as `of` does."""
        keys = self.keys(batch)
        with label_errors(batch.path):
            return bool(pc.any(pc.is_in(keys.values, self._known(batch, keys)[0], skip_nulls=True)).as_py())

    def keys(self, batch: Batch) -> Keys:
        """The keys of a batch. Raises DataError when there is no such column, or its values cannot be keys."""
        with label_errors(batch.path):
            return keys_of(Source.of(self.root, self.spec, batch), self.spec)

    def unlabelled(self, batch: Batch) -> pa.Array:
        """Those keys of a batch that no label file has, as text, row by row."""
        keys = self.keys(batch)
        with label_errors(batch.path):
            known = pc.is_in(keys.values, value_set=self._known(batch, keys)[0], skip_nulls=True)
            return keys.values.filter(pc.and_(pc.is_valid(keys.values), pc.invert(known)))

    def file(self, path: Path) -> LabelFile:
        """One label file. Raises DataError when it cannot be used."""
        if path not in self._read:
            name = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
            with label_errors(name):
                self._read[path] = self._file(Source(self.root, name, self.spec.data.csv))
        return self._read[path]

    def _file(self, source: Source) -> LabelFile:
        columns = [*self.spec.key_columns, self.spec.target]
        source.adopt(columns)
        source.require(columns)
        *keys, answers = source.read(columns).columns
        written = [_joined(column) for column in keys]
        with naming(source.path):
            for name, column in zip(self.spec.key_columns, written, strict=True):
                check_exact(column, name)
        return LabelFile(source.path, written, self._answers(source, answers), self.spec)

    def _answers(self, source: Source, column: pa.ChunkedArray) -> pa.Array:
        """The labels of one file, of the model's classes where those are known.

        Raises DataError for a file in which more than STRAYS of them are none.
        """
        spec = self.spec
        read = _joined(_labels(source, column, spec.target))
        if not spec.classes or pa.types.is_null(read.type):
            return read
        if pa.types.is_floating(read.type):
            read = pc.if_else(pc.is_nan(read), pa.scalar(None, read.type), read)
        found = brought(_joined(column), read, spec.classes, source.numerals or PLAIN)
        if found.strays > STRAYS * found.labels:
            raise DataError(
                f"{source.path}: {found.strays:,} of its {found.labels:,} labels are {self.none_of(found)}. If they "
                'are right, write down all classes of the model, classes = ["...", "..."]; else deliver it again.'
            )
        self.answers[source.path] = found
        return found.values

    def none_of(self, found: Answers) -> str:
        """Which labels are none of which classes, in words; without any value where the target is private."""
        if self.spec.target in self.spec.data.private:
            return "none of the classes"
        classes = named([repr(one) for one in self.spec.classes], 5)
        return f"none of the classes {classes}: {', '.join(map(repr, found.examples))}"

    def _known(self, batch: Batch, like: Keys) -> tuple[pa.Array, pa.Array]:
        """Keys, of the kinds that those of the batch are, and answers of all files about it, newest file and last row
        first: the first match wins."""
        files = self.about(batch)
        if (files, like.kinds) not in self._joining:
            columns = ["key", self.spec.target]
            tables = []
            for file in map(self.file, files):
                table = pa.table([file.keys(like.kinds).values, file.values], names=columns)
                tables.append(table.filter(pc.is_valid(table.column(0))))
            if not tables:
                return pa.array([], pa.string()), pa.array([], pa.string())
            whole = _combined(tables, columns, self.spec.data.labels or "", self._mixed)
            newest = whole.take(pa.array(range(len(whole) - 1, -1, -1), pa.int64()))
            self._joining[files, like.kinds] = _joined(newest.column(0)), _joined(newest.column(1))
        return self._joining[files, like.kinds]


def far(values: pa.Array) -> np.ndarray:
    """Which labels of a batch are FAR times as far from their median as all but a twentieth of the others, shape
    (rows,). Labels that equal the median say nothing of how far is usual: most may be 0."""
    if not is_number(values.type) or len(values) - values.null_count < TELLING:
        return np.zeros(len(values), dtype=bool)
    numbers = as_floats(values)
    distance = np.abs(numbers - np.nanmedian(numbers))
    usual = distance[np.isfinite(distance) & (distance > 0)]
    if not len(usual):
        return np.zeros(len(values), dtype=bool)
    with np.errstate(invalid="ignore"):
        return np.asarray(distance > FAR * np.quantile(usual, 0.95, method="lower"))


def is_called_by(path: Path, batch: Batch) -> bool:
    """Whether a label file has a batch's name, or one that ends in it: `2026-01.csv`, `labels-2026-01.csv`."""
    name = batch_name(path)
    return name == batch.id or name.endswith((f"-{batch.id}", f"_{batch.id}"))


@dataclass(eq=False)
class LabelFile:
    """One label file: keys and labels, row by row."""

    path: str
    """Relative to the root, if it is below."""
    written: list[pa.Array]
    """The columns of the key as they are in the file."""
    values: pa.Array
    spec: ModelSpec
    _keys: dict[tuple[KeyKind, ...], Keys] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name without folder."""
        return self.path.rpartition("/")[2]

    def keys(self, kinds: tuple[KeyKind, ...] | None = None) -> Keys:
        """Its keys as those of a batch of these kinds; by default of the model's, else as they suggest."""
        spec = self.spec
        if kinds is None:
            kinds = tuple(kind or kind_of(column) for kind, column in zip(spec.key_kinds, self.written, strict=True))
        if kinds not in self._keys:
            with label_errors(self.path):
                self._keys[kinds] = composed(self.written, spec.key_columns, kinds, spec.key_width)
        return self._keys[kinds]

    @property
    def is_ambiguous(self) -> bool:
        """Whether so many keys have several labels that it must be of several batches."""
        return self.contradictions()[0] > STRAYS * len(self.values)

    def contradictions(self) -> tuple[int, int]:
        """How many keys have several different labels here, and the row of one of them."""
        keys = self.keys().values
        if pc.count_distinct(keys).as_py() == len(keys) - keys.null_count:
            return 0, -1
        rows = pa.table({"key": keys, "label": self.values, "row": pa.array(range(len(keys)), pa.int64())})
        rows = rows.filter(pc.and_(pc.is_valid(rows.column("key")), pc.is_valid(rows.column("label"))))
        found = rows.group_by("key").aggregate([("label", "count_distinct"), ("row", "max")])
        several = found.filter(pc.greater(found.column("label_count_distinct"), 1))
        return len(several), several.column("row_max")[0].as_py() if len(several) else -1


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return decoded(column.combine_chunks())


def _combined(tables: Sequence[pa.Table], columns: Sequence[str], where: str, mixed: bool) -> pa.Table:
    """Label files as one table, whatever files they came in. Raises DataError where their targets contradict."""
    kinds = {table.schema.field(1).type for table in tables if not pa.types.is_null(table.schema.field(1).type)}
    if len(kinds) > 1:
        one_kind = all(is_number(kind) for kind in kinds) or all(is_text(kind) for kind in kinds)
        if not one_kind and not mixed:
            found = " and ".join(sorted(str(kind) for kind in kinds))
            raise DataError(f"{where}: the files do not agree, {columns[1]!r} is {found}. Deliver them all alike.")
        common = pa.float64() if one_kind and is_number(next(iter(kinds))) else pa.string()
        tables = [
            table.set_column(1, columns[1], table.column(1).cast(common) if one_kind else as_text(table.column(1)))
            for table in tables
        ]
    return pa.concat_tables(tables, promote_options="permissive").combine_chunks()


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
    fine = reads_as_number(text, source.numerals or PLAIN)
    numeric = count_true(fine) == present
    return pa.chunked_array([as_numbers(text, source.numerals or PLAIN, fine)]) if numeric else column


def _digest(values: pa.Array) -> str:
    text = pc.fill_null(values.cast(pa.large_string()), "\0")
    digest = hashlib.sha256(len(text).to_bytes(8, "little"))
    for buffer in pa.concat_arrays([text]).buffers()[1:]:
        digest.update(memoryview(buffer) if buffer is not None else b"")
    return digest.hexdigest()
