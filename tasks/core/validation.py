"""Data against a contract: is it what the pipeline needs, and the very values that the pipeline then sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.batches import Source
from tasks.core.columns import EXACT, NUMBER, as_floats, as_names, as_numbers, as_text, decoded, is_number, is_text
from tasks.core.contract import Column, Contract, broken_names
from tasks.core.errors import DataError
from tasks.core.spec import ChecksSpec, ModelSpec
from tasks.core.types import Check, Verdict


@dataclass(frozen=True, slots=True)
class Validation:
    """What a batch looks like beside a contract."""

    rows: int
    problems: tuple[str, ...]
    """Structural violations: any of them blocks the batch."""
    changes: tuple[Check, ...]
    """One check per feature: nulls, unseen categories, infinities and ranges against training."""
    coercions: tuple[str, ...] = ()


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
    problems = broken_names(source, spec)
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

    With them come the columns named in `beside`, as they are in the file and row for row. Raises DataError where the
    batch was validated for another version, and this one needs a column that it has not.
    """
    if missing := [name for name in contract.names if name not in source.names]:
        raise DataError(f"{source.path} has no column {', '.join(map(repr, missing))}, which this version needs.")
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
