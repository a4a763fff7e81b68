"""Names in a model's file that the data do not have: each named, all at once, with the nearest that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.core.checks.declared import problems_here, unknown_columns
from tasks.core.checks.performance import metric_problems
from tasks.core.errors import SpecError
from tests.helpers.model import Model, make_rows
from tests.helpers.training import make_history, make_spec, train

COLUMNS = ("id", "income", "age", "city", "member", "date", "y")
PERIOD = {"name": "Easter", "from": "04-01", "until": "04-09"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"time": "dat"}, "time: no column is called 'dat'; did you mean 'date'?"),
        ({"slices": ["citty"]}, "slices: no column is called 'citty'; did you mean 'city'?"),
        ({"categorical": ["ages"]}, "categorical: no column is called 'ages'; did you mean 'age'?"),
        ({"growing": ["incom"]}, "growing: no column is called 'incom'; did you mean 'income'?"),
        ({"features": ["Age"]}, "features: no column is called 'Age'; did you mean 'age'?"),
        ({"target": "Y"}, "target: no column is called 'Y'; the data have age, city, date, id, income, member, y"),
        ({"data": {"batches": "*", "private": ["incme"]}}, "data.private: no column is called 'incme'"),
        ({"expected": [{**PERIOD, "columns": ["town", "prediction", "y", "city"]}]}, "expected 'Easter': no column is"),
    ],
)
def test_a_name_that_is_not_there(changes: dict[str, Any], said: str) -> None:
    """Every key that names columns is looked at; the prediction and the target may be expected to move."""
    (problem,) = unknown_columns(make_spec(**changes), COLUMNS)
    assert problem.startswith(said)


def test_names_that_are_there_are_no_problem() -> None:
    """A file whose names all exist has none, whatever else the data have."""
    expected = [{**PERIOD, "columns": ["city", "prediction", "y"]}]
    spec = make_spec(time="date", slices=["city"], growing=["age"], categorical=["member"], expected=expected)
    assert unknown_columns(spec, COLUMNS) == []


def test_a_file_without_its_header_shows_no_private_value() -> None:
    """What looks like names may be somebody's values: then only what the model's file says is repeated."""
    spec = make_spec(slices=["city"], data={"batches": "*", "private": ["income"]})
    said = unknown_columns(spec, ["17", "81000.5", "Oslo"])
    assert len(said) == 4 and not any(value in text for text in said for value in ("81000", "Oslo"))
    (told,) = unknown_columns(make_spec(slices=["citi"], data={"batches": "*", "private": ["income"]}), COLUMNS)
    assert "did you mean 'city'?" in told


WORDS = np.array(["no", "yes"] * 4, dtype=object)
TWO, THREE = np.array([0, 1] * 4), np.array(["a", "b", "c"] * 3, dtype=object)
AMOUNTS = np.array([-2.5, 0.0, 7.25, 1e6])


@pytest.mark.parametrize(
    ("name", "task", "target", "instead"),
    [
        ("f1", "binary", WORDS, "f1_macro"),
        ("precision", "binary", WORDS, "precision_macro"),
        ("average_precision", "binary", WORDS, "roc_auc"),
        ("f1", "multiclass", THREE, "f1_macro"),
        ("roc_auc", "multiclass", THREE, "roc_auc_ovr"),
        ("r2", "binary", TWO, "accuracy"),
        ("neg_mean_squared_error", "multiclass", np.array([1, 2, 3]), "accuracy"),
        ("accuracy", "regression", AMOUNTS, "r2"),
        ("neg_mean_squared_log_error", "regression", AMOUNTS, "r2"),
        ("acuracy", "binary", TWO, "accuracy"),
    ],
)
def test_a_metric_that_cannot_be_had(name: str, task: str, target: np.ndarray, instead: str) -> None:
    """It is named, what the target is with it, and metrics that can be had: each of those would be taken."""
    (problem,) = metric_problems(name, task, target)
    assert problem.startswith(f"metric: {name!r} ") and instead in problem.replace(",", "").split()
    assert metric_problems(instead, task, target) == []


@pytest.mark.parametrize(
    ("name", "task", "target"),
    [
        ("roc_auc", "binary", WORDS),
        ("neg_log_loss", "binary", WORDS),
        ("f1", "binary", np.array([True, False])),
        ("f1", "binary", TWO),
        ("balanced_accuracy", "multiclass", THREE),
        ("roc_auc_ovr", "multiclass", THREE),
        ("neg_mean_absolute_error", "regression", AMOUNTS),
        ("roc_auc", "binary", np.array([*WORDS, "stray"], dtype=object)),
        ("roc_auc", "binary", np.array(["only"] * 5, dtype=object)),
    ],
)
def test_a_metric_that_can(name: str, task: str, target: np.ndarray) -> None:
    """The usual metrics are taken; one class, or a stray third, is no fault of the metric."""
    assert metric_problems(name, task, target) == []


def test_a_fit_refuses_all_of_it_at_once(tmp_path: Path) -> None:
    """Nothing is fitted for a file with wrong names, and one error has every one of them; put right, it is fitted."""
    spec = make_spec(time="ag", slices=["kolor"], metric="f1", growing=["incom"])
    rows = make_rows(300, seed=1).assign(y=lambda made: made["y"].map({0: "no", 1: "yes"}))
    history = make_history(tmp_path, spec, rows)
    with pytest.raises(SpecError) as refused:
        train(tmp_path, spec, history)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["time", "growing", "slices", "metric"]
    assert "did you mean 'age'?" in refused.value.problems[0]
    right = make_spec(time="age", slices=["city"], metric="f1_macro", growing=["income"])
    assert "f1_macro" in train(tmp_path, right, history).candidate.manifest["metrics"]


def test_a_name_of_one_batch_is_enough(tmp_path: Path) -> None:
    """A column that only some batches have, or only the labels' own files, is there."""
    spec = make_spec(slices=["shop"], data={"batches": "*.parquet", "labels": "labels/*", "private": ["clerk"]})
    first, second = make_rows(150, seed=1), make_rows(150, seed=2).assign(shop="a")
    (tmp_path / "labels").mkdir()
    labels = [frame[["id", "y"]].assign(clerk="x") for frame in (first, second)]
    for number, frame in enumerate(labels):
        frame.to_csv(tmp_path / f"labels/{number}.csv", index=False)
    history = make_history(tmp_path, spec, first.drop(columns="y"), second.drop(columns="y"))
    assert train(tmp_path, spec, history).gate.rows


def test_what_is_here_is_enough_to_warn(model: Model) -> None:
    """Before any fit the newest batch says what does not exist, the metric with it; without batches nothing is said."""
    path = model.root / "deployments/loans.toml"
    path.write_text(path.read_text().replace("[data]", 'metric = "r2"\nslices = ["cty"]\n[data]'))
    assert problems_here(model.root, model.workspace.spec) == []
    model.deliver("001", rows=50)
    columns, metric = problems_here(model.root, model.workspace.spec)
    assert "did you mean 'city'?" in columns and metric.startswith("metric: 'r2'")
    (model.batches / "002.parquet").write_bytes(b"broken")
    assert problems_here(model.root, model.workspace.spec) == []
