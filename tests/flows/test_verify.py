"""`ror verify` and its flow: one look at the whole store, for people, scripts and schedules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.helpers.model import Model
from tests.helpers.ror import Ror

pytestmark = pytest.mark.usefixtures("prefect")

PIPELINE, NEWEST = "loans/versions/00000001/pipeline.joblib", "loans/ledger/00000004.json"


def flow(grown: Model, **parameters: Any) -> Any:
    from flows.verify import verify

    return verify(root=str(grown.root), return_state=True, **parameters)


def damage(model: Model, path: str = PIPELINE) -> None:
    file = model.root / "artifacts" / path
    file.write_bytes(file.read_bytes()[:-1])


def test_all_is_well(grown: Model, ror: Ror) -> None:
    """What the flow made is well, run pages included; the head to note is the last thing that is said."""
    assert ror("verify", "loans") == 0
    head = grown.workspace.ledger.head()
    assert "2 versions, 4 entries of history: all is well." in ror.out
    assert ror.out.rstrip().endswith(f"{head.seq}:{head.digest}")
    answer = ror.json("verify", "loans", "--expect-head", f"{head.seq}:{head.digest}")
    assert (answer["ok"], answer["remarks"], answer["head"]) == (True, [], f"{head.seq}:{head.digest}")
    assert ror("verify") == 0 and "loans: " in ror.out
    assert [item["model"] for item in ror.json("verify")] == ["loans"]


def test_damage_exits_4(grown: Model, ror: Ror) -> None:
    """Damaged objects are listed, all of them, with exit code 4; JSON says the same."""
    damage(grown)
    damage(grown, "loans/versions/00000002/contract.json")
    assert ror("verify", "loans") == 4
    assert "2 damaged or missing" in ror.out
    assert PIPELINE in ror.out and "loans/versions/00000002/contract.json" in ror.out
    assert ror("verify", "--json") == 4
    answer = json.loads(ror.out)[0]
    assert [item["path"] for item in answer["remarks"]] == [PIPELINE, "loans/versions/00000002/contract.json"]
    assert answer["ok"] is False


def test_a_cut_off_history(grown: Model, ror: Ror) -> None:
    """Whoever noted the head notices that the newest entries were cut off."""
    head = ror.json("verify", "loans")["head"]
    (grown.root / "artifacts" / NEWEST).unlink()
    shutil.rmtree(grown.root / "artifacts/loans/runs/00000004")
    assert ror("verify", "loans") == 0
    assert ror("verify", "loans", "--expect-head", head) == 4
    assert "the history ends at entry 3: it was cut off" in ror.out


def test_repair(grown: Model, ror: Ror) -> None:
    """After a power cut `--repair` moves the torn entry aside, and says so; of a whole one it says so, too."""
    path = grown.root / "artifacts" / NEWEST
    path.write_bytes(path.read_bytes()[:100])
    assert ror("verify", "loans") == 4
    assert "`ror verify loans --repair` moves it aside" in ror.out
    shutil.rmtree(grown.root / "artifacts/loans/runs/00000004")  # it was never written: the entry was cut before
    started = path.with_name("00000003.json")
    soon = (datetime.now(UTC) + timedelta(minutes=10)).isoformat(timespec="seconds")
    text = re.sub(r'"expires": "[^"]+"', f'"expires": "{soon}"', started.read_text())  # however old this model is
    started.write_text(json.dumps({**json.loads(text), "sha256": None}))
    assert ror("verify", "loans", "--repair") == 4
    assert "may be at work on loans: nothing was moved" in ror.err  # it is the one of this very process
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat(timespec="seconds")  # a lease ends with its time
    record = json.loads(text.replace('"boot": "', '"boot": "before the power cut, ').replace(soon, past))
    started.write_text(json.dumps({**record, "sha256": None}))
    assert ror("verify", "loans", "--repair") == 0
    assert f"{NEWEST} was cut off (100 bytes) and is moved aside, to loans/ledger/torn-00000004-" in ror.out
    assert ror("verify", "loans", "--repair") == 0
    assert "nothing to repair" in ror.out
    assert ror.json("verify", "loans", "--repair")["repaired"] is None
    assert ror.json("status", "loans")["version"] == 1


def test_which_versions_load_here(grown: Model, ror: Ror) -> None:
    """`--load` shows for every version whether it loads here, and why not."""
    assert ror("verify", "loans", "--load") == 0
    assert "loads here" in ror.out
    damage(grown)
    assert ror("verify", "loans", "--load", "--json") == 4
    loads = json.loads(ror.out)["loads"]
    assert [(item["version"], item["loads"]) for item in loads] == [(1, False), (2, True)]
    assert "pipeline.joblib is damaged" in loads[0]["why_not"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("verify", "rents"), "neither a file nor the store knows 'rents'. Models: loans"),
        (("verify", "loans", "--expect-head", "4"), "--expect-head:\n  - '4' is not NUMBER:SHA256"),
        (("verify", "--repair"), "model:\n  - name one"),
        (("verify", "--expect-head", f"4:{'a' * 64}"), "model:\n  - name one"),
    ],
)
def test_wrong_use(grown: Model, ror: Ror, words: tuple[str, ...], said: str) -> None:
    """What cannot be asked is said on one screen, with exit code 2."""
    assert ror(*words) == 2
    assert said in ror.err


def test_the_command_is_light(grown: Model) -> None:
    """`ror verify` imports neither Prefect nor scikit-learn."""
    script = (
        "import sys\nfrom flows.cli import app\nsys.argv = ['ror', 'verify', '--root', sys.argv[1]]\n"
        "try:\n    app.main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "print([name for name in ('prefect', 'sklearn', 'evidently') if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, str(grown.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_flow(grown: Model) -> None:
    """The flow completes when all is well and leaves a table; it fails with everything that is damaged."""
    from prefect.artifacts import Artifact

    state = flow(grown, load=True)
    assert (state.name, state.type.value) == ("Verified", "COMPLETED")
    assert "all is well" in state.message
    damage(grown)
    state = flow(grown, model="loans")
    assert (state.name, state.type.value) == ("Damaged", "FAILED")
    assert f"{PIPELINE} is damaged" in state.message
    artifact = Artifact.get("loans-verify")
    assert artifact is not None and f"| **damage** | {PIPELINE} |" in str(artifact.data)


def test_the_flow_needs_a_model_for_a_head(grown: Model) -> None:
    """A noted head belongs to one model: without one the run fails and says so."""
    state = flow(grown, expect_head=f"4:{'a' * 64}")
    assert state.is_failed() and "name one: the entry" in state.message
