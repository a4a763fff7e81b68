"""Answers that depend on the rows that come along are refused before a version is registered."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

from tasks.core.errors import TrainingError, UnavailablePipeline
from tasks.core.training.company import refuse_company
from tests.helpers.training import Trained, make_spec, train


def rows(count: int = 400, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": rng.normal(size=count), "z": rng.normal(size=count) * 100})
    frame["city"] = rng.choice(["Oslo", "Bergen", "Narvik"], count).astype(object)
    return frame, (frame.x + (frame.city == "Oslo") + rng.normal(size=count) > 0.5).astype(int).to_numpy()


def ask(pipeline: Any, target: np.ndarray | None = None, **hide: bool) -> None:
    frame, usual = rows()
    pipeline.fit(frame, usual if target is None else target)
    refuse_company(pipeline, frame.iloc[:32], frame.iloc[100:300], **{"private": False, "hidden": False, **hide})


def codes(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(city=frame.city.astype("category").cat.codes)


def ranks(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["x", "z"]].rank(pct=True)


def dummies(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.get_dummies(frame)


def scaled(frame: pd.DataFrame) -> np.ndarray:
    return StandardScaler().fit_transform(frame[["x", "z"]])


def lagged(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["x", "z"]].assign(before=frame.x.shift().fillna(0))


def filled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["x"]].assign(mean=frame.x.mean())


@pytest.mark.parametrize("step", [codes, ranks, dummies, scaled, lagged, filled])
def test_a_step_that_looks_at_other_rows_is_refused_by_name(step: Any) -> None:
    """Codes within the frame, ranks, dummies, scaling, lags and means: refused with the step and both ways out."""
    pipeline = make_pipeline(FunctionTransformer(step), LogisticRegression())
    with pytest.raises(TrainingError, match=r"depend on the other rows") as refused:
        ask(pipeline)
    said = str(refused.value)
    assert "step 'functiontransformer' (FunctionTransformer)" in said
    assert "`fit`" in said and '[pipeline] rows = "together"' in said


class Mean(LogisticRegression):
    """Answers by how a row compares with those beside it."""

    def predict_proba(self, frame: Any) -> np.ndarray:
        likely = super().predict_proba(frame)
        return likely / (1 + likely.mean(axis=0)) / (likely / (1 + likely.mean(axis=0))).sum(axis=1, keepdims=True)


def test_both_answers_are_shown_unless_the_target_is_private() -> None:
    """The last step is named where no other differs; answers are values of the target."""
    pipeline = make_pipeline(OneHotEncoder(handle_unknown="ignore"), Mean())
    with pytest.raises(TrainingError, match=r"the probability of \d, [\d.]+, becomes [\d.]+\).* step 'mean' \(Mean\)"):
        ask(pipeline)
    with pytest.raises(TrainingError) as refused:
        ask(pipeline, hidden=True)
    assert "becomes" not in str(refused.value)


class Noise(BaseEstimator, TransformerMixin):
    """Something random without a seed."""

    def fit(self, *_: Any) -> Noise:
        return self

    def transform(self, frame: Any) -> np.ndarray:
        return np.random.default_rng().normal(size=(len(frame), 2))


def test_answers_that_differ_each_time_are_told_apart() -> None:
    """What is random is no matter of other rows: the remedy is a seed."""
    with pytest.raises(TrainingError, match=r"otherwise when it is asked again.*\(Noise\).*fixed seed"):
        ask(make_pipeline(Noise(), LogisticRegression()))


def test_a_row_that_cannot_be_asked_alone_is_a_difference() -> None:
    """A pipeline that fails on one row alone is refused, with the library's words."""

    def many(frame: pd.DataFrame) -> pd.DataFrame:
        if len(frame) < 2:
            raise ValueError("one row has no spread")
        return frame[["x"]]

    with pytest.raises(TrainingError, match=r"cannot be predicted alone: .*one row has no spread"):
        ask(make_pipeline(FunctionTransformer(many), LogisticRegression()))


def encoded(last: Any) -> Any:
    return make_pipeline(make_column_transformer((OneHotEncoder(), ["city"]), (StandardScaler(), ["x", "z"])), last)


@pytest.mark.parametrize(
    "last",
    [
        LogisticRegression(),
        LinearSVC(),
        SVC(probability=True),
        KNeighborsClassifier(),
        MLPClassifier((8,), max_iter=30),
        RandomForestClassifier(20, n_jobs=2, random_state=0),
        DummyClassifier(),
    ],
    ids=lambda last: type(last).__name__,
)
@pytest.mark.filterwarnings("ignore")
def test_ordinary_pipelines_pass(last: Any) -> None:
    """Estimators that round otherwise for another number of rows are not blamed for it."""
    ask(encoded(last))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_amounts_of_any_size_pass(scale: float) -> None:
    """Differences are measured by the size of the answers."""
    for last in (Ridge(), RandomForestRegressor(10, random_state=0)):
        ask(encoded(last), target=rows()[0].z.to_numpy() * scale)


def test_text_features_pass() -> None:
    """Outputs of a step may be sparse, and as wide as they like."""
    ask(make_pipeline(make_column_transformer((TfidfVectorizer(), "city")), LogisticRegression()))


def test_no_memory_is_no_dependence() -> None:
    """What the machine lacks says nothing about the pipeline."""

    def hungry(frame: pd.DataFrame) -> pd.DataFrame:
        if len(frame) == 1:
            raise MemoryError
        return frame[["x"]]

    with pytest.raises(UnavailablePipeline):
        ask(make_pipeline(FunctionTransformer(hungry), LogisticRegression()))


def coded() -> Any:
    """A factory whose pipeline codes within the frame."""
    return make_pipeline(FunctionTransformer(coded_rows), LogisticRegression(max_iter=500))


def coded_rows(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(city=frame.city.astype("category").cat.codes).fillna(0)[["income", "age", "city"]]


def test_training_refuses_it_unless_the_file_allows_it(trained: Trained) -> None:
    """`rows = "together"` allows it, and stands in the version's record."""
    factory = f"{__name__}:coded"
    with pytest.raises(TrainingError, match=re.escape("because of step 'functiontransformer'")):
        train(trained.root, make_spec(pipeline={"factory": factory}), trained.history)
    spec = make_spec(pipeline={"factory": factory, "rows": "together"})
    made = train(trained.root, spec, trained.history)
    assert made.candidate.manifest["spec"]["pipeline"]["rows"] == "together"
