"""Predictions as files: written once, complete, in the order of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tasks.core.data import source as sources
from tasks.core.data.files import fingerprint
from tasks.core.errors import AlreadyExists, DataError, InvalidRequest, RorError, StoreError, UnpredictableData
from tasks.core.predictions import predict_file, read_predictions, write_predictions, written_version
from tasks.core.versions.loaded import LoadedVersion
from tests.helpers.model import Model, make_rows
from tests.helpers.training import make_spec, put

ROWS = make_rows(600, seed=8)


class Tired:
    """A pipeline that answers twice and then fails."""

    def __init__(self) -> None:
        self.left = 2

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("no more answers")
        return np.zeros(len(frame))


def predict(root: Path, version: LoadedVersion, data: str = "batch.parquet", **changes: Any) -> Path:
    return write_predictions(root, data, root / "out" / "predictions.parquet", version, make_spec(**changes), "run-7")


def test_a_row_for_each_row(champion: LoadedVersion, tmp_path: Path) -> None:
    """Each row of the data has its key, prediction, probability, version and run, in the order of the data."""
    put(tmp_path, ROWS)
    written = pd.read_parquet(predict(tmp_path, champion))
    answers = champion.predict(ROWS)
    assert list(written.columns) == ["id", "prediction", "probability", "version", "run"]
    assert written["id"].tolist() == ROWS["id"].tolist()
    assert written["prediction"].tolist() == answers.values.tolist()
    assert answers.probabilities is not None
    assert written["probability"].tolist() == answers.probabilities[:, 1].tolist()
    assert (set(written["version"]), set(written["run"])) == ({1}, {"run-7"})


@pytest.mark.parametrize("name", ["p.csv", "p.CSV", "p.parquet"])
def test_a_file_made_by_hand(
    tmp_path: Path, champion: LoadedVersion, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It has a column for each class beside those of a run, and is CSV where its name says so, also in many chunks."""
    monkeypatch.setattr(sources, "CHUNK_ROWS", 100)
    put(tmp_path, ROWS, "batch.parquet")
    output = tmp_path / name
    write_predictions(tmp_path, "batch.parquet", output, champion, make_spec(), "by hand", by_hand=True)
    frame = pd.read_csv(output) if output.suffix.lower() == ".csv" else pd.read_parquet(output)
    assert list(frame.columns) == ["id", "prediction", "probability", "p_0", "p_1", "version", "run"]
    assert frame["id"].tolist() == ROWS["id"].tolist()
    assert np.allclose(frame["p_0"] + frame["p_1"], 1) and np.allclose(frame["p_1"], frame["probability"])


