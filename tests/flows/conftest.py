"""What the flow tests share: `ror`, called in this process, and a model that has grown, copied for every test."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_limits

from flows import cli, demo, launch
from tasks.core.workspace import Workspace
from tests.conftest import Model

QUICK = "[pipeline]\nparameters = { max_iter = 20 }\n"
"""A small pipeline: these tests are about who is in service, not about how well."""


def play(root: Path, months: list[demo.Month]) -> list[dict[str, Any]]:
    """The demo's months through the real flow; the timeline that comes of it."""
    demo._lay_out_model(root)
    workspace = Workspace.open(root, demo.MODEL)
    list(demo.run_months(workspace, months, months))
    return demo.timeline(workspace, months)


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


class Ror:
    """Calls `ror` in this process, and remembers what it said."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
        self._root, self._capsys, self._monkeypatch = root, capsys, monkeypatch
        self.out = self.err = ""

    def __call__(self, *words: str) -> int:
        self._monkeypatch.setattr(sys, "argv", ["ror", *words, "--root", str(self._root)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        self.out, self.err = self._capsys.readouterr()
        return int(ended.value.code or 0)

    def json(self, *words: str) -> Any:
        assert self(*words, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def ror(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ror:
    return Ror(tmp_path, capsys, monkeypatch)
