"""Pipelines, the environment they need, and what they answer."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from tasks.core import persistence


class Own(TransformerMixin, BaseEstimator):
    """A transformer of a project's own."""

    def fit(self, *_: Any) -> Own:
        return self

    def transform(self, frame: Any) -> Any:
        return frame


def own_function(frame: Any) -> Any:
    return frame


FRAME = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]})


@pytest.mark.parametrize(
    "pipeline",
    [
        Own(),
        make_pipeline(StandardScaler(), Own()),
        make_pipeline(ColumnTransformer([("x", FeatureUnion([("own", Own())]), ["a"])])),
        make_pipeline(FunctionTransformer(own_function)),
    ],
    ids=["alone", "a step", "nested", "a function"],
)
def test_the_source_of_own_parts_is_recorded(pipeline: Any, tmp_path: Path) -> None:
    """The digest of a module that belongs to no installed package is recorded, however deep its part is nested."""
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert persistence.environment(pipeline, tmp_path).sources == {__name__: digest}


def test_the_environment_names_what_pickles_depend_on(tmp_path: Path) -> None:
    """Python, platform and the libraries that scikit-learn's pickles depend on are always recorded."""
    recorded = persistence.environment(StandardScaler(), tmp_path)
    assert recorded.python == platform.python_version()
    assert recorded.platform == platform.platform()
    assert {"scikit-learn", "numpy", "scipy", "joblib", "pandas"} <= set(recorded.distributions)
    assert (recorded.sources, recorded.git_commit) == ({}, None)


def test_the_commit_is_recorded_inside_a_repository(tmp_path: Path) -> None:
    """Under version control the commit is part of the environment."""
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    commit = persistence.environment(StandardScaler(), tmp_path).git_commit
    assert commit is not None
    assert len(commit) == 40


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
