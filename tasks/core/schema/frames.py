"""Rows as a pipeline takes them: frames whose columns and types are the contract's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.core.errors import DataError
from tasks.core.schema.cells import canonical, examine
from tasks.core.schema.contract import Column, Contract
from tasks.core.schema.validation import Tally, expected_of

if TYPE_CHECKING:
    from tasks.core.data.source import Source


def frames(
    contract: Contract,
    source: Source,
    beside: Sequence[str] = (),
    rows: np.ndarray | None = None,
    *,
    whole: bool = False,
) -> Iterator[tuple[pd.DataFrame, list[pa.Array]]]:
    """The features of a validated batch, chunk by chunk or as a `whole`, exactly as the pipeline saw them in training.

    With them come the columns named in `beside`, as they are in the file and row for row. Of the whole batch, or of
    the given row numbers (sorted). Raises DataError where the batch was validated for another version, and this one
    needs a column that it has not.
    """
    if whole:
        parts = list(frames(contract, source, beside, rows))
        if parts:
            tables = [pa.table(keys, names=[str(place) for place in range(len(keys))]) for _, keys in parts]
            joined = pa.concat_tables(tables, promote_options="permissive")  # files of a folder may differ in type
            columns = [column.combine_chunks() for column in joined.columns]
            yield pd.concat([part for part, _ in parts], ignore_index=True), columns
        return
    source.adopt(contract.names)
    if missing := [name for name in contract.names if name not in source.names]:
        raise DataError(f"{source.path} has no column {', '.join(map(repr, missing))}, which this version needs.")
    extra = [name for name in beside if name not in contract.names]
    start = 0
    for chunk in source.stream([*contract.names, *extra]):
        if rows is not None:
            first, last = np.searchsorted(rows, [start, start + chunk.num_rows])
            start += chunk.num_rows
            if first == last:
                continue
            chunk = chunk.take(pa.array(rows[first:last] - (start - chunk.num_rows)))
        part = {
            column.name: canonical(column, chunk.column(column.name), source.numerals) for column in contract.features
        }
        yield _framed(part), [chunk.column(name) for name in beside]


def frame(contract: Contract, source: Source, rows: np.ndarray | None = None) -> pd.DataFrame:
    """All features of a batch, or those of the given row numbers (sorted)."""
    parts = [part for part, _ in frames(contract, source, rows=rows)]
    if not parts:
        return pd.DataFrame({c.name: np.empty(0, object if c.kind == "category" else float) for c in contract.features})
    return pd.concat(parts, ignore_index=True)


def conform(contract: Contract, data: pd.DataFrame) -> pd.DataFrame:
    """A frame from a service, as the pipeline saw its training data. Raises DataError naming every violation."""
    if not isinstance(data, pd.DataFrame):
        raise DataError(f"the input is a {type(data).__name__}; a pandas DataFrame is expected")
    if not len(data):
        raise DataError("the input has no rows")
    arrays: dict[str, Any] = {}
    problems: list[str] = []
    names = list(data.columns)
    for column in contract.features:
        places = [place for place, name in enumerate(names) if isinstance(name, str) and name == column.name]
        if len(places) != 1:
            problems.append(f"column {column.name!r} is {'there twice' if places else _missing(column, names)}")
            continue
        array = _arrow(data.iloc[:, places[0]])
        if array is None:
            held = "" if column.private else f" ({_types(data.iloc[:, places[0]])})"
            problems.append(
                f"column {column.name!r}: its values are not of one kind{held} (expected {expected_of(column)})"
            )
            continue
        tally = Tally(column)
        tally.add(examine(column, array, None))
        if found := tally.problems(len(data)):
            problems += found
        else:
            arrays[column.name] = canonical(column, array, None)
    if problems:
        raise DataError("\n".join(problems))
    return _framed(arrays)


def _framed(columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """As they are: from pandas 3 on, text would become another type, which no pipeline of before has seen."""
    return pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})


def _missing(column: Column, names: Sequence[Any]) -> str:
    other = next((name for name in names if not isinstance(name, str) and str(name) == column.name), None)
    return "missing" + (
        f"; {other!r} is not text: rename it" if other is not None else f" (expected {expected_of(column)})"
    )


def _arrow(values: pd.Series) -> pa.Array | None:
    """A column of a frame, whatever it is made of; None where Arrow has no type for it."""
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        # Not its text: that quotes the value.
        return None
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _types(values: pd.Series) -> str:
    """What a column holds, by the names of types alone."""
    if values.dtype != object:
        return str(values.dtype)
    return " and ".join(sorted({type(value).__name__ for value in values[values.notna()]}))
