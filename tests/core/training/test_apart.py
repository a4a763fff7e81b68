"""What a fit depends on besides its code and data: caches, settings of scikit-learn, files, the environment."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sklearn
from sklearn.pipeline import make_pipeline

from tasks.core.audit.reproduce import reproduce
from tasks.core.audit.verify import audit
from tasks.core.errors import TrainingError
from tasks.core.records import to_dict
from tasks.core.spec import ModelSpec
from tasks.core.training import proof
from tasks.core.training.challenger import with_files
from tasks.core.training.factory import without_caches
from tasks.core.training.fit import learn
from tasks.core.versions import namespaces, opened, own_code, persistence
from tasks.core.versions.environment import Environment, check_environment
from tasks.core.versions.registry import _LOADED, Registry
from tasks.core.workspace import Workspace
from tests.helpers.model import Model
from tests.helpers.training import ROWS, make_history, make_spec, train

FACTORY = """
import json
import sklearn
from pathlib import Path
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from desk_settings_steps import columns

sklearn.set_config(transform_output="pandas")


def build(task):
    root = Path(__file__).parents[1]
    chosen = json.loads((root / "chosen.json").read_text())
    return make_pipeline(FunctionTransformer(columns), SelectKBest(k="all"), LogisticRegression(**chosen))
"""
STEPS = """
import os

def columns(X):
    os.environ.get("DESK_REGION")
    return X[["income", "age"]].fillna(0).rename(columns=str.upper) + FACTOR

