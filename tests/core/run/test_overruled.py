"""Label files that came later and sort earlier than those that count."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.core.data.labels import Labels
from tasks.core.run.overruled import check_overruled
from tests.helpers.training import make_spec

SPEC = make_spec(data={"batches": "batches/*", "labels": "labels/*"}, key="id", target="y")


def labels(root: Path, files: Mapping[str, Mapping[Any, Any]]) -> Labels:
    (root / "labels").mkdir()
    for name, answers in files.items():
        frame = pd.DataFrame({"id": list(answers), "y": list(answers.values())})
        path = root / "labels" / name
        frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path, index=False)
    return Labels(root, SPEC)


@pytest.mark.parametrize(
    ("files", "new", "said"),
    [
        (
            {"a.csv": {1: 1, 2: 0}, "b.csv": {1: 0, 2: 0, 3: 1}},
            "a.csv",
            "1 of 2 labels in a.csv do not",
        ),
        ({"labels-9.csv": {1: 0}, "labels-10.csv": {1: 1}}, "labels-10.csv", None),
        ({"a.csv": {1: 1}, "b.csv": {1: 1}}, "a.csv", None),  # the same label
        ({"a.csv": {1: 1}, "b.csv": {2: 0}}, "a.csv", None),  # of other rows
        (
            {"a.csv": {1: 1, 2: 1}, "b.csv": {1: 0}, "c.csv": {2: 0}},
            "a.csv",
            "not count: b.csv, c.csv",
        ),
        ({"a.csv": {1: 1}, "b.parquet": {1: None}}, "a.csv", None),  # says nothing
        ({"a.parquet": {"1": 1.0}, "b.csv": {1: 1}}, "a.parquet", None),  # one label, of one key
    ],
)
def test_what_came_later_and_does_not_count(
    tmp_path: Path, files: Mapping[str, Mapping[Any, Any]], new: str, said: str | None
) -> None:
    """Counted by key, where another label counts; said with the name under which the file would count."""
    found = check_overruled(labels(tmp_path, files), [tmp_path / "labels" / new], ())
    if said is None:
        assert found == []
    else:
        assert said in found[0].summary
        better = found[0].summary.partition("call it ")[2].partition(",")[0]
        (tmp_path / "labels" / new).rename(tmp_path / "labels" / better)
        assert check_overruled(Labels(tmp_path, SPEC), [tmp_path / "labels" / better], ()) == []
        assert Labels(tmp_path, SPEC).files[-1].name == better


def test_it_is_said_until_it_is_mended(tmp_path: Path) -> None:
    """As long as the newest decision named it; files that came together are in the order that they have."""
    known = labels(tmp_path, {"a.csv": {1: 1}, "b.csv": {1: 0}})
    said = check_overruled(known, [tmp_path / "labels/a.csv"], ())
    assert len(check_overruled(known, [], said)) == 1
    assert check_overruled(known, [], ()) == check_overruled(known, known.files, ()) == []
