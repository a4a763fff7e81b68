"""Pipelines of a project's own modules, through the flow: what is registered works anywhere, or is not registered."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.server import launch
from tasks.core.audit.verify import audit
from tasks.core.errors import EnvironmentMismatch, SpecError
from tasks.core.reports.status import status
from tasks.core.types import Outcome
from tasks.core.versions import namespaces, opened, own_code
from tasks.core.versions import registry as registry_module
from tests.helpers.model import Model

pytestmark = [pytest.mark.usefixtures("prefect"), pytest.mark.proof]

PIPELINE = """
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from desk_functions import doubled


def build():
    step = make_pipeline(FunctionTransformer(doubled), SimpleImputer())
    return make_pipeline(make_column_transformer((step, ["income", "age"])), LogisticRegression())


def with_lambda():
    return make_pipeline(FunctionTransformer(lambda X: X[["age"]]), LogisticRegression())
"""
FUNCTIONS = """
import json
from pathlib import Path

RATE = json.loads((Path(__file__).parent / "rates" / "rate.json").read_text())


def doubled(X):
    return X * 2 + RATE
"""


@pytest.fixture
def own(model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """A model whose pipeline comes from modules in `src`."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(own_code, "_ADDED", set())
    (model.root / "src").mkdir()
    (model.root / "src" / "desk_factory.py").write_text(PIPELINE)
    (model.root / "src" / "desk_functions.py").write_text(FUNCTIONS)
    rate(model, "0")
    configure(model, "build")
    model.deliver("001")
    yield model
    forget_modules()


def rate(model: Model, text: str) -> None:
    path = model.root / "src" / "rates" / "rate.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def configure(model: Model, factory: str, code: str = "src") -> None:
    model.write_spec(f'[pipeline]\nfactory = "desk_factory:{factory}"\n')
    path = model.root / "deployments" / "loans.toml"
    path.write_text(f'code = ["{code}"]\n{path.read_text()}')


