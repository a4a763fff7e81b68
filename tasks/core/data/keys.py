"""Keys of rows: both sides of a join are brought to one kind here, and nowhere else.

A key is written as text in one way for each kind, so that the same key has the same text whatever file it came in:
an `integer` without sign, leading zeros or `.0`; a `text` in Unicode's NFC, trimmed, with its case and zeros; a `time`
as its instant. Nothing else is made alike: what still differs is another key. A key of several columns is the texts of
all of them, `17|2026-01`, and is missing where one of them is.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.arrow import as_text, count_true, decoded, is_text, is_usable
from tasks.core.data.source import Source
from tasks.core.errors import DataError
from tasks.core.spec import KeyKind, ModelSpec

WHOLE = r"^[+-]?\d+(\.0*)?$"
"""A whole number as text; one with an exponent may have lost digits, and is none."""
ZONED = r"(Z|[+-]\d{2}(:?\d{2})?)$"
"""How a time with a zone ends, once it has hours."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one file, row by row."""

    values: pa.Array
    """Text, shape (rows,), null where there is no key of the kind."""
    kinds: tuple[KeyKind, ...]
    """Of each of the key's columns."""
    missing: int
    """Rows without one."""
    strange: int
    """Rows whose key is not of the kind, and finds nothing."""
    example: str
    """The first of those, as it is written."""


def kind_of(keys: pa.Array | pa.ChunkedArray) -> KeyKind:
    """The kind that a column of keys suggests, where the model's file names none: whole numbers are `integer`, times
    and dates `time`, and everything else `text`."""
    of = keys.type
    if pa.types.is_timestamp(of) or pa.types.is_date(of):
        return "time"
    if pa.types.is_integer(of):
        return "integer"
    if pa.types.is_floating(of):
        whole = pc.fill_null(pc.or_(pc.is_nan(keys), pc.equal(keys, pc.floor(keys))), True)
        return "integer" if count_true(whole) == len(keys) else "text"
    if pa.types.is_decimal(of):
        whole = pc.fill_null(pc.match_substring_regex(_decimals(keys), WHOLE), True)
        return "integer" if count_true(whole) == len(keys) else "text"
    return "text"


def keys_of(source: Source, spec: ModelSpec) -> Keys:
    """The keys of a data file. Raises DataError when there is no such column, or its values cannot be keys."""
    source.require(spec.key_columns)
    columns = [decoded(column.combine_chunks()) for column in source.read(spec.key_columns).columns]
    with label_errors(source.path), naming(source.path):
        return composed(columns, spec.key_columns, spec.key_kinds, spec.key_width)


@contextmanager
def label_errors(path: str) -> Iterator[None]:
    """What Arrow cannot do with keys or labels is a DataError; without its text, which may quote them."""
    try:
        yield
    except (pa.ArrowException, UnicodeError) as error:
        raise DataError(
            f"{path}: the keys or labels that belong to it cannot be read ({type(error).__name__}): text that is not "
            "UTF-8, or numbers with more digits than a number keeps. Deliver them again."
        ) from None


