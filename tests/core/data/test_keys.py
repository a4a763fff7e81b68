"""Keys: the same key has the same text, whatever file it came in; what differs is another key."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.data.files import find_batches
from tasks.core.data.keys import composed, kind_of, normalised
from tasks.core.data.labels import Labels
from tasks.core.errors import DataError, SpecError
from tests.helpers.training import make_spec, put

AT = datetime(2026, 3, 29, 1, 30)
ID = uuid.UUID("6fa459ea-ee8a-3ca4-894e-db77e160355e")


def texts(values: Any, kind: Any = None, of: pa.DataType | None = None, width: int | None = None) -> list[str | None]:
    """Keys as the join compares them."""
    found: list[str | None] = normalised(pa.array(values, of), "id", kind, width).values.to_pylist()
    return found


@pytest.mark.parametrize(
    "array",
    [
        pa.array([17, -3, None]),
        pa.array([17.0, -3.0, None]),
        pa.array([17.0, -3.0, np.nan]),
        pa.array([17, -3, None], pa.int8()),
        pa.array([17, -3, None], pa.decimal128(38, 2)),
        pa.array(["17", " -3 ", None]),
        pa.array(["017", "-3.0", ""]),
        pa.array(["+17.00", "-03", " "], pa.large_string()),
        pa.array(["17", "-3", None]).dictionary_encode(),
    ],
    ids=lambda array: str(array.type),
)
def test_integers_are_one_key_however_they_are_written(array: pa.Array) -> None:
    """Whole numbers of any type, and text that writes one, are the same integer; nothing is no key."""
    keys = normalised(array, "id", "integer")
    assert keys.values.to_pylist() == ["17", "-3", None]
    assert (keys.missing, keys.strange) == (1, 0)


@pytest.mark.parametrize("value", ["1e+05", "A17", "17.5", "1,000", "0x11", "true"])
def test_what_is_no_integer_is_no_key_and_is_counted(value: str) -> None:
    """Nothing is guessed: a number with an exponent may have lost digits."""
    keys = normalised(pa.array(["1", value, None]), "id", "integer")
    assert keys.values.to_pylist() == ["1", None, None]
    assert (keys.missing, keys.strange, keys.example) == (1, 1, value)


def test_integers_of_any_size_are_kept() -> None:
    """Hashes of 64 bits, and longer numbers, are no floats on the way."""
    assert texts([2**64 - 1, 2**64 - 2], of=pa.uint64()) == ["18446744073709551615", "18446744073709551614"]
    assert texts(["9007199254740993", "9007199254740992"], "integer") == ["9007199254740993", "9007199254740992"]


@pytest.mark.parametrize("kind", [None, "integer", "text"])
@pytest.mark.parametrize(("of", "digits"), [(pa.float64(), 53), (pa.float32(), 24)], ids=str)
def test_floats_that_hide_keys_are_refused(kind: Any, of: pa.DataType, digits: int) -> None:
    """From 2^53 on one float stands for several whole numbers, and rows would get the labels of others."""
    with pytest.raises(DataError, match=rf"1 keys in column 'id' are decimal numbers from 2\^{digits} on"):
        texts([2.0**digits, 1.0, np.inf], kind, of)
    assert texts([2.0**digits - 1, 1.0], kind, of) == [str(2**digits - 1), "1"]


def test_text_keeps_case_and_zeros() -> None:
    """Text is trimmed and in one Unicode form; everything else about it is meant."""
    assert texts([" a", "A", "007", "7", "e\u0301", "\u00e9"], "text") == ["a", "A", "007", "7", "\u00e9", "\u00e9"]
    assert texts([7, 12], "text") == texts([7.0, 12.0], "text") == ["7", "12"]


def test_a_width_restores_stripped_zeros() -> None:
    """What is shorter gets zeros on the left, on both sides; longer text stays."""
    assert texts(["001234", "1234567", None], "text", width=6) == ["001234", "1234567", None]
    assert texts([1234, 1234567, None], "text", width=6) == ["001234", "1234567", None]
    assert texts([1234.0, 1234567.0, None], "text", width=6) == ["001234", "1234567", None]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([AT], pa.timestamp("s")),
        pa.array([AT], pa.timestamp("us")),
        pa.array([AT], pa.timestamp("ns")),
        pa.array(["2026-03-29T01:30"]),
        pa.array(["2026-03-29 01:30:00.000"]),
    ],
    ids=str,
)
def test_times_are_instants_whatever_their_unit(array: pa.Array) -> None:
    """Nanoseconds beside microseconds, and the text of either, are one key."""
    assert normalised(array, "id", "time").values.to_pylist() == ["2026-03-29 01:30:00"]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([AT], pa.timestamp("us", "UTC")),
        pa.array([AT], pa.timestamp("ns", "Europe/Oslo")),
        pa.array(["2026-03-29T03:30:00+02:00"]),
        pa.array(["2026-03-29 01:30:00Z"]),
        pa.array(["2026-03-28T20:30-0500"]),
    ],
    ids=str,
)
def test_zones_name_instants(array: pa.Array) -> None:
    """The same instant is the same key in every zone; a time without a zone names none, and is another key."""
    assert normalised(array, "id", "time").values.to_pylist() == ["2026-03-29 01:30:00Z"]


def test_dates_are_their_midnight_and_other_text_is_no_time() -> None:
    """A date is the time at which it begins; what is no time is counted."""
    assert texts([date(2026, 3, 29)]) == texts(["2026-03-29"], "time") == ["2026-03-29 00:00:00"]
    assert texts([AT.replace(microsecond=120000)], of=pa.timestamp("ns")) == ["2026-03-29 01:30:00.12"]
    keys = normalised(pa.array(["29/03/2026", "2026-13-01", "2026-03-29"]), "id", "time")
    assert (keys.strange, keys.values.null_count) == (2, 2)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([1, None]), "integer"),
        (pa.array([1.0, None, np.nan]), "integer"),
        (pa.array([1.5, 1.0]), "text"),
        (pa.array(["17"]), "text"),
        (pa.array([AT]), "time"),
        (pa.array([date(2026, 1, 1)]), "time"),
        (pa.array([1, 2], pa.decimal128(9, 2)), "integer"),
        (pa.array([0, 1], pa.decimal128(38, 18)), "integer"),
        (pa.array([True]), "text"),
        (pa.array([ID.bytes], pa.uuid()), "text"),
    ],
    ids=str,
)
def test_a_column_suggests_its_kind(array: pa.Array, kind: str) -> None:
    """A model's file that names no kind goes by the batch's column."""
    assert kind_of(array) == kind


def test_bytes_are_the_text_that_they_are() -> None:
    """A UUID is found by its text; other bytes by theirs, or in hexadecimal."""
    assert texts([ID.bytes], of=pa.uuid()) == [str(ID)]
    assert texts([b"a17", b"\xff\x00"]) == ["a17", "ff00"]


# --- joined --------------------------------------------------------------------------------------------------

IDS = list(range(1, 5))
SIDES: dict[str, pa.Array] = {
    "integers": pa.array(IDS),
    "floats": pa.array([float(i) for i in IDS]),
    "text": pa.array([str(i) for i in IDS]),
    "gaps": pa.array([1, 2, 3, None], pa.float64()),
}


@pytest.mark.parametrize("batch", SIDES)
@pytest.mark.parametrize("labels", SIDES)
@pytest.mark.parametrize("kind", [{}, {"key_kind": "integer"}, {"key_kind": "text"}], ids=str)
def test_every_kind_of_column_joins_every_other(tmp_path: Path, batch: str, labels: str, kind: Any) -> None:
    """Whole keys join, whichever type each side has; without the option as with it."""
    spec = make_spec(data={"batches": "*.parquet", "labels": "labels/*"}, **kind)
    (tmp_path / "labels").mkdir()
    pq.write_table(pa.table({"id": SIDES[batch], "x": IDS}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"id": SIDES[labels], "y": [0, 1, 0, 1]}), tmp_path / "labels/1.parquet")
    (one,) = find_batches(tmp_path, spec)
    last = None if "gaps" in (batch, labels) else 1
    assert Labels(tmp_path, spec).of(one).values.to_pylist() == [0, 1, 0, last]


def test_a_csv_file_joins_times_and_uuids(tmp_path: Path) -> None:
    """Text of a CSV file finds the typed keys of a Parquet file."""
    spec = make_spec(data={"batches": "*.parquet", "labels": "labels/*"})
    (tmp_path / "labels").mkdir()
    for key, text in (
        (pa.array([AT], pa.timestamp("ns", "Europe/Oslo")), "2026-03-29T03:30:00+02:00"),
        (pa.array([ID.bytes], pa.uuid()), str(ID)),
    ):
        pq.write_table(pa.table({"id": key, "x": [1]}), tmp_path / "b.parquet")
        (tmp_path / "labels/1.csv").write_text(f"id,y\n{text},1\n")
        (one,) = find_batches(tmp_path, spec)
        assert Labels(tmp_path, spec).of(one).known == 1


def test_floats_that_hide_keys_are_refused_with_their_file(tmp_path: Path) -> None:
    """The error names the file, on either side; other label files can be used without it."""
    spec = make_spec(data={"batches": "*.parquet", "labels": "labels/*"})
    (tmp_path / "labels").mkdir()
    put(tmp_path, pd.DataFrame({"id": [2**53 + 1, 2**53 + 3], "x": [1, 2]}))
    put(tmp_path, pd.DataFrame({"id": [2**53 + 1], "y": [1]}), "labels/1.parquet")
    put(tmp_path, pd.DataFrame({"id": [2.0**53, None], "y": [0, 0]}), "labels/2.parquet")
    (one,) = find_batches(tmp_path, spec)
    with pytest.raises(DataError, match=r"labels/2\.parquet: 1 keys in column 'id'"):
        Labels(tmp_path, spec).of(one)
    labels, problems = Labels.usable(tmp_path, spec, Labels(tmp_path, spec).files)
    assert labels.of(one).values.to_pylist() == [1, None]
    assert len(problems) == 1 and problems[0].startswith("labels/2.parquet")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"key": None, "key_kind": "text"}, "need key"),
        ({"key_width": 6}, 'needs key_kind = "text"'),
        ({"key_kind": "integer", "key_width": 6}, 'needs key_kind = "text"'),
        ({"key_kind": "number"}, "key_kind"),
        ({"key": []}, "lists different columns"),
        ({"key": ["id", "id"]}, "lists different columns"),
        ({"key": ["id", "day"], "key_kind": ["integer"]}, "a word for each column"),
        ({"key_kind": ["integer", "time"]}, "a word for each column"),
        ({"key": ["id", "day"], "key_kind": ["integer", "time"], "key_width": 6}, 'needs key_kind = "text"'),
    ],
)
def test_options_that_contradict_are_refused(options: Any, problem: str) -> None:
    """The model's file is refused with what is wrong."""
    with pytest.raises(SpecError, match=problem):
        make_spec(**options)


