"""A model that has grown: made once, and copied for every test that goes on from there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows import launch
from tests.conftest import Model

QUICK = "[pipeline]\nparameters = { max_iter = 20 }\n"
"""A small pipeline: these tests are about who is in service, not about how well."""


@pytest.fixture(scope="session")
def grown_once(prefect: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a model with v1 and v2, each trained on what there was; v2 is in service."""
    model = Model(tmp_path_factory.mktemp("grown"))
    model.write_spec(QUICK)
    for batch in ("001", "002"):
        model.deliver(batch)
        launch.run(model.root, model.name, action="retrain", reason="grow")
    assert [served.version for served in model.workspace.ledger.head().state.served] == [1, 2]
    return model.root


@pytest.fixture
def grown(grown_once: Path, tmp_path: Path) -> Model:
    """A copy of that model, to be changed."""
    shutil.copytree(grown_once, tmp_path, dirs_exist_ok=True)
    return Model(tmp_path)
