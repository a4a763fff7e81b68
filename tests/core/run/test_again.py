"""Rows that came before, and keys that name no row: what is said, and that what is advised leads out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.core.data import known
from tasks.core.data.files import find_batches
from tasks.core.data.labels import Labels
from tasks.core.run.again import check_overlaps, check_repeats
from tasks.core.run.matching import check_keys
from tests.helpers.training import make_spec, put

ROWS = 40
LATE = {"batches": "b*.parquet", "labels": "labels/*"}


def frame(seed: int, first: int = 0, month: str = "") -> pd.DataFrame:
    """Rows of ROWS customers, with values that no other seed gives them."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"id": range(first, first + ROWS), "x": rng.normal(size=ROWS), "y": rng.integers(0, 2, ROWS)})
    return rows.assign(month=month) if month else rows


def said(root: Path, fresh: bool = True, **spec: Any) -> list[str]:
    """All that is said of keys when all batches and label files here are new."""
    made = make_spec(**spec)
    batches = find_batches(root, made)
    labels = Labels(root, made)
    found = check_repeats(labels, batches, ())
    found += check_keys(labels, batches, batches, labels.files if fresh else [], ()).checks
    return [check.summary for check in found]


def joined(root: Path, **spec: Any) -> list[int]:
    """Rows with a label, batch by batch."""
    made = make_spec(**spec)
    return [Labels(root, made).of(batch).known for batch in find_batches(root, made)]


def test_an_overlap_is_named_with_counts(tmp_path: Path) -> None:
    """How many rows came before, in which batch, an example, and how many have other values."""
    second = pd.concat([frame(1)[30:], frame(2, ROWS)])
    second.iloc[0, 1] = 99.0
    put(tmp_path, frame(1), "b1.parquet")
    put(tmp_path, pd.concat([second, second.tail(1)]), "b2.parquet")
    (text,) = said(tmp_path, data={"batches": "b*.parquet"})
    assert text == (
        "11 of 51 rows of b2 came before, by their id, such as '30': 10 in b1 and 1 further up in the file. The row "
        "that came first counts; these are predicted, and count in no loss and no fit. With other values "
        '(restated): 1; if those are other rows, name the columns that tell rows apart: key = ["id", "..."]'
    )
    (text,) = said(tmp_path, data={"batches": "b*.parquet", "private": ["id"]})
    assert "'30'" not in text


def test_nothing_is_said_of_rows_that_are_new(tmp_path: Path) -> None:
    """Nor where there is no key."""
    put(tmp_path, frame(1), "b1.parquet")
    put(tmp_path, frame(2, ROWS), "b2.parquet")
    assert said(tmp_path, data={"batches": "b*.parquet"}) == []
    put(tmp_path, frame(1), "b3.parquet")
    assert said(tmp_path, data={"batches": "b*.parquet"}, key=None) == []


@pytest.fixture
def months(tmp_path: Path) -> list[pd.DataFrame]:
    """Two months of the same customers, whose labels come in one file that names the month."""
    (tmp_path / "labels").mkdir()
    rows = [frame(1, month="2026-01"), frame(2, month="2026-02")]
    for name, month in zip(("b1", "b2"), rows, strict=True):
        put(tmp_path, month.drop(columns="y"), f"{name}.parquet")
    put(tmp_path, pd.concat(rows)[["id", "month", "y"]], "labels/both.parquet")
    return rows


def test_customers_by_month(tmp_path: Path, months: list[pd.DataFrame]) -> None:
    """The key names no row: it is said, with the way out, and no label is joined. Naming the column leads out."""
    spec = {"data": LATE, "time": "month"}
    about, unnamed = said(tmp_path, **spec)
    better = 'name the columns that tell rows apart, in batches and label files: key = ["id", "month"]'
    assert about == (
        "id comes again with other values and names no row: 40 of 40 rows of b2 have one of b1. A row is known by id "
        f"and its batch, and a label file labels the batch that it is called by. Better: {better}"
    )
    assert unnamed == (
        f"both.parquet labels nothing: id names no row, and nothing else says which its 80 rows mean. Remedy: {better}"
    )
    assert joined(tmp_path, **spec) == [0, 0]
    assert said(tmp_path, key=["id", "month"], **spec) == []
    assert joined(tmp_path, key=["id", "month"], **spec) == [ROWS, ROWS]


