"""One column beside the contract: every cell is one thing, whatever its type, and nothing raises."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.data.arrow import PLAIN, Numerals
from tasks.core.schema.cells import Examined, canonical, examine
from tasks.core.schema.contract import Column

NUMBER = Column("n", "number", "double", 0.0, low=-1.0, high=1.0)
NAME = Column("c", "category", "string", 0.0, categories=("a", "1", "true"))
CODE = Column("c", "category", "int64", 0.0, categories=("1", "true"), codes=True)
KINDS = ("missing", "bad", "inexact", "infinite", "unseen", "outside")

DECADE = datetime.timedelta(days=3650)
NUMERALS = (None, PLAIN, Numerals(","), Numerals(",", ".", "$%()"), Numerals(".", " ", "kg"))


def flags(found: Examined) -> list[str]:
    """What each cell is, in a word."""
    said = [[""] for _ in range(len(found.values))]
    for kind in KINDS:
        mask = getattr(found, kind)
        for row in np.flatnonzero(mask) if mask is not None else ():
            said[row].append(kind)
    assert all(len(words) < 3 for words in said)
    return [words[-1] for words in said]


@pytest.mark.parametrize(
    ("column", "values", "numerals", "expected"),
    [
        (NUMBER, [0.5, None, np.nan, np.inf, -np.inf, 2.0], None, ["", *["missing"] * 2, *["infinite"] * 2, "outside"]),
        (NUMBER, [1, 2, 2**53, -(2**53), None], None, ["", "outside", "inexact", "inexact", "missing"]),
        (NUMBER, [Decimal("0.5"), Decimal(2**60), None], None, ["", "inexact", "missing"]),
        (NUMBER, [True, None], None, ["", "missing"]),
        (NUMBER, ["0.5", None], None, ["bad", "missing"]),
        (NUMBER, ["0.5", "x", None, "inf", "7", str(2**60), " 1 ", "nan", "0,5"], PLAIN,
         ["", "bad", "missing", "infinite", "outside", "inexact", "", "missing", "bad"]),
        (NUMBER, ["0,5", "0.5", "1.000,5", ",5", "1e0", "2"], Numerals(","), ["", "bad", "bad", "", "", "outside"]),
        (NUMBER, [datetime.date(2026, 1, 1), None], None, ["bad", "missing"]),
        (NAME, ["a", "b", None, " a "], None, ["", "unseen", "missing", ""]),
        (NAME, [1.0, 2.0, np.nan], None, ["", "unseen", "missing"]),
        (NAME, [True, False], None, ["", "unseen"]),
        (NAME, [b"a", None], None, ["bad", "missing"]),
        (CODE, ["1.0", "TRUE", "2"], PLAIN, ["", "", "unseen"]),
        (NAME, [None, None], None, ["missing", "missing"]),
    ],
)  # fmt: skip
def test_each_cell_is_one_thing(
    column: Column, values: list[Any], numerals: Numerals | None, expected: list[str]
) -> None:
    """Every cell is fine, or one of six things."""
    assert flags(examine(column, pa.array(values), numerals)) == expected


ARRAYS = st.sampled_from(
    [
        (st.floats(), pa.float64()), (st.floats(width=32), pa.float32()), (st.floats(width=16), pa.float16()),
        (st.integers(-(2**63), 2**63 - 1), pa.int64()), (st.integers(0, 2**64 - 1), pa.uint64()),
        (st.integers(0, 255), pa.uint8()), (st.booleans(), pa.bool_()), (st.text(), pa.string()),
        (st.text(), pa.large_string()), (st.text(), pa.string_view()), (st.binary(), pa.binary()),
        (st.text(), pa.dictionary(pa.int8(), pa.string())), (st.dates(), pa.date32()),
        (st.datetimes(), pa.timestamp("us")), (st.timedeltas(-DECADE, DECADE), pa.duration("us")),
        (st.none(), pa.null()),
        (st.decimals(-(10**9), 10**9, places=2), pa.decimal128(20, 2)),
        (st.lists(st.integers(0, 9)), pa.list_(pa.int8())),
        (st.sampled_from(["1", "1,5", "1.5", "true", "inf", "-", ""]), pa.string()),
    ]
).flatmap(
    lambda made: st.lists(st.none() | made[0], max_size=8).map(lambda values: pa.array(values, made[1]))
)  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    ARRAYS,
    st.sampled_from([NUMBER, NAME, CODE]),
    st.sampled_from(NUMERALS),
)
def test_nothing_raises(array: pa.Array, column: Column, numerals: Numerals | None) -> None:
    """Whatever arrives, each cell is one thing; where none is bad a pipeline sees floats or text, NaN where missing."""
    found = examine(column, array, numerals)
    said = flags(found)
    if {"bad", "inexact"} & set(said):
        return
    seen = canonical(column, array, numerals)
    assert seen.shape == (len(array),) and seen.dtype == (object if column.kind == "category" else float)
    gone = [word in ("missing", "infinite") for word in said]
    assert [bool(value != value) for value in seen] == gone
