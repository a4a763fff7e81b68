"""What a person does: one event each, on preconditions that are checked again after a lost race."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.core import overrides
from tasks.core.errors import CorruptObject, InvalidRequest, LedgerConflict, NotFound, VerificationError
from tasks.core.ledger.events import Accepted, Event
from tasks.core.ledger.lease import Lease
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.state import State
from tasks.core.ledger.transitions import transition
from tasks.core.records import digest, to_json
from tasks.core.run.work import find_work
from tasks.core.types import (
    Action,
    Attempt,
    AttemptOutcome,
    Blocked,
    Comparison,
    Gate,
    LossPoint,
    Request,
    Served,
    Verdict,
)
from tasks.core.versions.manifest import FileRecord
from tasks.core.workspace import Workspace
from tests.helpers.events import arrived, before_append, decide, decided
from tests.helpers.model import Model
from tests.helpers.training import Trained
from tests.helpers.versions import Payload

WHO: dict[str, Any] = {"reason": "a test", "actor": "ann"}
REFUSED = Gate(Verdict.FAIL, "worse than v1", 200)


@pytest.fixture
def workspace(model: Model, trained: Trained) -> Workspace:
    """Four versions that were trained on 001 to 003; v1 is in service, v2 waits, the gate refused v3 and v4."""
    workspace = model.workspace
    for number in range(1, 5):
        gate = trained.challenger.gate if number < 3 else REFUSED
        candidate = replace(
            trained.challenger.candidate, manifest={**trained.challenger.candidate.manifest, "gate": gate}
        )
        version, sha256 = workspace.registry.register("loans", f"run {number}", candidate)
        outcome = {1: AttemptOutcome.REGISTERED, 2: AttemptOutcome.WAITING}.get(number, AttemptOutcome.REFUSED)
        batch = arrived(f"{number:03d}") if number < 4 else {}
        served = Served(version, sha256, 3) if number == 1 else workspace.ledger.head().state.current
        attempt = Attempt(min(number, 3), outcome, version, sha256, gate=gate)
        decide(workspace, decided(Action.RETRAIN, in_service=served, attempt=attempt, **batch))
    for name in ("001", "002", "003"):
        model.deliver(name, rows=10)
    return workspace


def state(workspace: Workspace) -> State:
    return workspace.ledger.head().state


def numbers(workspace: Workspace) -> list[int]:
    return [served.version for served in state(workspace).served]


# --- every deed -----------------------------------------------------------------------------------------------


def day(later: int) -> str:
    """The day that is so many days from now."""
    return (datetime.now(UTC).date() + timedelta(later)).isoformat()


DEEDS: dict[str, Callable[..., Event]] = {
    "promoted": lambda workspace, **who: overrides.promote(workspace, 2, **who),
    "accepted": lambda workspace, **who: overrides.accept(workspace, "004", **who),
    "quarantined": lambda workspace, **who: overrides.quarantine(workspace, "002", **who),
    "cleared": lambda workspace, **who: overrides.release(workspace, "003", **who),
    "snoozed": lambda workspace, **who: overrides.snooze(workspace, ["age"], day(7), **who),
}


@pytest.fixture
def ready(workspace: Workspace, model: Model) -> Workspace:
    """One in which each of them can be done: 003 is in quarantine, 004 has arrived."""
    overrides.quarantine(workspace, "003", **WHO)
    model.deliver("004", rows=10)
    return workspace


@pytest.mark.parametrize("kind", DEEDS)
def test_one_event_says_who_and_why(ready: Workspace, kind: str) -> None:
    """Each deed appends one event with the person and the reason, which a running flow notices."""
    before = ready.ledger.head()
    event = DEEDS[kind](ready, reason="a good one", actor="bob")
    assert (event.seq, event.event, event.actor, event.reason) == (before.seq + 1, kind, "bob", "a good one")
    assert ready.ledger.head().seq == event.seq
    assert state(ready).by_hand == event.seq


@pytest.mark.parametrize("kind", DEEDS)
@pytest.mark.parametrize("who", [{"reason": " ", "actor": "ann"}, {"reason": "why not", "actor": ""}])
def test_nothing_is_done_without_a_reason(ready: Workspace, kind: str, who: dict[str, str]) -> None:
    """Without a reason, or without a name, nothing is recorded."""
    before = ready.ledger.head()
    with pytest.raises(InvalidRequest, match="must not be empty"):
        DEEDS[kind](ready, **who)
    assert ready.ledger.head() == before


@pytest.mark.parametrize("kind", DEEDS)
def test_a_lease_is_not_needed(ready: Workspace, kind: str) -> None:
    """While a run is at work a person can act, and the run keeps its lease."""
    with Lease(ready.ledger, run="r", key="k", actor="tests", reason="") as lease:
        DEEDS[kind](ready, **WHO)
        held = state(ready).lease
        assert held is not None and held.token == lease.token
        lease.commit(lambda now: decided(in_service=now.current))


@pytest.mark.parametrize("kind", DEEDS)
def test_a_lost_race_is_run_again(ready: Workspace, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When somebody else appends first, everything is looked at again and appended after theirs."""
    append, lost = Ledger.append, []

    def late(ledger: Ledger, after: Any, *arguments: Any, **words: Any) -> Event:
        if not lost:
            lost.append(append(ledger, after, Accepted("x"), run="r", key="", actor="eve", reason=""))
        return append(ledger, after, *arguments, **words)

    monkeypatch.setattr(Ledger, "append", late)
    event = DEEDS[kind](ready, **WHO)
    assert event.seq == lost[0].seq + 1
    assert event.event == kind