FACTOR = 1
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelSpec]:
    """A model whose factory changes scikit-learn's settings when it is imported, and reads a file of the root."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(own_code, "_ADDED", set())
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "desk_settings.py").write_text(FACTORY)
    (tmp_path / "src" / "desk_settings_steps.py").write_text(STEPS)
    (tmp_path / "chosen.json").write_text('{"C": 0.5}')
    namespaces.forget()
    yield make_spec(code=["src"], pipeline={"factory": "desk_settings:build"})
    namespaces.forget()
    for name in [name for name in sys.modules if name.startswith("desk_")]:
        del sys.modules[name]


def test_settings_of_scikit_learn_belong_to_their_version(spec: ModelSpec, tmp_path: Path) -> None:
    """What a factory's module sets when it is imported holds for every fit and answer of its pipelines, is on record,
    and holds for no other model; a process that does not import the factory answers alike."""
    history = make_history(tmp_path, spec, ROWS)
    for _ in range(2):  # the second time nothing is imported any more
        challenger = train(tmp_path, spec, history)
        assert challenger.candidate.environment.configuration == {"transform_output": "pandas"}
        assert sklearn.get_config()["transform_output"] == "default"
    registry = Registry(tmp_path / "artifacts", code=spec.folders(tmp_path))
    version, _ = registry.register("loans", "key", challenger.candidate)
    namespaces.forget()
    loaded = registry.load("loans", version)
    answers = loaded.predict(ROWS)
    assert loaded.pipeline[1].get_feature_names_out().tolist() == ["INCOME", "AGE"]
    assert sklearn.get_config()["transform_output"] == "default"
    assert answers.probabilities is not None
    with sklearn.config_context(transform_output="polars"):  # as a service may
        again = persistence.predict(loaded.pipeline, ROWS[loaded.contract.names])
    assert (again.values == answers.values).all()


def test_settings_hold_for_no_other_model_of_the_folder(spec: ModelSpec, tmp_path: Path) -> None:
    """Of two models that share a folder each is loaded under its own settings, in either order. A version of an earlier
    release, which records none, keeps what its modules set when they are imported."""
    sets = 'sklearn.set_config(transform_output="pandas")'
    (tmp_path / "src" / "desk_settings_steps.py").write_text(f"import sklearn\n{sets}\n{STEPS}")
    (tmp_path / "src" / "desk_none_steps.py").write_text(STEPS)
    none_factory = FACTORY.replace(sets, "").replace("desk_settings_steps", "desk_none_steps")
    (tmp_path / "src" / "desk_none.py").write_text(none_factory)
    other = make_spec(code=["src"], pipeline={"factory": "desk_none:build"})
    history = make_history(tmp_path, spec, ROWS)
    registry = Registry(tmp_path / "artifacts", code=spec.folders(tmp_path))
    recorded, none = (train(tmp_path, each, history).candidate for each in (spec, other))
    assert none.environment.configuration == {}
    early = replace(recorded, environment=replace(recorded.environment, configuration={}))
    versions = {name: registry.register(name, "key", each)[0] for name, each in (("early", early), ("none", none))}
    pandas = {"transform_output": "pandas"}
    for order in (("early", "none"), ("none", "early")):
        for name in [name for name in sys.modules if name.startswith("desk_")]:
            del sys.modules[name]
        namespaces.forget()
        _LOADED.clear()
        found = {name: namespaces.settings_of(registry.load(name, versions[name]).pipeline) for name in order}
        assert found == {"early": pandas, "none": {}}


def test_nothing_to_say_is_not_written(spec: ModelSpec, tmp_path: Path) -> None:
    """The record of a version with neither settings nor files is the one of earlier releases."""
    environment = Environment("3.11", "here", {}, {}, None)
    assert {*to_dict(environment)} == {"python", "platform", "distributions", "sources", "git_commit"}
    assert to_dict(replace(environment, files={"a": "b"}))["files"] == {"a": "b"}


def test_no_step_is_taken_from_a_cache(tmp_path: Path) -> None:
    """`memory` of scikit-learn's steps is turned off, however deep; a parameter of that name that is somebody else's
    stays."""

    class Own(sklearn.base.BaseEstimator):  # type: ignore[misc]
        def __init__(self, memory: Any = "long") -> None:
            self.memory = memory

    inner = make_pipeline(Own(), sklearn.cluster.FeatureAgglomeration(memory=str(tmp_path)), memory=str(tmp_path))
    outer = make_pipeline(inner, sklearn.dummy.DummyClassifier(), memory=str(tmp_path))
    without_caches(outer)
    found = {name: value for name, value in outer.get_params().items() if name.endswith("memory")}
    assert [name for name, value in found.items() if value is not None] == ["pipeline__own__memory"]


def test_a_fit_is_of_the_code_that_is_here(spec: ModelSpec, tmp_path: Path) -> None:
    """A pipeline with a cache on disk is fitted anew by changed code."""
    factory = tmp_path / "src" / "desk_settings.py"
    factory.write_text(FACTORY.replace("**chosen))", f"**chosen), memory={str(tmp_path / 'cache')!r})"))
    steps = tmp_path / "src" / "desk_settings_steps.py"
    history = make_history(tmp_path, spec, ROWS)
    found = []
    for factor in (1, 1000):
        steps.write_text(STEPS.replace("FACTOR = 1", f"FACTOR = {factor}"))
        with namespaces.at_work(spec.folders(tmp_path), spec.pipeline.factory):
            found.append(learn(spec, history).pipeline[-1].intercept_[0])
    assert found[0] != found[1]
    assert not (tmp_path / "cache").exists()


@pytest.mark.proof
def test_opened_files_are_on_record(spec: ModelSpec, tmp_path: Path) -> None:
    """Files that a fit opens below the root are recorded with their digests; those that lie beside the code and that
    loading needs are kept. Modules, data of the model and what is installed are not among them."""
    steps = tmp_path / "src" / "desk_settings_steps.py"
    (tmp_path / "src" / "factor.txt").write_text("2")
    reads = 'import pathlib\nFACTOR = float((pathlib.Path(__file__).parent / "factor.txt").read_text())'
    steps.write_text(STEPS.replace("FACTOR = 1", reads))
    history = make_history(tmp_path, spec, ROWS)
    candidate = train(tmp_path, spec, history).candidate
    asked = proof.prove(candidate, spec.folders(tmp_path))
    candidate = with_files(candidate, tmp_path, spec, asked)
    factor = tmp_path / "src" / "factor.txt"
    assert candidate.environment.files == opened.digests_of({"factor.txt": factor})
    assert candidate.environment.read == opened.digests_of({"chosen.json": tmp_path / "chosen.json"})
    assert candidate.beside == {"factor.txt": b"2"}
    assert "beside.zip" in candidate.files()
    Model(tmp_path).write_spec()
    workspace = Workspace.open(tmp_path, "loans")
    workspace.registry.register("loans", "key", candidate)
    (tmp_path / "chosen.json").write_text('{"C": 0.1}')
    receipt, _ = reproduce(workspace, 1)
    assert (receipt.verdict, receipt.differences) == ("different", ("chosen.json has changed since",))
    factor.unlink()
    with pytest.raises(Exception, match=r"another factor\.txt than here, where there is none"):
        check_environment(candidate.environment, "loans v1", code=spec.folders(tmp_path))


@pytest.mark.proof
def test_the_clean_process_has_what_a_service_has(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline that needs a variable of this environment is refused, with the line that says that services have it;
    with that line it is proved."""
    steps = tmp_path / "src" / "desk_settings_steps.py"
    steps.write_text(STEPS.replace("FACTOR = 1", 'FACTOR = float(os.environ["DESK_FACTOR"])'))
    monkeypatch.setenv("DESK_FACTOR", "3")
    candidate = train(tmp_path, spec, make_history(tmp_path, spec, ROWS)).candidate
    code = spec.folders(tmp_path)
    with pytest.raises(TrainingError, match=r'\[pipeline\] environment = \["DESK_FACTOR"\]'):
        proof.prove(candidate, code)
    proof.prove(candidate, code, environment=["DESK_FACTOR"])


