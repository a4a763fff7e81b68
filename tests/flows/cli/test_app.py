"""The command line: what it prints, its JSON keys and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from flows.server import launch
from tests.helpers.model import Model, make_rows
from tests.helpers.ror import Ror

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture
def trained(model: Model) -> Model:
    model.deliver("001")
    launch.run(model.root, model.name)
    return model


def test_status_without_a_version(model: Model, ror: Ror) -> None:
    """Before the first version, status says so with null, and names the batches that wait."""
    model.deliver("001")
    status = ror.json("status", "loans")
    assert status["version"] is None
    assert status["pending_batches"] == ["001"]
    assert status["trained_on"] is None


def test_status_answers_the_five_questions(trained: Model, ror: Ror) -> None:
    """Which version, since when, by which decision, trained on which data, justified by which metrics."""
    status = ror.json("status", "loans")
    assert {"model", "version", "since", "decision", "reasons", "metrics", "trained_on", "pending_batches",
            "waiting"} <= set(status)  # fmt: skip
    assert (status["model"], status["version"], status["decision"]) == ("loans", 1, "retrain")
    assert set(status["trained_on"]) == {"rows", "batches", "sha256"}
    assert status["trained_on"]["batches"] == ["001"]
    assert set(status["metrics"]) == {"loss", "roc_auc"}
    assert ror("status", "loans") == 0
    assert "v1" in ror.out and "sha256" in ror.out
    assert ror("status") == 0
    assert "loans" in ror.out


def test_history_keys(trained: Model, ror: Ror) -> None:
    """History is a list with stable keys, oldest first."""
    history = ror.json("history", "loans")
    assert [entry["event"] for entry in history] == ["decided"]
    assert {"seq", "at", "event", "action", "version", "reasons", "window", "run", "actor"} <= set(history[0])
    assert (history[0]["action"], history[0]["version"], history[0]["window"]) == ("retrain", 1, ["001"])
    assert ror("history", "loans") == 0
    assert "Retrained" in ror.out


def test_show_is_the_manifest(trained: Model, ror: Ror) -> None:
    """`show --json` prints the manifest as it is stored; an unknown version is a wrong call."""
    stored = json.loads((trained.root / "artifacts/loans/versions/00000001/manifest.json").read_text())
    assert ror.json("show", "loans", "v1") == stored
    assert ror.json("show", "loans") == stored
    assert ror("show", "loans", "v9") == 2
    assert "Versions: v1" in ror.err
    assert ror("show", "loans", "seven") == 2
    assert "version:\n  - invalid version 'seven': use v7 or 7" in ror.err


def test_run_prints_the_decision(trained: Model, ror: Ror) -> None:
    """`run` says what was decided in one sentence, and again when nothing is new; --json has the same for scripts."""
    trained.deliver("002")
    assert ror("run", "loans") == 0
    assert "loans · 002: Reloaded — v1 in service" in ror.out
    answer = ror.json("run", "loans")
    assert (answer["outcome"], answer["version"], answer["decided_now"]) == ("Reloaded", 1, False)


def test_blocked_run_exits_3(trained: Model, ror: Ror) -> None:
    """A broken batch makes `run` exit 3 and name batch and column."""
    trained.deliver("002", make_rows(seed=2).drop(columns="age"))
    assert ror("run", "loans") == 3
    assert "002 is set aside: column 'age' is missing" in ror.out


def test_damaged_model_exits_4(trained: Model, ror: Ror) -> None:
    """A damaged model file makes `predict` exit 4, and nothing is written."""
    from tasks.core.versions import registry

    registry._LOADED.clear()
    path = trained.root / "artifacts/loans/versions/00000001/pipeline.joblib"
    path.write_bytes(path.read_bytes()[:-1])
    output = trained.root / "out.parquet"
    assert ror("predict", "loans", str(trained.batches / "001.parquet"), "-o", str(output)) == 4
    assert "pipeline.joblib is damaged" in ror.err
    assert not output.exists()


def test_predict_writes_once(trained: Model, ror: Ror, tmp_path: Path) -> None:
    """`predict` writes a new file with the version in service, and never over one for other data."""
    data, output = tmp_path / "new.csv", tmp_path / "out.parquet"
    make_rows(50, seed=5).drop(columns="y").to_csv(data, index=False)
    assert ror("predict", "loans", str(data), "-o", str(output)) == 0
    assert len(pd.read_parquet(output)) == 50
    assert ror("predict", "loans", str(trained.batches / "001.parquet"), "-o", str(output)) == 1
    assert "nothing is overwritten" in ror.err
    assert len(pd.read_parquet(output)) == 50
    assert ror("predict", "loans", str(tmp_path / "none.csv"), "-o", str(output)) == 3


def test_predict_says_who_wrote_what_is_there(grown: Model, ror: Ror, tmp_path: Path) -> None:
    """Asked again for the same data, `predict` keeps the file and says so; once another version is in service, it does
    not pass an old file off as the new version's."""
    words = ("predict", "loans", str(grown.batches / "001.parquet"), "-o", str(tmp_path / "out.parquet"))
    assert ror(*words) == 0
    assert "already" not in ror.out
    assert ror(*words) == 0
    assert "predicted by loans v2. The file existed already and was not changed." in " ".join(ror.out.split())
    assert ror("promote", "loans", "v1", "--reason", "back") == 0, ror.err
    assert ror(*words) == 1
    assert "what v2 predicted for these data, and v1 is in service now" in " ".join(ror.err.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("status", "nothing"), "Models here: loans"),
        (("run", "loans", "--action", "retrain"), "reason"),
        (("run", "loans", "--batch", "1999"), "no batch '1999'"),
        (("run", "loans", "--action", "dance"), "dance"),
        (("show", "loans"), "in service yet"),
    ],
)
def test_wrong_use_is_said_on_one_screen(model: Model, ror: Ror, words: tuple[str, ...], said: str) -> None:
    """A wrong call says what, which value and the next step, without a traceback."""
    code = ror(*words)
    assert code in (1, 2)
    assert said in ror.err
    assert "Traceback" not in ror.err
    assert len(ror.err.splitlines()) < 15


