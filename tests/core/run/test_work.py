"""What there is to decide on: pending and altered batches, files that do not count yet, batches out of order."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tasks.core.ledger.state import Cause, LastDecision, State
from tasks.core.run.assess import Versions, check_data
from tasks.core.run.causes import looked_with
from tasks.core.run.work import Work, arrived_since, find_work, fresh_names, pending_names
from tasks.core.training.holdout import holdout_rows, split
from tasks.core.types import AttemptOutcome, BatchRecord, Request, Verdict
from tests.helpers.model import Model, make_rows
from tests.helpers.training import make_history, make_spec


@pytest.fixture
def settling(tmp_path: Path) -> Model:
    """A model whose files count after a minute; 001 and 003 are old enough, 002 is not."""
    model = Model(tmp_path)
    model.write_spec(late_labels=True)
    spec = tmp_path / "deployments/loans.toml"
    spec.write_text(spec.read_text().replace("settle = 0", "settle = 60"))
    for name in ("001", "002", "003"):
        path = model.deliver(name, rows=10)
        if name != "002":
            os.utime(path, (time.time() - 100,) * 2)
    return model


def find(model: Model, state: State) -> Work:
    return find_work(model.workspace, Request(), state)


def decided(model: Model, *names: str) -> State:
    """The state after these batches were decided on."""
    known = find(model, State())
    digests = {batch.id: batch.sha256 for batch in known.batches}
    return State(batches={name: BatchRecord(digests[name], 10) for name in names}, decided=LastDecision(known.key, 1))


def test_what_may_still_be_written_is_named_and_not_counted(settling: Model) -> None:
    """Pending batches are the same for a run and for status; the young file is named, and is a new question later."""
    work = find(settling, State())
    assert [batch.id for batch in work.pending] == pending_names(settling.workspace, State()) == ["001", "003"]
    assert work.arriving == ("data/loans/batches/002.parquet",)
    os.utime(settling.batches / "002.parquet", (time.time() - 100,) * 2)
    later = find(settling, State())
    assert [batch.id for batch in later.pending] == ["001", "002", "003"]
    assert later.key != work.key
    (settling.labels).mkdir(parents=True)
    pd.DataFrame({"id": [1], "y": [1]}).to_parquet(settling.labels / "001.parquet")
    unfinished = find(settling, State())
    assert (unfinished.key, unfinished.arriving) == (later.key, ("data/loans/labels/001.parquet",))


def test_what_is_set_aside_is_not_fresh(settling: Model) -> None:
    """A run is named after what it decides on: a broken batch is that until it was set aside, and again with other
    bytes."""
    workspace = settling.workspace
    known = {batch.id: batch.sha256 for batch in find(settling, State()).batches}
    assert fresh_names(workspace, State()) == ["001", "003"]
    aside = State(blocked={"003": known["003"]})
    aside = replace(aside, causes={"003": Cause(looked_with(workspace, aside), "")})
    assert fresh_names(workspace, aside) == ["001"]
    os.utime(settling.deliver("003", rows=11), (time.time() - 100,) * 2)
    assert fresh_names(workspace, aside) == ["001", "003"]


def test_arrivals_are_warned_of(settling: Model) -> None:
    """A file that does not count yet and a batch that comes before decided ones are warnings; both are plain words."""
    state = decided(settling, "003")
    work = find(settling, state)
    assert work.latecomers == ("001",)
    found = check_data(settling.workspace, state, work, Versions())
    assert [batch.id for batch in found.valid] == ["001"]
    told = [check for check in found.checks if check.name == "arrivals"]
    assert [check.verdict for check in told] == [Verdict.WARN] * 2
    assert "002.parquet may still be written" in told[0].summary
    assert "001 comes before batches that were decided on already" in told[1].summary
    assert find(settling, decided(settling, "001")).latecomers == ()


@pytest.mark.parametrize(
    ("pattern", "there"),
    [
        ("data/loans/batches/*", True),
        ("data/loans/batches/*.csv", False),
        ("data/loan/batches/*", False),
        ("*.pq", False),
    ],
)
def test_a_pattern_that_matches_nothing(settling: Model, pattern: str, there: bool) -> None:
    """It is said where nothing matches, with the way out; files that may still be written are something."""
    for name in ("001", "003"):
        (settling.batches / f"{name}.parquet").unlink()
    path = settling.root / "deployments/loans.toml"
    path.write_text(path.read_text().replace("data/loans/batches/*", pattern))
    for state in (State(), State(batches={"000": BatchRecord("d", 10)})):
        said = check_data(settling.workspace, state, find(settling, state), Versions()).nothing
        assert (said == "") is there
        if said:
            assert said.startswith(f"no batch under {pattern}") and "correct data.batches" in said
            assert ("1 batch was decided on" in said) is bool(state.batches)


def test_an_altered_batch_says_what_to_do(settling: Model) -> None:
    """A decided batch with other bytes is seen at once, however young it is, and stops no other batch."""
    state = decided(settling, "001")
    settling.deliver("001", make_rows(11))
    work = find(settling, state)
    assert [batch.id for batch in work.altered] == ["001"]
    found = check_data(settling.workspace, state, work, Versions())
    assert [batch.id for batch in found.valid] == ["003"]
    (problem,) = found.blocked[0].problems
    assert "other bytes" in problem and "Restore the original. If it has grown" in problem and "--new-rows" in problem


def test_places_that_an_earlier_release_gave_are_said(settling: Model) -> None:
    """Where batches were decided on in the order of text, they stay in it, with a warning; else names are in natural
    order and nothing is said. A new batch that is called as it says is no latecomer."""
    state = decided(settling, "001", "003")
    record = state.batches["001"]
    for natural, warned in ((False, True), (True, False)):
        old = replace(state, batches={"2026-9": record, "2026-10": record}, natural=natural)
        found = check_data(settling.workspace, old, find(settling, old), Versions())
        said = [check.summary for check in found.checks if "in the order of text" in check.summary]
        assert bool(said) is warned
        assert all("2026-10 counts as earlier than 2026-9." in text for text in said)
        for text in said:
            name = text.rpartition("such as ")[2]
            path = settling.deliver("001").rename(settling.batches / f"{name}.parquet")
            os.utime(path, (time.time() - 100,) * 2)
            assert name not in find(settling, old).latecomers
            assert old.order("2026-11") < old.order("2026-9") < old.order(name)


def test_the_same_bytes_come_again(settling: Model) -> None:
    """A batch with the bytes of another one is named with it, whichever was decided on first, and is predicted."""
    shutil.copyfile(settling.batches / "003.parquet", settling.batches / "004.parquet")
    os.utime(settling.batches / "004.parquet", (time.time() - 100,) * 2)
    assert find(settling, State()).repeats == {"004": "003"}
    assert find(settling, decided(settling, "004")).repeats == {"003": "004"}
    state = decided(settling, "003")
    work = find(settling, state)
    found = check_data(settling.workspace, state, work, Versions())
    assert "004" in [batch.id for batch in found.valid]
    (told,) = [check.summary for check in found.checks if "the same bytes" in check.summary]
    assert told.startswith("004 has the same bytes as 003, ")


def test_the_gate_takes_the_newest_by_name(tmp_path: Path) -> None:
    """A batch that arrived out of order is learnt from whole; the gate's rows are still those of the newest by name."""
    history = make_history(tmp_path, make_spec(), *(make_rows(1300, seed) for seed in (1, 2, 3)))
    parts = split(history)
    assert [part.batch.id for part in parts.gate] == ["003"]
    assert [len(part.rows) for part in parts.learn] == [1300, 1300, 1300 - len(holdout_rows(history[2].batch, 1300))]


