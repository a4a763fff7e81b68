"""The contract: the input schema a version accepts, inferred from its training data and checked on everything after.

Pipelines see three kinds of column, so that inference matches training whatever file format the data came in:
`number` and `boolean` as float64 with NaN, `category` as text with NaN. Only lossless coercions are made, and reported;
infinities are counted and read as missing, because scikit-learn refuses them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import SerializerFunctionWrapHandler, model_serializer

from tasks.core.data.arrow import (
    BOOLEAN,
    EXACT,
    PLAIN,
    Numerals,
    as_floats,
    as_known,
    as_names,
    as_numbers,
    count_true,
    decoded,
    is_text,
    is_usable,
    reads_as_number,
)
from tasks.core.data.dialect import no_name
from tasks.core.data.notations import is_day
from tasks.core.errors import DataError

if TYPE_CHECKING:
    from tasks.core.data.source import Source
    from tasks.core.spec import ModelSpec

RESERVED = ("the prediction", "the target")
"""What checks call the pipeline's answers and the labels: no feature may be called so, nor begin with `ror:`."""
CATEGORIES = 200
"""Categories that a contract lists; the rest count as `other`."""
UNIMPORTANT = 0.01
"""Share of the permutation importance below which what a column does is only a warning."""


@dataclass(frozen=True, slots=True)
class Column:
    """What one input looked like in training."""

    name: str
    kind: str
    """`number`, `boolean` or `category`."""
    type: str
    """Arrow type in the training files, for people."""
    null_rate: float
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] | None = None
    """The most frequent first, at most CATEGORIES of them."""
    other_share: float = 0.0
    """Share of the training values outside `categories`."""
    codes: bool = False
    """Declared `categorical`: numbers or booleans that are names."""
    null_peak: float = 0.0
    """Highest null rate of one training batch: its own history is the yardstick."""
    unseen_peak: float = 0.0
    """Highest share of new categories that one training batch brought, after the first."""
    outside_peak: float | None = None
    """Highest share of values outside the range of the batches before it that one training batch brought; 0 for
    columns that grow. None where that was not measured (versions of earlier releases): their range is not judged."""
    private: bool = False
    """No message shows a value of it."""
    dtype: str = ""
    """The type of pandas that a pipeline sees, where the model's file asks for those: `int64`, `bool`, `category`,
    `object`. Empty: float64, or object for text; left out then, as in the records of earlier releases."""

    @model_serializer(mode="wrap")
    def _written(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = fields(self)
        return {name: value for name, value in written.items() if name != "dtype" or value}


@dataclass(frozen=True, slots=True)
class Contract:
    """The input schema of a version."""

    format_version: int
    rows: int
    """Training rows it was inferred from."""
    features: tuple[Column, ...]
    ignored: tuple[str, ...]
    """Columns that were there but are not features: key, time, target, dates, columns that some batch lacks."""

    @property
    def names(self) -> list[str]:
        """Names of the features, in their order."""
        return [column.name for column in self.features]

    @property
    def private(self) -> bool:
        """Whether text of a library that saw the features may hold values that must not be shown."""
        return any(column.private for column in self.features)


@dataclass
class _Profile:
    """Running totals of one column over the batches of a training set."""

    name: str
    as_category: bool
    types: set[str] = field(default_factory=set)
    rows: int = 0
    nulls: int = 0
    words: bool = False
    """Some value is a name, not a number."""
    booleans: bool = True
    integers: bool = True
    """Every number is a whole one, and written so."""
    low: float = np.inf
    high: float = -np.inf
    counts: Counter[str] = field(default_factory=Counter)
    null_peak: float = 0.0
    unseen_peak: float = 0.0
    outside_peak: float = 0.0

    def add(self, array: pa.Array, numerals: Numerals | None) -> None:
        """One batch's values of this column; `numerals` is how a text file writes numbers."""
        array = decoded(array)
        rows, kind, first, from_text = len(array), array.type, self.rows == 0, numerals is not None
        self.types.add("text" if from_text else str(kind))
        if is_text(kind) or is_day(kind) or self.as_category:
            text = as_names(array, self.as_category)
            fine = reads_as_number(text, numerals or PLAIN)
            numeric = count_true(fine)
            # A text column of a Parquet file holds names even if they look like numbers; a CSV file cannot say so.
            self.words |= not from_text or numeric < rows - text.null_count
            self._count(text, first)
            array = as_numbers(text, numerals or PLAIN, fine)
            nulls = text.null_count
            self.booleans &= count_true(pc.match_substring_regex(text, BOOLEAN)) == rows - nulls
        else:
            nulls = int(np.isnan(as_floats(array)).sum())
            self.booleans &= pa.types.is_boolean(array.type) or nulls == rows
        floats = as_floats(array)
        self.integers &= _are_integers(kind, floats, from_text=from_text)
        if not self.as_category and (from_text or not (is_text(kind) or is_day(kind))):
            nulls += int(np.isinf(floats).sum())  # read as missing
        self._widen(floats[np.isfinite(floats)])
        self.rows += rows
        self.nulls += nulls
        self.null_peak = max(self.null_peak, nulls / rows if rows else 0.0)

    def _widen(self, finite: np.ndarray) -> None:
        if not finite.size:
            return
        if self.low <= self.high:
            outside = np.count_nonzero((finite < self.low) | (finite > self.high)) / finite.size
            self.outside_peak = max(self.outside_peak, outside)
        self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))

    def _count(self, text: pa.Array, first: bool) -> None:
        names, counts = pc.value_counts(text.drop_null()).flatten()
        batch: Counter[str] = Counter()
        for name, count in zip(as_known(names, ()).to_pylist(), counts.to_pylist(), strict=True):
            batch[name] += count
        if not first and batch:
            unseen = sum(count for name, count in batch.items() if name not in self.counts)
            self.unseen_peak = max(self.unseen_peak, unseen / sum(batch.values()))
        self.counts.update(batch)

    def column(self, *, private: bool, growing: bool, typed: bool) -> Column:
        """What is recorded of it; with the type of pandas where pipelines see those."""
        found = self._column(private=private, growing=growing)
        return replace(found, dtype=self._dtype(found.kind)) if typed else found

    def _dtype(self, kind: str) -> str:
        if kind == "category":
            return "category" if self.as_category or len(self.counts) <= CATEGORIES else "object"
        if kind == "boolean":
            return "object" if self.nulls else "bool"
        return "int64" if self.integers and not self.nulls else ""

    def _column(self, *, private: bool, growing: bool) -> Column:
        common = Column(
            self.name,
            kind="number",
            type=" or ".join(sorted(self.types)),
            null_rate=self.nulls / self.rows if self.rows else 0.0,
            codes=self.as_category,
            null_peak=self.null_peak,
            outside_peak=0.0 if growing else self.outside_peak,
            private=private,
        )
        never_seen = self.nulls == self.rows and self.types <= {"text", "null"}
        if self.as_category or self.words or never_seen:
            names = self.counts.most_common(CATEGORIES)
            total = sum(self.counts.values())
            return replace(
                common,
                kind="category",
                categories=tuple(name for name, _ in names),
                other_share=1 - sum(count for _, count in names) / total if total else 0.0,
                unseen_peak=self.unseen_peak,
            )
        if self.low > self.high:
            return common
        kind = "boolean" if self.booleans else "number"
        return replace(common, kind=kind, low=None if growing else self.low, high=None if growing else self.high)


