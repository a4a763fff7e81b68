"""Labels: in a column of the batch, or in later files that are joined by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.data.files import find_batches
from tasks.core.data.labels import BatchLabels, Labels, far
from tasks.core.data.rows import labelled_rows
from tasks.core.errors import DataError
from tests.helpers.model import STREAMS
from tests.helpers.training import make_spec, put

LATE = make_spec(data={"batches": "*.parquet", "labels": "labels/*"})
KEYS = pd.DataFrame({"id": [1, 2, 3, 4], "x": [0.1, 0.2, 0.3, 0.4]})


def labels_of(root: Path, spec: Any = LATE) -> BatchLabels:
    """Labels of the only batch in `root`."""
    (batch,) = find_batches(root, spec)
    return Labels(root, spec).of(batch)


@pytest.fixture
def late(tmp_path: Path) -> Path:
    """A root with one batch of four rows whose labels arrive in a folder of their own."""
    put(tmp_path, KEYS)
    (tmp_path / "labels").mkdir()
    return tmp_path


# --- labels --------------------------------------------------------------------------------------------------


def test_labels_in_the_batch(tmp_path: Path) -> None:
    """Labels in a column of the batch are known where they are not missing."""
    put(tmp_path, KEYS.assign(y=[1.0, np.nan, 0.0, 1.0]))
    found = labels_of(tmp_path, make_spec())
    assert found.values.to_pylist() == [1.0, None, 0.0, 1.0]
    assert found.known == 3


def test_labels_are_joined_by_key(late: Path) -> None:
    """Late labels find their rows by key, in any order, from several files; the rest stays unknown."""
    put(late, pd.DataFrame({"id": [3, 1], "y": [0, 1]}), "labels/1.parquet")
    put(late, pd.DataFrame({"id": [99, 4], "y": [1, 1]}), "labels/2.parquet")
    found = labels_of(late)
    assert found.values.to_pylist() == [1, None, 0, 1]
    assert (found.known, len(found.values)) == (3, 4)


def test_later_labels_supersede_earlier_ones(late: Path) -> None:
    """A correction wins: a later file over an earlier one, and a later row over an earlier one of the same file."""
    put(late, pd.DataFrame({"id": [1, 2, 2], "y": [0, 0, 1]}), "labels/1.parquet")
    put(late, pd.DataFrame({"id": [1], "y": [1]}), "labels/2.parquet")
    assert labels_of(late).values.to_pylist() == [1, 1, None, None]


@pytest.mark.parametrize("key", [[1.0, None, 4.0], ["1", "4", None], [1, 4, 5]])
def test_keys_of_other_types_are_found(late: Path, key: list[Any]) -> None:
    """A key is the same key whether it is an integer, a float because some are missing, or text."""
    put(late, pd.DataFrame({"id": key, "y": [1, 1, 1]}), "labels/1.parquet")
    assert [y is not None for y in labels_of(late).values.to_pylist()] == [True, False, False, True]


def test_labels_with_a_decimal_comma(tmp_path: Path) -> None:
    """Labels of CSV files are written as [data.csv] says."""
    spec = make_spec(task="regression", data={"batches": "*.csv", "csv": {"separator": ";", "decimal": ","}})
    (tmp_path / "b.csv").write_text("id;y\n1;0,5\n2;\n3;-1,25e1\n")
    assert labels_of(tmp_path, spec).values.to_pylist() == [0.5, None, -12.5]


@pytest.mark.parametrize("value", [pd.Timestamp("2026-01-01"), [1], {"a": 1}, b"yes"])
@pytest.mark.parametrize("spec", [make_spec(data={"batches": "*"}), LATE], ids=["in the batch", "late"])
def test_what_is_no_label_is_refused(tmp_path: Path, value: Any, spec: Any) -> None:
    """Dates, bytes and nested values are refused as labels, with the file, the column and its type."""
    (tmp_path / "labels").mkdir()
    put(tmp_path, KEYS if spec is LATE else KEYS.assign(y=[value] * 4))
    put(tmp_path, pd.DataFrame({"id": [1], "y": [value]}), "labels/1.parquet")
    if spec is not LATE:
        (tmp_path / "labels" / "1.parquet").unlink()
        (tmp_path / "labels").rmdir()
    with pytest.raises(DataError, match=r"\.parquet: column 'y' is .*; labels are numbers, booleans or text"):
        labels_of(tmp_path, spec)


@pytest.mark.parametrize("text", [True, False])
def test_keys_match_across_file_formats(late: Path, text: bool) -> None:
    """A key is the same key whether its file holds it as a number or as text."""
    labels = pd.DataFrame({"id": [1, 4], "y": [0, 1]})
    put(late, labels.astype({"id": str}) if text else labels, "labels/1.parquet" if text else "labels/1.csv")
    assert [None if y is None else int(y) for y in labels_of(late).values.to_pylist()] == [0, None, None, 1]


@pytest.mark.parametrize(
    "target", [[0, 1, 1, 0], [1.5, 2.5, 3.5, -4.0], ["no", "yes", "yes", "no"], [False, True, True, False]]
)
@pytest.mark.parametrize("spec", [make_spec(data={"batches": "*"}), LATE], ids=["in the batch", "late"])
def test_labels_are_the_same_in_csv_and_parquet(tmp_path: Path, target: list[Any], spec: Any) -> None:
    """The same labels are the same values, whichever format they arrive in."""
    found = []
    for ending in ("parquet", "csv"):
        root = tmp_path / ending
        (root / "labels").mkdir(parents=True)
        labelled = KEYS.assign(y=target)
        if spec is LATE:
            put(root, KEYS)
            put(root, labelled[["id", "y"]], f"labels/1.{ending}")
        else:
            put(root, labelled, f"b.{ending}")
            (root / "labels").rmdir()
        found.append(labels_of(root, spec))
    assert found[0].values.to_pylist() == found[1].values.to_pylist() == target


@pytest.mark.parametrize("y", [[1, 0, 1, 1], [1.0, 0.0, 1.0, None], [1.0, 0.0, None, 0.0]])
def test_the_digest_follows_the_labels(tmp_path: Path, y: list[Any]) -> None:
    """Every other set of labels has another digest, and the way they are laid out in the file does not matter."""
    put(tmp_path, KEYS.assign(y=[1.0, 0.0, 1.0, 0.0]))
    digest = labels_of(tmp_path, make_spec()).digest
    put(tmp_path, KEYS.assign(y=[1.0, 0.0, 1.0, 0.0]), row_group_size=2)
    assert labels_of(tmp_path, make_spec()).digest == digest
    put(tmp_path, KEYS.assign(y=y))
    assert labels_of(tmp_path, make_spec()).digest != digest


NEWER = pd.DataFrame({"id": [1, 4], "y": [1, 0]})


@pytest.mark.parametrize(
    "older",
    [
        "id,y\n",
        "id,y\n1,\n2,\n",
        "id,y\n2,1\n",
        "id,y\n2,true\n",
        pd.DataFrame({"id": [2], "y": [True]}),
        pd.DataFrame({"id": [2], "y": [1.0]}),
        pd.DataFrame({"id": ["2"], "y": [1]}),
        pd.DataFrame({"id": [2], "y": [1]}, dtype="Int8"),
    ],
    ids=["no rows", "no labels", "text", "words", "booleans", "floats", "keys as text", "small integers"],
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_label_files_of_several_kinds_are_one_table(late: Path, older: str | pd.DataFrame, ending: str) -> None:
    """Label files may differ in format and types: what they say of the rows is put together all the same."""
    if isinstance(older, str):
        (late / "labels" / "1.csv").write_text(older)
    else:
        put(late, older, "labels/1.parquet")
    put(late, NEWER, f"labels/2.{ending}")
    second = None if isinstance(older, str) and "2,1" not in older and "true" not in older else 1
    assert [None if y is None else int(y) for y in labels_of(late).values.to_pylist()] == [1, second, None, 0]


def test_label_files_that_contradict_each_other_are_refused(late: Path) -> None:
    """Words in one file and numbers in another are no labels of one kind: the error says so and names a file."""
    put(late, pd.DataFrame({"id": [2], "y": ["yes"]}), "labels/1.parquet")
    put(late, NEWER, "labels/2.parquet")
    with pytest.raises(DataError, match="labels/"):
        labels_of(late)


def test_without_label_files_nothing_is_known(late: Path) -> None:
    """Before the first label file arrives a batch has no labels, and that is no error."""
    found = labels_of(late)
    assert (found.known, len(found.values)) == (0, 4)


@pytest.mark.parametrize(
    ("columns", "message"),
    [(["id"], "column 'y' is missing"), (["y"], "column 'id' is missing"), (["z"], "(?s)'id' is missing.*'y'")],
)
def test_label_files_need_key_and_target(late: Path, columns: list[str], message: str) -> None:
    """A label file without the columns that carry the labels is refused with the file and the columns named."""
    put(late, pd.DataFrame({name: [1] for name in columns}), "labels/1.parquet")
    with pytest.raises(DataError, match=message) as caught:
        labels_of(late)
    assert "labels/1.parquet" in str(caught.value)


NOT_UTF8 = pa.array([b"secret\xff"] * 4).view(pa.string())


@pytest.mark.parametrize("column", ["id", "y"])
def test_labels_that_arrow_cannot_read_are_refused(late: Path, column: str) -> None:
    """Text that is not UTF-8, as a key or as a label, is a clear error that quotes nothing."""
    table = pa.table({"id": pa.array([1, 2, 3, 4]), "y": pa.array(list("nyny"))})
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, NOT_UTF8), late / "labels" / "1.parquet")
    (batch,) = find_batches(late, LATE)
    with pytest.raises(DataError) as caught:
        labelled_rows(late, batch, Labels(late, LATE), "binary")
    assert "Deliver" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_labels_as_string_views(late: Path) -> None:
    """However Arrow keeps text, keys are found and labels are read."""
    (batch,) = find_batches(late, LATE)
    keys = pd.read_parquet(late / batch.path)[LATE.key].astype(str).tolist()
    table = pa.table({LATE.key: pa.array(keys, pa.string_view()), "y": pa.array(["n"] * len(keys), pa.string_view())})
    pq.write_table(table, late / "labels" / "1.parquet")
    assert Labels(late, LATE).of(batch).values.to_pylist() == ["n"] * len(keys)


# --- labels that are far from all others ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "usual",
    [
        np.random.default_rng(1).normal(100, 15, 400),
        np.exp(2 * np.random.default_rng(2).normal(size=400)),
        np.where(np.random.default_rng(3).random(400) < 0.95, 0.0, 300.0 + np.arange(400)),
        np.arange(12.0),
    ],
    ids=["normal", "heavy tail", "mostly nothing", "few"],
)
def test_one_label_of_a_million_times_the_usual(usual: np.ndarray) -> None:
    """It is found, and no other one."""
    labels = usual.copy()
    assert not far(pa.array(labels)).any()
    labels[3] = 1e6 * usual.max()
    assert np.flatnonzero(far(pa.array(labels))).tolist() == [3]


@pytest.mark.parametrize(
    "labels", [[5.0] * 9 + [5e9], [5.0] * 40 + [7.0], [None] * 20, list(np.arange(40.0) * 1e6)], ids=str
)
def test_what_tells_nothing_is_left_alone(labels: list[float | None]) -> None:
    """Too few labels, labels that are all alike but one, none at all, and a batch that is larger as a whole."""
    assert not far(pa.array(labels, pa.float64())).any()


@pytest.mark.parametrize("name", ["air_co", "bike", "pm25", "tetuan"])
def test_no_label_of_a_real_stream_is_far(name: str) -> None:
    """Heavy tails of real amounts stay: the farthest is a few times the usual distance."""
    if not (path := STREAMS / f"{name}.parquet").exists():
        pytest.skip(f"the real streams are not at hand: {path}")
    for _, rows in pd.read_parquet(path, columns=["y", "batch"]).groupby("batch"):
        assert not far(pa.array(rows["y"].to_numpy(float))).any()


def test_only_its_row_waits(tmp_path: Path) -> None:
    """The row counts as unlabelled, until a person says that the batch is right; classes have no distance."""
    rows = pd.DataFrame({"id": range(40), "x": range(40), "y": [*range(39), 10**9]})
    put(tmp_path, rows)
    for task, batch, known in (("regression", (), 39), ("regression", ("batch",), 40), ("multiclass", (), 40)):
        spec = make_spec(task=task)
        found = Labels(tmp_path, spec, trusted=batch).of(find_batches(tmp_path, spec)[0])
        assert (found.known, found.far) == (known, 40 - known)
