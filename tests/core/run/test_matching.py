"""Keys that find nothing: counted, and shown from both sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.core.data.files import find_batches
from tasks.core.data.labels import Labels
from tasks.core.run.matching import Matching, check_keys
from tasks.core.types import Check, CheckKind, Verdict
from tests.helpers.training import make_spec, put

ROWS = 40


class Place:
    """A root with batches and label files."""

    def __init__(self, root: Path, **spec: Any):
        self.root = root
        data = {"batches": "b*.parquet", "labels": "labels/*", **spec.pop("data", {})}
        self.spec = make_spec(data=data, **spec)
        (root / "labels").mkdir()

    def batch(self, name: str, keys: Sequence[Any]) -> None:
        put(self.root, pd.DataFrame({"id": keys, "x": range(len(keys))}), f"{name}.parquet")

    def labels(self, name: str, keys: Sequence[Any], y: Sequence[Any] | None = None) -> None:
        put(self.root, pd.DataFrame({"id": keys, "y": y or [k % 2 for k in range(len(keys))]}), f"labels/{name}")

    def look(
        self, *, waiting: Sequence[str] | None = None, fresh: bool = True, before: Sequence[Check] = ()
    ) -> Matching:
        labels = Labels(self.root, self.spec)
        batches = find_batches(self.root, self.spec)
        still = [batch for batch in batches if waiting is None or batch.id in waiting]
        found = check_keys(labels, batches, still, labels.files if fresh else [], before)
        assert all(check.kind is CheckKind.KEYS and check.verdict is Verdict.WARN for check in found.checks)
        return found


def said(found: Matching) -> list[str]:
    return [check.summary for check in found.checks]


@pytest.mark.parametrize(
    ("batch", "labels", "there", "here", "remedy"),
    [
        ([f"{i:06d}" for i in range(ROWS)], list(range(ROWS)), "'0'", "'000000'", "key_width = 6"),
        ([f"AB{i}" for i in range(ROWS)], [f"ab{i}" for i in range(ROWS)], "'ab0'", "'AB0'", "case"),
        ([str(i) for i in range(ROWS)], [f"{i}.0" for i in range(ROWS)], "'0.0'", "'0'", 'key_kind = "integer"'),
        ([f"x{i}" for i in range(ROWS)], [f"z{i}" for i in range(ROWS)], "'z0'", "'x0'", ""),
        (list(range(100, 100 + ROWS)), list(range(ROWS)), "'0'", "'100'", ""),
        ([pd.Timestamp(2026, 1, 1, 0, i) for i in range(ROWS)],
         [pd.Timestamp(2026, 1, 1, 0, i, tz="UTC") for i in range(ROWS)],
         "'2026-01-01 00:00:00Z'", "'2026-01-01 00:00:00'", ""),
    ],
    ids=["zeros", "case", "floats as text", "other names", "other numbers", "zones"],
)  # fmt: skip
def test_a_file_of_which_nothing_joins(
    tmp_path: Path, batch: Any, labels: Any, there: str, here: str, remedy: str
) -> None:
    """It is counted and named, with the same key as either side writes it, and with what to do where that is known."""
    place = Place(tmp_path)
    place.batch("b1", batch)
    place.labels("2026-02.parquet", labels)
    (text,) = said(found := place.look())
    assert text.startswith(
        f"0 of {ROWS} keys in 2026-02.parquet are keys of any batch: {there} there, {here} here ({ROWS} keys of b1"
    )
    assert remedy in text and (remedy != "" or text.endswith(")"))
    assert found.unjoined == (text,)


def test_the_remedy_works(tmp_path: Path) -> None:
    """With the width that the message names all keys join, and nothing is left to say."""
    place = Place(tmp_path, key_kind="text", key_width=6)
    place.batch("b1", [f"{i:06d}" for i in range(ROWS)])
    place.labels("1.csv", list(range(ROWS)))
    assert place.look() == Matching()


def test_a_part_that_does_not_join(tmp_path: Path) -> None:
    """Some keys with zeros in front, stripped by a spreadsheet: only those are left over, on both sides."""
    place = Place(tmp_path)
    keys = [f"{i:02d}" for i in range(ROWS)]
    place.batch("b1", keys)
    place.labels("1.parquet", [str(int(key)) for key in keys])
    (text,) = said(found := place.look())
    assert text.startswith("10 of 40 keys in 1.parquet are keys of no batch: '0' there, '00' here (10 keys of b1")
    assert found.unjoined == ()


def test_a_file_may_hold_more_than_the_batches(tmp_path: Path) -> None:
    """Labels of the whole population are no fault while every row of the batches finds its own."""
    place = Place(tmp_path)
    place.batch("b1", range(ROWS))
    place.labels("1.parquet", range(10 * ROWS))
    assert place.look(waiting=[]) == Matching()


def test_keys_of_labelled_batches_are_keys(tmp_path: Path) -> None:
    """Labels belong to batches of long ago as well, and the newest may well wait for its own."""
    place = Place(tmp_path)
    place.batch("b1", range(ROWS))
    place.batch("b2", range(ROWS, 2 * ROWS))
    place.labels("1.parquet", range(ROWS))
    assert place.look(waiting=["b2"]) == Matching()


def test_rows_without_a_key_are_counted(tmp_path: Path) -> None:
    """On both sides: such rows are labelled by nothing, and label nothing, and that is all."""
    place = Place(tmp_path)
    place.batch("b1", [None if i % 4 == 0 else float(i) for i in range(ROWS)])
    place.labels("1.parquet", [None if i % 4 == 0 else f"{i}" for i in range(ROWS)])
    assert said(place.look()) == [
        "10 of 40 rows of b1 have no id: they can never be labelled",
        "10 of 40 rows of 1.parquet have no id: they label nothing",
    ]
    assert said(place.look(waiting=[], fresh=False)) == []


def test_keys_of_another_kind_are_counted(tmp_path: Path) -> None:
    """What is no integer where keys are integers finds nothing, and is said with an example."""
    place = Place(tmp_path, key_kind="integer")
    place.batch("b1", [f"{i}" for i in range(ROWS - 1)] + ["n/a"])
    place.labels("1.parquet", [*range(ROWS - 1), 1.5])
    texts = said(place.look())
    assert (
        "1 of 40 rows of b1 have a id that is not of kind integer, such as 'n/a': they can never be labelled" in texts
    )
    assert "1 of 40 rows of 1.parquet have a id that is not of kind integer, such as '1.5': they label nothing" in texts


def test_two_answers_for_one_key(tmp_path: Path) -> None:
    """The last row counts, as it always did, and how many keys that is about is said; the same answer twice is none."""
    place = Place(tmp_path)
    place.batch("b1", range(4))
    place.labels("1.parquet", [0, 1, 1, 2, 2, 3], [0, 1, 0, 1, 1, 0])
    (text,) = said(place.look())
    assert text == (
        "1 key in 1.parquet with two different labels, such as '1' (it says 0): the last row of a key counts"
    )
    (batch,) = find_batches(tmp_path, place.spec)
    assert Labels(tmp_path, place.spec).of(batch).values.to_pylist() == [0, 0, 1, 0]


def test_what_was_named_is_looked_at_again(tmp_path: Path) -> None:
    """A label file that no decision has seen, or that the newest one named, is looked at; others cost nothing."""
    place = Place(tmp_path)
    place.batch("b1", range(ROWS))
    place.labels("1.parquet", range(100, 100 + ROWS))
    first = place.look()
    assert len(first.checks) == 1
    assert place.look(fresh=False) == Matching()
    assert place.look(fresh=False, before=first.checks) == first
    place.batch("b2", range(100, 100 + ROWS))
    assert place.look(fresh=False, before=first.checks) == Matching()


@pytest.mark.parametrize("private", [["id"], ["id", "y"]])
def test_private_keys_are_counted_and_not_shown(tmp_path: Path, private: list[str]) -> None:
    """No key of a private column is an example, on either side."""
    place = Place(tmp_path, data={"private": private}, key_kind="integer")
    place.batch("b1", ["secret1", *(f"{i}" for i in range(1000, 1000 + ROWS)), None])
    place.labels("1.parquet", [*range(2000, 2000 + ROWS), 2000, 2.5], [*([0] * ROWS), 1, 1])
    texts = said(place.look())
    assert len(texts) == 5
    assert not any(word in " ".join(texts) for word in ("secret", "'1000'", "'2000'", "2.5", "'"))
