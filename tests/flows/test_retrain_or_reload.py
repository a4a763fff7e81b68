"""The main flow, run for real on an embedded Prefect server."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest

from tasks.core import overrides
from tasks.core.errors import CorruptObject, InvalidRequest
from tasks.core.ledger.lease import Lease
from tasks.core.reports import wording
from tasks.core.reports.alerts import alerts
from tasks.core.types import CheckKind, Outcome
from tests.helpers.model import Model, make_rows
from tests.helpers.ror import QUICK, Ror
from tests.helpers.runs import decided, run, serving, words

pytestmark = pytest.mark.usefixtures("prefect")


def test_first_run_trains_and_second_reloads(trained: Model) -> None:
    """With enough labels the first run trains v1; a batch like the first leaves it in service."""
    trained.deliver("002")
    assert run(trained).outcome is Outcome.RELOADED
    assert serving(trained) == 1


def test_waits_for_labels(model: Model) -> None:
    """Without labels there is nothing to train on: the run holds, and trains as soon as they arrive."""
    model.write_spec(late_labels=True)
    first, second = make_rows(seed=1), make_rows(seed=2)
    model.deliver("001", first.drop(columns="y"))
    assert run(model).outcome is Outcome.HELD
    assert "there is no label file under data/loans/labels/*" in words(model)
    assert serving(model) is None
    assert not (model.root / "data/loans/predictions").exists()

    model.labels.mkdir(parents=True)
    first[["id", "y"]].sample(frac=1, random_state=0).to_csv(model.labels / "001.csv", index=False)
    model.deliver("002", second.drop(columns="y"))
    assert run(model).outcome is Outcome.RETRAINED
    assert "no label file" not in words(model)
    manifest, _ = model.workspace.registry.manifest(model.name, 1)
    assert [file.batch for file in manifest.training] == ["001"]
    assert sorted(path.stem for path in (model.root / "data/loans/predictions").iterdir()) == ["002"]


def test_names_that_do_not_exist(model: Model, ror: Ror) -> None:
    """A first version fails with all the names; corrected, it is made, with no other batch. A reload then only warns,
    in the run, its checks and the status; the next fit fails again, and the batch is predicted all the same."""
    model.write_spec(QUICK)
    path = model.root / "deployments/loans.toml"
    right = path.read_text()
    wrong = right.replace("[data]", 'time = "ag"\nslices = ["kolor"]\nmetric = "r2"\n[data]')
    path.write_text(wrong)
    model.deliver("001")
    assert ror("run", "loans") == 5
    assert all(text in " ".join(ror.out.split()) for text in ("did you mean 'age'?", "'kolor'", "'r2' cannot be had"))
    assert serving(model) is None
    path.write_text(right)
    assert ror("run", "loans") == 0
    path.write_text(wrong)
    model.deliver("002")
    assert run(model).outcome is Outcome.RELOADED
    said = [check.summary for check in decided(model).checks if check.kind is CheckKind.DECLARED]
    assert len(said) == 3 and all(text in words(model) for text in said)
    assert len(ror.json("status", "loans")["warnings"]) == 3
    model.deliver("003")
    failed = run(model, action="retrain", reason="try")
    assert failed.outcome is Outcome.RETRAIN_FAILED and "kolor" in words(model)
    assert (model.root / "data/loans/predictions/003.parquet").exists()


def test_predictions_have_key_answer_version_and_run(trained: Model) -> None:
    """Every row of a decided batch is predicted once, by the version that the decision left in service."""
    batch = trained.deliver("002")
    run(trained)
    written = pd.read_parquet(trained.root / "data/loans/predictions/002.parquet")
    assert list(written.columns) == ["id", "prediction", "probability", "version", "run"]
    assert written["id"].tolist() == pd.read_parquet(batch)["id"].tolist()
    assert set(written["version"]) == {1}
    pipeline = joblib.load(trained.root / "artifacts/loans/versions/00000001/pipeline.joblib")
    frame = pd.read_parquet(batch)[["income", "age", "city", "member"]]
    frame = frame.astype({"age": float, "member": float})
    assert np.array_equal(pipeline.predict_proba(frame)[:, 1], written["probability"])


def test_same_question_same_answer(trained: Model) -> None:
    """A run with nothing new appends nothing, returns the decision, and completes effects that are missing."""
    head = trained.workspace.ledger.head().seq
    predictions = trained.root / "data/loans/predictions/001.parquet"
    before = predictions.read_bytes()
    predictions.unlink()
    assert run(trained).outcome is Outcome.RETRAINED
    assert trained.workspace.ledger.head().seq == head
    assert trained.workspace.registry.versions(trained.name) == [1]
    assert predictions.read_bytes() == before


def test_predictions_left_undone_are_made_up_for(trained: Model) -> None:
    """What a run that was killed after its decision left unpredicted is predicted by the next run, with its version."""
    predictions = trained.root / "data/loans/predictions/001.parquet"
    before = predictions.read_bytes()
    predictions.unlink()
    trained.deliver("002")
    assert run(trained).outcome is Outcome.RELOADED
    assert predictions.read_bytes() == before


@pytest.mark.slow
def test_old_versions_are_never_touched(trained: Model) -> None:
    """Ten more runs, retrains among them, leave every byte of v1 as it was."""
    folder = trained.root / "artifacts/loans/versions/00000001"

    def hashes() -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    before, outcomes = hashes(), []
    for number in range(2, 12):
        trained.deliver(f"{number:03d}", shift=0.3 * number, rows=400)
        outcomes.append(run(trained).outcome)
    assert Outcome.RETRAINED in outcomes
    assert hashes() == before
    assert {"claim.json", "pipeline.joblib", "contract.json", "reference.parquet", "probe.parquet", "manifest.json",
            "calibration.json", "evaluation.json"} == set(before)  # fmt: skip


# --- broken data ----------------------------------------------------------------------------------------------


def without_column(path: Path) -> None:
    make_rows(seed=2).drop(columns=["income", "city"]).to_parquet(path)


def words_for_numbers(path: Path) -> None:
    frame = make_rows(seed=2)
    frame["age"] = frame["age"].astype(str).where(frame.index != 7, "unknown")
    frame.to_parquet(path)


def empty(path: Path) -> None:
    make_rows(seed=2).head(0).to_parquet(path)


def wholly_null(path: Path) -> None:
    make_rows(seed=2).assign(income=np.nan).to_parquet(path)


def cut_parquet(path: Path) -> None:
    make_rows(seed=2).to_parquet(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_csv(path: Path) -> None:
    text = make_rows(seed=2).to_csv(index=False)
    path.write_text(text[: len(text) // 2].rsplit(",", 1)[0])


@pytest.mark.parametrize(
    ("spoil", "ending", "named"),
    [
        (without_column, "parquet", ["'income'", "'city'"]),
        (words_for_numbers, "parquet", ["'age'", "'unknown'"]),
        (empty, "parquet", ["no rows"]),
        (wholly_null, "parquet", ["'income'", "missing"]),
        (cut_parquet, "parquet", ["002.parquet", "cut short"]),
        (cut_csv, "csv", ["002.csv", "cut short"]),
    ],
)
def test_broken_batch_is_set_aside(
    trained: Model, spoil: Callable[[Path], None], ending: str, named: list[str]
) -> None:
    """A broken batch ends Blocked with exit code 3 and says why; v1 stays, good batches proceed, nothing is lost."""
    broken = trained.batches / f"002.{ending}"
    spoil(broken)
    content = broken.read_bytes()
    result = run(trained)
    assert (result.outcome, result.exit_code) == (Outcome.BLOCKED, 3)
    assert all(word in words(trained) for word in named), words(trained)
    assert serving(trained) == 1

    trained.deliver("003")
    assert run(trained).outcome is Outcome.RELOADED
    assert (trained.root / "data/loans/predictions/003.parquet").exists()
    assert not (trained.root / "data/loans/predictions/002.parquet").exists()
    assert broken.read_bytes() == content

    broken.unlink()
    trained.deliver("002")
    assert run(trained).outcome in (Outcome.RELOADED, Outcome.RETRAINED)
    assert (trained.root / "data/loans/predictions/002.parquet").exists()


def test_broken_and_good_batches_together(trained: Model) -> None:
    """One broken batch among pending ones makes the run Blocked, and the good one is decided and predicted."""
    without_column(trained.batches / "002.parquet")
    trained.deliver("003")
    assert run(trained).outcome is Outcome.BLOCKED
    assert [batch.id for batch in decided(trained).window] == ["003"]
    assert (trained.root / "data/loans/predictions/003.parquet").exists()


def test_decided_batch_with_other_bytes_is_an_alarm(trained: Model) -> None:
    """A batch that was decided on and then changes on disk blocks the run and is never trained on unnoticed."""
    make_rows(seed=99).to_parquet(trained.batches / "001.parquet")
    assert run(trained).outcome is Outcome.BLOCKED
    assert "other bytes" in words(trained)


# --- failures leave the current version in service ------------------------------------------------------------


def test_flipped_byte_is_refused(trained: Model) -> None:
    """One flipped byte in the model file ends the run with exit code 4; the lease is free again."""
    path = trained.root / "artifacts/loans/versions/00000001/pipeline.joblib"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    trained.deliver("002")
    trained_again = Model(trained.root)
    from tasks.core.versions import registry

    registry._LOADED.clear()  # as in a new process
    with pytest.raises(CorruptObject, match=r"pipeline\.joblib is damaged") as caught:
        run(trained_again)
    assert caught.value.exit_code == 4
    head = trained.workspace.ledger.head()
    assert head.state.lease is None
    assert serving(trained) == 1


def test_failing_fit_keeps_the_current_version(trained: Model) -> None:
    """A pipeline that cannot be fitted ends RetrainFailed with exit code 5, says why, and v1 still predicts."""
    trained.write_spec('[pipeline]\nfactory = "tests.flows.pipelines:broken"')
    trained.deliver("002")
    result = run(trained, action="retrain", reason="a new pipeline")
    assert (result.outcome, result.exit_code) == (Outcome.RETRAIN_FAILED, 5)
    assert "no such strategy" in words(trained)
    assert serving(trained) == 1
    assert set(pd.read_parquet(trained.root / "data/loans/predictions/002.parquet")["version"]) == {1}


def test_gate_refuses_a_worse_challenger(trained: Model) -> None:
    """A challenger that always predicts one class is registered, refused by the gate, and never served."""
    trained.write_spec('[pipeline]\nfactory = "tests.flows.pipelines:constant"')
    trained.deliver("002")
    assert run(trained, action="retrain", reason="try it").outcome is Outcome.KEPT
    assert trained.workspace.registry.versions(trained.name) == [1, 2]
    assert serving(trained) == 1
    attempt = decided(trained).attempt
    assert attempt is not None and attempt.outcome == "refused"


OFTEN = f"{QUICK}[policy]\nmax_age = 1\n"
"""Every labelled batch is due a retrain."""


@pytest.fixture
def small(model: Model) -> Model:
    """v1 in service, trained on six batches of 40 rows, and one more such batch."""
    model.write_spec(OFTEN)
    for number in range(1, 7):
        model.deliver(f"{number:03d}", rows=40)
    assert run(model).outcome is Outcome.RETRAINED
    model.deliver("007", rows=40)
    return model


def test_a_fit_that_nothing_could_judge_is_not_made(small: Model) -> None:
    """Batches of 40 rows never keep enough for a comparison: nothing is fitted, and a person must act. What the run
    names leads out: a version made by hand can be promoted."""
    result = run(small)
    assert result.outcome is Outcome.HELD and "are too small to judge a new version by" in result.message
    assert "batches of about 40 labelled rows are too small" in words(small) and "100 are needed" in words(small)
    assert wording.must_act(decided(small)).startswith("yes")
    (alert,) = alerts(small.workspace)
    assert alert.outcome is Outcome.HELD and "are too small" in alert.message and "without you" in alert.act
    assert decided(small).attempt is None and small.workspace.registry.versions("loans") == [1]
    small.deliver("008", rows=40)
    assert run(small).outcome is Outcome.HELD
    assert [other.cause for other in alerts(small.workspace)] == [alert.cause]  # one matter, told once a day
    assert run(small, action="retrain", reason="to look at it").outcome is Outcome.KEPT
    overrides.promote(small.workspace, 2, reason="looked at it", actor="ann")
    assert serving(small) == 2
    assert alerts(small.workspace) == []


def test_larger_batches_can_be_judged(small: Model) -> None:
    """The other way out: once a batch is large enough, the retrain that is due is made and compared."""
    assert run(small).outcome is Outcome.HELD
    small.deliver("008", rows=1_200)
    assert run(small).outcome is Outcome.RETRAINED
    assert not wording.must_act(decided(small)).startswith("yes")


def test_a_fit_waits_until_it_can_be_judged(model: Model) -> None:
    """Where further batches will keep enough rows the run waits, says for how many, and then makes the fit."""
    model.write_spec(OFTEN)
    model.deliver("001", rows=300)
    assert run(model).outcome is Outcome.RETRAINED
    model.deliver("002", rows=300)
    assert run(model).outcome is Outcome.HELD
    assert "could not be judged yet" in words(model) and "more batch" in words(model)
    assert wording.must_act(decided(model)).startswith("no")
    for number in range(3, 6):
        model.deliver(f"{number:03d}", rows=300)
    assert run(model).outcome in (Outcome.RETRAINED, Outcome.KEPT)
    assert decided(model).attempt is not None


def test_approval_waits(trained: Model) -> None:
    """With promotion = "approve" the challenger waits, and the champion goes on serving."""
    trained.write_spec('[policy]\npromotion = "approve"')
    trained.deliver("002")
    assert run(trained, action="retrain", reason="try it").outcome is Outcome.AWAITING_APPROVAL
    assert serving(trained) == 1
    assert [served.version for served in trained.workspace.ledger.head().state.waiting] == [2]


def test_by_hand_needs_a_reason(trained: Model) -> None:
    """An action asked for by hand without a reason is refused before anything is recorded."""
    head = trained.workspace.ledger.head().seq
    with pytest.raises(InvalidRequest, match=r"^reason:\n  - give one"):
        run(trained, action="retrain")
    assert trained.workspace.ledger.head().seq == head


# --- two runs, killed runs ------------------------------------------------------------------------------------


def test_a_reload_by_hand_stands(trained: Model) -> None:
    """Until something new arrives a plain run has nothing to decide, though a retrain would be due; then it decides."""
    trained.write_spec(OFTEN)
    trained.deliver("002")
    by_hand = run(trained, action="reload", reason="a demonstration is on")
    assert by_hand.outcome is Outcome.RELOADED
    head = trained.workspace.ledger.head().seq
    assert run(trained).message == by_hand.message
    assert trained.workspace.ledger.head().seq == head
    trained.deliver("003")
    assert run(trained).outcome in (Outcome.RETRAINED, Outcome.KEPT)


def test_second_run_is_skipped(trained: Model) -> None:
    """While another run holds the lease, a run ends Skipped, names it, and decides nothing."""
    trained.deliver("002")
    with Lease(trained.workspace.ledger, run="the-first-run", key="k", actor="tests", reason=""):
        result = run(trained)
    assert result.outcome is Outcome.SKIPPED
    assert "the-first-run" in result.message
    assert result.exit_code == 0
    assert "002" not in trained.workspace.ledger.head().state.batches
    assert run(trained).outcome is Outcome.RELOADED


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from flows.server import launch
    from tasks.core.ledger.lease import Lease
    Lease.commit = lambda self, build: os.kill(os.getpid(), signal.SIGKILL)
    with launch.prefect_ready():
        launch.run(Path(sys.argv[1]), "loans")
"""