def test_preconditions_are_checked_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """When somebody else puts a version in service between the look and the append, the expectation fails."""
    before_append(monkeypatch, lambda: overrides.promote(workspace, 2, reason="first", actor="eve"))
    with pytest.raises(LedgerConflict, match="v2 of loans is in service, not v1"):
        overrides.promote(workspace, 3, expected=1, **WHO)
    assert numbers(workspace) == [1, 2]


# --- promotion ------------------------------------------------------------------------------------------------


def test_what_a_promotion_was(workspace: Workspace) -> None:
    """Approved, overridden, gone back, chosen again, cleared: the history tells them apart."""
    was = [overrides.promote(workspace, version, **WHO).body["was"] for version in (2, 3, 1, 2)]
    assert was == ["approved", "gate overridden", "rolled back", "chosen"]
    assert state(workspace).promoted == workspace.ledger.head().seq
    decide(workspace, decided(Action.ROLLBACK, in_service=state(workspace).predecessor))
    assert (state(workspace).barred, state(workspace).promoted) == ((2,), None)
    event = overrides.promote(workspace, 2, **WHO)
    assert (event.body["was"], event.body["replaced"]) == ("cleared", 1)
    assert state(workspace).barred == ()


def test_a_first_version_by_hand(model: Model, trained: Trained) -> None:
    """Where none is in service, a version that the gate refused can be put there; 0 expects that none is."""
    version, sha256 = model.workspace.registry.register("loans", "run", trained.challenger.candidate)
    refused = Attempt(3, AttemptOutcome.REFUSED, version, sha256)
    decide(model.workspace, decided(Action.RETRAIN, in_service=None, attempt=refused))
    event = overrides.promote(model.workspace, version, expected=0, **WHO)
    assert event.body["replaced"] is None
    assert state(model.workspace).current == Served(1, sha256, 3)


def test_a_version_that_the_history_does_not_know_is_not_loaded(workspace: Workspace, tmp_path: Path) -> None:
    """Whoever can write to the store may put a consistent version there; no promotion unpickles it."""
    marker = tmp_path / "marker"
    registry = workspace.registry
    own = registry.load("loans", 1)
    planted = replace(own.manifest, version=9)
    folder = Path(registry.store.location) / "loans/versions"
    shutil.copytree(folder / "00000001", folder / "00000009")
    data = pickle.dumps(Payload(marker))
    (folder / "00000009/pipeline.joblib").write_bytes(data)
    record = FileRecord(digest(data), len(data))
    (folder / "00000009/manifest.json").write_bytes(
        to_json(replace(planted, files={**planted.files, "pipeline.joblib": record}))
    )
    before = state(workspace)
    with pytest.raises(VerificationError, match="The history of loans has no entry about v9"):
        overrides.promote(workspace, 9, **WHO)
    assert state(workspace) == before
    assert not marker.exists()
    with pytest.raises(VerificationError):  # not a pipeline: but it was unpickled
        registry.load("loans", 9)
    assert marker.exists(), "the payload would have run"


