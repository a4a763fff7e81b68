"""What a row is: its key, unless that names something that comes again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.core.data.files import find_batches
from tasks.core.data.identity import Identity, Names, identity_of
from tasks.core.data.labels import Labels
from tasks.core.data.rows import labelled_rows
from tests.helpers.training import make_spec, put

ROWS = 40


def frame(seed: int, keys: range | list[Any] = range(ROWS)) -> pd.DataFrame:
    """Rows with these keys, and values that no other seed gives them."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"id": list(keys), "x": rng.normal(size=len(keys)), "y": rng.integers(0, 2, len(keys))})


def identity(root: Path, *frames: pd.DataFrame, ending: str = "parquet", **spec: Any) -> Identity:
    """Of these batches, b1, b2 and so on."""
    made = make_spec(**{"data": {"batches": "b*"}, **spec})
    for number, rows in enumerate(frames, start=1):
        put(root, rows, f"b{number}.{ending}")
    return identity_of(root, made, find_batches(root, made))


def left_out(found: Identity) -> list[list[int]]:
    """Rows that count nowhere, batch by batch."""
    return [found.counted_before(batch).tolist() for batch in found.batches]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_exports_that_overlap(tmp_path: Path, ending: str) -> None:
    """The first batch keeps its rows; the next one is left with those that are new, in whatever order they come."""
    first, second = frame(1), frame(2, range(32, 72))
    second.loc[:7, ["x", "y"]] = first.loc[32:, ["x", "y"]].to_numpy()
    second = second.astype({"y": int}).iloc[::-1].reset_index(drop=True)
    found = identity(tmp_path, first, second, ending=ending)
    assert found.names is Names.ROW
    assert left_out(found) == [[], list(range(32, 40))]
    again = found.repeats(found.batches[1])
    assert again and (again.rows, again.before, again.within, again.owners) == (40, 8, 0, ("b1",))
    assert again.example == "39" and found.restated(found.batches[1]) == 0


def test_other_values_of_a_few_are_restated(tmp_path: Path) -> None:
    """The row that came first counts; how many say something else now is counted, a value that is gone among them."""
    first, second = frame(1), frame(2, range(34, 74))
    second.loc[:5, ["x", "y"]] = first.loc[34:, ["x", "y"]].to_numpy()
    second.loc[0, "x"], second.loc[1, "x"] = 99.0, np.nan
    found = identity(tmp_path, first, second)
    assert found.names is Names.ROW and left_out(found)[1] == list(range(6))
    assert found.restated(found.batches[1]) == 2