def test_age_counts_batches_that_came_out_of_order() -> None:
    """A batch in the middle is one more labelled batch to learn from, and in its place in time."""
    from tasks.core.types import Attempt

    labelled = {name: BatchRecord("d", 10, "l", 10) for name in ("001", "003")}
    state = State(batches=labelled, attempt=Attempt(2, AttemptOutcome.REGISTERED, 1, "m"))
    assert state.age == 0
    state = State(batches={**labelled, "002": BatchRecord("d", 10, "l", 10)}, attempt=state.attempt)
    assert (state.age, state.usable) == (1, ("001", "002", "003"))


def test_what_arrived_since(settling: Model) -> None:
    """What is new, being written or finished since is named once; a file that is never finished is no news."""

    def news(before: Work) -> list[str]:
        return arrived_since(settling.root, before, find(settling, State()))

    begin = find(settling, State())
    assert news(begin) == []
    os.utime(settling.batches / "002.parquet", (time.time() - 100,) * 2)
    assert news(begin) == ["data/loans/batches/002.parquet"]
    later = find(settling, State())
    settling.labels.mkdir(parents=True)
    pd.DataFrame({"id": [1], "y": [1]}).to_parquet(settling.labels / "001.parquet")
    assert news(later) == ["data/loans/labels/001.parquet"]
    assert news(find(settling, State())) == []
    before = find(settling, State())
    settling.deliver("001", rows=11)
    assert news(before) == ["data/loans/batches/001.parquet"]
    os.utime(settling.batches / "001.parquet", (time.time() - 100,) * 2)
    assert news(before) == ["data/loans/batches/001.parquet"]
