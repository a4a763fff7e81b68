"""Training: the default pipeline, what can go wrong, and what is recorded."""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import StackingClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from tasks.core.errors import DataError, RorError, SpecError, TrainingError
from tasks.core.schema.frames import frame
from tasks.core.training.factory import build
from tasks.core.types import Verdict
from tasks.core.versions import persistence
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.registry import Registry
from tests.helpers.model import make_rows
from tests.helpers.training import Trained, make_history, make_spec, put, train

FEATURES = make_rows(300, seed=5)[["income", "age", "city", "member"]].astype({"age": float, "member": float})
ANSWERS = make_rows(300, seed=5)["y"].to_numpy()


# --- factories that a user might write -----------------------------------------------------------------------


class Failing(ClassifierMixin, BaseEstimator):
    """Fails when it is fitted, or later when it is asked."""

    def __init__(self, late: bool = False, leave: bool = False):
        self.late, self.leave = late, leave

    def fit(self, frame: Any, target: Any) -> Failing:
        if self.leave:
            sys.exit("not on a Monday")
        if not self.late:
            raise ValueError("the matrix is singular")
        self.classes_ = np.unique(target)
        return self

    def predict(self, frame: Any) -> Any:
        raise ValueError("no prediction today")


def no_estimator() -> str:
    return "a pipeline, honestly"


def leaving() -> Any:
    sys.exit("run me as a script")


def broken() -> Any:
    raise RuntimeError("the factory burnt down")


def plain() -> Any:
    """A factory that takes neither task nor seed."""
    return DummyClassifier()


# --- the default pipeline ------------------------------------------------------------------------------------


def fitted(features: pd.DataFrame = FEATURES, answers: Any = ANSWERS, **changes: Any) -> Any:
    with threadpool_limits(1):
        return build(make_spec(**changes)).fit(features, answers)


@pytest.mark.parametrize(
    "seen",
    [
        FEATURES.assign(income=np.nan),
        FEATURES.assign(city=np.nan).astype({"city": object}),
        FEATURES[["city"]],
        FEATURES[["income"]],
        FEATURES.assign(age=7.0),
    ],
    ids=["no value in a number", "no value in a category", "categories only", "numbers only", "a constant"],
)
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_the_default_pipeline_survives_its_training_data(seen: pd.DataFrame, task: str) -> None:
    """Columns without a value, without variety or of one kind only do not stop the default pipeline."""
    answers = ANSWERS if task == "binary" else ANSWERS * 2.5
    predicted = persistence.predict(fitted(seen, answers, task=task), seen)
    assert len(predicted.values) == 300
    assert np.isfinite(predicted.score).all()


@pytest.mark.parametrize(
    "asked",
    [
        FEATURES.assign(city="Hamar"),
        FEATURES.assign(city=np.nan).astype({"city": object}),
        FEATURES.assign(income=np.nan),
        FEATURES.assign(income=1e300),
        FEATURES.head(1),
    ],
    ids=["unseen categories", "no category", "no number", "a huge number", "a single row"],
)
def test_the_default_pipeline_survives_what_comes_later(asked: pd.DataFrame) -> None:
    """Batches that look unlike the training data are predicted, not refused by the pipeline."""
    assert np.isfinite(persistence.predict(fitted(), asked).score).all()


def test_a_missing_value_is_not_just_the_usual_one() -> None:
    """That a value is missing is information: it is not hidden by what is put in its place."""
    seen = FEATURES.assign(income=np.where(ANSWERS == 1, np.nan, 1.0))
    assert (persistence.predict(fitted(seen), seen).values == ANSWERS).mean() > 0.95


def test_the_default_pipeline_needs_no_code_of_ours(trained: Trained) -> None:
    """What plain joblib has to import for a stored pipeline is scikit-learn and what that needs, nothing of ours."""
    wanted: set[str] = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            wanted.add(module.partition(".")[0])
            return super().find_class(module, name)

    Recorder(io.BytesIO(pickle.dumps(persistence.load(trained.challenger.candidate.pipeline)))).load()
    assert {"sklearn"} <= wanted <= {"sklearn", "numpy", "builtins", "_loss", "copyreg", "collections", "pandas"}


def test_parameters_reach_the_booster() -> None:
    """The parameters in a model's file are those of the booster, and the seed is the model's."""
    model = build(make_spec(seed=7, pipeline={"parameters": {"max_iter": 3, "learning_rate": 0.5}}))[-1]
    assert (model.max_iter, model.learning_rate, model.random_state) == (3, 0.5, 7)


# --- a challenger --------------------------------------------------------------------------------------------