def test_the_same_file_in_another_format(tmp_path: Path) -> None:
    """Numbers are compared as numbers: all rows came before, none with other values."""
    rows = frame(1).assign(name=[f"n{i}" for i in range(ROWS)], gap=[None, 2.5] * (ROWS // 2))
    made = make_spec(data={"batches": "b*"})
    put(tmp_path, rows, "b1.parquet")
    put(tmp_path, rows, "b2.csv")
    found = identity_of(tmp_path, made, find_batches(tmp_path, made))
    assert found.names is Names.ROW and found.restated(found.batches[1]) == 0
    assert left_out(found) == [[], list(range(ROWS))]


def test_a_join_that_fanned_out(tmp_path: Path) -> None:
    """Every row three times: the first of each counts."""
    rows = frame(1).loc[np.repeat(np.arange(ROWS), 3)]
    found = identity(tmp_path, rows)
    assert found.names is Names.ROW
    assert left_out(found)[0] == [row for row in range(3 * ROWS) if row % 3]
    again = found.repeats(found.batches[0])
    assert again and (again.before, again.within, again.owners) == (0, 80, ())


def test_customers_come_again(tmp_path: Path) -> None:
    """The same keys with other values, month after month: a row is known by its key and its batch, and none is left
    out but one that a batch has twice."""
    months = [frame(month) for month in range(3)]
    months[2] = pd.concat([months[2], months[2].head(2)])
    found = identity(tmp_path, *months)
    assert found.names is Names.ROW_OF_BATCH and left_out(found) == [[], [], [40, 41]]


def test_few_rows_a_day_tell_together(tmp_path: Path) -> None:
    """Eight stations a day: two days say too little, three are enough."""
    days = [frame(day, range(8)) for day in range(3)]
    assert identity(tmp_path, *days[:2]).names is Names.ROW
    assert identity(tmp_path, *days).names is Names.ROW_OF_BATCH


def test_stations_hour_by_hour(tmp_path: Path) -> None:
    """Where a key comes again within a batch, with other values, no row is left out: nothing says which is meant."""
    hours = [frame(day, list(range(10)) * 24).assign(hour=np.repeat(np.arange(24), 10)) for day in range(2)]
    found = identity(tmp_path, *hours)
    assert found.names is Names.NOTHING and left_out(found) == [[], []]
    again = identity(tmp_path, *hours, key=["id", "hour"])
    assert again.names is Names.ROW_OF_BATCH, "the same hours come again every day"
    dated = [rows.assign(day=f"2026-01-0{day}") for day, rows in enumerate(hours, start=1)]
    assert identity(tmp_path, *dated, key=["id", "day", "hour"]).names is Names.ROW


def test_houses_that_are_sold_twice(tmp_path: Path) -> None:
    """Few keys come again with other values: they are restated, and no reason to doubt the key."""
    found = identity(tmp_path, frame(1, range(400)), frame(2, [*range(12), *range(400, 788)]))
    assert found.names is Names.ROW and found.restated(found.batches[1]) == 12


def test_the_order_of_the_batches_is_who_owns(tmp_path: Path) -> None:
    """A batch that was decided on first owns its rows, whatever its name."""
    rows = frame(1)
    made = make_spec(data={"batches": "b*"})
    for name in ("b1", "b2"):
        put(tmp_path, rows if name == "b2" else rows.iloc[::-1], f"{name}.parquet")
    late = find_batches(tmp_path, made)[::-1]
    found = identity_of(tmp_path, made, late)
    assert [len(found.counted_before(batch)) for batch in late] == [0, ROWS]


def test_rows_without_a_key_are_rows_of_their_own(tmp_path: Path) -> None:
    """As all rows are where there is no key column at all, or where it cannot be read."""
    rows = frame(1, [1, 2, None, None])
    assert left_out(identity(tmp_path, rows, rows)) == [[], [0, 1]]
    keyless = identity(tmp_path, rows, rows, key=None)
    assert (keyless.names, keyless.batches) == (Names.ROW, ())
    assert left_out(identity(tmp_path, rows, rows.drop(columns="id"))) == [[], []]


def test_what_counts_elsewhere_is_no_labelled_row(tmp_path: Path) -> None:
    """Coverage is of the rows that count here; the digest of the labels, which the history knows, is of all rows."""
    second = pd.concat([frame(1)[20:], frame(2, range(40, 60)).assign(y=[None] * 10 + [1] * 10)])
    found = identity(tmp_path, frame(1), second)
    labels = Labels(tmp_path, found.spec)
    part = labelled_rows(tmp_path, found.batches[1], labels, "binary")
    assert (part.elsewhere, part.rows.tolist(), part.coverage) == (20, list(range(30, 40)), 0.5)
    assert part.labels == labels.of(found.batches[1]).digest


def test_a_label_file_labels_the_batch_that_it_is_called_by(tmp_path: Path) -> None:
    """Where customers come again, no label of one month becomes another's; a file that names no month labels none."""
    (tmp_path / "labels").mkdir()
    months = [frame(month) for month in (1, 2, 3)]
    data = {"batches": "b*", "labels": "labels/*"}
    found = identity(tmp_path, *(month.drop(columns="y") for month in months), data=data)
    for number, name in ((1, "b1"), (2, "labels-b2"), (3, "all")):
        put(tmp_path, months[number - 1][["id", "y"]], f"labels/{name}.parquet")
    labels = Labels(tmp_path, found.spec)
    got = [labels.of(batch).values.to_pylist() for batch in found.batches]
    assert got == [months[0]["y"].tolist(), months[1]["y"].tolist(), [None] * ROWS]
