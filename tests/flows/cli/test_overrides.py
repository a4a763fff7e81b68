"""`ror promote`, `accept`, `quarantine`, `release` and `snooze`, and how status and history show what was done."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.server import environment
from tests.helpers.model import Model, moved_away
from tests.helpers.ror import QUICK, Ror

pytestmark = pytest.mark.usefixtures("prefect")

WHY = ("--reason", "a test")


def test_promote(grown: Model, ror: Ror) -> None:
    """`promote` runs the flow and says what it did; history names who, why, and which version took whose place."""
    assert ror("promote", "loans", "v1", *WHY, "--expected", "v2") == 0
    assert "loans · v1 put in service, in place of v2 (rolled back): a test" in ror.out
    entry = ror.json("history", "loans")[-1]
    assert (entry["event"], entry["version"], entry["actor"]) == ("promoted", 1, environment.actor())
    assert (entry["deed"], entry["reasons"]) == ("v1 put in service, in place of v2 (rolled back)", ["a test"])
    assert ror("history", "loans") == 0
    assert "v1 put in service, in place of v2 (rolled back): a test" in ror.out
    answer = ror.json("promote", "loans", "2", *WHY)
    assert (answer["outcome"], answer["version"]) == ("Promoted", 2)
    status = ror.json("status", "loans")
    assert (status["version"], status["promoted"]["actor"]) == (2, environment.actor())
    assert ror("status", "loans") == 0
    assert f"{environment.actor()} (chosen): a test" in ror.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("promote", "loans", "v2", *WHY), 2, "in service already"),
        (("promote", "loans", "v9", *WHY), 2, "Versions: v1, v2"),
        (("promote", "loans", "seven", *WHY), 2, "use v7 or 7"),
        (("promote", "loans", "v0", *WHY), 2, "use v7 or 7"),
        (("promote", "loans", "v1"), 2, "--reason"),
        (("promote", "loans", "v1", "--reason", ""), 2, "must not be empty"),
        (("promote", "loans", "v1", *WHY, "--expected", "v1"), 1, "v2 of loans is in service, not v1"),
        (("promote", "loans", "v1", *WHY, "--expected", "none"), 1, "not no version"),
        (("accept", "loans", "2024", *WHY), 2, "The newest: 001, 002"),
        (("accept", "loans", "002", *WHY), 2, "was trained on 002"),
        (("quarantine", "loans", "2024", *WHY), 2, "The newest: 001, 002"),
        (("quarantine", "loans", "002"), 2, "--reason"),
        (("release", "loans", "002", *WHY), 2, "neither in quarantine nor suspect"),
        (("release", "rents", "002", *WHY), 2, "Models here: loans"),
        (
            ("snooze", "loans", "--columns", "agge", "--until", "2999-12-31", *WHY),
            2,
            "'agge' is not a column of v2; close: age",
        ),
        (("snooze", "loans", "--columns", "age", "--until", "2013-12-31", *WHY), 2, "2013-12-31 is in the past"),
        (
            ("snooze", "loans", "--columns", "age", "--until", "now", *WHY),
            2,
            "'age' is not snoozed; those that are: none",
        ),
        (("snooze", "loans", "--until", "2999-12-31", *WHY), 2, "--columns"),
    ],
)
def test_wrong_use(grown: Model, ror: Ror, words: tuple[str, ...], code: int, said: str) -> None:
    """What cannot be done is said on one screen, with its exit code, and nothing is recorded."""
    before = grown.workspace.ledger.head()
    assert ror(*words) == code
    assert said in ror.err and "Traceback" not in ror.err and len(ror.err.splitlines()) < 15
    assert grown.workspace.ledger.head() == before


def test_a_damaged_version_exits_4(grown: Model, ror: Ror) -> None:
    """A damaged version is not promoted; the current one stays."""
    path = grown.root / "artifacts/loans/versions/00000001/pipeline.joblib"
    path.write_bytes(path.read_bytes()[:-1])
    assert ror("promote", "loans", "v1", *WHY) == 4
    assert "pipeline.joblib is damaged" in ror.err
    assert ror.json("status", "loans")["version"] == 2


def test_quarantine_and_release(grown: Model, ror: Ror) -> None:
    """Quarantine names the versions that learned the batch and status how to end it; release ends it."""
    assert ror("quarantine", "loans", "002", *WHY) == 0
    assert "labels of 002 kept out of training (v2 learned them)" in ror.out
    assert ror.json("status", "loans")["quarantined"] == ["002"]
    assert ror("status", "loans") == 0
    assert "labels of 002: `ror release loans 002 --reason '...'`" in ror.out
    entry = ror.json("release", "loans", "002", "--reason", "it was right")
    assert (entry["event"], entry["batch"], entry["reasons"]) == ("cleared", "002", ["it was right"])
    assert ror.json("status", "loans")["quarantined"] == []
    assert ror("history", "loans") == 0
    assert "labels of 002 may be trained on again: it was right" in ror.out


def test_snooze(grown: Model, ror: Ror) -> None:
    """A snooze is an entry of the history; status says until when it is, and the command that ends it sooner."""
    assert ror("run", "loans") == 0
    words = ("snooze", "loans", "--columns", "age, city", "--columns", "prediction", "--until")
    assert ror(*words, "2999-12-31", *WHY) == 0
    assert "loans · drift of age, city, prediction expected until 2999-12-31." in ror.out and "--until now" in ror.out
    (snooze,) = ror.json("status", "loans")["snoozed"]
    assert (snooze["columns"], snooze["until"]) == (["age", "city", "prediction"], "2999-12-31")
    assert (snooze["actor"], snooze["reason"]) == (environment.actor(), "a test")
    assert ror("status", "loans") == 0
    assert "`ror snooze loans --columns age,city,prediction --until now --reason '...'` ends it sooner" in ror.out
    assert ror.json("run", "loans")["decided_now"], "after a snooze the same question is a new one"
    assert not ror.json("run", "loans")["decided_now"]
    entry = ror.json("snooze", "loans", "--columns", "age,city,prediction", "--until", "now", *WHY)
    assert (entry["event"], entry["deed"]) == ("snoozed", "drift of age, city, prediction no longer expected")
    assert ror.json("status", "loans")["snoozed"] == []
    assert ror("history", "loans") == 0
    assert "drift of age, city, prediction expected until 2999-12-31: a test" in ror.out


def test_accept(grown: Model, ror: Ror) -> None:
    """Status and run name the command that accepts a changed batch; afterwards it is pending again."""
    grown.write_spec(f'{QUICK}[policy]\non_change = "block"')
    grown.deliver("003", moved_away("003"))
    assert ror("run", "loans") == 3
    assert "`ror accept loans 003 --reason '...'`" in ror.out
    assert ror("status", "loans") == 0
    assert "repair it and deliver it again, or correct the model's file, or accept it: `ror accept loans 003" in ror.out
    entry = ror.json("accept", "loans", "003", *WHY)
    assert (entry["event"], entry["batch"], entry["deed"]) == ("accepted", "003", "changed content of 003 accepted")
    status = ror.json("status", "loans")
    assert (status["accepted"], status["blocked"], status["changed"]) == (["003"], [], [])
    assert ror("status", "loans") == 0
    assert "accepted, not learned" in ror.out


def test_status_names_the_approval(grown: Model, ror: Ror) -> None:
    """Status shows a version that waits with the exact command that approves it, and that command does."""
    grown.write_spec(f'{QUICK}[policy]\npromotion = "approve"')
    grown.deliver("003")
    assert ror("run", "loans", "--action", "retrain", *WHY) == 0
    assert "AwaitingApproval" in ror.out and "v3 waits for: ror promote loans v3 --reason '...'" in ror.out
    assert ror("status", "loans") == 0
    assert "waiting for approval" in ror.out and "`ror promote loans v3 --reason '...'`" in ror.out
    assert ror.json("status", "loans")["waiting"] == [3]
    assert ror("promote", "loans", "v3", *WHY) == 0
    assert "(approved)" in ror.out
    assert ror.json("status", "loans")["waiting"] == []


def test_the_error_says_which_promotion_would_help(grown: Model, ror: Ror, tmp_path: Path) -> None:
    """When the version in service is damaged, `predict` exits 4 and names the command that puts v1 back."""
    from tasks.core.versions import registry

    registry._LOADED.clear()
    path = grown.root / "artifacts/loans/versions/00000002/pipeline.joblib"
    path.write_bytes(path.read_bytes()[:-1])
    words = ("predict", "loans", str(grown.batches / "001.parquet"), "-o", str(tmp_path / "out.parquet"))
    assert ror(*words) == 4
    assert "`ror promote loans v1 --reason '...'` checks v1 and puts it back in service" in ror.err
    assert ror("promote", "loans", "v1", *WHY) == 0
    assert ror(*words) == 0
