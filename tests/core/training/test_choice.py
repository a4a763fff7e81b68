"""The default pipeline that suits the data: chosen once, at a first version, on record, and kept from then on."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from tasks.core.data.rows import LabelledRows
from tasks.core.errors import SpecError
from tasks.core.records import to_dict
from tasks.core.spec import ModelSpec
from tasks.core.training import choice
from tasks.core.training.choice import choose, settle
from tasks.core.training.factory import BOOSTER, ESTIMATORS, LINEAR, SMALL_BOOSTER, build
from tasks.core.training.fit import fit_on, rows_of
from tasks.core.training.holdout import FIRST_HOLDOUT_EVERY, split
from tasks.core.versions import persistence
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.registry import Registry
from tests.helpers.model import make_rows
from tests.helpers.training import make_history, make_spec, train

pytestmark = pytest.mark.choice


def default(**changes: Any) -> ModelSpec:
    """A model whose file says nothing of its pipeline."""
    return make_spec(pipeline={}, **changes)


def straight(rows: int, seed: int) -> pd.DataFrame:
    """A sum of features decides: a line suits."""
    rng = np.random.default_rng(seed)
    made = pd.DataFrame(rng.normal(size=(rows, 6)), columns=[f"x{number}" for number in range(6)])
    signal = made.sum(axis=1) + (city := rng.choice(["Oslo", "Bergen"], rows) == "Oslo")
    return made.assign(id=np.arange(rows) + rows * seed, city=np.where(city, "Oslo", "Bergen"), y=(signal > 0) * 1)


def crossed(rows: int, seed: int) -> pd.DataFrame:
    """Whether two features have the same sign decides: no line can say that."""
    made = straight(rows, seed)
    return made.assign(y=(made["x0"] * made["x1"] > 0) * 1)


def registered(
    root: Path, spec: ModelSpec, history: list[LabelledRows], before: LoadedVersion | None = None
) -> LoadedVersion:
    registry, made = Registry(root / "store"), train(root, spec, history, before)
    version, _ = registry.register("loans", "key", made.candidate)
    loaded: LoadedVersion = registry.load("loans", version)
    return loaded


@pytest.fixture
def first(tmp_path: Path) -> LoadedVersion:
    """A first version whose pipeline was chosen."""
    return registered(tmp_path, default(), make_history(tmp_path, default(), straight(300, 1)))


# --- the choice ----------------------------------------------------------------------------------------------


def test_a_line_where_a_line_is_enough(tmp_path: Path) -> None:
    """On a few hundred rows that a sum of features explains, the linear pipeline is chosen, by the loss on record."""
    found = choose(default(), make_history(tmp_path, default(), straight(150, 1), straight(150, 2)))
    assert found is not None
    assert found.estimator == LINEAR == min(found.losses, key=found.losses.__getitem__)
    assert list(found.losses) == [*ESTIMATORS]


def test_a_booster_where_features_act_together(tmp_path: Path) -> None:
    """Where no line can tell the classes apart, a booster is chosen, whichever the task."""
    classes = make_history(tmp_path, default(), crossed(600, 1))
    found = choose(default(), classes)
    assert found is not None and found.estimator in (SMALL_BOOSTER, BOOSTER)
    numbers = default(task="regression")
    made = crossed(600, 1)
    found = choose(numbers, make_history(tmp_path, numbers, made.assign(y=10 * made["x0"] * made["x1"])))
    assert found is not None and found.estimator in (SMALL_BOOSTER, BOOSTER)


def test_only_later_rows_are_asked(tmp_path: Path) -> None:
    """All rows but the first fifth are asked, each by what was learned before it: a relation that turns costs."""
    spec = default()
    history = make_history(tmp_path, spec, straight(400, 1), straight(400, 2))
    learned = sum(len(part.rows) for part in split(history, FIRST_HOLDOUT_EVERY).learn)
    found = choose(spec, history)
    assert found is not None and found.rows == learned - round(learned / (choice.FOLDS + 1))
    turned = make_history(tmp_path, spec, straight(400, 1), crossed(400, 2))
    assert (late := choose(spec, turned)) is not None
    assert late.losses[LINEAR] > found.losses[LINEAR] + 0.1


def test_the_rows_of_the_gate_are_not_looked_at(tmp_path: Path) -> None:
    """The gate compares on rows that no choice was made by: other labels there change nothing."""
    spec = default()
    part = make_history(tmp_path, spec, straight(400, 1))[0]
    kept = np.isin(part.rows, split([part], FIRST_HOLDOUT_EVERY).gate[0].rows)
    assert kept.any()
    other = replace(part, target=np.where(kept, 1 - part.target, part.target))
    assert choose(spec, [part]) == choose(spec, [other])


def test_many_rows_need_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From PLENTY labelled rows on nothing is tried: the default pipeline is what it always was."""
    history = make_history(tmp_path, default(), straight(300, 1))
    monkeypatch.setattr(choice, "PLENTY", 300)
    assert settle(default(), history, None) == (default(), None)
    monkeypatch.setattr(choice, "PLENTY", 301)
    assert settle(default(), history, None)[1] is not None


