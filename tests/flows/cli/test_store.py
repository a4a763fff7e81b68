"""`ror store prune` and `erase`, as people and scripts call them."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from flows.server import environment, launch
from tasks.core.doctor import deployment
from tests.helpers.model import Model, make_rows
from tests.helpers.ror import Ror

pytestmark = pytest.mark.usefixtures("prefect")

WHY = ("--reason", "a test")


@pytest.fixture
def three(grown: Model) -> Model:
    """v1, v2, and v3 in service."""
    grown.deliver("003")
    launch.run(grown.root, grown.name, action="retrain", reason="grow")
    return grown


def test_prune(three: Model, ror: Ror) -> None:
    """The dry run says what would go, the prune what went; then the version is gone, and everything says why."""
    assert ror("store", "prune", "loans", "--keep", "1", "--dry-run", *WHY) == 0
    assert "pipeline.joblib" in ror.out and "Nothing was written" in ror.out
    planned = ror.json("store", "prune", "loans", "--keep", "0", "--dry-run", *WHY)
    assert [item["version"] for item in planned["versions"]] == [1]
    assert [item["version"] for item in planned["kept"]] == [2, 3]
    assert ror("store", "prune", "loans", "--keep", "1", *WHY) == 0
    assert "bytes removed. Entry" in ror.out
    entry = ror.json("history", "loans")[-1]
    assert (entry["event"], entry["deed"], entry["reasons"]) == ("pruned", "payload of v1 removed", ["a test"])
    assert ror.json("show", "loans", "v1")["version"] == 1
    assert ror("show", "loans", "v1") == 0
    assert "removed" in ror.out and "was pruned by" in " ".join(ror.out.split())
    assert ror("promote", "loans", "v1", *WHY) == 2
    assert f"was pruned by {environment.actor()}" in ror.err
    assert ror("store", "prune", "loans", "--keep", "1", *WHY) == 0
    assert "nothing to prune" in ror.out
    assert launch.run(three.root, three.name, action="auto", reason=None).exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--keep", "1"), "--reason"),
        (("--keep", "1", "--reason", ""), "--reason:\n  - must not be empty"),
        (WHY, "--keep, --older-than:\n  - give exactly one"),
        (("--keep", "1", "--older-than", "3d", *WHY), "--keep, --older-than:\n  - give exactly one"),
        (("--keep", "-1", *WHY), "--keep"),
        (("--older-than", "soon", *WHY), "--older-than:\n  - invalid age 'soon': use 90d, 12w, 2y"),
    ],
)
def test_wrong_use_of_prune(grown: Model, ror: Ror, words: tuple[str, ...], said: str) -> None:
    """What cannot be done is said on one screen with exit code 2, and nothing is recorded."""
    before = grown.workspace.ledger.head()
    assert ror("store", "prune", "loans", *words) == 2
    assert said in ror.err and "Traceback" not in ror.err
    assert grown.workspace.ledger.head() == before


def test_the_remedy_of_a_full_disk(grown: Model, ror: Ror, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `ror doctor` says where a disk is full is a command that is carried out as it stands."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    (found,) = deployment.space(grown.root, "the store")
    (command,) = re.findall("`ror (.+)`", found.remedy)
    assert ror(*shlex.split(command.replace("MODEL", grown.name))) == 0, ror.err
    assert "nothing to prune" in ror.out  # the last three versions stay


# --- erase ----------------------------------------------------------------------------------------------------

KEY = "2-17"
"""A row of the second batch, which v2 was trained on."""


def held(model: Model, key: str = KEY) -> list[str]:
    """Data files whose key column holds the key."""
    files = sorted((model.root / "data").rglob("*.parquet"))
    return [path.parent.name for path in files if key in pd.read_parquet(path)["id"].to_numpy()]


def test_erase(grown: Model, ror: Ror) -> None:
    """The dry run says where the key is, the erasure that it is gone; the next run has nothing to do, a retrain works,
    and the history does not name the key."""
    assert held(grown) == ["batches", "predictions"]
    assert ror("store", "erase", "loans", "--key", KEY, "--dry-run", *WHY) == 0
    assert "batch 002" in ror.out and "Nothing was written" in ror.out
    assert held(grown) == ["batches", "predictions"]
    done = ror.json("store", "erase", "loans", "--key", KEY, *WHY)
    assert {place["what"] for place in done["places"]} >= {"batch 002", "predictions"}
    assert done["learned"] == [2]
    assert held(grown) == []
    assert launch.run(grown.root, grown.name, action="auto", reason=None).exit_code == 0
    assert ror("history", "loans") == 0
    assert "a key erased" in ror.out and KEY not in ror.out
    assert launch.run(grown.root, grown.name, action="retrain", reason="without it").exit_code == 0
    state = grown.workspace.ledger.head().state
    assert state.current is not None and state.attempt is not None and state.attempt.outcome != "failed"
    assert ror("store", "erase", "loans", "--key", KEY, *WHY) == 2
    assert "--key:\n  - not found" in ror.err


def test_a_run_after_an_erasure_skips(grown: Model, ror: Ror) -> None:
    """A question that the rules had answered stays answered, and nothing is set aside."""
    assert launch.run(grown.root, grown.name, action="auto", reason=None).exit_code == 0
    before = grown.workspace.ledger.head().state.decided
    assert ror("store", "erase", "loans", "--key", KEY, *WHY) == 0
    answer = ror.json("run", "loans")
    assert (answer["decided_now"], answer["blocked"]) == (False, [])
    after = grown.workspace.ledger.head().state.decided
    assert before is not None and after is not None and after.seq == before.seq


def test_a_page_that_was_replaced_is_found(grown: Model, ror: Ror) -> None:
    """`ror report` shows the page without what was erased from it, and no run writes the first one again."""
    grown.deliver("003", make_rows(600, seed=3).assign(id=[f"client-{row:04d}" for row in range(600)]))
    launch.run(grown.root, grown.name, action="auto", reason=None)
    seq = ror.json("report", "loans")["entry"]
    page = grown.root / f"artifacts/loans/runs/{seq:08d}/report.html"
    page.write_text(page.read_text().replace("<body>", "<body><p>client-0007 is odd</p>"))
    assert "client-0007" in page.read_text()
    assert ror("store", "erase", "loans", "--key", "client-0007", *WHY) == 0
    launch.run(grown.root, grown.name, action="auto", reason=None)
    assert not page.exists()
    found = ror.json("report", "loans", str(seq))
    text = Path(found["page"]).read_text()
    assert "<p>[erased] is odd</p>" in text and "client-0007" not in text
    assert ror("report", "loans", str(seq), "--output", str(grown.root / "copy")) == 0
    assert (grown.root / "copy/report.html").read_text() == text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--key", KEY), "--reason"),
        (WHY, "--key"),
        (("--key", "9-999", *WHY), "--key:\n  - not found"),
        (("--key", KEY, "--reason", f"{KEY} asked"), "--reason:\n  - must not contain the key"),
    ],
)
def test_wrong_use_of_erase(grown: Model, ror: Ror, words: tuple[str, ...], said: str) -> None:
    """What cannot be done is said on one screen with exit code 2, and nothing is recorded."""
    before = grown.workspace.ledger.head()
    assert ror("store", "erase", "loans", *words) == 2
    assert said in ror.err and "Traceback" not in ror.err
    assert grown.workspace.ledger.head() == before
