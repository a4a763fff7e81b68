"""Rows as numbers that are equal where the rows are: what tells that a row came before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.arrow import (
    PLAIN,
    Numerals,
    as_floats,
    as_numbers,
    as_text,
    decoded,
    is_text,
    is_usable,
    reads_as_number,
)
from tasks.core.data.source import Source

_NOTHING = np.uint64(0x9E3779B97F4A7C15)
"""Stands for a value that is missing."""
_NEXT = np.uint64(0x100000001B3)
"""Odd: what columns before the last are multiplied by, so that their order matters."""


def row_numbers(source: Source, columns: Sequence[str], most: int | None = None) -> np.ndarray:
    """A number of 64 bits for each row, or of the `most` first ones; uint64, shape (rows,): the same for the same
    values in these columns, whatever file they came in: `1.50` is 1.5, and blanks around text do not count. Raises
    UnreadableData.

    Two different rows of a million share one with a chance of 3 in 10^8. Values that are no numbers, text or times are
    passed over.
    """
    found = [np.array([], np.uint64)]
    for chunk in source.stream(list(columns)):
        numbers = np.zeros(len(chunk), np.uint64)
        for column in chunk.columns:
            numbers = numbers * _NEXT + _values(decoded(column), source.numerals or PLAIN)
        found.append(numbers)
        if most is not None and sum(map(len, found)) >= most:
            break
    return np.concatenate(found)[:most]


def _values(array: pa.Array, numerals: Numerals) -> np.ndarray:
    if is_text(array.type):
        text = pc.if_else(pc.equal(as_text(array), ""), pa.scalar(None, pa.string()), as_text(array))
        fine = reads_as_number(text, numerals)
        numbers = as_numbers(text, numerals, fine)
        words = pd.util.hash_array(np.asarray(pc.fill_null(text, "").to_numpy(zero_copy_only=False), dtype=object))
        return np.where(np.asarray(pc.is_valid(text)), np.where(_true(fine), _floats(numbers), words), _NOTHING)
    if pa.types.is_null(array.type):
        return np.full(len(array), _NOTHING)
    if is_usable(array.type):
        return _floats(array)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        ticks = array.cast(pa.timestamp("us", getattr(array.type, "tz", None)), safe=False).cast(pa.int64())
        return np.where(np.asarray(array.is_valid()), _hashed(pc.fill_null(ticks, 0).to_numpy()), _NOTHING)
    return np.zeros(len(array), np.uint64)


def _floats(array: pa.Array) -> np.ndarray:
    values = as_floats(array) + 0.0  # -0.0 is 0.0
    return np.where(np.isnan(values), _NOTHING, _hashed(np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)))


def _hashed(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = pd.util.hash_array(values)
    return found


def _true(array: pa.Array) -> np.ndarray:
    found: np.ndarray = pc.fill_null(array, False).to_numpy(zero_copy_only=False)
    return found


def beyond(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which of these rows are more than the known ones account for: booleans, shape (rows,).

    A row that is there three times and known twice is beyond once, the last time.
    """
    values, counts = np.unique(known, return_counts=True)
    had = pd.Series(counts, index=values).reindex(rows).fillna(0).to_numpy()
    found: np.ndarray = pd.Series(rows).groupby(rows).cumcount().to_numpy() >= had
    return found