def test_training_twice_gives_the_same_answers(trained: Trained, champion: LoadedVersion) -> None:
    """The same data, seed and libraries give a pipeline with the very same answers, and the same record."""
    again = train(trained.root, trained.spec, trained.history)
    rows = champion.reference[champion.contract.names]
    first, second = (
        persistence.predict(persistence.load(made.candidate.pipeline), rows) for made in (trained.challenger, again)
    )
    assert first.probabilities is not None
    assert second.probabilities is not None
    assert np.array_equal(first.probabilities, second.probabilities)
    assert again.gate == trained.challenger.gate
    assert again.candidate.calibration == trained.challenger.candidate.calibration
    pd.testing.assert_frame_equal(again.candidate.probe, trained.challenger.candidate.probe)


def test_the_record_says_what_was_seen(trained: Trained, champion: LoadedVersion) -> None:
    """The manifest names every batch with its digest and the rows that were trained on, which the gate's are not."""
    manifest = champion.manifest
    assert [(file.batch, file.sha256, file.labels) for file in manifest.training] == [
        (item.batch.id, item.batch.sha256, item.labels) for item in trained.history
    ]
    assert [file.held_out for file in manifest.training] == [False, False, True]
    assert [file.rows for file in manifest.training] == [600, 600, 600 - manifest.gate.rows]
    assert (manifest.data_end, manifest.parent, manifest.reasons) == (3, None, ("a test",))
    assert manifest.gate.verdict is Verdict.PASS
    assert set(manifest.metrics) == {"loss", "roc_auc"}
    assert manifest.metrics["loss"].rows == manifest.gate.rows
    assert manifest.spec == trained.spec.recorded()


def test_what_later_checks_need_is_stored(champion: LoadedVersion) -> None:
    """A version carries a sample of its training data with targets and scores, and the weight of each column."""
    assert list(champion.reference.columns) == [*champion.contract.names, "ror:target", "ror:score", "ror:label"]
    assert len(champion.reference) == champion.manifest.rows
    assert {*champion.calibration, "ror:label"} == set(champion.reference.columns)
    weights = [champion.calibration[name]["weight"] for name in champion.contract.names]
    assert sum(weights) == pytest.approx(1)
    assert max(champion.contract.names, key=lambda name: champion.calibration[name]["weight"]) == "income"


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_tasks_can_be_trained_and_loaded(tmp_path: Path, task: str) -> None:
    """Several classes and numbers as targets go the same way as two classes, with their samples bounded."""
    spec = make_spec(task=task, checks={"sample_rows": 150})
    rows = []
    for seed in (1, 2):
        made = make_rows(400, seed)
        amount = made["income"].fillna(0) + made["age"] / 100
        rows.append(made.assign(y=amount if task == "regression" else np.where(amount < 0.5, "low", "high")))
        if task == "multiclass":
            rows[-1].loc[amount > 1, "y"] = "top"
    made = train(tmp_path, spec, make_history(tmp_path, spec, *rows))
    assert made.gate.verdict is Verdict.PASS
    registry = Registry(tmp_path / "store")
    version, _ = registry.register("loans", "key", made.candidate)
    loaded = registry.load("loans", version)
    assert len(loaded.reference) <= 150
    answers = loaded.predict(rows[0])
    assert len(answers.values) == 400
    assert answers.classes == (("high", "low", "top") if task == "multiclass" else ())


def test_a_column_without_a_value_can_be_trained_on(tmp_path: Path) -> None:
    """A history in which columns never had a value gives a version that accepts the next such batch."""
    spec = make_spec(metric="accuracy")
    rows = [make_rows(300, seed).assign(income=np.nan, city=None) for seed in (1, 2)]
    rows = [item.assign(y=item["member"].astype(int)) for item in rows]
    made = train(tmp_path, spec, make_history(tmp_path, spec, *rows))
    assert made.gate.verdict is Verdict.PASS
    later = put(tmp_path, make_rows(50, 3), "later.parquet")
    pipeline = persistence.load(made.candidate.pipeline)
    assert len(persistence.predict(pipeline, frame(made.candidate.contract, later)).values) == 50


def test_a_floor_refuses_a_challenger(trained: Trained, tmp_path: Path) -> None:
    """A challenger that does not reach the metric's floor fails the gate, whatever it is compared with."""
    made = train(trained.root, make_spec(policy={"metric_floor": 0.999}), trained.history[-1:])
    assert made.gate.verdict is Verdict.FAIL
    assert "below the floor of 0.999" in made.gate.reason


def test_a_challenger_that_learnt_nothing_is_refused(trained: Trained, champion: LoadedVersion, tmp_path: Path) -> None:
    """A factory that makes a constant predictor gives a version that the gate refuses beside the champion."""
    spec = make_spec(pipeline={"factory": "sklearn.dummy:DummyClassifier"})
    history = make_history(tmp_path, spec, *(make_rows(1200, seed) for seed in (1, 2, 3, 4)))
    made = train(tmp_path, spec, history, champion)
    assert made.gate.verdict is Verdict.FAIL
    assert made.gate.against == "v1"
    assert made.candidate.manifest["parent"] == 1
    assert set(made.candidate.manifest["champion_metrics"]) == {"loss", "roc_auc"}


