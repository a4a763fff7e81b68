"""Reproduction: the record of a version makes the same model again, or the receipt says how far it is from that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.core.audit.reproduce import Receipt, details, reproduce
from tasks.core.data.rows import LabelledRows
from tasks.core.errors import CorruptObject, InvalidRequest, VerificationError
from tasks.core.records import from_json
from tasks.core.spec import ModelSpec
from tasks.core.training import choice
from tasks.core.training.challenger import train as train_challenger
from tasks.core.versions import persistence
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.manifest import Candidate
from tasks.core.workspace import Workspace
from tests.helpers.model import Model, make_rows
from tests.helpers.training import Trained, make_history, make_spec, train

FACTORY = """
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline


def numbers(model):
    columns = make_column_transformer((SimpleImputer(), make_column_selector(dtype_include="number")))
    return make_pipeline(columns, model)


def logistic(seed, strength=1.0):
    return numbers(LogisticRegression(C=strength, random_state=seed))


def forest(seed):
    return numbers(RandomForestClassifier(20, random_state=seed))


def unseeded():
    return numbers(RandomForestClassifier(5))


def ridge(alpha=1.0):
    return numbers(Ridge(alpha=alpha))
"""
"""A module of the user's own, with four factories."""


@pytest.fixture
def workspace(trained: Trained, tmp_path: Path) -> Workspace:
    """A first version and the three files it was trained on, to be changed."""
    shutil.copytree(trained.root, tmp_path, dirs_exist_ok=True)
    return register(tmp_path, trained.challenger.candidate)


def register(root: Path, candidate: Candidate) -> Workspace:
    Model(root).write_spec()
    workspace = Workspace.open(root, "loans")
    workspace.registry.register("loans", "key", candidate)
    return workspace


def made(
    root: Path, spec: ModelSpec, *, seeds: tuple[int, ...] = (1, 2), champion: LoadedVersion | None = None
) -> Workspace:
    """A version of this specification, trained on batches of these seeds."""
    history = make_history(root, spec, *(make_rows(600, seed) for seed in seeds))
    return register(root, train(root, spec, history, champion).candidate)


def in_a_new_process(workspace: Workspace, *, threads: int = 1, version: int = 1) -> Receipt:
    """The receipt of a fresh interpreter, which finds the user's module in the root."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom tasks.core.audit.reproduce import reproduce\n"
        "from tasks.core.workspace import Workspace\nroot = Path(sys.argv[1])\n"
        "print(reproduce(Workspace.open(root, 'loans'), int(sys.argv[2]))[1])"
    )
    paths = os.pathsep.join([str(workspace.root), os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(workspace.root), str(version)],
        capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    return from_json(Receipt, path.read_bytes(), path.name)


# --- identical ------------------------------------------------------------------------------------------------


def test_the_record_makes_the_same_model(workspace: Workspace) -> None:
    """Trained again, a version answers bit by bit as it did, on its known answers and on the gate's rows."""
    receipt, path = reproduce(workspace, 1)
    manifest, sha256 = workspace.registry.manifest("loans", 1)
    assert (receipt.verdict, receipt.same) == ("identical", True)
    assert [(item.what, item.rows) for item in receipt.compared] == [("known answers", 34), ("gate rows", 133)]
    assert all(item.stored == item.fresh and item.rows_different == 0 for item in receipt.compared)
    assert receipt.metrics == receipt.metrics_then == {name: metric.value for name, metric in manifest.metrics.items()}
    assert (receipt.manifest, receipt.rows) == (sha256, manifest.rows)
    assert receipt.environment_now.distributions == receipt.environment_then.distributions
    assert {"library", "version", "threads"} == set(receipt.threads[0])
    assert from_json(Receipt, path.read_bytes(), path.name) == receipt
    assert str(workspace.root) not in path.read_text()
    assert any(f"{manifest.rows:,} rows trained on" in line for line in details(receipt))


