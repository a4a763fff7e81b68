"""One column of some rows against the contract: which of its cells are what, and what a pipeline sees of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.arrow import (
    EXACT,
    PLAIN,
    Numerals,
    as_floats,
    as_known,
    as_names,
    as_numbers,
    as_text,
    count_true,
    decoded,
    is_text,
    is_usable,
    reads_as_number,
    without_marks,
)
from tasks.core.data.notations import is_day
from tasks.core.schema.contract import Column

FAR = 1_000.0
"""Widths of the training range that no stream's own tails reach beyond it: a slip, or another unit."""


@dataclass(frozen=True, slots=True)
class Examined:
    """Which cells of a column are what. Masks have shape (rows,) and are None where no cell is so; but for
    `far`, no cell is two things at once."""

    values: pa.Array
    """As they are in the file."""
    missing: np.ndarray | None = None
    bad: np.ndarray | None = None
    """Not what the column's kind asks for: words among numbers, dates, bytes, nested values."""
    inexact: np.ndarray | None = None
    """Integers with more digits than a pipeline's floats hold."""
    infinite: np.ndarray | None = None
    """Read as missing."""
    unseen: np.ndarray | None = None
    """In a category that the contract does not list."""
    outside: np.ndarray | None = None
    """Beyond the lowest or highest value of training."""
    far: np.ndarray | None = None
    """Those of them that are FAR widths of training's range away from it."""
    coerced: str | None = None
    """How a type that training did not have was read, without loss."""
    example: int | None = None
    """Row of the value that tells best what is bad."""


def examine(column: Column, array: pa.Array, numerals: Numerals | None) -> Examined:
    """Compare values with what the contract says of their column.

    `numerals` is how a text file writes numbers, None for values that have a type of their own: there text is
    no number, because the training data were written in another way. Nothing is raised, whatever the type.
    """
    values = decoded(array)
    if pa.types.is_null(values.type):
        return Examined(values, missing=_some(np.ones(len(values), dtype=bool)))
    if not _fits(values.type, column) or (numerals is None and is_text(values.type) and not _is_utf8(values)):
        return _none_fits(values)
    coerced = None
    if numerals is None and str(values.type) not in column.type.split(" or "):
        coerced = f"{column.name}: {values.type} read as {column.kind}"
    if column.kind == "category":
        return _names(column, values, coerced)
    if is_text(values.type):
        return _none_fits(values) if numerals is None else _text_numbers(column, values, numerals)
    return _numbers(column, values, as_floats(values), coerced=coerced)


def _fits(kind: pa.DataType, column: Column) -> bool:
    """Dates are text where training had dates, too."""
    return is_usable(kind) or (is_day(kind) and column.type.startswith(("timestamp", "date")))


def _none_fits(values: pa.Array) -> Examined:
    """Every value is bad. Where they are text, the first one that is not a number tells best why."""
    missing = _mask(values.is_null())
    bad = np.ones(len(values), dtype=bool) if missing is None else ~missing
    telling: np.ndarray | None = bad
    if is_text(values.type):
        telling = None
        if _is_utf8(values):
            words = _mask(pc.invert(pc.fill_null(reads_as_number(as_text(values)), True)))
            telling = bad if words is None else words
    return Examined(values, missing=missing, bad=_some(bad), example=_first(telling))


def _names(column: Column, values: pa.Array, coerced: str | None) -> Examined:
    names = as_known(as_names(values, column.codes), column.categories or ())
    missing, unseen = _mask(names.is_null()) if names.null_count else None, None
    known = pc.is_in(names, value_set=pa.array(column.categories, pa.string()))
    if count_true(known) + names.null_count < len(names):
        unseen = ~_array(known) if missing is None else ~(_array(known) | missing)
    return Examined(values, missing=missing, unseen=unseen, coerced=coerced)


def _text_numbers(column: Column, values: pa.Array, numerals: Numerals) -> Examined:
    text = as_text(values)
    fine = reads_as_number(text, numerals)
    words = _mask(pc.invert(pc.fill_null(fine, True)))
    written = text if numerals.is_plain else without_marks(text, numerals, fine)
    found = _numbers(column, values, as_floats(as_numbers(text, numerals, fine)), written)
    if words is None:
        return found
    missing = None if found.missing is None else _some(found.missing & ~words)
    return replace(found, missing=missing, bad=words, example=_first(words))


def _numbers(
    column: Column, values: pa.Array, floats: np.ndarray, text: pa.Array | None = None, coerced: str | None = None
) -> Examined:
    """`floats` are the values, NaN where missing; `text` is how they are written, where that is how they came."""
    missing = infinite = outside = inexact = None
    finite = np.isfinite(floats)
    if not finite.all():
        missing = _some(np.isnan(floats))
        infinite = _some(~finite if missing is None else ~finite & ~missing)
    low, high = column.low, column.high
    if low is not None and high is not None:
        outside = _without((floats < low) | (floats > high), infinite)
    if not (pa.types.is_floating(values.type) or pa.types.is_boolean(values.type)):
        # Floats are what they are; integers may be numbers of something, and must keep their digits.
        large = _without(np.abs(floats) >= EXACT, infinite)
        if large is not None and text is not None:
            large &= _array(pc.fill_null(pc.match_substring_regex(text, r"^[+-]?\d+$"), False))
        inexact = _some(large) if large is not None else None
        outside = _without(outside, inexact) if outside is not None else None
    far = _some(outside & _is_far(floats, column)) if outside is not None else None
    return Examined(values, missing, None, inexact, infinite, None, outside, far, coerced, _first(inexact))


def _is_far(floats: np.ndarray, column: Column) -> np.ndarray:
    assert column.low is not None and column.high is not None
    width = (column.high - column.low) or max(abs(column.high), 1.0)
    return np.asarray(np.maximum(column.low - floats, floats - column.high) > FAR * width)


def canonical(column: Column, array: pa.Array, numerals: Numerals | None) -> np.ndarray:
    """What a pipeline sees of values that fit: float64 with NaN, or text with NaN; shape (rows,)."""
    array = decoded(array)
    if array.null_count == len(array):  # of any type: nothing is in it
        return np.full(len(array), np.nan, dtype=object if column.kind == "category" else float)
    if column.kind == "category":
        names = as_known(as_names(array, column.codes), column.categories or ())
        values = _array(names).astype(object)
        if names.null_count:
            values[_array(names.is_null())] = np.nan
        return values
    if is_text(array.type):
        array = as_numbers(as_text(array), numerals or PLAIN)
    floats = as_floats(array)
    finite = np.isfinite(floats)
    return floats.copy() if finite.all() else np.where(finite, floats, np.nan)


def _is_utf8(values: pa.Array) -> bool:
    """A Parquet file may hold text that is not UTF-8; Arrow reads it without looking."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _array(values: pa.Array) -> np.ndarray:
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _mask(values: pa.Array) -> np.ndarray | None:
    return _array(values) if count_true(values) else None


def _some(mask: np.ndarray) -> np.ndarray | None:
    return mask if mask.any() else None


def _without(mask: np.ndarray, other: np.ndarray | None) -> np.ndarray | None:
    return _some(mask if other is None else mask & ~other)


def _first(mask: np.ndarray | None) -> int | None:
    return int(mask.argmax()) if mask is not None and mask.any() else None