def test_folds_without_two_classes_are_left_out(tmp_path: Path) -> None:
    """Where the first rows are of one class only, later folds choose; where all but the last are, nothing is chosen."""
    spec = default()
    late = straight(300, 1).assign(y=lambda made: np.where(made.index < 100, 0, made["y"]))
    found = choose(spec, make_history(tmp_path, spec, late))
    assert found is not None and found.rows < 200
    never = straight(300, 1).assign(y=lambda made: (made.index > 280) * 1)
    assert choose(spec, make_history(tmp_path, spec, never)) is None


def test_what_fails_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate that cannot be fitted on these rows, or not be asked, leaves the choice among the others."""
    history = make_history(tmp_path, default(), straight(300, 1))

    def fails(self: Any, *_: Any, **__: Any) -> None:
        raise ValueError("no")

    for step in ("fit", "predict_proba"):
        with monkeypatch.context() as patch:
            patch.setattr(LogisticRegression, step, fails)
            found = choose(default(), history)
        assert found is not None and [*found.losses] == [SMALL_BOOSTER, BOOSTER]


# --- what becomes of it --------------------------------------------------------------------------------------


def test_the_choice_is_on_record(first: LoadedVersion) -> None:
    """The manifest says what was chosen and by which losses; its parameters are those of the pipeline it describes."""
    manifest = first.manifest
    assert manifest.choice is not None
    assert manifest.choice.estimator == LINEAR
    assert manifest.parameters == manifest.spec["pipeline"]["parameters"] == {"estimator": LINEAR}
    assert isinstance(first.pipeline[-1], LogisticRegression)
    assert to_dict(manifest)["choice"] == {
        "estimator": LINEAR, "losses": dict(manifest.choice.losses), "rows": manifest.choice.rows,
    }  # fmt: skip


def test_later_versions_keep_it(tmp_path: Path, first: LoadedVersion) -> None:
    """The choice is made once: a later version has the same pipeline, and the same record, whatever data came since."""
    history = make_history(tmp_path, default(), straight(300, 1), *(crossed(600, seed) for seed in (2, 3)))
    second = registered(tmp_path, default(), history, first)
    assert isinstance(second.pipeline[-1], LogisticRegression)
    assert second.manifest.choice == first.manifest.choice
    assert second.manifest.parameters == {"estimator": LINEAR}


def test_the_file_has_the_last_word(tmp_path: Path, first: LoadedVersion) -> None:
    """Parameters in the model's file end the choice, for first and later versions; nothing of it is in their record."""
    spec = make_spec(pipeline={"parameters": {"estimator": SMALL_BOOSTER, "max_iter": 5}})
    history = make_history(tmp_path, spec, straight(300, 1), straight(300, 2))
    for champion in (None, first):
        made = registered(tmp_path, spec, history, champion)
        assert (made.pipeline[-1].max_leaf_nodes, made.pipeline[-1].max_iter) == (7, 5)
        assert "choice" not in to_dict(made.manifest)


def test_a_model_without_a_choice_goes_on_without(tmp_path: Path, first: LoadedVersion) -> None:
    """Where the version in service was made without a choice, as by an earlier release, the next one is, too."""
    before = replace(first, manifest=replace(first.manifest, choice=None))
    second = registered(tmp_path, default(), make_history(tmp_path, default(), straight(300, 1)), before)
    assert second.manifest.parameters == {}
    assert "choice" not in to_dict(second.manifest)
    assert isinstance(second.pipeline[-1], HistGradientBoostingClassifier)
    assert second.pipeline[-1].get_params() == build(default())[-1].get_params()


def test_other_factories_are_left_alone(tmp_path: Path) -> None:
    """A pipeline of the user's own is what its factory says."""
    spec = make_spec(pipeline={"factory": "sklearn.dummy:DummyClassifier"})
    assert settle(spec, make_history(tmp_path, spec, straight(300, 1)), None) == (spec, None)