# --- several columns -----------------------------------------------------------------------------------------


def together(*columns: list[Any], kinds: Any = None, width: int | None = None) -> list[str | None]:
    """Keys of several columns as the join compares them."""
    names = [f"k{place}" for place in range(len(columns))]
    arrays = [pa.array(column) for column in columns]
    found: list[str | None] = composed(arrays, names, kinds or [None] * len(columns), width).values.to_pylist()
    return found


def test_each_column_has_its_own_kind() -> None:
    """Whatever type a file has for them, the same values are the same key."""
    key = ["17|2026-01-01"]
    assert together([17], ["2026-01-01"]) == together([17.0], [date(2026, 1, 1)], kinds=("integer", "text")) == key
    assert together(["017"], ["x"], kinds=("integer", "text"), width=3) == ["17|00x"]


@pytest.mark.parametrize(
    ("one", "other"), [(("a|b", "c"), ("a", "b|c")), (("a\\", "b"), ("a", "\\b")), (("a\\|", "b"), ("a\\", "|b"))]
)
def test_no_two_keys_become_one(one: tuple[str, str], other: tuple[str, str]) -> None:
    """What separates columns is marked where it is part of a value."""
    first, second = (together(*([value] for value in values)) for values in (one, other))
    assert first != second


def test_a_part_that_is_missing() -> None:
    """Such a row has no key; where all parts are there and one is not of its kind, it is strange. Both are counted."""
    keys = composed([pa.array([1, None, 3, None]), pa.array(["1", "2", "x", "x"])], ["a", "b"], [None, "integer"])
    assert keys.values.to_pylist() == ["1|1", None, None, None]
    assert (keys.missing, keys.strange, keys.example, keys.kinds) == (2, 1, "x", ("integer", "integer"))