@pytest.mark.parametrize("name", ["p.xlsx", "p.tsv", "p", "p.csv.gz", "p.json"])
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is loaded, by name, with the endings that there are."""
    put(tmp_path, ROWS)
    with pytest.raises(InvalidRequest, match=rf"{name} must end in \.parquet, \.pq, \.parq, \.csv"):
        predict_file(Model(tmp_path).workspace, tmp_path / "batch.parquet", tmp_path / name, "by hand")
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("key", [None, "not there"])
def test_without_a_key_rows_are_numbered(champion: LoadedVersion, tmp_path: Path, key: str | None) -> None:
    """Where rows have no key, their number in the file takes its place."""
    put(tmp_path, ROWS.drop(columns="id"))
    if key is not None:
        with pytest.raises(DataError, match="column 'not there' is missing"):
            predict(tmp_path, champion, key=key)
        return
    assert pd.read_parquet(predict(tmp_path, champion, key=key))["row"].tolist() == list(range(600))


@pytest.mark.parametrize("key", ["prediction", "probability", "version", "run"])
def test_a_key_may_have_any_name(champion: LoadedVersion, tmp_path: Path, key: str) -> None:
    """A key column that is called like one of ours is not lost beneath it, or is refused."""
    put(tmp_path, ROWS.rename(columns={"id": key}))
    try:
        written = pq.read_table(predict(tmp_path, champion, key=key))
    except RorError as error:
        assert repr(key) in str(error)
        return
    assert ROWS["id"].tolist() in [column.to_pylist() for column in written.columns]


@pytest.mark.parametrize("second", ["month", "run"])
def test_a_key_of_several_columns(champion: LoadedVersion, tmp_path: Path, second: str) -> None:
    """Each of them is there, also one that is called like a column of ours, or is a feature."""
    put(tmp_path, ROWS.assign(**{second: "2026-01"}))
    written = pd.read_parquet(predict(tmp_path, champion, key=["id", second, "age"]))
    assert list(written.columns)[:4] == ["id", {"run": "key_run"}.get(second, second), "age", "prediction"]
    assert written["id"].tolist() == ROWS["id"].tolist() and set(written.iloc[:, 1]) == {"2026-01"}
    assert set(written["run"]) == {"run-7"}


def test_predictions_are_written_once(champion: LoadedVersion, tmp_path: Path) -> None:
    """Asked again for the same data, the file stays as it is, byte for byte, whichever version would answer now."""
    put(tmp_path, ROWS)
    output = predict(tmp_path, champion)
    first = output.read_bytes()
    again = predict(tmp_path, replace(champion, version=2))
    assert again == output
    assert output.read_bytes() == first


def test_predictions_for_other_data_are_not_replaced(champion: LoadedVersion, tmp_path: Path) -> None:
    """A name that holds predictions for other data is refused, and what it holds stays."""
    put(tmp_path, ROWS)
    output = predict(tmp_path, champion)
    first = output.read_bytes()
    put(tmp_path, make_rows(10), "other.parquet")
    with pytest.raises(AlreadyExists, match="holds predictions for other data"):
        predict(tmp_path, champion, "other.parquet")
    assert output.read_bytes() == first


def test_a_file_that_is_not_ours_is_not_replaced(champion: LoadedVersion, tmp_path: Path) -> None:
    """A file that stands where predictions should go is refused with an error of ours, whatever it is."""
    put(tmp_path, ROWS)
    output = tmp_path / "out" / "predictions.parquet"
    output.parent.mkdir()
    for content in (b"a letter to my aunt", (tmp_path / "batch.parquet").read_bytes()):
        output.write_bytes(content)
        with pytest.raises(AlreadyExists):
            predict(tmp_path, champion)
        assert output.read_bytes() == content


@pytest.mark.parametrize("chunk", [1, 64, 600, 601])
def test_chunks_do_not_show(
    champion: LoadedVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """A file that is predicted in chunks has the same predictions as one that is predicted at once."""
    rows = ROWS.head(20) if chunk == 1 else ROWS
    put(tmp_path, rows)
    whole = pq.read_table(predict(tmp_path, champion))
    monkeypatch.setattr(sources, "CHUNK_ROWS", chunk)
    (tmp_path / "out" / "predictions.parquet").unlink()
    assert pq.read_table(predict(tmp_path, champion)).equals(whole)


@pytest.mark.parametrize("name", ["batch.parquet", "batch.csv"])
def test_large_files_keep_their_order(champion: LoadedVersion, tmp_path: Path, name: str) -> None:
    """Files of several blocks, some columns of which are stored in another way, keep each key beside its row."""
    rows = make_rows(60_000, seed=8)
    if name.endswith("parquet"):
        put(tmp_path, rows.astype({"city": "category"}), name, row_group_size=25_000)
    else:
        put(tmp_path, rows, name)
    written = pd.read_parquet(predict(tmp_path, champion, name))
    assert written["id"].tolist() == rows["id"].tolist()
    assert written["probability"].tolist() == champion.predict(rows).score.tolist()


def test_a_folder_is_predicted_as_one(champion: LoadedVersion, tmp_path: Path) -> None:
    """A batch of several files has one file of predictions, in the order of the parts."""
    (tmp_path / "batch").mkdir()
    put(tmp_path, ROWS[400:], "batch/b.parquet")
    put(tmp_path, ROWS[:400], "batch/a.parquet")
    assert pd.read_parquet(predict(tmp_path, champion, "batch"))["id"].tolist() == ROWS["id"].tolist()


def test_broken_data_are_not_predicted(champion: LoadedVersion, tmp_path: Path) -> None:
    """Data that break the contract are refused with every violation, and nothing is written."""
    put(tmp_path, ROWS.drop(columns=["income", "age"]))
    with pytest.raises(DataError, match=r"(?s)'income' is missing.*'age' is missing"):
        predict(tmp_path, champion)
    assert not (tmp_path / "out").exists()


def test_a_failure_in_mid_file_leaves_nothing(
    champion: LoadedVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When predicting fails halfway there is no file, not even a part of one, and it can be done again."""
    put(tmp_path, ROWS)
    monkeypatch.setattr(sources, "CHUNK_ROWS", 200)
    with pytest.raises(UnpredictableData, match="no more answers"):
        predict(tmp_path, replace(champion, pipeline=Tired()))
    assert list((tmp_path / "out").iterdir()) == []
    assert len(pd.read_parquet(predict(tmp_path, champion))) == 600
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["predictions.parquet"]


