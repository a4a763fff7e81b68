"""Pipelines, the environment they need, and what they answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.svm import LinearSVC

from tasks.core import persistence

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