def test_only_reading_by_the_pipeline_is_noted(tmp_path: Path) -> None:
    """What this program opens, and what is written, is no file that a pipeline reads; nor are modules."""
    for name in ("own.txt", "theirs.txt", "module.py"):
        (tmp_path / name).write_text("x")
    with opened.noted() as paths:
        (tmp_path / "own.txt").read_text()
        with opened.by_pipeline():
            (tmp_path / "written.txt").write_text("x")
            (tmp_path / "theirs.txt").read_bytes()
            (tmp_path / "module.py").read_text()
    assert {*opened.below(paths, tmp_path, [])} == {"theirs.txt"}
    assert opened.below(paths, tmp_path, [tmp_path / "theirs.txt"]) == {}


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many bytes the smallest files are kept; of all the digest is known."""
    monkeypatch.setattr(opened, "KEPT_BYTES", 5)
    files = {name: tmp_path / name for name in ("a", "b")}
    files["a"].write_text("four")
    files["b"].write_text("two")
    assert opened.kept(files) == {"b": b"two"}


PIPELINE = """
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from desk_columns import columns

def build():
    return make_pipeline(FunctionTransformer(columns), LogisticRegression())
"""


def test_two_models_with_modules_of_one_name(tmp_path: Path, spec: ModelSpec) -> None:
    """Two models of one root, each with its own `desk_pipeline.py`, are trained, judged by their own versions, audited
    and asked in one process, each by its own code."""
    history = make_history(tmp_path, spec, ROWS)
    models = {}
    for name, column in (("one", "income"), ("two", "age")):
        code = tmp_path / name
        code.mkdir()
        (code / "desk_pipeline.py").write_text(PIPELINE)
        (code / "desk_columns.py").write_text(f"def columns(X):\n    return X[[{column!r}]].fillna(0)\n")
        models[name] = make_spec(code=[name], pipeline={"factory": "desk_pipeline:build"}), column
    registries = {
        name: Registry(tmp_path / "artifacts", code=spec.folders(tmp_path)) for name, (spec, _) in models.items()
    }
    for _ in range(2):
        for name, (spec, _) in models.items():
            registry = registries[name]
            champion = registry.load(name, registry.versions(name)[-1]) if registry.versions(name) else None
            challenger = train(tmp_path, spec, history, champion)
            assert challenger.gate.difference in (None, 0) or champion is None
            registry.register(name, f"key {champion}", challenger.candidate)
    for _ in range(2):
        for name, (_, column) in models.items():
            version = registries[name].load(name, 2, fresh=True)
            assert version.from_record == ()
            answers = version.predict(ROWS)
            other = version.predict(ROWS.assign(**{column: 0.0}))
            assert (answers.values != other.values).any()
            blind = "age" if column == "income" else "income"
            assert (version.predict(ROWS.assign(**{blind: 0.0})).values == answers.values).all()
    for name in models:
        report = audit(registries[name], name, load=True)
        assert report.loads is not None
        assert [item.why_not for item in report.loads] == ["", ""]