def test_as_many_threads_as_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version is fitted again with the threads of its record; where it has none, with what there is."""
    spec, asked = make_spec(), list[int]()
    monkeypatch.setattr("tasks.core.audit.reproduce.use", asked.append)
    for threads, found in ((None, []), (3, [3])):
        root = tmp_path / str(threads)
        root.mkdir()
        history = make_history(root, spec, make_rows(300, 1))
        challenger = train_challenger(root, spec, history, None, "retrain", ["a test"], threads=threads)
        workspace = register(root, challenger.candidate)
        assert workspace.registry.manifest("loans", 1)[0].threads == threads
        assert reproduce(workspace, 1)[0].same and asked == found


def test_receipts_are_never_overwritten(workspace: Workspace) -> None:
    """Each reproduction leaves a receipt of its own beside the data; the store stays as it was."""
    before = workspace.registry.store.objects("loans")
    paths = {reproduce(workspace, 1)[1] for _ in range(2)}
    assert len(paths) == 2
    assert sorted((workspace.data / "receipts").iterdir()) == sorted(paths)
    assert all(path.name.startswith("v1-") for path in paths)
    assert workspace.registry.store.objects("loans") == before


@pytest.mark.parametrize("factory", ["tasks.core.training:tabular", "own_models:logistic", "own_models:forest"])
def test_another_process_and_other_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str) -> None:
    """Boosting, logistic regression and a forest, fitted by one thread, are the same in a new process with two."""
    (tmp_path / "own_models.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    parameters = {"max_iter": 10} if "tabular" in factory else {}
    workspace = made(tmp_path, make_spec(pipeline={"factory": factory, "parameters": parameters}))
    receipt = in_a_new_process(workspace, threads=2)
    assert (receipt.verdict, len(receipt.compared)) == ("identical", 2)
    assert max(pool["threads"] for pool in receipt.threads) == 2


PERIOD = {"name": "Christmas", "from": "12-20", "until": "12-31"}


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": {"forgetting": {"window": 2}}},
        {"policy": {"forgetting": {"half_life": 1}}},
        {"seed": 7, "categorical": ("age",), "expected": (PERIOD,), "checks": {"sample_rows": 100}},
    ],
    ids=["window", "half-life", "others"],
)
def test_a_later_version(tmp_path: Path, trained: Trained, champion: LoadedVersion, changes: dict[str, Any]) -> None:
    """A version with a parent kept another holdout; its window, weights, seed and periods are those of its record."""
    workspace = made(tmp_path, make_spec(**changes), seeds=(1, 2, 3, 4), champion=champion)
    manifest, _ = workspace.registry.manifest("loans", 1)
    receipt, _ = reproduce(workspace, 1)
    assert (receipt.verdict, receipt.rows) == ("identical", manifest.rows)
    assert manifest.parent == 1
    assert len(manifest.training) == (2 if "window" in str(changes) else 4)


def test_regression_and_text_labels(tmp_path: Path) -> None:
    """Numbers and names are compared as well as probabilities."""
    frames = [make_rows(600, seed).assign(y=lambda rows: rows["age"] + rows["income"].fillna(0)) for seed in (1, 2)]
    spec = make_spec(task="regression")
    (tmp_path / "numbers").mkdir()
    (tmp_path / "names").mkdir()
    history = make_history(tmp_path / "numbers", spec, *frames)
    receipt, _ = reproduce(register(tmp_path / "numbers", train(tmp_path / "numbers", spec, history).candidate), 1)
    assert receipt.verdict == "identical"
    named = [frame.assign(y=frame["city"]).drop(columns="city") for frame in frames]
    spec = make_spec(task="multiclass")
    history = make_history(tmp_path / "names", spec, *named)
    receipt, _ = reproduce(register(tmp_path / "names", train(tmp_path / "names", spec, history).candidate), 1)
    assert receipt.verdict == "identical"


# --- not the same ---------------------------------------------------------------------------------------------


def edited(root: Path, old: str, new: str) -> None:
    path = root / "own_models.py"
    path.write_text(path.read_text().replace(old, new))


def with_factory(root: Path, monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> Workspace:
    (root / "own_models.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    return made(root, make_spec(pipeline={"factory": f"own_models:{name}"}, **changes))


def test_a_changed_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a default in the user's code changed, the receipt says by how much, where, and on how many rows."""
    workspace = with_factory(tmp_path, monkeypatch, "logistic")
    edited(tmp_path, "strength=1.0", "strength=0.01")
    receipt = in_a_new_process(workspace)
    probe, gate = receipt.compared
    assert (receipt.verdict, receipt.same) == ("different", False)
    assert probe.rows_different == probe.rows and probe.stored != probe.fresh
    assert gate.column in ("the probability of 0", "the probability of 1")
    assert gate.largest is not None and 0.001 < gate.largest < 1
    assert f"different by up to {gate.largest:.3g} on {gate.column}, {gate.rows} of {gate.rows} rows" in receipt.message
    assert receipt.metrics["loss"] != receipt.metrics_then["loss"]
    assert receipt.differences == ("the source code of own_models has changed since",)


