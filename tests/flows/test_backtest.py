"""`ror backtest` and its flow, what-if over recorded evidence, and that a backtest decides what production decided."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.cli import demo
from tasks.core.backtest.fits import Fits, Missing
from tasks.core.backtest.history import read_history
from tasks.core.backtest.replay import Replay
from tasks.core.ledger.events import Decided
from tasks.core.records import from_dict
from tasks.core.training.choice import settle
from tasks.core.types import Decision
from tasks.core.workspace import Workspace
from tests.helpers.model import Model
from tests.helpers.ror import QUICK, Ror


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a model with eight labelled batches and the fits of a backtest with one starting point."""
    model = Model(tmp_path_factory.mktemp("replayed"))
    model.write_spec(QUICK)
    for number in range(8):
        model.deliver(f"{number:03d}", rows=200, flip=0.0 if number < 5 else 0.8)
    return model.root


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli", *words, "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_ror_backtest(replayed: Path) -> None:
    """It prints a table, a sentence and where the picture is, and touches nothing but its own folder."""
    before = contents(replayed)
    done = run(replayed, "backtest", "loans", "--starts", "1")
    assert done.returncode == 0, done.stderr
    for word in ("configured", "every-4", "drift-share", "hindsight optimum", "At a cost of 0.05 a fit"):
        assert word in done.stdout
    assert "one fit per batch" in done.stderr
    made = {path: digest for path, digest in contents(replayed).items() if path not in before}
    assert all("data/loans/backtest/" in path for path in made)
    assert {path: digest for path, digest in contents(replayed).items() if path in before} == before
    picture = replayed / "data/loans/backtest/backtest.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "data/loans/backtest/backtest.png" in done.stdout


@pytest.mark.slow
def test_ror_backtest_for_scripts(replayed: Path, tmp_path: Path) -> None:
    """With --json there is nothing but the answer on standard output; other policies and another cost are replayed."""
    other = tmp_path / "thrifty.toml"
    other.write_text("[policy]\nretrain_cost = 2.0\n")
    words = ("--json", "--starts", "1", "--delay", "2", "--cost", "0.2", "--policy", str(other))
    done = run(replayed, "backtest", "loans", *words)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["delay"], answer["retrain_cost"]) == (0, 2, pytest.approx(0.2))
    policies = {policy["name"]: policy for policy in answer["policies"]}
    assert policies["always"]["cost"] == pytest.approx(1 + 0.2 * policies["always"]["fits"])
    assert policies["thrifty"]["fits"] <= policies["configured"]["fits"]


@pytest.mark.slow
def test_a_killed_backtest_goes_on(replayed: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle leaves whole fits only; the next call keeps them and finishes."""
    other = tmp_path / "slow.toml"
    spec = (replayed / "deployments/loans.toml").read_text().replace("max_iter = 20", "max_iter = 21")
    (replayed / "deployments/again.toml").write_text(spec)
    other.write_text(spec)
    folder = replayed / "data/again/backtest/fits"
    command = [sys.executable, "-m", "flows.cli", "backtest", "again", "--starts", "1", "--root", str(replayed)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # which a killed process cannot tidy
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, env=environment
    )
    deadline = time.monotonic() + 120
    while len(list(folder.glob("[0-9a-f]*.npz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("[0-9a-f]*.npz")}
    assert kept
    done = run(replayed, "backtest", "again", "--starts", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert json.loads(done.stdout)["model"] == "again"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("backtest", "nobody"), "there is no file"),
        (("backtest", "loans", "--policy", "missing.toml"), "missing.toml"),
        (("backtest", "loans", "--cost", "0"), "--cost:\n  - policy.retrain_cost = 0.0"),
        (("backtest", "loans", "--starts", "9"), "labelled batches are too few for 9 starting points: try 1"),
        (("history", "loans", "--replay"), "--policy:\n  - name a TOML file"),
    ],
)
def test_wrong_words(replayed: Path, ror: Ror, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """What cannot be replayed is said on one screen, with exit code 2."""
    for name in ("deployments", "data"):
        (tmp_path / name).symlink_to(replayed / name)
    assert ror(*words) == 2
    assert said in ror.err


@pytest.mark.usefixtures("prefect")
def test_the_flow(replayed: Path) -> None:
    """Started from the UI it is the same backtest: the recommendation is the run's message, the table its artifact."""
    from prefect.client.orchestration import get_client

    from flows.backtest import backtest

    state: Any = backtest(model="loans", starts=1, root=str(replayed), return_state=True)
    assert state.name == "Backtested" and state.message.startswith("At a cost of 0.05 a fit")
    with get_client(sync_client=True) as client:
        keys = [artifact.key for artifact in client.read_artifacts()]
    assert "loans-backtest" in keys


@pytest.mark.usefixtures("prefect")
def test_what_another_policy_would_have_decided(grown: Model, ror: Ror, tmp_path: Path) -> None:
    """The evidence of every decision is recorded: the same policy says the same of it, another one may not."""
    grown.deliver("003")
    assert ror("run", "loans") == 0
    same, other = tmp_path / "same.toml", tmp_path / "hasty.toml"
    same.write_text("[policy]\n")
    other.write_text("[policy]\nmax_age = 1\n")
    answers = ror.json("history", "loans", "--replay", "--policy", str(same), "--policy", str(other))
    assert len(answers["same"]) == len(answers["hasty"]) == 3
    assert all(answer["action"] == answer["other_action"] for answer in answers["same"])
    assert answers["hasty"][-1]["other_action"] == "retrain"
    assert ror("history", "loans", "--replay", "--policy", str(same)) == 0
    assert "same: 0 of 3 decisions would have been different" in ror.out
    due = ror.json("status", "loans")["next_retrain"]
    assert "since the last attempt to train; " in due
    assert ror("status", "loans") == 0 and due in ror.out


def without_deliveries(decision: Decision) -> Decision:
    """A decision without what it says of files: labels that were still to come, which a replay has, and batches that
    nobody predicted, which a replay does not do either."""
    told = [reason for reason in decision.reasons if "arrived before the first version" not in reason]
    return replace(decision, reasons=tuple(reason.partition("; there is no label file")[0] for reason in told))


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
def test_a_backtest_decides_what_production_decided(tmp_path: Path, played_year: Path) -> None:
    """The demo's ledger, replayed through backtest from the files alone, has identical decisions: action, rule, reasons
    and numbers of every rule, and the gate of every attempt."""
    workspace = Workspace.open(played_year, demo.MODEL)
    decided = [from_dict(Decided, event.body) for event in workspace.ledger.events() if event.event == "decided"]
    spec, _ = settle(workspace.spec, (), workspace.in_service())
    history = read_history(played_year, spec)
    fits = Fits(history, tmp_path / "fits")
    replay = Replay(history, fits, spec, delay=1, start=None)
    while True:
        try:
            steps = replay.run()
            break
        except Missing as missing:
            fits.compute([missing.job], lambda: None)
    assert len(steps) == 11  # nobody knows the labels of December
    for step, real in zip(steps, decided, strict=False):
        ours = step.decided
        assert ours is not None and step.batch == real.window[0].id
        assert (ours.outcome, ours.decision) == (real.outcome, without_deliveries(real.decision))
        assert ours.evidence == replace(real.evidence, request=ours.evidence.request)  # the actor is another one
        if real.attempt:
            assert ours.attempt is not None and ours.attempt.gate is not None and real.attempt.gate is not None
            assert ours.attempt.gate.difference == pytest.approx(real.attempt.gate.difference)
            assert ours.attempt.gate.rows == real.attempt.gate.rows