def test_what_it_replaces_is_kept_for_comparison(workspace: Workspace) -> None:
    """The version that is left behind becomes the predecessor and is not barred; approving one ends its waiting."""
    overrides.promote(workspace, 2, **WHO)
    overrides.promote(workspace, 1, **WHO)
    now = state(workspace)
    assert (numbers(workspace), now.barred, now.waiting) == ([1, 2, 1], (), ())
    assert now.predecessor is not None and now.predecessor.version == 2
    decide(workspace, decided(Action.ROLLBACK, in_service=now.predecessor))  # the rules, on labels that came later
    assert (numbers(workspace), state(workspace).barred) == ([1, 2], (1,))


def test_old_evidence_is_not_held_against_it_again(workspace: Workspace) -> None:
    """A barred version that a person clears is not rolled back again on what the person knew already."""
    overrides.promote(workspace, 2, **WHO)
    bad = tuple(Comparison(batch, 2, 1, 100, -0.5, 0.1, 1) for batch in ("001", "002"))
    other = Comparison("001", 3, 2, 100, 0.1, 0.1, 1)
    decide(workspace, decided(in_service=state(workspace).current, comparisons=(*bad, other)))
    decide(workspace, decided(Action.ROLLBACK, in_service=state(workspace).predecessor))
    overrides.promote(workspace, 2, **WHO)
    assert state(workspace).comparisons == (other,)


def test_challengers_older_than_the_promoted_one_wait_no_more(workspace: Workspace) -> None:
    """Promoting v3 ends the waiting of v2; going back to v1 leaves a later challenger waiting."""
    overrides.promote(workspace, 3, **WHO)
    assert state(workspace).waiting == ()
    manifest = state(workspace).attempt
    assert manifest is not None
    decide(
        workspace,
        decided(
            Action.RETRAIN,
            in_service=state(workspace).current,
            attempt=replace(manifest, outcome=AttemptOutcome.WAITING),
        ),
    )
    overrides.promote(workspace, 1, **WHO)
    assert [served.version for served in state(workspace).waiting] == [4]


@pytest.mark.parametrize(
    ("version", "expected", "error", "said"),
    [
        (1, None, InvalidRequest, "in service already"),
        (9, None, InvalidRequest, "no version v9. Versions: v1, v2, v3, v4"),
        (2, 3, LedgerConflict, "v1 of loans is in service, not v3"),
        (2, 0, LedgerConflict, "v1 of loans is in service, not no version"),
    ],
)
def test_refused(workspace: Workspace, version: int, expected: int | None, error: type[Exception], said: str) -> None:
    """What cannot be promoted is refused with the reason, and nothing is recorded."""
    before = workspace.ledger.head()
    with pytest.raises(error, match=said):
        overrides.promote(workspace, version, expected=expected, **WHO)
    assert workspace.ledger.head() == before


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", ["pipeline.joblib", "manifest.json"])
def test_a_damaged_version_is_not_promoted(workspace: Workspace, version: int, name: str) -> None:
    """A version whose file or record was changed is refused, also when this process has loaded it before."""
    workspace.registry.load("loans", version)
    path = Path(workspace.store_location) / f"loans/versions/{version:08d}/{name}"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"worse than v1", b"better than 1") if b"worse than v1" in data else b" " + data)
    before = workspace.ledger.head()
    with pytest.raises(CorruptObject):
        overrides.promote(workspace, version, **WHO)
    assert workspace.ledger.head() == before