def test_a_missing_seed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the same data make another model, what has no seed is named, and how a factory gets one."""
    receipt, _ = reproduce(with_factory(tmp_path, monkeypatch, "unseeded"), 1)
    assert receipt.verdict == "different"
    assert [note for note in receipt.notes if "nothing seeds randomforestclassifier__random_state: " in note]
    assert any("`def build(seed)`" in line for line in details(receipt))


def test_within_a_billionth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference in the last digits is told apart from none, and counts as reproduced."""
    workspace = with_factory(tmp_path, monkeypatch, "ridge", task="regression")
    edited(tmp_path, "alpha=1.0", "alpha=1.0 + 1e-11")
    receipt = in_a_new_process(workspace)
    assert (receipt.verdict, receipt.same) == ("within 1e-9", True)
    assert all(item.column == "prediction" and 0 < (item.largest or 0) < 1e-9 for item in receipt.compared)


def test_private_labels_are_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the target is private, a class is named by its place only."""
    private = {"batches": "*.parquet", "private": ["y"]}
    workspace = with_factory(tmp_path, monkeypatch, "logistic", data=private)
    edited(tmp_path, "strength=1.0", "strength=0.01")
    receipt = in_a_new_process(workspace)
    assert {item.column for item in receipt.compared} <= {"the probability of class 1", "the probability of class 2"}


def test_a_factory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory that cannot be imported any more, or whose pipeline fails, ends with the reason and no receipt."""
    workspace = with_factory(tmp_path, monkeypatch, "logistic")
    edited(tmp_path, "def logistic", "def other")
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    with pytest.raises(VerificationError, match=r"cannot be reproduced:\n.*training fails here: pipeline.factory"):
        reproduce(workspace, 1)
    assert not (workspace.data / "receipts").exists()


@pytest.mark.choice
def test_a_pipeline_that_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice among the default pipelines is read from the record, not made again: the very same version comes."""
    workspace = made(tmp_path, make_spec(pipeline={}))
    manifest, _ = workspace.registry.manifest("loans", 1)
    assert manifest.choice is not None
    monkeypatch.setattr(choice, "choose", None)
    receipt, _ = reproduce(workspace, 1)
    assert receipt.verdict == "identical"
    assert not receipt.differences


# --- what is not what it was ----------------------------------------------------------------------------------


def test_training_files_are_what_they_were(workspace: Workspace) -> None:
    """Training files that are missing or changed are all listed, and nothing is trained."""
    (workspace.root / "001.parquet").unlink()
    pd.read_parquet(workspace.root / "003.parquet").iloc[1:].to_parquet(workspace.root / "003.parquet")
    with pytest.raises(VerificationError, match="loans v1 cannot be reproduced") as caught:
        reproduce(workspace, 1)
    assert "001.parquet is missing" in str(caught.value)
    assert "003.parquet has changed since" in str(caught.value)
    assert "002" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_the_record_is_what_it_was(workspace: Workspace) -> None:
    """A version that does not exist is wrong use; one whose record cannot be read is refused."""
    with pytest.raises(InvalidRequest, match=r"^version:\n.*Versions: v1"):
        reproduce(workspace, 9)
    path = workspace.root / "artifacts/loans/versions/00000001/manifest.json"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptObject, match="is not a valid Manifest"):
        reproduce(workspace, 1)


@pytest.fixture
def late(tmp_path: Path) -> Workspace:
    """A version trained on two batches whose labels came in files of their own."""
    spec = make_spec(data={"batches": "batches/*.parquet", "labels": "labels/*.parquet"})
    for folder in ("batches", "labels"):
        (tmp_path / folder).mkdir()
    for seed in (1, 2):
        rows = make_rows(600, seed)
        rows.drop(columns="y").to_parquet(tmp_path / f"batches/{seed:03d}.parquet", index=False)
        rows[["id", "y"]].to_parquet(tmp_path / f"labels/{seed:03d}.parquet", index=False)
    return register(tmp_path, train(tmp_path, spec, history_of(tmp_path, spec)).candidate)


def history_of(root: Path, spec: ModelSpec) -> list[LabelledRows]:
    from tasks.core.data.files import find_batches
    from tasks.core.data.labels import Labels
    from tasks.core.data.rows import labelled_rows

    labels = Labels(root, spec)
    return [labelled_rows(root, batch, labels, spec.task) for batch in find_batches(root, spec)]


def correct(workspace: Workspace, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Another label file, made from that of batch 002."""
    rows = change(pd.read_parquet(workspace.root / "labels/002.parquet"))
    rows.to_parquet(workspace.root / f"labels/{name}.parquet", index=False)


