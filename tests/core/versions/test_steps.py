"""The step of a pipeline that raised, or that made a number that is none, by its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tasks.core.errors import UnpredictableData
from tasks.core.versions import persistence
from tasks.core.versions.persistence import Predictions
from tasks.core.versions.steps import raising_step

FRAME = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
TARGET = [0, 0, 1, 1]


class Fragile(BaseEstimator, TransformerMixin):
    """Raises on numbers above 100."""

    def fit(self, *_: Any) -> Fragile:
        self.fitted_ = True
        return self

    def transform(self, frame: Any) -> Any:
        if np.asarray(frame).max() > 100:
            raise ValueError("above 100")
        return np.asarray(frame)


def columns() -> Any:
    return ColumnTransformer([("odd", Fragile(), ["a"]), ("even", StandardScaler(), ["b"])])


@pytest.mark.parametrize(
    ("pipeline", "path"),
    [
        (make_pipeline(Fragile(), LogisticRegression()), "'fragile'"),
        (make_pipeline(columns(), LogisticRegression()), "'columntransformer' > 'odd'"),
        (
            make_pipeline(FeatureUnion([("left", columns()), ("right", StandardScaler())]), LogisticRegression()),
            "'featureunion' > 'left' > 'odd'",
        ),
        (
            GridSearchCV(make_pipeline(columns(), LogisticRegression()), {"logisticregression__C": [1.0]}, cv=2),
            "'columntransformer' > 'odd'",
        ),
        (
            TransformedTargetRegressor(make_pipeline(columns(), LinearRegression())),
            "'columntransformer' > 'odd'",
        ),
    ],
    ids=["a step", "columns", "a union", "a search", "a transformed target"],
)
def test_the_innermost_named_step_is_found(pipeline: Any, path: str) -> None:
    """However steps are nested, by the names that the user gave them."""
    pipeline.fit(FRAME, TARGET)
    with pytest.raises(UnpredictableData, match=r"step .* raises ValueError: above 100 \(test_steps.py") as raised:
        persistence.predict(pipeline, FRAME.assign(a=1000.0))
    assert f"step {path} (Fragile)" in str(raised.value)


def test_an_estimator_alone_has_no_step() -> None:
    """What is no pipeline is not named: the library's words stand alone."""
    model = LogisticRegression().fit(FRAME, TARGET)
    with pytest.raises(ValueError) as raised:
        model.predict(FRAME[["a"]])
    assert raising_step(model, raised.value) == ""
    with pytest.raises(UnpredictableData, match="these 4 rows: ValueError: "):
        persistence.predict(model, FRAME[["a"]])


def overflowing(step: str) -> Any:
    def explode(values: Any) -> Any:
        with np.errstate(over="ignore"):
            return np.exp(np.asarray(values, dtype=float))

    if step == "functiontransformer":
        return make_pipeline(FunctionTransformer(explode), Sums())
    return make_pipeline(StandardScaler(), Sums(explode))


class Sums(BaseEstimator):
    """Answers the sum of a row, or something made of it."""

    def __init__(self, made: Any = None):
        self.made = made

    def fit(self, *_: Any) -> Sums:
        self.fitted_ = True
        return self

    def predict(self, frame: Any) -> np.ndarray:
        sums = np.asarray(frame).sum(axis=1)
        return self.made(sums) if self.made else sums


@pytest.mark.parametrize("step", ["functiontransformer", "sums"])
def test_the_step_that_made_no_number_is_found(step: str) -> None:
    """The first whose output is infinite, else the last; the first row is counted from one."""
    pipeline = overflowing(step).fit(FRAME, TARGET)
    frame = FRAME.assign(a=[0.0, 1e6, 2.0, 1e6])
    message = rf"2 answers are no finite number \(inf, the first for row 2\); step '{step}' \(.*\) makes them"
    with pytest.raises(UnpredictableData, match=message):
        persistence.predict(pipeline, frame)


@pytest.mark.parametrize(
    ("answers", "wrong"),
    [
        (Predictions(np.array([1.0, np.nan, np.inf]), None, ()), [False, True, True]),
        (Predictions(np.array([1, 2, 3]), None, ()), [False, False, False]),
        (Predictions(np.array(["a", "b", None], dtype=object), None, ("a", "b")), [False, False, True]),
        (Predictions(np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 0.5]]), (0, 1)), [False, True]),
        (Predictions(np.array([]), np.empty((0, 2)), (0, 1)), []),
    ],
    ids=["numbers", "integers", "names", "probabilities", "no rows"],
)
def test_answers_that_are_no_numbers_are_seen(answers: Predictions, wrong: list[bool]) -> None:
    """Infinite, not a number, or none at all."""
    assert answers.no_numbers.tolist() == wrong
