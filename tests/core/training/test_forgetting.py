"""How much of the past a fit looks at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

from tasks.core.errors import SpecError
from tasks.core.schema.frames import frame
from tasks.core.spec import Forgetting
from tasks.core.training import fit
from tasks.core.training.forgetting import fit_arguments, recency, remembered
from tests.helpers.model import make_rows
from tests.helpers.training import make_history, make_spec, put


def test_a_window_keeps_the_newest_batches(tmp_path: Path) -> None:
    """The newest batches are remembered in time order; without a window all are."""
    history = make_history(tmp_path, make_spec(), *(make_rows(30, seed) for seed in range(4)))
    assert [part.batch.id for part in remembered(history, Forgetting(window=2))] == ["003", "004"]
    assert remembered(history, Forgetting(window=9)) == history == remembered(history, Forgetting())


def test_weights_halve_with_every_half_life(tmp_path: Path) -> None:
    """Rows of the newest batch weigh 1, those a half-life older a half; without one, nothing is weighed."""
    history = make_history(tmp_path, make_spec(), make_rows(2, 0), make_rows(3, 1), make_rows(1, 2))
    assert recency(history, Forgetting(half_life=2)) == pytest.approx([0.5, 0.5, *[0.5**0.5] * 3, 1.0])
    assert recency(history, Forgetting(window=2)) is None


def test_weights_reach_the_last_step() -> None:
    """A Pipeline takes them under its last step's name, a bare estimator as they are; without any none is passed."""
    weights = np.array([1.0, 0.5])
    pipeline = Pipeline([("first", "passthrough"), ("model", LogisticRegression())])
    assert fit_arguments(pipeline, weights).keys() == {"model__sample_weight"}
    assert fit_arguments(LogisticRegression(), weights).keys() == {"sample_weight"}
    assert fit_arguments(pipeline, None) == {}


def test_an_estimator_without_weights_is_refused() -> None:
    """A half-life that would be ignored is an error which names the estimator and the way out."""
    with pytest.raises(SpecError, match=r"KNeighborsClassifier takes no sample_weight. Use forgetting.window"):
        fit_arguments(KNeighborsClassifier(), np.ones(2))


def test_old_batches_count_less(tmp_path: Path) -> None:
    """After the relation turned round, a version with a short half-life follows the newest batch, one without the old
    majority."""
    frames = [make_rows(300, seed, flip=0.0) for seed in range(3)]
    frames.append(make_rows(300, 3, flip=1.0))
    correct = {}
    for name, forgetting in {"all": {}, "half-life": {"half_life": 0.2}, "window": {"window": 1}}.items():
        spec = make_spec(policy={"forgetting": forgetting})
        root = tmp_path / name
        root.mkdir()
        history = make_history(root, spec, *frames)
        fitted = fit.fit(spec, history)
        rows = make_rows(1000, 4, flip=1.0)
        answers = fitted.pipeline.predict(frame(fitted.contract, put(root, rows, "later.csv")))
        correct[name] = float((answers == rows["y"].to_numpy()).mean())
    assert correct["all"] < 0.5 < 0.65 < min(correct["half-life"], correct["window"])


@pytest.mark.parametrize(
    ("forgetting", "says"),
    [
        ({"window": 4, "half_life": 2}, "set window or half_life, not both"),
        ({"window": 0}, "greater than or equal to 1"),
        ({"windows": 4}, "did you mean 'window'"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(forgetting: dict[str, float], says: str) -> None:
    """Contradictions, values out of range and unknown keys are named with the key they stand under."""
    with pytest.raises(SpecError, match=says):
        make_spec(policy={"forgetting": forgetting})
