"""A project, its models, and when code of their own can be imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.errors import InvalidRequest
from tasks.core.versions import registry as registry_module
from tasks.core.workspace import Project, Workspace
from tests.helpers.model import Model, make_rows
from tests.helpers.training import make_history, make_spec, train

FACTORY = """
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer


def halved(X):
    return X / 2


def build():
    halving = make_column_transformer((FunctionTransformer(halved), ["income"]))
    return make_pipeline(halving, SimpleImputer(), LogisticRegression())
"""


@pytest.fixture
def own(model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A model whose pipeline comes from a module in `src`; search path and modules are put back afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (model.root / "src").mkdir()
    (model.root / "src" / "shop_factory.py").write_text(FACTORY)
    model.write_spec('[pipeline]\nfactory = "shop_factory:build"\n')
    path = model.root / "deployments" / "loans.toml"
    path.write_text(f'code = ["src"]\n{path.read_text()}')
    yield model.workspace
    sys.modules.pop("shop_factory", None)


def test_looking_makes_no_code_importable(own: Workspace) -> None:
    """Reading a model's file, its history and its versions leaves the search path of modules as it was."""
    before = [*sys.path]
    assert own.spec.code == ("src",)
    assert own.ledger.head().seq == 0 and own.registry.versions("loans") == []
    assert sys.path == before


def test_training_and_loading_make_code_importable(own: Workspace) -> None:
    """A pipeline of the model's own module is trained; the next process, which did not train it, loads it and asks it
    for predictions."""
    before, rows = [*sys.path], make_rows(600, seed=1)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("shop_factory")
    data = make_spec()  # of these files, which are not where the model's are
    history = make_history(own.root, data, rows, make_rows(600, seed=2))
    candidate = train(own.root, own.spec, history).candidate
    version, _ = own.registry.register("loans", "k", candidate)

    sys.path[:] = before  # as in the next process
    del sys.modules["shop_factory"]
    registry_module._LOADED.clear()
    loaded = Workspace.open(own.root, "loans").registry.load("loans", version)
    assert sys.path == [*before, str(own.root / "src")]
    assert len(loaded.predict(rows.drop(columns="y")).values) == 600


# --- projects ------------------------------------------------------------------------------------------------


def test_a_project_knows_its_models(model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those with a file, and those that only its store knows; its folder and its store are what the environment says
    where nothing else does."""
    (model.root / "deployments" / "birds.toml").write_text("")
    model.workspace.registry.store.create("old/ledger/00000001.json", b"{}")
    project = Project.open(model.root)
    assert (project.models, project.known) == (["birds", "loans"], ["birds", "loans", "old"])
    assert project.workspace("loans") == model.workspace
    assert project.registry.store.location == model.workspace.registry.store.location

    monkeypatch.setenv("ROR_ROOT", str(tmp_path / "empty"))
    monkeypatch.setenv("ROR_STORE", "memory://")
    elsewhere = Project.open()
    assert elsewhere == Project(tmp_path / "empty", "memory://")
    with pytest.raises(InvalidRequest, match="there are no models in"):
        elsewhere.require_models()
