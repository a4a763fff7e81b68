"""The contract: the input schema a version accepts, inferred from its training data and checked on everything after.

Pipelines see three kinds of column, so that inference matches training whatever file format the data came in:
`number` and `boolean` as float64 with NaN, `category` as text with NaN. Only lossless coercions are made, and reported;
infinities are counted and read as missing, because scikit-learn refuses them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.batches import Source
from tasks.core.columns import (
    BOOLEAN,
    EXACT,
    NUMBER,
    as_floats,
    as_names,
    as_numbers,
    as_text,
    count_true,
    decoded,
    is_number,
    is_text,
)
from tasks.core.errors import DataError
from tasks.core.spec import ChecksSpec, ModelSpec
from tasks.core.types import Check, Verdict

CATEGORIES = 200
"""Categories that a contract lists; the rest count as `other`."""


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
        return [column.name for column in self.features]


@dataclass(frozen=True, slots=True)
class Validation:
    """What a batch looks like beside a contract."""

    rows: int
    problems: tuple[str, ...]
    """Structural violations: any of them blocks the batch."""
    changes: tuple[Check, ...]
    """One check per feature: nulls, unseen categories, infinities and ranges against training."""
    coercions: tuple[str, ...] = ()


# --- inference -----------------------------------------------------------------------------------------------


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
    low: float = np.inf
    high: float = -np.inf
    counts: Counter[str] = field(default_factory=Counter)
    null_peak: float = 0.0
    unseen_peak: float = 0.0

    def add(self, array: pa.Array, from_text: bool) -> None:
        """One batch's values of this column."""
        array = decoded(array)
        rows, first = len(array), self.rows == 0
        self.types.add("text" if from_text else str(array.type))
        if is_text(array.type) or self.as_category:
            text = as_names(array, self.as_category)
            numeric = count_true(pc.match_substring_regex(text, NUMBER))
            # A text column of a Parquet file holds names even if they look like numbers; a CSV file cannot say so.
            self.words |= not from_text or numeric < rows - text.null_count
            self._count(text, first)
            array = as_numbers(text)
            nulls = text.null_count
            self.booleans &= count_true(pc.match_substring_regex(text, BOOLEAN)) == rows - nulls
        else:
            nulls = int(np.isnan(as_floats(array)).sum())
            self.booleans &= pa.types.is_boolean(array.type) or nulls == rows
        finite = as_floats(array)
        finite = finite[np.isfinite(finite)]
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        self.rows += rows
        self.nulls += nulls
        self.null_peak = max(self.null_peak, nulls / rows if rows else 0.0)

    def _count(self, text: pa.Array, first: bool) -> None:
        names, counts = pc.value_counts(text.drop_null()).flatten()
        batch = dict(zip(names.to_pylist(), counts.to_pylist(), strict=True))
        if not first and batch:
            unseen = sum(count for name, count in batch.items() if name not in self.counts)
            self.unseen_peak = max(self.unseen_peak, unseen / sum(batch.values()))
        self.counts.update(batch)

    def column(self) -> Column:
        common = Column(
            self.name,
            kind="number",
            type=" or ".join(sorted(self.types)),
            null_rate=self.nulls / self.rows if self.rows else 0.0,
            codes=self.as_category,
            null_peak=self.null_peak,
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
        return replace(common, kind=kind, low=self.low, high=self.high)


def infer(sources: Sequence[Source], spec: ModelSpec) -> Contract:
    """The contract of a training set, batch by batch in time order.

    Without a list of features these are the columns that every batch has, but dates and nested values: a column that
    somebody adds upstream must not break the next training. Raises DataError, naming columns.
    """
    problems = [problem for source in sources for problem in _unusable(source, spec)]
    if problems:
        raise DataError("\n".join(problems))
    aside = {spec.target, spec.key, spec.time}
    shared = [name for name in sources[-1].names if all(name in source.names for source in sources)]
    names = list(spec.features or [name for name in shared if name not in aside])
    profiles: dict[str, _Profile] = {}
    unusable: set[str] = set()
    for source in sources:
        table = source.read(names)
        for name in names:
            column = table.column(name)
            if _is_usable(column.type) and name not in unusable:
                profile = profiles.setdefault(name, _Profile(name, name in spec.categorical))
                profile.add(column.combine_chunks(), source.is_text)
            elif spec.features or name in profiles:
                advice = "derive numbers from it (hour, weekday, age), or leave it out of `features`"
                raise DataError(f"{source.path}: column {name!r} is {column.type}: {advice}.")
            else:
                unusable.add(name)
    unknown = sorted(set(spec.categorical) - set(profiles))
    if unknown:
        raise DataError(f"categorical names {unknown}, which the data do not have.")
    if not profiles:
        raise DataError("The training data have no feature columns. List some under `features`.")
    return Contract(
        format_version=1,
        rows=max(profile.rows for profile in profiles.values()),
        features=tuple(profile.column() for profile in profiles.values()),
        ignored=tuple(sorted({name for source in sources for name in source.names} - set(profiles))),
    )


def _is_usable(kind: pa.DataType) -> bool:
    return not (pa.types.is_temporal(kind) or pa.types.is_nested(kind) or pa.types.is_binary(kind))


def _unusable(source: Source, spec: ModelSpec) -> list[str]:
    """Violations that need no contract to be seen."""
    twice = sorted({name for name in source.names if source.names.count(name) > 1})
    problems = [f"{source.path}: column {name!r} is there twice; rename one" for name in twice]
    if any(not name.strip() for name in source.names):
        problems.append(f"{source.path}: a column has no name; name it")
    required = [*(spec.features or ()), *([spec.key] if spec.key else [])]
    problems += [f"{source.path}: column {name!r} is missing" for name in required if name not in source.names]
    return problems


# --- validation ----------------------------------------------------------------------------------------------


@dataclass
class _Tally:
    """Running totals of one feature of a batch, against its column in the contract."""

    column: Column
    nulls: int = 0
    bad: int = 0
    example: str | None = None
    unseen: int = 0
    unseen_example: str | None = None
    infinite: int = 0
    outside: int = 0
    coerced: str | None = None

    def add(self, array: pa.Array, from_text: bool) -> None:
        array, column = decoded(array), self.column
        if pa.types.is_null(array.type):
            self.nulls += len(array)
            return
        if column.kind == "category":
            if pa.types.is_temporal(array.type) or pa.types.is_nested(array.type):
                self._reject(array, array)
                return
            text = as_names(array, column.codes)
            self.nulls += text.null_count
            unseen = text.filter(
                pc.and_(
                    pc.is_valid(text),
                    pc.invert(pc.is_in(text, value_set=pa.array(column.categories, pa.string()))),
                )
            )
            self.unseen += len(unseen)
            if len(unseen) and self.unseen_example is None:
                self.unseen_example = unseen[0].as_py()
        else:
            if is_text(array.type):
                text = as_text(array)
                words = text.filter(pc.invert(pc.fill_null(pc.match_substring_regex(text, NUMBER), True)))
                if not from_text:
                    # A Parquet file that declares text here was written in another way than the training data.
                    self._reject(text.drop_null(), words)
                    return
                self._reject(words, words)
                array = as_numbers(text)
            elif not is_number(array.type):
                self._reject(array.drop_null(), array.drop_null())
                return
            values = as_floats(array)
            if pa.types.is_integer(array.type) and np.abs(values).max(initial=0) >= EXACT:
                large = array.filter(pa.array(np.abs(values) >= EXACT))
                self._reject(large, large)
            self.nulls += int(np.isnan(values).sum())
            self.infinite += int(np.isinf(values).sum())
            if column.low is not None and column.high is not None:
                self.outside += int(((values < column.low) | (values > column.high)).sum())
        if not from_text and str(array.type) not in column.type:
            self.coerced = f"{column.name}: {array.type} read as {column.kind}"

    def _reject(self, bad: pa.Array, telling: pa.Array) -> None:
        self.bad += len(bad)
        if self.example is None and len(bad):
            self.example = repr((telling if len(telling) else bad)[0].as_py())

    def problem(self, rows: int, private: bool) -> str | None:
        name, kind = self.column.name, self.column.kind
        if self.bad:
            example = "" if private else f", for example {self.example}"
            expected = f"(expected {self.column.type})"
            return f"column {name!r}: {self.bad:,} of {rows:,} values are not a {kind}{example} {expected}"
        if self.nulls == rows and self.column.null_rate < 0.5:
            return f"column {name!r}: all {rows:,} values are missing (in training {self.column.null_rate:.0%} were)"
        return None

    def check(self, rows: int, floors: ChecksSpec, private: bool) -> Check:
        """Content against training; what exceeds its floor is evidence that assumptions changed."""
        column, reasons = self.column, []
        rise = self.nulls / rows - column.null_peak
        if rise > floors.null_floor:
            reasons.append(f"{self.nulls / rows:.0%} missing instead of {column.null_rate:.0%}")
        present = rows - self.nulls
        new = self.unseen / present - column.other_share if present else 0.0
        if new > max(floors.unseen_floor, column.unseen_peak):
            example = "" if private else f" such as {self.unseen_example!r}"
            reasons.append(f"{self.unseen / present:.0%} in categories not seen in training{example}")
        if self.infinite:
            reasons.append(f"{self.infinite:,} infinite values")
        summary = f"{column.name}: " + (
            "; ".join(reasons)
            if reasons
            else f"{self.nulls / rows:.1%} missing, {self.outside:,} outside the training range"
        )
        return Check(
            name=f"content:{column.name}",
            verdict=Verdict.FAIL if reasons else Verdict.PASS,
            summary=summary,
            value=max(rise, new, 0.0),
            threshold=max(floors.unseen_floor, column.unseen_peak) if new > rise else floors.null_floor,
        )


def validate(contract: Contract | None, source: Source, spec: ModelSpec) -> Validation:
    """Compare a batch with a contract in one streaming pass; memory does not grow with rows.

    All violations are reported together. Without a contract (no version yet) only those are seen that need none.
    Raises UnreadableData when the file cannot be read to its end.
    """
    problems = _unusable(source, spec)
    if problems:
        return Validation(0, tuple(problems), ())
    tallies = [_Tally(column) for column in (contract.features if contract else ())]
    missing = [tally.column for tally in tallies if tally.column.name not in source.names]
    problems = [f"column {column.name!r} is missing (expected {column.type})" for column in missing]
    tallies = [tally for tally in tallies if tally.column not in missing]
    names = [tally.column.name for tally in tallies] or source.names[:1]
    rows = 0
    for chunk in source.stream(names):
        rows += chunk.num_rows
        for tally, array in zip(tallies, chunk.columns, strict=False):
            tally.add(array, source.is_text)
    if rows == 0:
        return Validation(0, (*problems, "the file has no rows"), ())
    private = set(spec.data.private)
    found = (tally.problem(rows, tally.column.name in private) for tally in tallies)
    problems += [problem for problem in found if problem]
    return Validation(
        rows=rows,
        problems=tuple(problems),
        changes=tuple(tally.check(rows, spec.checks, tally.column.name in private) for tally in tallies),
        coercions=tuple(tally.coerced for tally in tallies if tally.coerced),
    )


# --- frames: what pipelines see ------------------------------------------------------------------------------


def frames(
    contract: Contract, source: Source, beside: Sequence[str] = ()
) -> Iterator[tuple[pd.DataFrame, list[pa.Array]]]:
    """The features of a validated batch, chunk by chunk, exactly as the pipeline saw them in training.

    With them come the columns named in `beside`, as they are in the file and row for row.
    """
    extra = [name for name in beside if name not in contract.names]
    for chunk in source.stream([*contract.names, *extra]):
        part = {column.name: _canonical(column, chunk.column(column.name)) for column in contract.features}
        yield pd.DataFrame(part), [chunk.column(name) for name in beside]


def frame(contract: Contract, source: Source, rows: np.ndarray | None = None) -> pd.DataFrame:
    """All features of a batch, or those of the given row numbers (sorted)."""
    parts, start = [], 0
    for part, _ in frames(contract, source):
        if rows is not None:
            inside = rows[(rows >= start) & (rows < start + len(part))] - start
            start += len(part)
            part = part.iloc[inside]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def conform(contract: Contract, data: pd.DataFrame) -> pd.DataFrame:
    """A frame from a service, as the pipeline saw its training data. Raises DataError naming every violation."""
    missing = [name for name in contract.names if name not in data.columns]
    if missing:
        raise DataError("\n".join(f"column {name!r} is missing" for name in missing))
    arrays: dict[str, Any] = {}
    problems: list[str] = []
    for column in contract.features:
        tally = _Tally(column)
        try:
            array = pa.array(data[column.name], from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            problems.append(f"column {column.name!r}: {str(error).splitlines()[0]} (expected {column.type})")
            continue
        tally.add(array, from_text=False)
        if tally.bad:
            problems.append(tally.problem(len(data), private=False) or "")
        else:
            arrays[column.name] = _canonical(column, array)
    if problems:
        raise DataError("\n".join(problems))
    return pd.DataFrame(arrays)


def _canonical(column: Column, array: pa.Array) -> np.ndarray:
    array = decoded(array)
    if column.kind == "category":
        values = as_names(array, column.codes).to_numpy(zero_copy_only=False).astype(object)
        values[pd.isna(values)] = np.nan
        return values
    if is_text(array.type):
        array = as_numbers(as_text(array))
    values = as_floats(array)
    return np.where(np.isfinite(values), values, np.nan)
