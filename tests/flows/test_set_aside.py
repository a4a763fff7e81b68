"""What was set aside, failed or was refused is looked at again when what led to it has changed, and not before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tasks.core.audit.reproduce import IDENTICAL, reproduce
from tasks.core.run.work import pending_names
from tasks.core.types import Outcome
from tests.helpers.model import Model, make_rows
from tests.helpers.ror import QUICK, Ror
from tests.helpers.runs import decided, run, serving, words

pytestmark = pytest.mark.usefixtures("prefect")


def as_latin_1(rows: pd.DataFrame) -> bytes:
    return rows.to_csv(index=False).encode("latin-1")


def with_semicolons(rows: pd.DataFrame) -> bytes:
    return rows.to_csv(index=False, sep=";").encode()


def with_commas_in_numbers(rows: pd.DataFrame) -> bytes:
    return rows.to_csv(index=False, sep=";", decimal=",").encode()


def checked(model: Model) -> str:
    """What the checks of the last decision say."""
    return "\n".join(check.summary for check in decided(model).checks)


def predicted(model: Model) -> list[str]:
    return sorted(path.stem for path in (model.root / "data/loans/predictions").iterdir())


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        (as_latin_1, 'encoding = "latin-1"'),
        (with_semicolons, 'separator = ";"'),
        (with_commas_in_numbers, 'separator = ";"\ndecimal = ","'),
    ],
    ids=["encoding", "separator", "decimal"],
)
def test_advice_that_is_followed_helps(
    trained: Model, ror: Ror, written: Callable[[pd.DataFrame], bytes], advice: str
) -> None:
    """The model's file says now how the batch is written: the same bytes are read, decided on and predicted."""
    (trained.batches / "002.csv").write_bytes(written(make_rows(seed=2)))
    assert run(trained).outcome is Outcome.BLOCKED
    assert advice.partition(" ")[0] in words(trained)
    path = trained.root / "deployments/loans.toml"
    path.write_text(f"{path.read_text()}\n[data.csv]\n{advice}\n")
    assert run(trained).outcome is Outcome.RELOADED
    assert [batch.id for batch in decided(trained).window] == ["002"]
    assert predicted(trained) == ["001", "002"]
    assert ror.json("status", "loans")["blocked"] == []


def test_what_is_found_the_same_again_is_no_news(trained: Model, ror: Ror) -> None:
    """Looked at again after the model's file changed, it stays aside: said, without changing how the run ends. With
    nothing changed there is nothing to decide; who asks for that batch is told again, with the exit code."""
    make_rows(seed=2).drop(columns="income").to_parquet(trained.batches / "002.parquet")
    assert run(trained).outcome is Outcome.BLOCKED
    entries = len(ror.json("history", "loans"))
    assert run(trained).outcome is Outcome.BLOCKED  # the answer to the same question
    assert len(ror.json("history", "loans")) == entries

    path = trained.root / "deployments/loans.toml"
    path.write_text(path.read_text().replace("[data]", "slices = ['city']\n[data]"))
    result = run(trained)
    assert (result.outcome, result.exit_code) == (Outcome.RELOADED, 0)
    assert "002 stays set aside" in result.message and "002 is still set aside: column 'income'" in words(trained)
    trained.deliver("003")
    again = run(trained)
    assert again.outcome is Outcome.RELOADED and "002 stays set aside" in again.message
    asked = run(trained, batch="002")
    assert (asked.outcome, asked.exit_code) == (Outcome.BLOCKED, 3)
    assert "column 'income' is missing" in asked.message


def test_another_version_looks_again(trained: Model) -> None:
    """A batch that the version in service cannot predict on is taken up once another one is in service that can."""
    fewer = trained.deliver("002", make_rows(seed=2).drop(columns="member"))
    assert run(trained).outcome is Outcome.BLOCKED
    path = trained.root / "deployments/loans.toml"
    path.write_text(path.read_text().replace("[data]", "features = ['income', 'age', 'city']\n[data]"))
    trained.deliver("003")
    assert run(trained, action="retrain", reason="member is no longer delivered").outcome is Outcome.RETRAINED
    assert serving(trained) == 2
    assert run(trained).outcome in (Outcome.RELOADED, Outcome.RETRAINED)
    assert fewer.stem in predicted(trained)


def own_pipeline(model: Model, body: str) -> None:
    """The model's own code, as a run in a process of its own would find it."""
    (model.root / "src").mkdir(exist_ok=True)
    (model.root / "src/own_shop.py").write_text(f"def build(**words):\n    {body}\n")
    sys.modules.pop("own_shop", None)
    importlib.invalidate_caches()


