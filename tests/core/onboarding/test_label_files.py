"""Labels that arrive later, looked at before they are copied: the strange is said, the useless refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tasks.core.errors import DataError, UnreadableData
from tasks.core.onboarding.delivery import deliver, deliver_labels
from tests.helpers.model import Model, make_rows

ONE, TWO = make_rows(seed=1), make_rows(seed=2)
LABELS = ONE[["id", "y"]]


@pytest.fixture
def late(model: Model) -> Model:
    model.write_spec(late_labels=True)
    model.deliver("001", ONE.drop(columns="y"))
    model.deliver("002", TWO.drop(columns="y"))
    return model


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


def given(folder: Path, labels: pd.DataFrame, name: str = "labels.csv") -> Path:
    labels.to_csv(folder / name, index=False)
    return folder / name


def test_good_labels_are_copied_without_a_word(late: Model, outside: Path) -> None:
    """Labels of some rows of a batch, or of two batches, are as they should be."""
    for name, labels in (("1.csv", LABELS), ("2.csv", pd.concat([LABELS, TWO[["id", "y"]]])[300:])):
        assert deliver(late.workspace, given(outside, labels, name), labels=True).notes == ()
    assert sorted(path.name for path in late.labels.iterdir()) == ["1.csv", "2.csv"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (LABELS.assign(id="x" + LABELS["id"]), "0 of 600 keys in labels.csv are keys of any batch: 'x1-0' there"),
        (LABELS.assign(y=LABELS["y"].where(LABELS.index > 5, 7)), "6 of 600 labels are none of the classes 0, 1: '7'"),
        (LABELS.assign(y=1), "all 600 labels in labels.csv are '1'; rows that are in no file stay unlabelled"),
        (pd.concat([LABELS, LABELS.assign(y=1 - LABELS["y"])]), "600 keys in labels.csv with two different labels"),
        (LABELS.assign(id=LABELS["id"].where(LABELS.index > 5)), "6 of 600 rows of labels.csv have no id"),
    ],
    ids=["keys of no batch", "stray classes", "positives only", "two labels", "no keys"],
)
def test_what_is_strange_is_said(late: Model, outside: Path, labels: pd.DataFrame, words: str) -> None:
    """The file is copied, for it may be right, and what a person should know of it is said."""
    late.write_spec("[policy]\nmin_rows = 100\n", late_labels=True)
    path = late.root / "deployments/loans.toml"
    path.write_text(path.read_text().replace('key = "id"', 'key = "id"\nclasses = [0, 1]'))
    done = deliver(late.workspace, given(outside, labels), labels=True)
    assert any(words in note for note in done.notes), done.notes
    assert (late.labels / "labels.csv").exists()


@pytest.mark.parametrize(
    ("task", "labels", "words"),
    [
        ("binary", LABELS.assign(y=7), "600 of its 600 labels are none of the classes"),
        ("binary", LABELS.assign(y=0.5), "none of the classes"),
        ("regression", LABELS.assign(y="much"), "The target does not fit"),
        ("binary", LABELS.drop(columns="id"), "column 'id' is missing, which labels need"),
        ("binary", LABELS.rename(columns={"y": "Y"}), "'Y' is nearly it: rename it to 'y'"),
        ("binary", LABELS.assign(id=2.0**54), "from 2^53 on"),
    ],
)
def test_what_no_run_would_use_is_refused(
    late: Model, outside: Path, task: str, labels: pd.DataFrame, words: str
) -> None:
    """Classes and kinds that would set the file aside, and missing columns, are refused before anything is copied."""
    late.write_spec(late_labels=True, task=task)
    deliver(late.workspace, given(outside, ONE[["id", "y"]], "good.csv"), labels=True)
    file = outside / "labels.parquet"
    labels.to_parquet(file)
    with pytest.raises(DataError) as refused:
        deliver(late.workspace, file, labels=True)
    assert words in str(refused.value)
    assert [path.name for path in late.labels.iterdir()] == ["good.csv"]


def test_a_folder_of_labels(late: Model, outside: Path) -> None:
    """Each file of it is copied; those of one export, whose names come again next time, get the folder's name. One
    that no run would use keeps all of them out."""
    folder = outside / "2026-03"
    folder.mkdir()
    for number, part in enumerate((LABELS[:300], LABELS[300:])):
        given(folder, part, f"part-{number}.csv")
    done = deliver_labels(late.workspace, folder)
    assert [(one.path, one.rows) for one in done] == [(f"data/loans/labels/part-{n}.csv", 300) for n in (0, 1)]
    (folder / "_SUCCESS").touch()
    for path in late.labels.iterdir():
        path.unlink()
    done = deliver_labels(late.workspace, folder)
    assert [one.path for one in done] == [f"data/loans/labels/2026-03-part-{n}.csv" for n in (0, 1)]
    given(folder, LABELS.drop(columns="id"), "part-2.csv")
    with pytest.raises(DataError, match=r"part-2\.csv: column 'id' is missing"):
        deliver_labels(late.workspace, folder)
    with pytest.raises(UnreadableData, match="holds no file"):
        deliver_labels(late.workspace, late.root / "deployments")


def test_labels_that_grow_have_a_way_too(late: Model, outside: Path) -> None:
    """The name that is taken leads to a later name, under which keys that come again count as they are there."""
    deliver(late.workspace, given(outside, LABELS[:300]), labels=True)
    with pytest.raises(Exception, match="a name that sorts later"):
        deliver(late.workspace, given(outside, LABELS), labels=True)
    assert deliver(late.workspace, given(outside, LABELS, "labels-2.csv"), labels=True).rows == 600