def test_a_list_of_one_column_is_that_column() -> None:
    """It is the same model: its digest, and what a version keeps, are those of the plain word."""
    plain, listed = make_spec(key="id"), make_spec(key=["id"])
    assert listed == plain and listed.digest == plain.digest and listed.recorded()["key"] == "id"
    assert make_spec(key=["id", "day"]).recorded()["key"] == ["id", "day"]


def test_labels_are_joined_by_all_columns(tmp_path: Path) -> None:
    """The same customer in two months has two labels, in whatever order the file has them."""
    spec = make_spec(key=["id", "month"], data={"batches": "b*.parquet", "labels": "labels.*"})
    months = [pd.DataFrame({"id": [1, 2, 3], "month": month, "x": 1.0}) for month in ("2026-01", "2026-02")]
    for name, frame in zip(("b1", "b2"), months, strict=True):
        put(tmp_path, frame, f"{name}.parquet")
    put(tmp_path, pd.concat(months).assign(y=[0, 1, 0, 1, 1, 0]).drop(columns="x").sample(frac=1, random_state=1),
        "labels.csv")  # fmt: skip
    labels = Labels(tmp_path, spec)
    found = [labels.of(batch).values.to_pylist() for batch in find_batches(tmp_path, spec)]
    assert found == [[0, 1, 0], [1, 1, 0]]


def test_a_label_file_without_one_of_them_is_refused(tmp_path: Path) -> None:
    """By name: which month its labels belong to is not guessed."""
    spec = make_spec(key=["id", "month"], data={"batches": "b*.parquet", "labels": "labels.*"})
    put(tmp_path, pd.DataFrame({"id": [1], "y": [1]}), "labels.csv")
    with pytest.raises(DataError, match=r"labels\.csv: column 'month' is missing"):
        Labels(tmp_path, spec).file(tmp_path / "labels.csv")