def test_the_error_says_which_promotion_would_help(workspace: Workspace) -> None:
    """When the version in service does not load, the error names the command that puts back an earlier one that does;
    where none does, it says so."""
    registry, folder = workspace.registry, Path(workspace.store_location) / "loans/versions"
    overrides.promote(workspace, 2, **WHO)
    from tasks.core.versions import registry as module

    module._LOADED.clear()
    (folder / "00000002/pipeline.joblib").write_bytes(b"not what it was")
    with pytest.raises(CorruptObject, match=r"is damaged(.|\n)*`ror promote loans v1 --reason '...'` checks v1"):
        registry.load_current("loans")
    (folder / "00000002/manifest.json").unlink()
    with pytest.raises(NotFound, match="ror promote loans v1"):
        registry.load_current("loans")
    overrides.promote(workspace, 1, **WHO)
    assert registry.load_current("loans").version == 1
    (folder / "00000001/manifest.json").unlink()
    with pytest.raises(NotFound, match=r"No other version that was in service or waits loads here \(v2\)") as caught:
        registry.load_current("loans")
    assert "ror promote" not in str(caught.value)


def take_part(root: str, number: int, rounds: int, barrier: Any, results: Any) -> None:
    """What each of several people does: in every round, promote another version while expecting the same one."""
    workspace = Workspace.open(root, "loans")
    for _ in range(rounds):
        barrier.wait(60)
        current = workspace.ledger.head().state.current
        assert current is not None
        mine = [version for version in (1, 2, 3, 4) if version != current.version][number]
        barrier.wait(60)
        try:
            overrides.promote(workspace, mine, expected=current.version, reason="mine", actor=f"person {number}")
            results.put(mine)
        except LedgerConflict:
            results.put(None)


@pytest.mark.slow
def test_of_several_people_one_wins_a_round(workspace: Workspace) -> None:
    """Three processes promote different versions at once, expecting the same one: each round has exactly one winner."""
    spawn, rounds = multiprocessing.get_context("spawn"), 4
    barrier, results = spawn.Barrier(3), spawn.Queue()
    arguments = (str(workspace.root), rounds, barrier, results)
    people = [spawn.Process(target=take_part, args=(arguments[0], n, *arguments[1:])) for n in range(3)]
    for person in people:
        person.start()
    answers = [results.get(timeout=60) for _ in range(3 * rounds)]
    for person in people:
        person.join(timeout=30)
    assert [person.exitcode for person in people] == [0, 0, 0]
    winners = [version for version in answers if version]
    assert len(winners) == rounds
    assert numbers(workspace) == [1, *winners]
    assert len(workspace.ledger.events()) == workspace.ledger.head().seq


# --- batches --------------------------------------------------------------------------------------------------


def set_aside(workspace: Workspace, batch: str, *, changed: bool) -> str:
    """A run has set this delivered batch aside."""
    path = workspace.data / "batches" / f"{batch}.parquet"
    from tasks.core.data.files import fingerprint

    blocked = (Blocked(batch, fingerprint(path), ("a problem",), changed),)
    decide(workspace, decided(Action.BLOCK, in_service=state(workspace).current, blocked=blocked))
    return blocked[0].sha256


def test_an_accepted_batch_is_decided_on_again(workspace: Workspace, model: Model) -> None:
    """A batch that was set aside for its content is pending again once a person has accepted it, with its digest."""
    model.deliver("004", rows=10)
    sha256 = set_aside(workspace, "004", changed=True)
    assert (state(workspace).blocked, state(workspace).changed) == ({"004": sha256}, ("004",))
    event = overrides.accept(workspace, "004", **WHO)
    assert event.body == {"batch": "004", "sha256": sha256, "labels": False}
    now = state(workspace)
    assert (now.blocked, now.changed, now.accepted) == ({}, (), ("004",))


def test_a_broken_batch_cannot_be_accepted(workspace: Workspace, model: Model) -> None:
    """No version can predict on a batch with broken structure: it is repaired, not accepted."""
    model.deliver("004", rows=10)
    set_aside(workspace, "004", changed=True)
    set_aside(workspace, "004", changed=False)
    assert state(workspace).changed == ()
    with pytest.raises(InvalidRequest, match="is broken"):
        overrides.accept(workspace, "004", **WHO)
    model.deliver("004", rows=11)
    assert overrides.accept(workspace, "004", **WHO).event == "accepted"