@contextmanager
def naming(path: str) -> Iterator[None]:
    """What is wrong with keys, with the file that they are in."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def composed(
    columns: Sequence[pa.Array], names: Sequence[str], kinds: Sequence[KeyKind | None], width: int | None = None
) -> Keys:
    """The keys of rows that these columns identify together: each as `normalised`, joined so that no two keys become
    one. Raises what `normalised` raises."""
    found = [_column(*one, width) for one in zip(columns, names, kinds, strict=True)]
    values = found[0].values
    if len(found) > 1:
        escaped = [pc.replace_substring_regex(one.values, r"([\\|])", r"\\\1") for one in found]
        values = pc.binary_join_element_wise(*escaped, "|")
    missing = len(values) - count_true(functools.reduce(pc.and_, [pc.is_valid(one.written) for one in found]))
    example = next((one.example for one in found if one.example), "")
    return Keys(values, tuple(one.kind for one in found), missing, values.null_count - missing, example)


def normalised(keys: pa.Array, name: str, kind: KeyKind | None = None, width: int | None = None) -> Keys:
    """The keys of column `name` as text of one kind, by default the one that they suggest.

    `width` fills text that is shorter with zeros on the left. Raises DataError for floats from 2^53 on, where one
    number stands for several keys; ArrowException for what cannot be text.
    """
    return composed([keys], [name], [kind], width)


@dataclass(frozen=True, slots=True)
class _Column:
    values: pa.Array
    written: pa.Array
    kind: KeyKind

    @property
    def example(self) -> str:
        """The first that is not of the kind."""
        found = self.written.filter(pc.and_(pc.is_valid(self.written), pc.is_null(self.values)))
        return found[0].as_py() if len(found) else ""


def _column(keys: pa.Array, name: str, kind: KeyKind | None, width: int | None) -> _Column:
    keys = decoded(keys)
    check_exact(keys, name)
    kind = kind or kind_of(keys)
    written = _as_text(keys)
    values = {"integer": _integers, "text": _texts, "time": _times}[kind](keys, written)
    if kind == "text" and width:
        values = pc.utf8_lpad(values, width=width, padding="0")
    return _Column(values, written, kind)


def check_exact(keys: pa.Array, name: str) -> None:
    """Raises DataError for floats so large that one number stands for several whole ones: from 2^53 on, less for
    narrower types."""
    if not pa.types.is_floating(keys.type):
        return
    digits = {16: 11, 32: 24, 64: 53}[keys.type.bit_width]
    large = count_true(pc.and_(pc.is_finite(keys), pc.greater_equal(pc.abs(keys).cast(pa.float64()), 2.0**digits)))
    if large:
        raise DataError(
            f"{large:,} keys in column {name!r} are decimal numbers from 2^{digits} on ({keys.type}), where neighbours "
            "become the same number, so rows would get the labels of others. Deliver them as whole numbers or as text."
        )


def _as_text(keys: pa.Array) -> pa.Array:
    """Keys as they are written, trimmed, null where nothing is: whole floats without `.0`, a UUID as everyone writes
    it, other bytes as the text that they are, else in hexadecimal."""
    if isinstance(keys, pa.ExtensionArray):
        is_uuid = keys.type.extension_name == "arrow.uuid"
        keys = keys.storage
        if is_uuid:
            keys = pa.array([None if v is None else str(uuid.UUID(bytes=v)) for v in keys.to_pylist()], pa.string())
    of = keys.type
    if pa.types.is_binary(of) or pa.types.is_large_binary(of) or pa.types.is_fixed_size_binary(of):
        keys = pa.array([None if v is None else _bytes(v) for v in keys.to_pylist()], pa.string())
    if pa.types.is_decimal(of):
        keys = _decimals(keys)
    text = as_text(keys) if is_usable(keys.type) else keys.cast(pa.string())
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _decimals(keys: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Decimals as text without exponents, which Arrow writes for those near zero: `0E-18`."""
    text = keys.cast(pa.string())
    if not count_true(pc.match_substring(text, "E")):
        return text
    return pa.array([None if value is None else format(value, "f") for value in keys.to_pylist()], pa.string())


def _bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _texts(_: pa.Array, written: pa.Array) -> pa.Array:
    if count_true(pc.string_is_ascii(written)) == len(written) - written.null_count:
        return written
    return pc.utf8_normalize(written, form="NFC")


def _integers(keys: pa.Array, written: pa.Array) -> pa.Array:
    if pa.types.is_integer(keys.type):
        return written
    whole = pc.if_else(pc.match_substring_regex(written, WHOLE), written, pa.scalar(None, pa.string()))
    plain = pc.replace_substring_regex(whole, r"^\+?(-?)0*(\d+?)(\.0*)?$", r"\1\2")
    return pc.if_else(pc.equal(plain, "-0"), "0", plain)


def _times(keys: pa.Array, written: pa.Array) -> pa.Array:
    """Instants to the digit that matters; `Z` ends those that had a zone, for the others name no instant."""
    if is_text(keys.type):
        zoned = pc.match_substring_regex(written, rf":.*{ZONED}|T\d{{2}}.*{ZONED}")
        return pc.if_else(zoned, _parsed(written, zoned, zone=True), _parsed(written, pc.invert(zoned), zone=False))
    if pa.types.is_date(keys.type):
        return _instants(keys.cast(pa.timestamp("ms")))
    if not pa.types.is_timestamp(keys.type):
        return pa.nulls(len(keys), pa.string())
    return _instants(keys)


def _parsed(written: pa.Array, chosen: pa.Array, *, zone: bool) -> pa.Array:
    """Those texts that are ISO 8601 as instants, null for all others."""
    import pandas as pd

    texts = pc.if_else(chosen, written, pa.scalar(None, pa.string())).to_pandas()
    found = pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=zone)
    return _instants(pa.Array.from_pandas(found, type=pa.timestamp("ns", "UTC" if zone else None)))


def _instants(times: pa.Array) -> pa.Array:
    if times.type.tz is not None:
        times = times.cast(pa.timestamp(times.type.unit, "UTC"))
    text = pc.replace_substring_regex(times.cast(pa.string()), r"(\.\d*?)0+(Z?)$", r"\1\2")
    return pc.replace_substring_regex(text, r"\.(Z?)$", r"\1")