def test_the_other_way_out(tmp_path: Path, months: list[pd.DataFrame]) -> None:
    """A file of one month that is called otherwise labels nothing, and is told to be called by its batch: then it
    labels that one."""
    (tmp_path / "labels/both.parquet").unlink()
    put(tmp_path, months[1][["id", "y"]].head(30), "labels/february.parquet")
    _, unnamed = said(tmp_path, data=LATE)
    assert unnamed.endswith('key = ["id", "..."]; or call the file by the batch that it labels: b2.parquet')
    assert joined(tmp_path, data=LATE) == [0, 0]
    (tmp_path / "labels/february.parquet").rename(tmp_path / "labels/b2.parquet")
    assert joined(tmp_path, data=LATE) == [0, 30]
    assert len(said(tmp_path, data=LATE)) == 1


def test_a_label_file_without_the_month(tmp_path: Path, months: list[pd.DataFrame]) -> None:
    """With the key of two columns it is set aside by name, and holds up no other."""
    put(tmp_path, months[1][["id", "y"]], "labels/b2.parquet")
    spec = make_spec(key=["id", "month"], data=LATE)
    batches = find_batches(tmp_path, spec)
    labels, problems = Labels.usable(tmp_path, spec, Labels(tmp_path, spec).files, batches)
    assert problems == ("labels/b2.parquet: column 'month' is missing.",)
    assert [labels.of(batch).known for batch in batches] == [ROWS, ROWS]


def test_stations_by_hour(tmp_path: Path) -> None:
    """Where rows of one batch share a key, none is joined and all count; the column that is named leads out."""
    (tmp_path / "labels").mkdir()
    rows = pd.concat([frame(hour).assign(hour=hour) for hour in range(3)])
    put(tmp_path, rows.drop(columns="y"), "b1.parquet")
    put(tmp_path, rows[["id", "hour", "y"]], "labels/b1.parquet")
    about, unnamed, *_ = said(tmp_path, data=LATE, time="hour")
    assert "not even within one batch. Every row counts" in about and 'key = ["id", "hour"]' in about
    assert unnamed.startswith("b1.parquet labels nothing") and "call the file" not in unnamed
    assert joined(tmp_path, data=LATE) == [0]
    assert joined(tmp_path, data=LATE, key=["id", "hour"]) == [3 * ROWS]
    assert said(tmp_path, data=LATE, key=["id", "hour"]) == []


def test_another_notation_of_the_month(tmp_path: Path) -> None:
    """It is shown as either side writes it: nothing is guessed."""
    (tmp_path / "labels").mkdir()
    rows = frame(1, month="2026-01")
    put(tmp_path, rows.drop(columns="y"), "b1.parquet")
    put(tmp_path, rows[["id", "y"]].assign(month="01/2026"), "labels/1.csv")
    (text,) = said(tmp_path, data=LATE, key=["id", "month"])
    assert text.startswith("0 of 40 keys in 1.csv are keys of any batch: '0|01/2026' there, '0|2026-01' here")


