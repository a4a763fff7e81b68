"""Pipelines: how they are saved, and what they answer."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from tasks.core.errors import TrainingError, UntrustedTypes
from tasks.core.versions import persistence

FRAME = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]})


@pytest.mark.parametrize(
    ("pipeline", "target", "classes", "score"),
    [
        (DummyClassifier(strategy="prior"), [0, 1, 1, 1], (0, 1), [0.75] * 4),
        (DummyClassifier(strategy="prior"), ["c", "b", "b", "a"], ("a", "b", "c"), ["b"] * 4),
        (DummyRegressor(), [1.0, 2.0, 3.0, 4.0], (), [2.5] * 4),
    ],
    ids=["binary", "multiclass", "regression"],
)
def test_the_score_is_one_column(pipeline: Any, target: list[Any], classes: tuple[Any, ...], score: list[Any]) -> None:
    """Drift of the prediction is measured on the probability of two classes, else on the prediction itself."""
    answers = persistence.predict(pipeline.fit(FRAME, target), FRAME)
    assert answers.classes == classes
    assert answers.score.tolist() == score


def test_a_pipeline_without_probabilities() -> None:
    """A classifier that has no predict_proba answers with classes only."""
    answers = persistence.predict(LinearSVC().fit(FRAME, [0, 0, 1, 1]), FRAME)
    assert answers.probabilities is None
    assert answers.values.tolist() == [0, 0, 1, 1]


def test_the_predicted_class_is_the_most_probable() -> None:
    """Labels and probabilities of one answer never contradict each other."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=["a", "b"])
    pipeline = DummyClassifier(strategy="stratified", random_state=1).fit(frame, rng.choice(["x", "y", "z"], 60))
    answers = persistence.predict(pipeline, frame)
    assert answers.probabilities is not None
    assert answers.values.tolist() == [answers.classes[column] for column in answers.probabilities.argmax(axis=1)]


def test_a_forest_answers_the_same_each_time() -> None:
    """Threads that add up trees in any order would change the last bit from call to call: a few rows need none."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 4)), columns=[*"abcd"])
    forest = RandomForestClassifier(40, n_jobs=4, random_state=0).fit(frame, rng.integers(0, 3, 300))
    first = persistence.predict(forest, frame[:32]).probabilities
    for _ in range(40):
        assert np.array_equal(persistence.predict(forest, frame[:32]).probabilities, first)


# --- what cannot be saved ------------------------------------------------------------------------------------


class OfAScript(TransformerMixin, BaseEstimator):
    """As if it had been defined in the script that runs."""

    def fit(self, *_: Any) -> OfAScript:
        return self

    def transform(self, frame: Any) -> Any:
        return frame


@pytest.mark.parametrize("step", [FunctionTransformer(lambda frame: frame), "of a script"])
def test_what_no_other_process_could_load_is_refused(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lambda, or a class of the script that is running, is refused before it is saved, with the remedy."""
    if step == "of a script":
        monkeypatch.setattr(OfAScript, "__module__", "__main__")
        monkeypatch.setattr(sys.modules["__main__"], "OfAScript", OfAScript, raising=False)
        step = OfAScript()
    with pytest.raises(TrainingError, match=r"code = \[\"src\"\]"):
        persistence.dump(make_pipeline(step, DummyClassifier()).fit(FRAME, [0, 1, 1, 1]))


def test_the_bytes_are_joblibs(tmp_path: Path) -> None:
    """Noting the modules changes nothing in what is written."""
    pipeline = make_pipeline(StandardScaler(), DummyClassifier()).fit(FRAME, [0, 1, 1, 1])
    joblib.dump(pipeline, tmp_path / "plain.joblib")
    saved = persistence.dump(pipeline)
    assert saved.data == (tmp_path / "plain.joblib").read_bytes()
    assert {"sklearn.pipeline", "sklearn.dummy", "sklearn.preprocessing._data"} <= {*saved.modules}


# --- skops ---------------------------------------------------------------------------------------------------


def test_skops_needs_no_pickle() -> None:
    """A pipeline saved as skops gives the same answers, names the same modules, and holds no pickle."""
    pipeline = make_pipeline(StandardScaler(), DummyClassifier()).fit(FRAME, [0, 1, 1, 1])
    saved = persistence.dump(pipeline, "skops")
    assert {"sklearn.pipeline", "sklearn.dummy", "sklearn.preprocessing._data"} <= {*saved.modules}
    assert np.array_equal(persistence.load(saved.data, "skops").predict_proba(FRAME), pipeline.predict_proba(FRAME))
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(saved.data)


def test_skops_makes_only_what_it_is_allowed_to() -> None:
    """A class that the deployment did not list is refused, when it is saved and when it is loaded."""
    saved = persistence.dump(make_pipeline(OfAScript(), DummyClassifier()).fit(FRAME, [0, 1, 1, 1]), "skops")
    name = f"{__name__}.OfAScript"
    with pytest.raises(TrainingError, match=rf'types = \["{name}"\]'):
        persistence.check_types(saved.data, [])
    with pytest.raises(UntrustedTypes, match=name):
        persistence.load(saved.data, "skops")
    persistence.check_types(saved.data, [name])
    assert isinstance(persistence.load(saved.data, "skops", [name])[0], OfAScript)