# --- the three ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_each_of_them_learns_from_any_columns(tmp_path: Path, estimator: str, task: str) -> None:
    """Ids, missing values, booleans, constants and columns without a value are learned from, and what no training row
    had is predicted."""
    made = make_rows(400, seed=1)
    made = made.assign(
        id=made.index, code=[f"c{number}" for number in made.index], note=None, one=1.0, same="a",
        mostly=pd.Series("x", made.index).where(made.index % 9 == 0, None),
        member=made["member"].where(made.index % 7 > 0),
        y=made["income"].fillna(0) if task == "regression" else made["y"] + (task == "multiclass") * (made["age"] > 60),
    )  # fmt: skip
    spec = make_spec(task=task, pipeline={"parameters": {"estimator": estimator}})
    loaded = registered(tmp_path, spec, make_history(tmp_path, spec, made))
    later = make_rows(50, seed=2)
    later = later.assign(
        id=later.index, code="never", note=None, one=np.nan, same=None, mostly="y", income=1e300, city="Hamar"
    )
    assert np.isfinite(loaded.predict(later).score).all()


def test_the_linear_pipeline_asks_skops_for_no_more(tmp_path: Path) -> None:
    """A model's file that allows the types of the default booster allows all three, so that any may be chosen."""
    wanted = {}
    for estimator in ESTIMATORS:
        spec = make_spec(pipeline={"parameters": {"estimator": estimator}})
        pipeline = fit_on(spec, rows_of(spec, make_history(tmp_path, spec, make_rows(300, seed=1))))
        wanted[estimator] = {*skops.io.get_untrusted_types(data=persistence.dump(pipeline, "skops").data)}
    assert wanted[LINEAR] <= wanted[SMALL_BOOSTER] == wanted[BOOSTER]


def test_a_line_ends_where_the_data_end(tmp_path: Path) -> None:
    """Beyond the range of the training data the linear pipeline answers as at its end."""
    spec = make_spec(task="regression", pipeline={"parameters": {"estimator": LINEAR}})
    made = straight(300, 1)
    rows = rows_of(spec, make_history(tmp_path, spec, made.assign(y=made["x0"] * 3.0)))
    pipeline, last = fit_on(spec, rows), rows.features.iloc[[int(rows.features["x0"].argmax())]]
    beyond = last.assign(x0=last["x0"] * 100)
    assert persistence.predict(pipeline, beyond).values == persistence.predict(pipeline, last).values


def test_nobody_is_warned_of_a_solver(tmp_path: Path) -> None:
    """That the default pipeline's solver stopped early is no news for its user, who did not choose it."""
    spec = make_spec(pipeline={"parameters": {"estimator": LINEAR, "max_iter": 1}})
    rows = rows_of(spec, make_history(tmp_path, spec, straight(300, 1)))
    with warnings.catch_warnings(action="error"):
        assert fit_on(spec, rows)[-1].n_iter_ == 1


def test_an_estimator_that_there_is_not() -> None:
    """The error names those that there are."""
    with pytest.raises(SpecError, match="estimator 'forest' is none of linear, small-booster, booster"):
        build(make_spec(pipeline={"parameters": {"estimator": "forest"}}))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_it_answers_whatever_satisfies_its_schema(tmp_path: Path, estimator: str, task: str) -> None:
    """No batch that is valid is one that the default pipeline cannot predict: that is why nobody asks it beforehand."""
    rows = make_rows(400, seed=1)
    target = {"binary": rows["y"], "multiclass": rows["age"] % 3, "regression": rows["age"] * 1.5}[task]
    rows = rows.assign(y=target, constant=1.0, tiny=rows["income"] * 1e-300, empty=np.nan)
    spec = make_spec(task=task, pipeline={"parameters": {"estimator": estimator}})
    learned = rows_of(spec, make_history(tmp_path, spec, rows))
    pipeline, largest = fit_on(spec, learned), np.finfo(float).max
    odd = pd.DataFrame(
        [
            {"income": income, "age": age, "city": city, "member": member}
            for income in (largest, -largest, 5e-324, 0.0, np.nan)
            for age in (largest, -largest, np.nan)
            for city in ("Oslo", "never seen", "", np.nan)
            for member in (0.0, 1.0, np.nan)
        ]
    )
    odd = odd.assign(constant=odd["income"], tiny=odd["age"], empty=odd["age"])
    answers = persistence.predict(pipeline, odd[learned.contract.names], contract=learned.contract)
    assert len(answers.values) == len(odd) and not answers.no_numbers.any()