def flipped(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[:50].assign(y=lambda some: 1 - some["y"])


def test_labels_that_were_corrected_later(late: Workspace) -> None:
    """Labels that a later file corrected are put together again as they were, and the receipt says so."""
    correct(late, "003", flipped)
    receipt, _ = reproduce(late, 1)
    assert receipt.verdict == "identical"
    assert receipt.notes == ("the labels of 002 were changed since by 003.parquet; those of then are used",)


def test_labels_of_other_batches(late: Workspace) -> None:
    """Label files that came later and say nothing of the training batches are no news, in whatever type they come."""
    correct(late, "003", lambda rows: rows.assign(id=lambda all_: "x" + all_["id"]))
    correct(late, "004", lambda rows: rows.assign(id=lambda all_: "z" + all_["id"], y=0.5))
    receipt, _ = reproduce(late, 1)
    assert (receipt.verdict, receipt.notes) == ("identical", ())


def test_labels_that_were_overwritten(late: Workspace) -> None:
    """Labels that were changed in their own file are gone: the batch is named, beside every missing file."""
    correct(late, "002", lambda rows: pd.concat([flipped(rows), rows.iloc[50:]]))
    (late.root / "batches/001.parquet").unlink()
    with pytest.raises(VerificationError) as caught:
        reproduce(late, 1)
    assert "the labels of 002 were changed since, and none of the 2 label files" in str(caught.value)
    assert "batches/001.parquet is missing" in str(caught.value)


# --- a stored pipeline that cannot be asked -------------------------------------------------------------------


def test_another_environment(trained: Trained, tmp_path: Path) -> None:
    """A version that does not load here is compared by its recorded answers alone, and the receipt says why."""
    shutil.copytree(trained.root, tmp_path, dirs_exist_ok=True)
    old = trained.challenger.candidate.environment
    old = replace(old, distributions={**old.distributions, "scikit-learn": "0.1.0"})
    workspace = register(tmp_path, replace(trained.challenger.candidate, environment=old))
    receipt, _ = reproduce(workspace, 1)
    assert receipt.verdict == "identical"
    assert [(item.what, item.against) for item in receipt.compared] == [("known answers", "its recorded answers")]
    assert "scikit-learn 0.1.0, here" in receipt.notes[0]
    assert any(text.startswith("scikit-learn 0.1.0 then, ") for text in receipt.differences)
    assert receipt.metrics == receipt.metrics_then


def test_a_damaged_pipeline(workspace: Workspace) -> None:
    """A pipeline that is damaged or gone is not asked; when the known answers are gone, too, nothing is left."""
    folder = workspace.root / "artifacts/loans/versions/00000001"
    (folder / "pipeline.joblib").write_bytes(b"x")
    receipt, _ = reproduce(workspace, 1)
    assert receipt.verdict == "identical" and "pipeline.joblib is damaged" in receipt.notes[0]
    (folder / "pipeline.joblib").unlink()
    assert "does not exist" in reproduce(workspace, 1)[0].notes[0]
    (folder / "probe.parquet").unlink()
    with pytest.raises(VerificationError, match="nothing is left to compare with"):
        reproduce(workspace, 1)


def test_known_answers_are_verified(workspace: Workspace) -> None:
    """Known answers that were changed are not compared with."""
    folder = workspace.root / "artifacts/loans/versions/00000001"
    (folder / "pipeline.joblib").unlink()
    probe = pd.read_parquet(folder / "probe.parquet")
    probe.assign(**{persistence.PREDICTION: 1}).to_parquet(folder / "probe.parquet", index=False)
    with pytest.raises(VerificationError, match="nothing is left to compare with"):
        reproduce(workspace, 1)


def test_a_receipt_is_plain_json(workspace: Workspace) -> None:
    """Any program can read it: its verdict and numbers stand where the documentation of the record says."""
    _, path = reproduce(workspace, 1)
    values = json.loads(path.read_text())
    assert values["verdict"] == "identical" and values["compared"][0]["rows_different"] == 0