def test_code_that_was_mended_is_tried_again(trained: Model, ror: Ror) -> None:
    """A training that failed is made again once its code has changed, without new labels, and not before."""
    own_pipeline(trained, "raise ValueError('no such table')")
    spec = trained.root / "deployments/loans.toml"
    text = spec.read_text()
    spec.write_text(f'code = ["src"]\n{text}\n[pipeline]\nfactory = "own_shop:build"\n[policy]\nmax_age = 1\n')
    trained.deliver("002")
    result = run(trained)
    assert result.outcome is Outcome.RETRAIN_FAILED and "no such table" in result.message
    entries = len(ror.json("history", "loans"))
    assert run(trained).outcome is Outcome.RETRAIN_FAILED
    assert len(ror.json("history", "loans")) == entries

    own_pipeline(trained, "from sklearn.dummy import DummyClassifier; return DummyClassifier()")
    made = run(trained)
    assert made.outcome is Outcome.KEPT  # no better than v1: the gate refuses it
    assert "it is made again" in words(trained)
    assert run(trained).outcome is Outcome.KEPT
    assert trained.workspace.registry.versions(trained.name) == [1, 2]


def test_what_the_gate_refused_is_made_again_with_another_pipeline(trained: Model) -> None:
    """Another pipeline in the model's file is another attempt at once; another reader of the page is none."""
    spec = trained.root / "deployments/loans.toml"
    weak = f'{spec.read_text()}\n[pipeline]\nfactory = "tests.flows.pipelines:constant"\n[policy]\nmax_age = 1\n'
    spec.write_text(weak)
    trained.deliver("002")
    assert run(trained).outcome is Outcome.KEPT
    spec.write_text(weak.replace('owner = "tests"', 'owner = "others"'))
    assert run(trained).outcome is Outcome.KEPT
    assert trained.workspace.registry.versions(trained.name) == [1, 2]
    spec.write_text(weak.replace('factory = "tests.flows.pipelines:constant"', "parameters = { max_iter = 20 }"))
    run(trained)
    assert "it is made again" in words(trained)
    assert trained.workspace.registry.versions(trained.name) == [1, 2, 3]


def test_a_batch_that_is_gone_is_done_without(model: Model) -> None:
    """A retrain skips what is gone, and says so in the run and in the record; the batch counts in ages all the same.
    Its file comes back under another name: it is that batch, nothing is decided anew, and v1 is made of it again."""
    model.write_spec(f"{QUICK}[policy]\nmax_age = 1\n")
    first = model.deliver("001")
    assert run(model).outcome is Outcome.RETRAINED
    away = first.rename(Path(model.root) / "001.parquet")
    model.deliver("002", rows=1500)
    assert run(model).outcome in (Outcome.RETRAINED, Outcome.KEPT)
    manifest = model.workspace.registry.manifest(model.name, 2)[0]
    assert ([file.batch for file in manifest.training], manifest.missing, manifest.data_end) == (["002"], ("001",), 2)
    assert "1 batch that was decided on is gone (001)" in checked(model)
    assert model.workspace.state().age == 0

    away.rename(first.with_name("january.parquet"))
    assert pending_names(model.workspace, model.workspace.state()) == []
    model.deliver("003")
    run(model)
    assert [batch.id for batch in decided(model).window] == ["003"]
    assert "january.parquet has the bytes of 001, which is gone: it is that batch, renamed" in checked(model)
    manifest = model.workspace.registry.manifest(model.name, 3)[0]
    assert ([file.batch for file in manifest.training], manifest.missing) == (["001", "002", "003"], ())
    assert reproduce(model.workspace, 1)[0].verdict == IDENTICAL


def test_what_failed_because_nothing_was_left_is_made_again(trained: Model) -> None:
    """Where no batch to learn from is left an attempt fails and says so; with the files back it is made again."""
    away = (trained.batches / "001.parquet").rename(trained.root / "001.parquet")
    trained.deliver("002", make_rows(seed=2).assign(y=pd.Series(dtype="Int64")))
    result = run(trained, action="retrain", reason="test")
    assert result.outcome is Outcome.RETRAIN_FAILED and "none is there" in result.message
    away.rename(trained.batches / "001.parquet")
    assert run(trained, action="retrain", reason="test").outcome in (Outcome.RETRAINED, Outcome.KEPT)