def test_wrong_specification_lists_every_problem(model: Model, ror: Ror) -> None:
    """All problems of a model's file are reported at once, with exit code 2."""
    path = model.root / "deployments/loans.toml"
    path.write_text(path.read_text().replace('task = "binary"', 'task = "binry"') + "\n[policy]\nretrain_cst = 1\n")
    assert ror("status", "loans") == 2
    assert "'binry'" in ror.err and "retrain_cst" in ror.err and "retrain_cost" in ror.err


def test_show_writes_what_is_wrong_with_data(trained: Model, ror: Ror, tmp_path: Path) -> None:
    """`show --violations` writes the offending cells of what is pending; where there are none, or no file to write was
    named, it says so."""
    output = tmp_path / "cells.csv"
    assert ror("show", "loans", "--violations", "-o", str(output)) == 0
    assert "nothing was written" in ror.out and not output.exists()
    trained.deliver("002", make_rows(50, seed=2).drop(columns="income").assign(age="old"))
    assert ror("show", "loans", "--violations") == 2
    assert "--output:\n  - name the file to write" in ror.err
    assert ror.json("show", "loans", "--batch", "001", "-o", str(output)) == {
        "batches": ["001"], "rows": 0, "problems": [], "file": None,
    }  # fmt: skip
    assert ror("show", "loans", "--violations", "-o", str(output)) == 0
    assert "50 offending cells of 002" in ror.out and "column 'income' is missing" in ror.out
    assert len(pd.read_csv(output)) == 50
    assert ror("show", "loans", "--violations", "-o", str(output)) == 1
    assert "nothing is overwritten" in ror.err