def test_own_modules_are_kept_with_the_version(
    own: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A pipeline of one's own modules is proved in a clean process and registered with their text. Where they change,
    the version goes on with its own, which run, status and audit say; the next version has the new ones. Other line
    ends change nothing. Files that are too large to be kept are named."""
    result = launch.run(own.root, own.name)
    assert result.outcome is Outcome.RETRAINED, result.message
    registry = own.workspace.registry
    manifest, _ = registry.manifest("loans", 1)
    assert registry.sources(manifest) == {"desk_factory": PIPELINE, "desk_functions": FUNCTIONS}
    assert {*manifest.environment["sources"]} == {"desk_functions"}
    assert {*manifest.environment["files"]} == {"rates/rate.json"}
    assert "read" not in manifest.environment
    with zipfile.ZipFile(io.BytesIO(registry.file(manifest, "beside.zip"))) as kept:
        assert kept.read("rates/rate.json") == b"0"

    functions = own.root / "src" / "desk_functions.py"
    functions.write_bytes(FUNCTIONS.replace("\n", "\r\n").encode())
    assert registry.load("loans", 1, fresh=True).from_record == ()
    rate(own, "1")
    with pytest.raises(EnvironmentMismatch, match=r"another rates/rate\.json than here, where its content has changed"):
        registry.load("loans", 1, fresh=True)
    rate(own, "0")
    functions.write_text(FUNCTIONS.replace("2", "3"))
    own.deliver("002")
    registry_module._LOADED.clear()  # as in the next process
    monkeypatch.setattr(opened, "KEPT_BYTES", 0)
    assert launch.run(own.root, own.name, action="retrain", reason="other code").outcome is Outcome.RETRAINED
    assert "Too large to be kept with the version, which has their digests: rates/rate.json." in caplog.messages
    said = "v1 goes on with its recorded desk_functions"
    assert [remark.text for remark in audit(registry, "loans", load=True).notes if said in remark.text]
    assert registry.load("loans", 2, fresh=True).from_record == ()
    assert [registry.load("loans", version).pipeline[0].transformers_[0][1][0].func(1) for version in (1, 2)] == [2, 3]
    assert not any("recorded" in warning for warning in status(own.workspace).warnings)
    functions.unlink()
    assert any("v2 goes on with its recorded desk_functions" in warning for warning in status(own.workspace).warnings)


@pytest.mark.slow
def test_a_refused_challenger_is_no_deadlock(own: Model) -> None:
    """Where the version in service does not load here any more, a retrain by hand goes on although an earlier decision
    has no predictions yet; if the gate refuses what it trains, nothing is decided that nobody here could predict, and
    a person's promotion leads out."""
    assert launch.run(own.root, own.name).outcome is Outcome.RETRAINED
    predictions = own.root / "data/loans/predictions"
    (predictions / "001.parquet").unlink()  # as if that run had been killed before it predicted
    own.deliver("002")
    rate(own, "1")
    forget_modules()
    with pytest.raises(EnvironmentMismatch):
        launch.run(own.root, own.name)

    path = own.root / "deployments" / "loans.toml"
    path.write_text(f"{path.read_text()}[policy]\nmetric_floor = 0.999\n")
    result = launch.run(own.root, own.name, action="retrain", reason="other code")
    assert (result.outcome, result.exit_code) == (Outcome.KEPT, 0)
    state = own.workspace.ledger.head().state
    assert state.current is not None and state.current.version == 1
    assert {*state.batches} == {"001"} and list(predictions.iterdir()) == []

    launch.promote(own.root, own.name, version=2, reason="it is what we have")
    assert launch.run(own.root, own.name).outcome is Outcome.RELOADED
    assert [file.name for file in predictions.iterdir()] == ["002.parquet"]


def test_an_accepted_environment_completes_what_was_decided_before(own: Model) -> None:
    """What a killed run left unpredicted is predicted by the version that was decided on, as a person accepted it."""
    assert launch.run(own.root, own.name).outcome is Outcome.RETRAINED
    predictions = own.root / "data/loans/predictions/001.parquet"
    before = predictions.read_bytes()
    predictions.unlink()
    rate(own, "0 ")
    forget_modules()
    with pytest.raises(EnvironmentMismatch):
        launch.run(own.root, own.name)
    launch.promote(own.root, own.name, version=1, reason="a blank only", accept_environment=True)
    assert launch.run(own.root, own.name).outcome is Outcome.RELOADED
    assert predictions.read_bytes() == before


def forget_modules() -> None:
    """As in the next process."""
    registry_module._LOADED.clear()
    namespaces.forget()
    for name in ("desk_factory", "desk_functions"):
        sys.modules.pop(name, None)


def test_what_only_this_process_could_load_is_no_version(own: Model) -> None:
    """A pipeline with a lambda fails the training with the remedy; nothing is registered."""
    configure(own, "with_lambda")
    result = launch.run(own.root, own.name)
    assert (result.outcome, result.exit_code) == (Outcome.RETRAIN_FAILED, 5)
    assert "Define them with `def` or `class`" in result.message
    assert own.workspace.registry.versions("loans") == []


def test_a_repaired_factory_is_tried_again(own: Model) -> None:
    """Who asks to retrain, repairs the code and asks again in the same words gets a new attempt; a success is final."""
    asked = {"action": "retrain", "reason": "new features"}
    factory = own.root / "src" / "desk_factory.py"
    factory.write_text(PIPELINE.replace("(doubled)", "(lambda X: X)"))
    assert launch.run(own.root, own.name, **asked).outcome is Outcome.RETRAIN_FAILED
    factory.write_text(PIPELINE)
    sys.modules.pop("desk_factory", None)  # as in the next process
    assert launch.run(own.root, own.name, **asked).outcome is Outcome.RETRAINED
    entries = own.workspace.ledger.last()
    assert launch.run(own.root, own.name, **asked).outcome is Outcome.RETRAINED
    assert own.workspace.ledger.last() == entries
    assert own.workspace.registry.versions("loans") == [1]


def test_a_module_that_a_worker_would_not_find_is_no_version(own: Model, tmp_path: Path) -> None:
    """A module that can be imported here by chance, but not by what the model's file names, is refused."""
    sys.path.append(str(own.root / "src"))
    (own.root / "other").mkdir()
    configure(own, "build", code="other")
    result = launch.run(own.root, own.name)
    assert result.outcome is Outcome.RETRAIN_FAILED
    assert "desk_functions" in result.message
    assert 'code = ["src"]' in result.message


def test_a_folder_that_is_not_there(own: Model) -> None:
    """A folder of code that does not exist is a mistake in the model's file, named before anything is done."""
    configure(own, "build", code="no/such")
    with pytest.raises(SpecError, match="code: there is no folder"):
        launch.run(own.root, own.name)