@pytest.mark.parametrize(
    ("act", "batch", "said"),
    [
        ("accept", "2024", "no batch '2024'. The newest: 001, 002, 003, 004"),
        ("accept", "002", "v1, in service, was trained on 002"),
        ("quarantine", "2024", "no batch '2024'. The newest: 001, 002, 003, 004"),
        ("release", "002", "neither in quarantine nor suspect. Those that are: 003"),
        ("release", "2024", "neither in quarantine nor suspect"),
        ("quarantine", "003", "in quarantine already: `ror release loans 003 --reason '...'`"),
        ("accept", "003", "labels of 003 are kept out of training: first `ror release loans 003"),
    ],
)
def test_refused_batches(ready: Workspace, act: str, batch: str, said: str) -> None:
    """What makes no sense is refused with the batch, the reason and the next step, and nothing is recorded."""
    before = ready.ledger.head()
    with pytest.raises(InvalidRequest, match=f"^batch:\n.*{said}") as caught:
        getattr(overrides, act)(ready, batch, **WHO)
    assert caught.value.exit_code == 2
    assert ready.ledger.head() == before


def test_accepted_twice(ready: Workspace) -> None:
    """A batch is accepted once."""
    overrides.accept(ready, "004", **WHO)
    with pytest.raises(InvalidRequest, match="accepted already"):
        overrides.accept(ready, "004", **WHO)


def test_a_quarantine_names_the_versions_that_learned_it(workspace: Workspace) -> None:
    """Versions that were trained on the batch are listed, and nothing about them changes."""
    before = state(workspace)
    event = overrides.quarantine(workspace, "002", **WHO)
    assert event.body["trained"] == [1, 2, 3, 4]
    assert (state(workspace).served, state(workspace).waiting) == (before.served, before.waiting)


def test_a_quarantine_by_hand_leaves_no_trace_in_what_is_usual(workspace: Workspace) -> None:
    """Losses, comparisons and an acceptance that rest on the batch are forgotten, as when the rules quarantine it."""
    points = tuple(LossPoint(batch, 1, 100, 0.2, 0.1) for batch in ("002", "003"))
    pairs = tuple(Comparison(batch, 1, 0, 100, 0.1, 0.1, 1) for batch in ("002", "003"))
    decide(workspace, decided(in_service=state(workspace).current, losses=points, comparisons=pairs))
    overrides.quarantine(workspace, "002", **WHO)
    now = state(workspace)
    assert [point.batch for point in now.losses] == [item.batch for item in now.comparisons] == ["003"]
    assert now.usable == ("001", "003")


def test_the_age_counts_new_batches_whatever_is_in_quarantine(workspace: Workspace) -> None:
    """A batch that the last attempt learned from can go and come back: what is new since then stays what it was."""
    assert state(workspace).age == 0
    overrides.quarantine(workspace, "002", **WHO)
    assert state(workspace).age == 0
    decide(workspace, decided(in_service=state(workspace).current, **arrived("004")))
    assert state(workspace).age == 1
    overrides.release(workspace, "002", **WHO)
    assert state(workspace).age == 1
    overrides.quarantine(workspace, "004", **WHO)
    assert state(workspace).age == 0
    overrides.release(workspace, "004", **WHO)
    assert state(workspace).age == 1


def test_a_failed_attempt_counted_the_batch_that_made_it_fail(workspace: Workspace) -> None:
    """After a failing fit, taking the bad batch out does not make the next good one invisible."""
    record = decided(
        in_service=state(workspace).current, attempt=Attempt(4, AttemptOutcome.FAILED, reason="no"), **arrived("004")
    )
    decide(workspace, record)
    overrides.quarantine(workspace, "004", **WHO)
    decide(workspace, decided(in_service=state(workspace).current, **arrived("005")))
    assert state(workspace).age == 1


def test_a_suspicion_is_taken_back(workspace: Workspace) -> None:
    """A suspect batch that a person releases may be trained on, and the next run does not judge it any more."""
    record = decided(in_service=state(workspace).current, decision={"suspect": "004"}, **arrived("004"))
    decide(workspace, record)
    assert "004" not in state(workspace).usable
    overrides.release(workspace, "004", **WHO)
    assert (state(workspace).suspect, state(workspace).age) == (None, 1)