def test_zeros_that_were_stripped_from_one_column(tmp_path: Path) -> None:
    """The remedy is of that column's width, and works beside the others."""
    (tmp_path / "labels").mkdir()
    rows = frame(1, month="2026-01")
    rows["id"] = [f"{i:04d}" for i in rows["id"]]
    put(tmp_path, rows.drop(columns="y"), "b1.parquet")
    put(tmp_path, rows[["id", "month", "y"]].assign(id=rows["id"].astype(int)), "labels/1.csv")
    (text,) = said(tmp_path, data=LATE, key=["id", "month"])
    assert 'write key_kind = "text" and key_width = 4' in text
    assert joined(tmp_path, data=LATE, key=["id", "month"], key_kind="text", key_width=4) == [ROWS]


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_of_two_months_that_is_called_by_one(tmp_path: Path, months: list[pd.DataFrame], order: int) -> None:
    """Many of its keys have two labels, so that it cannot be of one batch: it labels none, whichever comes last."""
    (tmp_path / "labels/both.parquet").unlink()
    put(tmp_path, pd.concat(months[::order])[["id", "month", "y"]], "labels/b2.parquet")
    assert joined(tmp_path, data=LATE) == [0, 0]
    _, text = said(tmp_path, data=LATE)
    assert text.startswith("b2.parquet labels nothing") and "call the file" not in text
    assert joined(tmp_path, data=LATE, key=["id", "month"]) == [ROWS, ROWS]


def test_rows_that_lack_one_part_of_the_key(tmp_path: Path) -> None:
    """They are counted."""
    (tmp_path / "labels").mkdir()
    rows = frame(1, month="2026-01")
    put(tmp_path, rows.drop(columns="y").assign(month=[None] * 10 + ["2026-01"] * 30), "b1.parquet")
    put(tmp_path, rows[["id", "month", "y"]], "labels/1.csv")
    (text,) = said(tmp_path, data=LATE, key=["id", "month"])
    assert text == "10 of 40 rows of b1 have no id or no month: they can never be labelled"


# --- without a key -------------------------------------------------------------------------------------------


def overlapping(root: Path, new: str, out: tuple[str, ...] = ()) -> list[str]:
    made = make_spec(key=None, data={"batches": "b*.parquet"})
    batches = find_batches(root, made)
    earlier = [batch for batch in batches if batch.id < new]
    return [check.summary for check in check_overlaps(root, made, batches[len(earlier) :], earlier, out)]


def test_rows_without_a_key_came_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that grew, and an export that overlaps with the one before it, are named with how many rows and where;
    a batch in quarantine does not count."""
    whole = [frame(seed) for seed in range(4)]
    put(tmp_path, whole[0], "b1.parquet")
    put(tmp_path, whole[1], "b2.parquet")
    put(tmp_path, pd.concat(whole[:3]), "b3.parquet")
    (text,) = overlapping(tmp_path, "b3")
    assert text.startswith("80 rows of b3 came before, most of them in b1: the model has no key")
    put(tmp_path, pd.concat([whole[1].tail(10), whole[3]]), "b3.parquet")
    (text,) = overlapping(tmp_path, "b3")
    assert text.startswith("10 rows of b3 came before, most of them in b2")
    monkeypatch.setattr(known, "MOST", 50)
    assert overlapping(tmp_path, "b3")[0].startswith("at least 10 rows of b3")
    monkeypatch.undo()
    assert overlapping(tmp_path, "b3", out=("b2",)) == []
    assert overlapping(tmp_path, "b1")[0].startswith("10 rows of b3")  # all of them new at once


def test_rows_that_are_alike_by_chance(tmp_path: Path) -> None:
    """Where healthy rows often equal an earlier one nothing is said, until a batch has far more of them."""
    rng = np.random.default_rng(0)
    for number in range(1, 6):
        rows = pd.DataFrame(
            {"x": rng.geometric(0.005, 400), "z": rng.integers(0, 6, 400), "y": rng.integers(0, 2, 400)}
        )
        put(tmp_path, rows, f"b{number}.parquet")
    assert overlapping(tmp_path, "b5") == []
    put(tmp_path, rows.sample(frac=1, random_state=0), "b6.parquet")
    (text,) = overlapping(tmp_path, "b6")
    assert text.startswith("400 rows of b6 came before, most of them in b5 (") and "% are usual)" in text
