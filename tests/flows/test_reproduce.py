"""`ror reproduce` and its flow: a version that a run made is made again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.model import Model, make_rows
from tests.helpers.ror import Ror

pytestmark = pytest.mark.usefixtures("prefect")


def flow(model: Model, version: int) -> Any:
    from flows.reproduce import reproduce

    return reproduce(model.name, version, root=str(model.root), return_state=True)


def test_a_version_of_a_run_in_a_new_process(grown: Model) -> None:
    """What the flow trained, a fresh process trains again, bit by bit; it needs no Prefect for it."""
    command = [sys.executable, "-X", "importtime", "-m", "flows.cli", "reproduce", "loans", "v2", "--json"]
    done = subprocess.run(
        [*command, "--root", str(grown.root)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert (answer["verdict"], [item["rows_different"] for item in answer["compared"]]) == ("identical", [0, 0])
    assert answer["metrics"] == answer["metrics_then"]
    assert Path(answer["file"]).parent == grown.root / "data/loans/receipts"
    assert "prefect" not in done.stderr


def test_the_command(grown: Model, ror: Ror) -> None:
    """The verdict comes first, then the numbers, the threads, and where the receipt is."""
    assert ror("reproduce", "loans", "v1") == 0
    lines = ror.out.splitlines()
    assert lines[0].startswith("loans v1: identical. Trained again, it gives the same answers, bit by bit, on ")
    assert "gate rows: identical" in ror.out and "roc_auc on the gate's rows" in ror.out and "threads: " in ror.out
    assert Path(lines[-1].removeprefix("  Receipt: ")).exists()


def test_what_changed_exits_4(grown: Model, ror: Ror) -> None:
    """A training file that changed and one that is gone are named, with exit code 4; nothing is written."""
    grown.deliver("001", make_rows(600, seed=9))
    (grown.batches / "002.parquet").unlink()
    assert ror("reproduce", "loans", "v2") == 4
    assert "loans v2 cannot be reproduced" in ror.err
    assert "data/loans/batches/001.parquet has changed since" in ror.err
    assert "data/loans/batches/002.parquet is missing" in ror.err
    assert not (grown.root / "data/loans/receipts").exists()


def test_another_model_exits_4(grown: Model, ror: Ror, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the pipeline's code makes another model now, the difference is said, with exit code 4 and a receipt."""
    from tasks.core import training
    from tasks.core.training import factory

    made = factory.tabular
    monkeypatch.setattr(training, "tabular", lambda task, seed, **rest: made(task, seed, **{**rest, "max_iter": 3}))
    assert ror("reproduce", "loans", "v2") == 4
    assert "loans v2: different by up to 0." in ror.out and " rows (gate rows)" in ror.out
    assert len(list((grown.root / "data/loans/receipts").iterdir())) == 1
    state = flow(grown, 2)
    assert (state.name, state.type.value) == ("Different", "FAILED")
    assert "different by up to" in state.message


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("reproduce", "loans", "v9"), 2, "Versions: v1, v2"),
        (("reproduce", "loans", "nine"), 2, "write v7 or 7"),
        (("reproduce", "rents", "v1"), 2, "Models here: loans"),
    ],
)
def test_wrong_use(grown: Model, ror: Ror, words: tuple[str, ...], code: int, said: str) -> None:
    """What does not exist is said on one screen."""
    assert ror(*words) == code
    assert said in ror.err


def test_the_flow(grown: Model) -> None:
    """The flow completes with the verdict and leaves a summary; with missing data it fails and says which."""
    from prefect.artifacts import Artifact

    state = flow(grown, 2)
    assert (state.name, state.type.value) == ("Reproduced", "COMPLETED")
    assert "loans v2: identical" in state.message
    artifact = Artifact.get("loans-reproduce")
    assert artifact is not None and "known answers: identical" in str(artifact.data)
    (grown.batches / "001.parquet").unlink()
    state = flow(grown, 2)
    assert state.is_failed() and "001.parquet is missing" in state.message