def test_a_persons_word_on_a_suspect_stands(workspace: Workspace) -> None:
    """A run that judged a suspect batch, while a person released it, does not put it in quarantine after all."""
    decide(workspace, decided(in_service=state(workspace).current, decision={"suspect": "004"}, **arrived("004")))
    overrides.release(workspace, "004", **WHO)
    decide(workspace, decided(in_service=state(workspace).current, decision={"quarantined": "004"}, **arrived("005")))
    assert state(workspace).quarantined == ()
    overrides.quarantine(workspace, "005", **WHO)
    decide(workspace, decided(in_service=state(workspace).current, decision={"suspect": "005"}))
    assert (state(workspace).suspect, state(workspace).quarantined) == (None, ("005",))


# --- snooze --------------------------------------------------------------------------------------------------


def test_a_snooze_names_columns_and_a_day(workspace: Workspace) -> None:
    """Columns may be separated by commas or given one by one, twice or not: features, the prediction and the target."""
    event = overrides.snooze(workspace, ["age, city", "prediction", "y", "age"], day(0), **WHO)
    assert event.body == {"columns": ["age", "city", "prediction", "y"], "until": day(0)}
    (snooze,) = state(workspace).snoozed
    assert (snooze.until, snooze.reason, snooze.actor, snooze.at) == (day(0), "a test", "ann", event.at)


def test_a_snooze_ends_now(workspace: Workspace) -> None:
    """`now` ends the snooze of the columns that are named, and only of those; what is not snoozed is refused."""
    overrides.snooze(workspace, ["age", "city"], day(7), **WHO)
    event = overrides.snooze(workspace, ["age"], "now", **WHO)
    assert event.body == {"columns": ["age"], "until": None}
    assert [snooze.columns for snooze in state(workspace).snoozed] == [("city",)]
    with pytest.raises(InvalidRequest, match="'age' is not snoozed; those that are: city"):
        overrides.snooze(workspace, ["age"], "now", **WHO)


@pytest.mark.parametrize(
    ("columns", "until", "said"),
    [
        (["agge"], day(7), "'agge' is not a column of v1; close: age"),
        (["agge", "town"], day(7), "(?s)agge.*town"),
        ([" , "], day(7), "name at least one column"),
        ([], day(7), "name at least one column"),
        (["age"], day(-1), "is in the past"),
        (["age"], "tomorrow", "invalid date 'tomorrow': use YYYY-MM-DD, or `now`"),
        (["age"], "2026-02-30", "invalid date"),
        (["age"], "20261231", "invalid date"),
        (["id"], day(7), "'id' is not a column of v1"),
    ],
)
def test_refused_snoozes(workspace: Workspace, columns: list[str], until: str, said: str) -> None:
    """Unknown columns, no columns, and days that are none or past are refused together; nothing is recorded."""
    before = workspace.ledger.head()
    with pytest.raises(InvalidRequest, match=said) as caught:
        overrides.snooze(workspace, columns, until, **WHO)
    assert caught.value.parameters == (("columns",) if until == day(7) else ("until",))
    assert workspace.ledger.head() == before


def test_nothing_is_snoozed_before_the_first_version(model: Model) -> None:
    """Without a version nothing drifts."""
    with pytest.raises(InvalidRequest, match="no version is in service yet"):
        overrides.snooze(model.workspace, ["age"], day(7), **WHO)


def test_a_snooze_is_a_new_question(workspace: Workspace) -> None:
    """After a snooze the same question is asked anew, whatever was decided before."""
    before = find_work(workspace, Request(), state(workspace))
    overrides.snooze(workspace, ["age"], day(7), **WHO)
    assert find_work(workspace, Request(), state(workspace)).key != before.key


def test_a_history_with_snoozes_folds_to_its_state(workspace: Workspace) -> None:
    """Replaying every event from nothing gives the state that each of them carries."""
    overrides.snooze(workspace, ["age", "city"], day(7), **WHO)
    overrides.snooze(workspace, ["city"], day(9), **WHO)
    overrides.snooze(workspace, ["age"], "now", **WHO)
    now = State()
    for event in workspace.ledger.events():
        now = transition(now, event)
        assert now == event.state_after
    assert [snooze.columns for snooze in now.snoozed] == [("city",)]
