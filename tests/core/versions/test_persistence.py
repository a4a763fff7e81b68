"""Pipelines: how they are saved, and what they answer."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.svm import SVC, LinearSVC
from sklearn.utils import all_estimators

from tasks.core.errors import ProbeMismatch, TrainingError, UnpredictableData, UntrustedTypes
from tasks.core.schema.contract import Column, Contract
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


def three_classes(rows: int = 120) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)), columns=[*"abc"])
    signal = frame.a + rng.normal(0, 0.8, rows)
    return frame, np.array(["low", "mid", "top"])[np.digitize(signal, [-0.5, 0.8])]


def two_classes(rows: int = 300) -> tuple[pd.DataFrame, np.ndarray]:
    frame, target = three_classes(rows)
    return frame, np.where(target == "top", "yes", "no")


WITH_AN_INNER_ONE = ("ClassifierChain", "FixedThresholdClassifier", "MultiOutputClassifier", "OneVsOneClassifier",
                     "OneVsRestClassifier", "OutputCodeClassifier", "SelfTrainingClassifier", "StackingClassifier",
                     "TunedThresholdClassifierCV", "VotingClassifier")  # fmt: skip


def classifiers() -> list[Any]:
    """Every classifier of scikit-learn with probabilities that learns one class a row, alone and in a pipeline."""
    found = [kind() for name, kind in all_estimators("classifier") if name not in WITH_AN_INNER_ONE]
    one = LogisticRegression()
    found += [FixedThresholdClassifier(one, threshold=0.2), TunedThresholdClassifierCV(one, scoring="recall")]
    found += [SVC(probability=True), VotingClassifier([("a", one), ("b", GaussianNB())], voting="soft")]
    found += [OneVsRestClassifier(one), SelfTrainingClassifier(one), StackingClassifier([("a", one)])]
    found += [DummyClassifier(strategy=strategy, random_state=1) for strategy in ("most_frequent", "prior")]
    return [each for each in found if hasattr(each, "predict_proba")]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("last", classifiers(), ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("data", [two_classes, three_classes])
def test_the_prediction_is_what_predict_answers(last: Any, data: Callable[[], Any]) -> None:
    """Whatever the classifier, with a threshold of its own or without; `predict` is left out only where it is known to
    say the same."""
    frame, target = data()
    pipeline = make_pipeline(MinMaxScaler(), last)
    try:
        pipeline.fit(frame, target)
    except ValueError as error:
        pytest.skip(f"it learns no such classes: {error}")
    said = pipeline.predict(frame)
    answers = persistence.predict(pipeline, frame)
    assert answers.values.tolist() == said.tolist()
    assert answers.values.dtype == np.asarray(pipeline.classes_).dtype


def test_a_threshold_is_the_models_own() -> None:
    """With a low threshold many more rows are 'yes' than those whose probability is above one half."""
    frame, target = two_classes()
    pipeline = FixedThresholdClassifier(LogisticRegression(), threshold=0.1).fit(frame, target)
    answers = persistence.predict(pipeline, frame)
    assert answers.probabilities is not None
    assert (answers.values == "yes").sum() > 1.5 * (answers.probabilities[:, 1] > 0.5).sum()


def test_predict_is_asked_only_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default pipeline is asked once: asking twice would take twice as long."""
    frame, target = two_classes()
    fast = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=3)).fit(frame, target)
    assert persistence.predicts_most_probable(fast)
    monkeypatch.setattr(HistGradientBoostingClassifier, "predict", None)
    persistence.predict(fast, frame)

    class Mine(LogisticRegression):
        """A class of one's own may answer anything."""

    assert not persistence.predicts_most_probable(Mine())


def test_an_answer_that_is_no_class_is_refused() -> None:
    """What predict says must be one of the classes that the probabilities are of."""

    class Odd(LogisticRegression):
        def predict(self, frame: pd.DataFrame) -> np.ndarray:
            return np.full(len(frame), "perhaps")

    frame, target = two_classes()
    with pytest.raises(UnpredictableData, match="'perhaps', which is none of its classes"):
        persistence.predict(Odd().fit(frame, target), frame)


def test_known_answers_of_earlier_releases_still_come() -> None:
    """They stored the most probable class; where predict says something else, the probabilities alone are compared.
    Answers of this release are compared in full."""
    frame, target = two_classes()
    pipeline = FixedThresholdClassifier(LogisticRegression(), threshold=0.1).fit(frame, target)
    now = persistence.make_probe(pipeline, frame)
    likely = pipeline.classes_[now[[name for name in now if "probability" in name]].to_numpy().argmax(axis=1)]
    old = now.assign(**{persistence.PREDICTION: likely})
    assert not old.equals(now)
    for probe in (now, old):
        persistence.replay_probe(pipeline, probe, frame, "v1", exact=True)
    wrong = now.copy()
    wrong.loc[0, persistence.PREDICTION] = {"yes": "no", "no": "yes"}[now.loc[0, persistence.PREDICTION]]
    with pytest.raises(ProbeMismatch, match="prediction differs"):
        persistence.replay_probe(pipeline, wrong, frame, "v1", exact=True)


def test_a_forest_answers_the_same_each_time() -> None:
    """Threads that add up trees in any order would change the last bit from call to call: a few rows need none."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 4)), columns=[*"abcd"])
    forest = RandomForestClassifier(40, n_jobs=4, random_state=0).fit(frame, rng.integers(0, 3, 300))
    first = persistence.predict(forest, frame[:32]).probabilities
    for _ in range(40):
        assert np.array_equal(persistence.predict(forest, frame[:32]).probabilities, first)


class Adds(TransformerMixin, BaseEstimator):
    """Changes the frame that it is given."""

    def fit(self, frame: Any, target: Any = None) -> Adds:
        return self

    def transform(self, frame: Any) -> Any:
        frame["a"] = frame["a"] - 1
        frame["b"] = frame["a"] ** 2
        return frame


@pytest.mark.parametrize(
    "last", [LinearRegression(), LogisticRegression(), FixedThresholdClassifier(LogisticRegression(), threshold=0.4)]
)
def test_a_step_that_changes_its_frame(last: Any) -> None:
    """Each call has a frame of its own: the answers stay, and so do the rows."""
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]})
    pipeline = make_pipeline(Adds(), last).fit(frame.copy(), [0, 0, 1, 1])
    first, again = (persistence.predict(pipeline, frame).values for _ in range(2))
    assert np.array_equal(first, again)
    assert frame.equals(pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]}))


def test_a_pipeline_that_fails_says_why() -> None:
    """Where a known answer is not given but an error, the library's own words are quoted, unless they may hold values
    of private columns."""
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
    pipeline = LinearRegression().fit(frame, [1.0, 2.0, 3.0])
    probe = persistence.make_probe(pipeline, frame)
    pipeline.coef_ = np.ones((2, 5))
    private = Contract(1, 3, (Column("a", "number", "double", 0.0, private=True),), ())
    with pytest.raises(ProbeMismatch, match=r"but fails\. The pipeline cannot predict these 3 rows: ValueError: .*5"):
        persistence.replay_probe(pipeline, probe, frame, "v1", exact=True)
    with pytest.raises(ProbeMismatch, match="its text is withheld"):
        persistence.replay_probe(pipeline, probe, frame, "v1", exact=True, contract=private)


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
