"""`ror store prune` and `erase`, as people and scripts call them."""

from __future__ import annotations

import pytest

from flows import launch
from tests.conftest import Model
from tests.flows.conftest import Ror

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
    assert ror("promote", "loans", "v1", *WHY) == 2
    assert f"was pruned by {launch.actor()}" in ror.err
    assert ror("store", "prune", "loans", "--keep", "1", *WHY) == 0
    assert "nothing to prune" in ror.out
    assert launch.run(three.root, three.name, action="auto", reason=None).exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--keep", "1"), "--reason"),
        (("--keep", "1", "--reason", ""), "must not be empty"),
        (WHY, "give one rule"),
        (("--keep", "1", "--older-than", "3d", *WHY), "give one rule"),
        (("--keep", "-1", *WHY), "--keep"),
        (("--older-than", "soon", *WHY), "write 90d, 12w, 2y"),
    ],
)
def test_wrong_use_of_prune(grown: Model, ror: Ror, words: tuple[str, ...], said: str) -> None:
    """What cannot be done is said on one screen with exit code 2, and nothing is recorded."""
    before = grown.workspace.ledger.head()
    assert ror("store", "prune", "loans", *words) == 2
    assert said in ror.err and "Traceback" not in ror.err
    assert grown.workspace.ledger.head() == before