class Crowd:
    """A pipeline that answers how many rows came along."""

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return np.full(len(frame), float(len(frame)))


@pytest.mark.parametrize(("rows", "sizes"), [("alone", {200}), ("together", {600})])
@pytest.mark.parametrize("key", ["id", None])
def test_rows_that_are_answered_together_come_in_one_frame(
    champion: LoadedVersion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: str,
    sizes: set[int],
    key: str | None,
) -> None:
    """A version whose record says that rows are answered together sees each batch as a whole; others see chunks."""
    put(tmp_path, ROWS)
    monkeypatch.setattr(sources, "CHUNK_ROWS", 200)
    spec = {**champion.manifest.spec, "pipeline": {"rows": rows}}
    version = replace(champion, pipeline=Crowd(), manifest=replace(champion.manifest, spec=spec))
    written = pd.read_parquet(predict(tmp_path, version, key=key))
    assert set(written["prediction"]) == sizes and len(written) == 600
    assert written[key or "row"].tolist() == (ROWS["id"].tolist() if key else list(range(600)))


class Slow:
    """A pipeline during whose answer another process writes the same file."""

    def __init__(self, pipeline: Any, meanwhile: Callable[[], Path]):
        self.pipeline, self.meanwhile, self.classes_ = pipeline, meanwhile, pipeline.classes_

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return self.pipeline.predict(frame)

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        self.meanwhile()
        return self.pipeline.predict_proba(frame)


@pytest.mark.parametrize("data", ["batch.parquet", "other.parquet"])
def test_of_two_writers_the_first_stays(champion: LoadedVersion, tmp_path: Path, data: str) -> None:
    """What another run wrote meanwhile is kept: it is as good where it is for the same data, and refused elsewhere."""
    put(tmp_path, ROWS)
    put(tmp_path, make_rows(10), "other.parquet")
    slow = replace(champion, version=2, pipeline=Slow(champion.pipeline, lambda: predict(tmp_path, champion, data)))
    if data == "batch.parquet":
        predict(tmp_path, slow)
    else:
        with pytest.raises(AlreadyExists, match="written meanwhile for other data"):
            predict(tmp_path, slow)
    (output,) = (tmp_path / "out").iterdir()
    assert set(pd.read_parquet(output)["version"]) == {1}


def test_a_folder_that_cannot_be_written(champion: LoadedVersion, tmp_path: Path) -> None:
    """Where the predictions cannot be written, the error names the file and the reason."""
    put(tmp_path, ROWS)
    (tmp_path / "out").write_text("I am a file")
    with pytest.raises(StoreError, match="Could not write"):
        predict(tmp_path, champion)


class Answers:
    """A pipeline of as many classes as are asked for; what it answers is in the first column."""

    def __init__(self, classes: list[Any]):
        self.classes_ = np.array(classes)

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return self.classes_[self.predict_proba(frame).argmax(axis=1)]

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        raw = np.random.default_rng(0).random((len(frame), len(self.classes_)))
        return raw / raw.sum(axis=1, keepdims=True)


class Values:
    """A pipeline without probabilities: a regression."""

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return np.arange(len(frame)) / 7


@pytest.mark.parametrize(
    "pipeline",
    [Answers([0, 1]), Answers(["no", "yes"]), Answers([False, True]), Answers(["a", "b", "c"]), Answers([7]), Values()],
    ids=["binary", "text", "booleans", "three", "one", "regression"],
)
def test_written_answers_are_read_back(champion: LoadedVersion, tmp_path: Path, pipeline: Any) -> None:
    """What was written gives the same answers for any rows, with every probability, whatever the task."""
    put(tmp_path, ROWS)
    version = replace(champion, pipeline=pipeline)
    path = predict(tmp_path, version)
    rows = np.array([0, 5, 599])
    answers = read_predictions(path, fingerprint(tmp_path / "batch.parquet"), 600, rows)
    expected = version.predict(ROWS)
    assert answers.values.tolist() == expected.values[rows].tolist()
    assert answers.classes == expected.classes
    if expected.probabilities is None:
        assert answers.probabilities is None
    else:
        assert answers.probabilities is not None
        assert answers.probabilities == pytest.approx(expected.probabilities[rows], rel=1e-12)
    assert written_version(path) == 1
