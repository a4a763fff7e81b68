"""An upgrade of scikit-learn, rehearsed with two of its minor releases and the real command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sklearn

from flows.server import client
from tasks.core.ledger.events import Promoted
from tasks.core.types import Served
from tests.helpers.model import Model

pytestmark = pytest.mark.slow

MAJOR, MINOR = (int(part) for part in sklearn.__version__.split(".")[:2])

OWN = """
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from desk_steps import Same


def build():
    numbers = make_pipeline(Same(), SimpleImputer(), StandardScaler())
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
    )
    return make_pipeline(columns, LogisticRegression())
"""
STEP = """
from sklearn.base import BaseEstimator, TransformerMixin


class Same(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the minor release of scikit-learn before this one, and nothing else."""
    folder = tmp_path_factory.mktemp("older")
    wanted = f"scikit-learn>={MAJOR}.{MINOR - 1},<{MAJOR}.{MINOR}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{wanted} cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
    return folder


@pytest.fixture
def ror(prefect: None, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs `ror` in a process of its own, with an older scikit-learn if there is one given; the server is shared."""
    home = tmp_path_factory.mktemp("prefect")

    def run(*words: str, older: Path | None = None) -> subprocess.CompletedProcess[str]:
        paths = [str(older)] if older else []
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": str(client.server_url()),
            "COLUMNS": "300",
        }
        command = [sys.executable, "-m", "flows.cli", *words, "--root", str(tmp_path)]
        return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)

    return run


def test_an_upgrade_is_no_deadlock(tmp_path: Path, older: Path, ror: Run) -> None:
    """After an upgrade nothing is served by mistake; a retrain by hand leads out, compared with what the version in
    service had predicted; so does accepting the environment on record, as long as the known answers are given."""
    model = Model(tmp_path)
    source = tmp_path / "src"
    source.mkdir()
    (source / "desk_pipeline.py").write_text(OWN)
    (source / "desk_steps.py").write_text(STEP)
    path = tmp_path / "deployments" / "loans.toml"
    model.write_spec('[pipeline]\nfactory = "desk_pipeline:build"\n')
    path.write_text('code = ["src"]\n' + path.read_text())

    model.deliver("001")
    done = ror("run", "loans", older=older)
    assert done.returncode == 0, done.stderr
    model.deliver("002")
    assert ror("run", "loans", older=older).returncode == 0
    before = model.workspace.registry.manifest("loans", 1)[0]
    assert before.environment["distributions"]["scikit-learn"].startswith(f"{MAJOR}.{MINOR - 1}.")
    assert {*before.environment["sources"]} == {"desk_steps"}
    assert {*model.workspace.registry.sources(before)} == {"desk_pipeline", "desk_steps"}

    assert ror("verify", "loans", "--load", older=older).returncode == 0
    done = ror("verify", "loans", "--load")
    assert done.returncode == 4
    assert f"here {sklearn.__version__}" in done.stdout

    model.deliver("003")
    done = ror("run", "loans")
    assert done.returncode == 4
    assert f"here {sklearn.__version__}" in done.stderr
    assert "ror run loans --action retrain" in done.stderr
    assert model.workspace.ledger.head().state.served[-1].version == 1

    done = ror("promote", "loans", "v1", "--accept-environment", "--reason", "the release notes say so")
    assert done.returncode == 0, done.stderr
    assert "environment accepted" in done.stdout
    assert ror("verify", "loans", "--load").returncode == 0
    done = ror("run", "loans", "--action", "reload", "--reason", "it is accepted")
    assert done.returncode == 0, done.stderr

    lost = model.workspace.ledger.head()
    model.workspace.ledger.append(  # as if nobody had accepted it
        lost,
        Promoted(Served(1, lost.state.served[-1].manifest, data_end=1), replaced=1),
        run="test",
        key="",
        actor="test",
        reason="test",
    )
    assert ror("run", "loans").returncode == 4
    done = ror("run", "loans", "--action", "retrain", "--reason", "upgrade")
    assert done.returncode == 0, done.stderr + done.stdout
    state = model.workspace.ledger.head().state
    after = model.workspace.registry.manifest("loans", 2)[0]
    assert after.gate.against == "v1"
    assert after.environment["distributions"]["scikit-learn"] == sklearn.__version__
    assert state.current is not None
    assert state.current.version == (2 if after.gate.verdict == "pass" else 1)