def _are_integers(kind: pa.DataType, floats: np.ndarray, *, from_text: bool) -> bool:
    """A text file has no types: there, whole numbers are integers."""
    if from_text:
        known = floats[~np.isnan(floats)]
        return bool(np.all(np.abs(known) < EXACT) and np.all(known == np.floor(known)))
    return bool(pa.types.is_integer(kind))


def infer(sources: Sequence[Source], spec: ModelSpec) -> Contract:
    """The contract of a training set, batch by batch in time order.

    Without a list of features these are the columns that every batch has, but dates and nested values: a column that
    is added upstream must not break the next training. Dates that are listed reach the pipeline as text. Raises
    DataError, naming columns.
    """
    problems = [problem for source in sources for problem in broken_names(source, spec)]
    if problems:
        raise DataError("\n".join(problems))
    for source in sources[:-1]:
        source.adopt(sources[-1].names)
    aside = {spec.target, *spec.key_columns, spec.time}
    shared = [name for name in sources[-1].names if all(name in source.names for source in sources)]
    names = list(spec.features or [name for name in shared if name not in aside])
    if ours := [name for name in names if name.startswith("ror:") or name in RESERVED]:
        raise DataError(f"Columns {ours} are called like something of ours: rename them, or list `features` without.")
    profiles: dict[str, _Profile] = {}
    unusable: set[str] = set()
    for source in sources:
        table = source.read(names)
        for name in names:
            column = table.column(name)
            listed_day = bool(spec.features) and is_day(column.type)
            if (is_usable(column.type) or listed_day) and name not in unusable:
                profile = profiles.setdefault(name, _Profile(name, name in spec.categorical))
                try:
                    profile.add(column.combine_chunks(), source.numerals)
                except (pa.ArrowInvalid, UnicodeError):
                    raise DataError(f"{source.path}: column {name!r} holds text that is not UTF-8.") from None
            elif spec.features or name in profiles:
                advice = "derive numbers from it, or leave it out of `features`"
                raise DataError(f"{source.path}: column {name!r} is {column.type}: {advice}.")
            else:
                unusable.add(name)
    there = {name for source in sources for name in source.names}
    for key, named, known in (
        ("categorical", spec.categorical, set(profiles)),
        ("growing", spec.growing, there),
    ):
        if unknown := sorted(set(named) - known):
            raise DataError(f"{key} names {unknown}, which the data do not have.")
    if not profiles:
        raise DataError("The training data have no feature columns. List some under `features`.")
    return Contract(
        format_version=1,
        rows=max(profile.rows for profile in profiles.values()),
        features=tuple(
            profile.column(
                private=name in spec.data.private,
                growing=name in spec.growing,
                typed=spec.pipeline.frames == "pandas",
            )
            for name, profile in profiles.items()
        ),
        ignored=tuple(sorted(there - set(profiles))),
    )


def broken_names(source: Source, spec: ModelSpec) -> list[str]:
    """Violations that need no contract to be seen."""
    problems = []
    for name in sorted({name for name in source.names if source.names.count(name) > 1}):
        # A file without its header has values for names.
        at = " and ".join(str(place) for place, other in enumerate(source.names, start=1) if other == name)
        what = f"columns {at} have one name" if spec.data.private else f"column {name!r} is there twice"
        problems.append(f"{source.path}: {what}; rename one")
    if any(not name.strip() for name in (source.names if spec.features is None else spec.features)):
        unnamed = [place for place, name in enumerate(source.names, start=1) if not name.strip()]
        problems.append(f"{source.path}: a column has no name; {no_name(unnamed)}")
    required = [*(spec.features or ()), *spec.key_columns]
    problems += [
        f"{source.path}: column {name!r} is missing{source.nearly(name)}"
        for name in required
        if name not in source.names
    ]
    return problems
