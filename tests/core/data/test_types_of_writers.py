"""Every Arrow type that DuckDB, polars and pandas write to Parquet: read, or refused by column and type."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.data.files import find_batches
from tasks.core.data.labels import Labels
from tasks.core.data.rows import labelled_rows
from tasks.core.data.source import Source
from tasks.core.errors import DataError, InvalidRequest
from tasks.core.onboarding.proposal import propose
from tasks.core.schema.contract import infer
from tasks.core.schema.frames import frame
from tests.helpers.training import make_spec

ROWS = 40


def repeated(kind: pa.DataType, *values: Any) -> pa.Array:
    """These values and a missing one, again and again."""
    return pa.array([[*values, None][row % (len(values) + 1)] for row in range(ROWS)], kind)


def views(kind: pa.DataType, *values: Any) -> pa.Array:
    return repeated(pa.string() if kind == pa.string_view() else pa.binary(), *values).cast(kind)


def stored(kind: Any, *values: Any) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, repeated(kind.storage_type, *values))


D, DAY, TIME = Decimal("1.50"), datetime.date(2026, 1, 1), datetime.time(1, 2)
UUIDS = [uuid.UUID(int=number) for number in (1, 2)]
READ: dict[str, tuple[pa.Array, list[Any]]] = {
    # name: a column, and the first values that a pipeline sees of it as names
    "string_view": (views(pa.string_view(), "a", "b"), ["a", "b"]),
    "large_string": (repeated(pa.large_string(), "a", "b"), ["a", "b"]),
    "categorical": (repeated(pa.string(), "a", "b").dictionary_encode(), ["a", "b"]),
    "categorical, large": (repeated(pa.large_string(), "a", "b").dictionary_encode(), ["a", "b"]),
    "enumeration of bytes": (repeated(pa.string(), "a", "b").cast(pa.dictionary(pa.uint8(), pa.string())), ["a", "b"]),
    "int8": (repeated(pa.int8(), 1, 2), ["1", "2"]),
    "uint64": (repeated(pa.uint64(), 1, 2), ["1", "2"]),
    "float16": (repeated(pa.float16(), 1.5, 2.5), ["1.5", "2.5"]),
    "decimal32": (repeated(pa.decimal32(5, 2), D, D * 2), ["1.50", "3"]),
    "decimal64": (repeated(pa.decimal64(12, 2), D, D * 2), ["1.50", "3"]),
    "decimal128": (repeated(pa.decimal128(38, 2), D, D * 2), ["1.50", "3"]),
    "decimal256": (repeated(pa.decimal256(60, 2), D, D * 2), ["1.50", "3"]),
    "bool": (repeated(pa.bool_(), True, False), ["true", "false"]),
    "bool8": (stored(pa.bool8(), 1, 0), ["true", "false"]),
}
REFUSED: dict[str, pa.Array] = {
    "binary": repeated(pa.binary(), b"a", b"b"),
    "large_binary": repeated(pa.large_binary(), b"a", b"b"),
    "binary_view": views(pa.binary_view(), b"a", b"b"),
    "fixed_size_binary": repeated(pa.binary(2), b"ab", b"cd"),
    "interval, as DuckDB writes it": repeated(pa.binary(12), b"a" * 12, b"b" * 12),
    "uuid": stored(pa.uuid(), *(one.bytes for one in UUIDS)),
    "json": stored(pa.json_(), "{}", "[]"),
    "date32": repeated(pa.date32(), DAY),
    "date64": repeated(pa.date64(), DAY),
    "time32": repeated(pa.time32("ms"), TIME),
    "time64": repeated(pa.time64("us"), TIME),
    "timestamp": repeated(pa.timestamp("ns"), datetime.datetime(2026, 1, 1)),
    "timestamp with a zone": repeated(pa.timestamp("us", "Europe/Oslo"), datetime.datetime(2026, 1, 1)),
    "duration": repeated(pa.duration("us"), datetime.timedelta(days=1)),
    "list": repeated(pa.list_(pa.int64()), [1], [2, 3]),
    "large_list": repeated(pa.large_list(pa.string()), ["a"], ["b"]),
    "list_view": repeated(pa.list_view(pa.int64()), [1], [2]),
    "fixed_size_list": repeated(pa.list_(pa.float32(), 2), [1.0, 2.0]),
    "struct": repeated(pa.struct({"a": pa.int64()}), {"a": 1}),
    "struct of views": repeated(pa.struct({"a": pa.string_view()}), {"a": "x"}),
    "list of views": repeated(pa.list_(pa.string_view()), ["x"]),
    "map": repeated(pa.map_(pa.string(), pa.int64()), [("a", 1)]),
    "period": pa.array(pd.Series(pd.period_range("2026-01", periods=ROWS, freq="M"))),
    "interval of pandas": pa.array(pd.Series(pd.interval_range(0, ROWS))),
}
KEYS: dict[str, Callable[[], pa.Array]] = {
    "string_view": lambda: pa.array([f"k{row}" for row in range(ROWS)]).cast(pa.string_view()),
    "large_string": lambda: pa.array([f"k{row}" for row in range(ROWS)], pa.large_string()),
    "categorical": lambda: pa.array([f"k{row}" for row in range(ROWS)]).dictionary_encode(),
    "uuid": lambda: pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([uuid.UUID(int=row).bytes for row in range(ROWS)], pa.binary(16))
    ),
    "uint64": lambda: pa.array(range(ROWS), pa.uint64()),
    "decimal": lambda: pa.array([Decimal(row) for row in range(ROWS)], pa.decimal128(20, 0)),
    "binary_view": lambda: pa.array([f"k{row}".encode() for row in range(ROWS)]).cast(pa.binary_view()),
    "fixed_size_binary": lambda: pa.array([f"{row:04}".encode() for row in range(ROWS)], pa.binary(4)),
    "time64": lambda: pa.array([datetime.time(0, row) for row in range(ROWS)], pa.time64("us")),
    "duration": lambda: pa.array([datetime.timedelta(row) for row in range(ROWS)], pa.duration("us")),
    "timestamp": lambda: pa.array([datetime.datetime(2026, 1, 1, 0, row) for row in range(ROWS)], pa.timestamp("us")),
}


def put(root: Path, name: str = "b.parquet", **columns: Any) -> Source:
    table = {"id": pa.array(range(ROWS)), "x": pa.array([row / 7 for row in range(ROWS)])}
    (root / name).parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({**table, "y": pa.array([row % 2 for row in range(ROWS)]), **columns}), root / name)
    return Source(root, name)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("rows", [None, [0, 1, 3]])
def test_a_type_that_is_read(tmp_path: Path, name: str, rows: list[int] | None) -> None:
    """It is a feature, of some rows or of all: the same values as those of the plain type."""
    column, expected = READ[name]
    source = put(tmp_path, c=column)
    contract = infer([source], make_spec(categorical=["c"]))
    found = frame(contract, source, None if rows is None else pa.array(rows).to_numpy())
    assert found["c"].tolist()[:2] == expected
    assert found["c"].isna().tolist()[2] is (rows is None)  # of all rows the third is missing


DATES = [name for name in REFUSED if name.startswith(("date", "timestamp"))]
"""Text to a pipeline, where they are listed."""


@pytest.mark.parametrize("name", DATES)
def test_a_date_is_text_where_it_is_listed(tmp_path: Path, name: str) -> None:
    """A pipeline may make numbers of it; where no feature is listed it is left out."""
    source = put(tmp_path, c=REFUSED[name])
    listed = infer([source], make_spec(features=["x", "c"]))
    days = pd.to_datetime(frame(listed, source)["c"], format="mixed", utc=True)
    assert days.notna().sum() == len(REFUSED[name]) - REFUSED[name].null_count
    assert infer([source], make_spec()).names == ["x"]


@pytest.mark.parametrize("name", sorted({*REFUSED} - {*DATES}))
def test_a_type_that_is_refused(tmp_path: Path, name: str) -> None:
    """As a feature it is named with its type; where no feature is listed it is left out."""
    source = put(tmp_path, c=REFUSED[name])
    with pytest.raises(DataError, match=r"column 'c' is .*: derive numbers from it"):
        infer([source], make_spec(features=["x", "c"]))
    contract = infer([source], make_spec())
    assert contract.names == ["x"] and "c" in contract.ignored


@pytest.mark.parametrize("name", [*READ, *REFUSED])
def test_a_proposal_for_a_column_of_any_type(tmp_path: Path, name: str) -> None:
    """What cannot be learned from is left out with its reason; nothing that a file may hold is an error of ours."""
    column = READ[name][0] if name in READ else REFUSED[name]
    found = propose(put(tmp_path, c=column), "y")
    left_out = [column for column, _ in found.unused]
    assert ("c" in left_out or found.time == "c") is (name in REFUSED)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("name", [*READ, *REFUSED])
def test_a_target_of_any_type(tmp_path: Path, name: str, task: str) -> None:
    """It gives its labels, or an error that names the type or the labels that do not fit."""
    column = READ[name][0] if name in READ else REFUSED[name]
    source = put(tmp_path, "batches/b.parquet", y=column)
    spec = make_spec(task=task, data={"batches": "batches/*"})
    (batch,) = find_batches(tmp_path, spec)
    try:
        found = labelled_rows(tmp_path, batch, Labels(tmp_path, spec), task)
    except DataError as error:
        assert "'y' is" in str(error) or "does not fit task" in str(error)
    else:
        assert name in READ and len(found.rows) == ROWS - column.null_count
    if name in REFUSED:
        try:
            propose(source, "y")
        except InvalidRequest as error:
            assert "the target must be a number or a class" in str(error)


@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_any_type(tmp_path: Path, name: str) -> None:
    """Labels find their rows by keys of every type that has values to compare, written alike in both files."""
    spec = make_spec(data={"batches": "batches/*", "labels": "labels/*"})
    put(tmp_path, "batches/b.parquet", id=KEYS[name]())
    put(tmp_path, "labels/b.parquet", id=KEYS[name]())
    (batch,) = find_batches(tmp_path, spec)
    assert Labels(tmp_path, spec).of(batch).values.to_pylist() == [row % 2 for row in range(ROWS)]


def test_a_uuid_is_its_text(tmp_path: Path) -> None:
    """A key that is a UUID here and its text there, as in a CSV file, is one key."""
    spec = make_spec(data={"batches": "batches/*", "labels": "labels/*"})
    put(tmp_path, "batches/b.parquet", id=KEYS["uuid"]())
    (tmp_path / "labels").mkdir()
    texts = [str(uuid.UUID(int=row)) for row in range(ROWS)]
    pd.DataFrame({"id": texts, "y": 1}).to_csv(tmp_path / "labels/l.csv", index=False)
    (batch,) = find_batches(tmp_path, spec)
    assert Labels(tmp_path, spec).of(batch).known == ROWS