@pytest.mark.parametrize("search", [False, True], ids=["alone", "in a search"])
def test_a_pipeline_that_shows_predict_once_it_is_fitted(search: bool) -> None:
    """A stack of estimators has no `predict` before it is fitted, and is an estimator all the same."""
    spec = make_spec(pipeline={"factory": f"{__name__}:stacked", "parameters": {"search": search}})
    made = build(spec)
    assert not hasattr(made, "predict")
    assert hasattr(made.fit(np.eye(8), [0, 1] * 4), "predict")


def stacked(search: bool) -> Any:
    pipeline = make_pipeline(StandardScaler(), StackingClassifier([("one", DummyClassifier())], cv=2))
    return GridSearchCV(pipeline, {"stackingclassifier__passthrough": [True]}, cv=2) if search else pipeline


def only_scales() -> Any:
    return make_pipeline(StandardScaler())


# --- what can go wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "parameters", "error", "message"),
    [
        ("no_such_package:pipeline", {}, SpecError, "'no_such_package:pipeline' cannot be imported"),
        ("sklearn.pipeline:NoSuchThing", {}, SpecError, "cannot be imported: .*NoSuchThing"),
        (f"{__name__}:no_estimator", {}, SpecError, "returned str, not an estimator"),
        (f"{__name__}:only_scales", {}, SpecError, "returned Pipeline, not an estimator"),
        ("tasks.core.training:tabular", {"max_itr": 5}, RorError, "max_itr"),
        (f"{__name__}:broken", {}, RorError, "the factory burnt down"),
        (f"{__name__}:leaving", {}, RorError, "SystemExit: run me as a script"),
        (f"{__name__}:Failing", {"leave": True}, TrainingError, "SystemExit: not on a Monday"),
        (f"{__name__}:plain", {"task": "binary"}, RorError, "task"),
        (
            f"{__name__}:Failing",
            {},
            TrainingError,
            r"Fitting failed on [0-9,]+ rows: ValueError: the matrix is singular",
        ),
        (f"{__name__}:Failing", {"late": True}, TrainingError, "cannot predict .*ValueError: no prediction today"),
        ("tasks.core.training:tabular", {"max_iter": -1}, TrainingError, "max_iter"),
    ],
    ids=[
        "no such module",
        "no such name",
        "no estimator",
        "a transformer at the end",
        "unknown parameter",
        "the factory fails",
        "the factory ends the process",
        "fitting ends the process",
        "a parameter too many",
        "fitting fails",
        "predicting fails",
        "a value that cannot be",
    ],
)
def test_a_failing_factory_is_explained(
    trained: Trained, factory: str, parameters: dict[str, Any], error: type[RorError], message: str
) -> None:
    """Whatever a factory does wrong ends in an error of ours that says what and where, not in a traceback."""
    spec = make_spec(pipeline={"factory": factory, "parameters": parameters})
    with pytest.raises(error, match=message):
        train(trained.root, spec, trained.history)


def test_a_factory_gets_what_it_takes() -> None:
    """Task and seed are handed to a factory that asks for them, and to no other."""
    assert isinstance(build(make_spec(pipeline={"factory": f"{__name__}:plain"})), DummyClassifier)


def test_one_class_cannot_be_learnt(tmp_path: Path) -> None:
    """A history in which all labels are alike is refused with that reason."""
    spec = make_spec()
    history = make_history(tmp_path, spec, make_rows(300, 1).assign(y=1))
    with pytest.raises(TrainingError, match="labels are 1: there is nothing to tell apart") as caught:
        train(tmp_path, spec, history)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("second", "changes", "column"),
    [
        (make_rows(300, 2).drop(columns="city"), {"features": ["age", "city"]}, "city"),
        (make_rows(300, 2).assign(age=2**60), {}, "age"),
        (make_rows(300, 2).assign(income=pd.Timestamp("2026-01-01")), {}, "income"),
    ],
    ids=["a feature is missing", "numbers that lose digits", "dates in place of numbers"],
)
def test_batches_that_contradict_each_other_are_refused(
    tmp_path: Path, second: pd.DataFrame, changes: dict[str, Any], column: str
) -> None:
    """A version whose own training data break its contract does not come to be."""
    spec = make_spec(**changes)
    history = make_history(tmp_path, spec, make_rows(300, 1), second)
    with pytest.raises(DataError, match=rf"002\.parquet: column '{column}'"):
        train(tmp_path, spec, history)
