"""What the flow tests share: `ror`, called in this process, and a model that has grown, copied for every test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

from flows.cli import demo
from flows.server import launch
from tasks.core.doctor import deployment
from tasks.core.types import Outcome
from tests.helpers.model import Model
from tests.helpers.ror import QUICK, Ror, play
from tests.helpers.runs import run


@pytest.fixture(autouse=True)
def without_evidently(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ror doctor` does not import it here, which takes seconds: the check has tests of its own."""
    monkeypatch.setattr(deployment, "EVIDENTLY", "pass")


@pytest.fixture(scope="session")
def played_year(prefect: None, year: list[demo.Month], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of the demo's whole year, played once; not to be changed."""
    root = tmp_path_factory.mktemp("year")
    with threadpool_limits(1):
        play(root, year)
    return root


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


@pytest.fixture
def ror(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ror:
    return Ror(tmp_path, capsys, monkeypatch)


@pytest.fixture(scope="session")
def trained_once(prefect: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a model with v1 in service, trained on one batch."""
    model = Model(tmp_path_factory.mktemp("trained"))
    model.write_spec()
    model.deliver("001")
    assert run(model).outcome is Outcome.RETRAINED
    return model.root


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Model:
    """A copy of that model, to be changed."""
    shutil.copytree(trained_once, tmp_path, dirs_exist_ok=True)
    return Model(tmp_path)