@pytest.mark.slow
def test_killed_after_registering_is_adopted(model: Model) -> None:
    """Killed between register and decide, the same question adopts the registered version instead of fitting again."""
    model.deliver("001")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(model.root)]
    environment = {**os.environ, "TMPDIR": str(model.root)}  # which a killed process cannot tidy
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    assert process.wait(120) == -signal.SIGKILL
    os.killpg(process.pid, signal.SIGKILL)  # the embedded server that it left behind
    manifest = model.root / "artifacts/loans/versions/00000001/manifest.json"
    before = manifest.read_bytes()
    assert serving(model) is None

    assert run(model).outcome is Outcome.RETRAINED
    assert model.workspace.registry.versions(model.name) == [1]
    assert serving(model) == 1
    assert manifest.read_bytes() == before


@pytest.mark.slow
def test_two_processes_at_once(model: Model) -> None:
    """Of two runs started together one decides; the other ends Skipped or finds the question answered."""
    model.deliver("001", rows=20_000)
    command = [sys.executable, "-m", "flows.cli", "run", model.name, "--root", str(model.root), "--json"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    outputs = [process.communicate(timeout=240)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert model.workspace.registry.versions(model.name) == [1]
    kinds = [event.event for event in model.workspace.ledger.events()]
    assert kinds.count("decided") == 1


@pytest.mark.slow
def test_interrupt_frees_the_lease(model: Model) -> None:
    """Ctrl-C in the middle of a fit exits 130, leaves no decision, and the next run goes on at once."""
    model.deliver("001", rows=200_000)
    command = [sys.executable, "-m", "flows.cli", "run", model.name, "--root", str(model.root)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    _wait_for(lambda: model.workspace.ledger.head().state.lease is not None)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Interrupted" in said and "Traceback" not in said
    head = model.workspace.ledger.head()
    assert head.state.lease is None
    assert head.state.decided is None


def _wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


# --- real streams ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("stream", "task"), [("elec2", "binary"), ("bike", "regression")])
def test_batches_of_a_real_stream(tmp_path: Path, streams: Path, stream: str, task: str) -> None:
    """Batches of a real stream run through: decisions of several kinds, every batch predicted or held."""
    model = Model(tmp_path, stream)
    model.write_spec(task=task)
    spec = model.root / "deployments" / f"{stream}.toml"
    spec.write_text(spec.read_text().replace('key = "id"\n', ""))
    frame = pd.read_parquet(streams / f"{stream}.parquet")
    outcomes = {}
    for number, part in list(frame.groupby("batch"))[:14]:
        model.deliver(f"{number:03d}", part.drop(columns="batch"))
        outcomes[number] = run(model).outcome
    assert {Outcome.RELOADED, Outcome.RETRAINED} <= set(outcomes.values())
    assert not any(outcome.failed for outcome in outcomes.values())
    predicted = sorted(path.stem for path in (model.root / "data" / stream / "predictions").iterdir())
    held = [number for number in outcomes if f"{number:03d}" not in predicted]
    assert all(outcomes[number] is Outcome.HELD for number in held)


def test_unusable_labels_do_not_hold_up_predictions(model: Model) -> None:
    """A damaged label file makes the run Blocked and says so; the batch is predicted all the same."""
    model.write_spec(late_labels=True)
    first, second = make_rows(seed=1), make_rows(seed=2)
    model.deliver("001", first.drop(columns="y"))
    run(model)
    model.labels.mkdir(parents=True)
    first[["id", "y"]].to_parquet(model.labels / "001.parquet")
    model.deliver("002", second.drop(columns="y"))
    assert run(model).outcome is Outcome.RETRAINED

    (model.labels / "002.parquet").write_bytes(b"PAR1 and no more")
    model.deliver("003", make_rows(seed=3).drop(columns="y"))
    assert run(model).outcome is Outcome.BLOCKED
    assert "labels/002.parquet cannot be read" in words(model)
    assert (model.root / "data/loans/predictions/003.parquet").exists()

    second[["id", "y"]].to_parquet(model.labels / "002.parquet")
    assert run(model).outcome in (Outcome.RELOADED, Outcome.RETRAINED)
    assert model.workspace.ledger.head().state.batches["002"].labels is not None
