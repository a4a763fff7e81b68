"""Arrow columns as the three kinds that pipelines see: numbers and booleans as float64, categories as text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import DataError

BOOLEAN = r"^(?i:true|false)$"

EXACT = 2**53
"""Integers from this on are not exact as float64."""


VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
"""Types that Arrow has few functions for, and what they are read as: polars, DuckDB and pandas write them."""
BOOL8 = "arrow.bool8"
"""The one extension type that is read, as booleans; others are refused by name, as dates and nested values are."""


def decoded(array: pa.Array) -> pa.Array:
    """The same values as one of the types that are read, where there is one: without dictionary encoding, any kind of
    text as `string`. Values of any other type stay as they are."""
    if pa.types.is_dictionary(array.type):
        words = decoded(array.dictionary)  # views cannot be looked up in
        array = pa.DictionaryArray.from_arrays(array.indices, words).dictionary_decode()
    if _is_bool8(array.type):
        array = array.storage.cast(pa.bool_())
    if array.type in VIEWS:
        array = array.cast(VIEWS[array.type])
    return array.cast(pa.string()) if pa.types.is_large_string(array.type) else array


def _is_bool8(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == BOOL8


def without_views(chunk: pa.RecordBatch) -> pa.RecordBatch:
    """The same columns, those of a view type as what it is a view of: rows can be taken from them."""
    for place, field in enumerate(chunk.schema):
        if field.type in VIEWS:
            chunk = chunk.set_column(
                place, field.with_type(VIEWS[field.type]), chunk.column(place).cast(VIEWS[field.type])
            )
    return chunk


def is_text(kind: pa.DataType) -> bool:
    """Whether this is one of Arrow's types of text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether values of this type are read as float64: numbers, decimals and booleans."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def is_usable(kind: pa.DataType) -> bool:
    """Whether values of this type can be numbers or names: dates, bytes and nested values cannot."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return _is_bool8(kind) or is_text(kind) or is_number(kind) or pa.types.is_null(kind)


def as_text(array: pa.Array) -> pa.Array:
    """Values as text; a float that holds integers (nulls made it one) reads as those integers."""
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
        try:
            array = array.cast(pa.int64())
        except pa.ArrowInvalid:
            return array.cast(pa.string())
    text = array if pa.types.is_string(array.type) else array.cast(pa.string())
    return pc.utf8_trim_whitespace(text)


def as_known(names: pa.Array, known: Sequence[str]) -> pa.Array:
    """Names with the characters that `known` ones have: letters with accents may be written as one character, or as two
    (Unicode's NFC and NFD). Those that none is like are written with one."""
    there = len(names) - names.null_count
    if count_true(pc.string_is_ascii(names)) == there:
        return names
    exactly = pc.is_in(names, value_set=pa.array(known, pa.string()))
    if count_true(exactly) == there:
        return names
    alike = pc.utf8_normalize(names, form="NFC")
    odd = {composed: name for name in known if (composed := unicodedata.normalize("NFC", name)) != name}
    if odd:
        place = pc.index_in(alike, value_set=pa.array(list(odd), pa.string()))
        alike = pc.coalesce(pa.array(list(odd.values()), pa.string()).take(place), alike)
    return pc.if_else(exactly, names, alike)


def as_names(array: pa.Array, codes: bool) -> pa.Array:
    """Values as names. Codes (numbers or booleans that are names) are written alike whatever file they came in: `71.0`
    is `71`, `True` is `true`."""
    text = as_text(array)
    if not codes:
        return text
    whole = pc.replace_substring_regex(text, r"^([+-]?\d+)\.0+$", r"\1")
    return pc.if_else(pc.match_substring_regex(whole, BOOLEAN), pc.utf8_lower(whole), whole)


@dataclass(frozen=True, slots=True)
class Numerals:
    """How a text file writes numbers."""

    decimal: str = "."
    thousands: str = ""
    """The mark between groups of digits; a blank stands for any kind of blank, ' for the curved one, too."""
    strip: str = ""
    """Characters around numbers; with () a number in them is negative, as accountants write it."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the decimal mark has to be looked at."""
        return not self.thousands and not self.strip


PLAIN = Numerals()
_BLANKS = r" \t\x{00a0}\x{2009}\x{202f}"
_MARKS = {" ": _BLANKS, "'": r"'\x{2019}"}
"""What else a mark between groups of digits may be, as a class of characters."""


def _bare(text: pa.Array, numerals: Numerals) -> pa.Array:
    """Numbers without what stands around them and between their groups of digits; any other text as it is.

    Groups have three digits, or, as in India, two before the last three: `1,5` is not 15.
    """
    decimal = re.escape(numerals.decimal)
    if numerals.strip:
        # A mark in front of digits is a decimal one: of "kr." the point is only seen behind them.
        front, behind = (f"[{_BLANKS}{_escaped(numerals.strip, but)}]*" for but in ("().,", "()"))
        body = rf"({decimal}?\d(?:.*\d)?{decimal}?)"
        if "(" in numerals.strip:
            text = pc.replace_substring_regex(text, rf"^{front}\({front}{body}{behind}\){behind}$", r"-\1")
        text = pc.replace_substring_regex(text, rf"^{front}([+-]?){front}{body}{behind}$", r"\1\2")
    if numerals.thousands:
        mark = f"[{_MARKS.get(numerals.thousands, re.escape(numerals.thousands))}]"
        groups = rf"^[+-]?([1-9]\d{{0,2}}({mark}\d{{3}})+|[1-9]\d?({mark}\d{{2}})+{mark}\d{{3}})({decimal}\d*)?$"
        grouped = pc.match_substring_regex(text, groups)
        if count_true(grouped):
            text = pc.if_else(grouped, pc.replace_substring_regex(text, mark, ""), text)
    return text


def _escaped(characters: str, but: str) -> str:
    """For a class of characters, without some and without blanks, which are in it anyway."""
    return "".join(re.escape(one) for one in characters if one not in but and not one.isspace())


def reads_as_number(text: pa.Array, numerals: Numerals = PLAIN) -> pa.Array:
    """Whether each value of a text file is a number, null where it is missing; `true` and `false` are 1 and 0, as they
    are in a Parquet file."""
    mark = re.escape(numerals.decimal)
    number = rf"^[+-]?(\d+{mark}?\d*|{mark}\d+)([eE][+-]?\d+)?$|^[+-]?([iI]nf(inity)?|[nN]a[nN])$|{BOOLEAN}"
    return pc.match_substring_regex(text if numerals.is_plain else _bare(text, numerals), number)


def without_marks(text: pa.Array, numerals: Numerals, fine: pa.Array) -> pa.Array:
    """Numbers as everyone writes them, with a decimal point and nothing between digits; null where `fine`, which is
    what `reads_as_number` said, is not true."""
    digits = pc.if_else(fine, text, pa.scalar(None, pa.string()))
    if not numerals.is_plain:
        digits = _bare(digits, numerals)
    return digits if numerals.decimal == "." else pc.replace_substring(digits, numerals.decimal, ".")


def as_numbers(text: pa.Array, numerals: Numerals = PLAIN, fine: pa.Array | None = None) -> pa.Array:
    """Text as float64, null where it is not a number; `fine` is what `reads_as_number` said, if it was asked."""
    fine = reads_as_number(text, numerals) if fine is None else fine
    digits = without_marks(text, numerals, fine)
    words = pc.match_substring_regex(digits, BOOLEAN)
    if count_true(words):
        named = pc.if_else(pc.equal(pc.utf8_lower(digits), "true"), "1", "0")
        digits = pc.if_else(words, named, digits)
    return digits.cast(pa.float64())


def as_floats(array: pa.Array) -> np.ndarray:
    """Numbers or booleans as float64, NaN where missing, shape (rows,); large integers are rounded."""
    numbers: np.ndarray = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def count_true(array: pa.Array) -> int:
    """How many booleans are true; missing ones are not."""
    return int(pc.sum(array).as_py() or 0)


def target_values(values: pa.Array, task: str, *, private: bool = False) -> np.ndarray:
    """Known labels as scikit-learn wants them: float64 for regression; else integers, booleans or text as delivered.

    Raises DataError for labels that fit the task in no lossless way; it shows no value of a private target.
    """
    values = decoded(values)
    if is_text(values.type) and task != "regression":
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=object)
    reason = f"it is {values.type}"
    try:
        if task != "regression" and pa.types.is_boolean(values.type):
            return np.asarray(values.to_numpy(zero_copy_only=False))
        if is_usable(values.type):
            numbers = values.cast(pa.float64() if task == "regression" else pa.int64())
            found: np.ndarray = numbers.to_numpy(zero_copy_only=False)
            if np.isfinite(found).all():
                return found
            reason = f"{np.count_nonzero(~np.isfinite(found)):,} labels are infinite"
    except pa.ArrowInvalid as error:
        text = str(error).splitlines()[0]
        reason = f"some labels are not {'numbers' if task == 'regression' else 'whole numbers'}" if private else text
    raise DataError(f"The target does not fit task = {task!r}: {reason}.")


def sample_rows(rows: int, limit: int, seed: int) -> np.ndarray:
    """Sorted row numbers of a seeded sample of at most `limit` rows."""
    if rows <= limit:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))
