"""What was set aside, failed or was refused is looked at again when what led to it has changed, and not before."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
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


STRICT = """
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder
    columns = make_column_transformer((OneHotEncoder({}), ["city"]), ("passthrough", ["age"]))
    return make_pipeline(columns, LogisticRegression())
"""


@pytest.fixture
def strict(model: Model) -> Model:
    """A model of its own pipeline, which refuses categories that it never saw; v1 is in service."""
    model.write_spec('[pipeline]\nfactory = "own_shop:build"')
    spec = model.root / "deployments/loans.toml"
    spec.write_text(f'code = ["src"]\n{spec.read_text()}')
    own_pipeline(model, STRICT.format("").strip())
    model.deliver("001")
    model.deliver("002")
    assert run(model).outcome is Outcome.RETRAINED
    return model


def with_a_new_city(seed: int) -> pd.DataFrame:
    rows = make_rows(seed=seed)
    rows.loc[[3, 400], "city"] = "Stavanger"
    return rows


def test_a_batch_on_which_the_pipeline_raises_is_set_aside(strict: Model, ror: Ror) -> None:
    """It is named with step, row and column; the other batches are decided on and predicted, in this run and later;
    nothing is decided anew as long as nothing changed."""
    strict.deliver("003", with_a_new_city(3))
    strict.deliver("004")
    result = run(strict)
    assert (result.outcome, result.exit_code) == (Outcome.BLOCKED, 3)
    assert (
        "003 is set aside: the pipeline cannot predict 2 of 600 rows (the first is row 4, id '3-3')" in result.message
    )
    assert "(OneHotEncoder) raises ValueError: Found unknown categories ['Stavanger']" in result.message
    assert "it is column 'city', which is 'Stavanger' there" in result.message
    assert predicted(strict) == ["001", "002", "004"]
    entries = len(ror.json("history", "loans"))
    assert run(strict).outcome is Outcome.BLOCKED and len(ror.json("history", "loans")) == entries
    strict.deliver("005")
    assert run(strict).outcome is Outcome.RELOADED
    assert predicted(strict) == ["001", "002", "004", "005"]


def test_a_batch_that_was_repaired_is_predicted(strict: Model) -> None:
    """The first way out that the message names: repair the data and deliver them again."""
    strict.deliver("003", with_a_new_city(3))
    assert run(strict).outcome is Outcome.BLOCKED
    strict.deliver("003")
    assert run(strict).outcome is Outcome.RELOADED
    assert predicted(strict) == ["001", "002", "003"]


@pytest.mark.parametrize("promoted", [False, True], ids=["judged by the gate", "put in service by hand"])
def test_a_pipeline_that_takes_such_rows_predicts_the_batch(strict: Model, ror: Ror, promoted: bool) -> None:
    """The other way out: change the factory and have it trained. The batch that waited is predicted by the next run;
    where too few rows are new for the gate, a person puts the version in service."""
    strict.deliver("003", with_a_new_city(3))
    for batch in () if promoted else ("004", "005"):
        strict.deliver(batch)
    assert run(strict).outcome is Outcome.BLOCKED
    own_pipeline(strict, STRICT.format("handle_unknown='ignore'").strip())
    result = run(strict, action="retrain", reason="new cities are opened")
    if promoted:
        assert result.outcome is Outcome.KEPT
        ror("promote", "loans", "v2", "--reason", "it takes new cities")
    assert serving(strict) == 2
    assert run(strict).outcome in (Outcome.RELOADED, Outcome.RETRAINED)
    assert "003" in predicted(strict)


def test_what_a_new_version_cannot_predict_is_set_aside_before_it_serves(strict: Model) -> None:
    """A batch without labels that the first version fails on is not left without a word; the version serves."""
    for path in (strict.root / "artifacts", strict.root / "data/loans/predictions"):
        shutil.rmtree(path)
    rows = with_a_new_city(3)
    rows["y"] = np.nan
    strict.deliver("003", rows)
    result = run(strict)
    assert (result.outcome, serving(strict)) == (Outcome.BLOCKED, 1)
    assert "003 is set aside: the pipeline cannot predict 2 of 600 rows" in result.message
    assert predicted(strict) == ["001", "002"]
    strict.deliver("003")
    assert run(strict).outcome is Outcome.RELOADED
    assert predicted(strict) == ["001", "002", "003"]


def test_an_answer_that_is_no_number_reaches_no_history(model: Model) -> None:
    """One row whose answer overflows sets its batch aside by row, key and step; no version is made in vain, and the
    next batch is decided on."""
    model.write_spec('[pipeline]\nfactory = "own_shop:build"', task="regression")
    spec = model.root / "deployments/loans.toml"
    spec.write_text(f'code = ["src"]\nfeatures = ["age"]\n{spec.read_text()}')
    own_pipeline(
        model,
        """
    import numpy as np
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    last = TransformedTargetRegressor(LinearRegression(), func=np.log, inverse_func=np.exp)
    return make_pipeline("passthrough", last)
""".strip(),
    )

    def amounts(seed: int) -> pd.DataFrame:
        rows = make_rows(seed=seed)
        return rows.assign(y=np.exp(rows.age / 10 + np.random.default_rng(seed).normal(0, 0.3, len(rows))))

    for batch in ("001", "002"):
        model.deliver(batch, amounts(int(batch)))
    assert run(model).outcome is Outcome.RETRAINED
    rows = amounts(3)
    rows["age"] = rows.age.astype(float)
    rows.loc[7, "age"] = 1e6
    model.deliver("003", rows)
    result = run(model)
    assert result.outcome is Outcome.BLOCKED
    assert "1 of 600 rows (row 8, id '3-7'): the answer is no finite number (inf)" in result.message
    assert "step 'transformedtargetregressor' (TransformedTargetRegressor) makes" in result.message
    assert "it is column 'age', which is 1000000.0 there" in result.message
    model.deliver("004", amounts(4))
    assert run(model).outcome is Outcome.RELOADED
    assert predicted(model) == ["001", "002", "004"]
    assert len(list((model.root / "artifacts/loans/versions").iterdir())) == 1
