"""Pruning: what it removes and what it never touches; a kill, a race, and what is said of a version that is gone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from tasks.core import layout, overrides
from tasks.core.errors import InvalidRequest, NotFound, StoreError
from tasks.core.ledger.state import State
from tasks.core.ledger.transitions import transition
from tasks.core.removal import prune
from tasks.core.reports import status
from tasks.core.run.work import find_work
from tasks.core.store import Store
from tasks.core.types import Action, Attempt, AttemptOutcome, Request, Served
from tasks.core.workspace import Workspace
from tests.helpers.events import arrived, before_append, decide, decided
from tests.helpers.model import Model
from tests.helpers.training import Trained

WHO: dict[str, Any] = {"reason": "the disk is full", "actor": "ann"}
PAYLOAD = {"pipeline.joblib", "reference.parquet", "probe.parquet", "calibration.json"}
RECORD = {"claim.json", "manifest.json", "contract.json", "evaluation.json"}


@pytest.fixture
def workspace(model: Model, trained: Trained) -> Workspace:
    """v3 is in service, after v2 and v1; v4 was rolled back; v5 waits; the gate refused v6; nothing is known of v7."""
    workspace, candidate = model.workspace, trained.challenger.candidate
    for number in range(1, 8):
        version, sha256 = workspace.registry.register("loans", f"run {number}", candidate)
        before = workspace.ledger.head().state.current
        outcome = {5: AttemptOutcome.WAITING, 6: AttemptOutcome.REFUSED}.get(number, AttemptOutcome.REGISTERED)
        attempt = Attempt(1, outcome, version, sha256, gate=trained.challenger.gate)
        served = before if number > 4 else Served(version, sha256, 1)
        if number < 7:
            record = decided(Action.RETRAIN, in_service=served, attempt=attempt, **arrived(f"{number:03d}"))
            decide(workspace, record)
        if number == 4:
            decide(workspace, decided(Action.ROLLBACK, in_service=before))
    return workspace


def state(workspace: Workspace) -> State:
    return workspace.ledger.head().state


def files(workspace: Workspace, version: int) -> set[str]:
    """Names of the files of a version."""
    prefix = f"loans/versions/{version:08d}"
    return {item.path.removeprefix(f"{prefix}/") for item in workspace.registry.store.objects(prefix)}


def whole(workspace: Workspace) -> list[int]:
    """Versions that have all of their files."""
    return [version for version in range(1, 8) if files(workspace, version) == PAYLOAD | RECORD]


# --- what is removed ------------------------------------------------------------------------------------------


def test_what_is_promised_stays(workspace: Workspace) -> None:
    """Even `keep=0` spares the version in service, the one before, those that wait, are barred or are undecided."""
    done = prune.prune(workspace, keep=0, **WHO)
    assert [payload.version for payload in done.versions] == [1, 6]
    assert whole(workspace) == [2, 3, 4, 5, 7]
    assert files(workspace, 1) == files(workspace, 6) == RECORD
    assert dict(done.spared).keys() == {2, 3, 4, 5, 7}
    assert workspace.registry.load("loans", 3, fresh=True).version == 3
    assert workspace.registry.versions("loans") == list(range(1, 8))


@pytest.mark.parametrize(("keep", "gone"), [(0, [1, 6]), (1, [1, 6]), (2, [1]), (6, [1]), (7, []), (99, [])])
def test_the_newest_are_kept(workspace: Workspace, keep: int, gone: list[int]) -> None:
    """The newest so many are kept, beside those that are always kept."""
    done = prune.prune(workspace, keep=keep, **WHO)
    assert [payload.version for payload in done.versions] == gone


def test_the_young_are_kept(workspace: Workspace, trained: Trained) -> None:
    """By age only what was made before the time is removed."""
    made = datetime.fromisoformat(workspace.registry.manifest("loans", 1)[0].created)
    assert prune.prune(workspace, older_than=made, **WHO).versions == ()
    done = prune.prune(workspace, older_than=made + timedelta(days=1), **WHO)
    assert [payload.version for payload in done.versions] == [1, 6]


PAGES = ("drift.html", "performance.html")


def test_pages_go_as_the_file_says(workspace: Workspace, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidently's pages that are older than `[reports] keep` go with any prune, on record; a run's own page and its
    record stay. The next prune finds nothing."""
    store, seq = workspace.registry.store, workspace.ledger.head().seq
    kept = [layout.run_path("loans", seq, name) for name in (layout.REPORT, layout.DECISION)]
    pages = [layout.run_path("loans", seq, name) for name in PAGES]
    for path in (*kept, *pages):
        store.create(path, b"1234")
    assert prune.prune(workspace, keep=99, **WHO).seq is None  # a year is not over

    model.write_spec('[reports]\nkeep = "30d"')
    later = datetime.now(UTC) + timedelta(days=31)
    monkeypatch.setattr(prune, "oldest_kept", partial(prune.oldest_kept, now=later))
    done = prune.prune(model.workspace, keep=99, **WHO)
    assert [(found.seq, found.size) for found in done.pages] == [(seq, 8)]
    assert [item.path for item in store.objects("loans/runs")] == sorted(kept)
    event = model.workspace.ledger.event(done.seq or 0)
    assert (event.body["versions"], event.body["files"], event.body["bytes"]) == ([], pages, 8)
    assert status.history(workspace.ledger)[-1].deed == "pages of old runs removed"
    assert prune.prune(model.workspace, keep=99, **WHO).seq is None


def test_one_event_says_it(workspace: Workspace) -> None:
    """One event names who, why, versions, files and bytes; nothing else of the state moves."""
    before = workspace.ledger.head()
    done = prune.prune(workspace, keep=2, **WHO)
    event = workspace.ledger.event(before.seq + 1)
    assert (event.seq, event.event, event.actor, event.reason) == (done.seq, "pruned", "ann", "the disk is full")
    assert event.body["versions"] == [1]
    assert {path.rsplit("/", 1)[1] for path in event.body["files"]} == PAYLOAD
    assert event.body["bytes"] == done.size > 10_000
    assert event.state_after == replace(before.state, pruned={1: event.seq})
    assert status.history(workspace.ledger)[-1].deed == "payload of v1 removed"


def test_the_question_of_a_run_stays_the_same(workspace: Workspace, model: Model) -> None:
    """A prune gives a run nothing new to decide."""
    model.deliver("001", rows=10)
    before = find_work(workspace, Request(), state(workspace)).key
    assert prune.prune(workspace, keep=0, **WHO).seq
    assert find_work(workspace, Request(), state(workspace)).key == before


def test_a_dry_run_writes_nothing(workspace: Workspace) -> None:
    """It says what would go, byte by byte, and leaves store and history as they are."""
    before, objects = workspace.ledger.head(), workspace.registry.store.objects("")
    planned = prune.prune(workspace, keep=0, dry_run=True, **WHO)
    assert (workspace.ledger.head(), workspace.registry.store.objects("")) == (before, objects)
    done = prune.prune(workspace, keep=0, **WHO)
    assert planned == replace(done, seq=None)
    left = sum(item.size for item in workspace.registry.store.objects("loans/versions"))
    assert sum(item.size for item in objects if "/versions/" in item.path) - left == planned.size


def test_what_is_pruned_is_pruned(workspace: Workspace) -> None:
    """A second prune finds nothing and appends nothing; pruned versions do not count among those that are kept."""
    prune.prune(workspace, keep=2, **WHO)
    before = workspace.ledger.head()
    again = prune.prune(workspace, keep=6, **WHO)
    assert (again.versions, again.unfinished, again.seq) == ((), (), None)
    assert workspace.ledger.head() == before


@pytest.mark.parametrize("wrong", [{}, {"keep": 1, "older_than": datetime.now(UTC)}])
def test_exactly_one_rule(workspace: Workspace, wrong: dict[str, Any]) -> None:
    """Without a rule, or with two, nothing is removed."""
    with pytest.raises(InvalidRequest, match="keep, older_than:\n  - give exactly one"):
        prune.prune(workspace, **wrong, **WHO)
    assert whole(workspace) == list(range(1, 8))


@pytest.mark.parametrize("who", [{"reason": " ", "actor": "ann"}, {"reason": "why not", "actor": ""}])
def test_nothing_without_a_reason(workspace: Workspace, who: dict[str, str]) -> None:
    """Without a reason, or without a name, nothing is removed."""
    with pytest.raises(InvalidRequest, match="must not be empty"):
        prune.prune(workspace, keep=0, **who)
    assert whole(workspace) == list(range(1, 8))


def test_ages() -> None:
    """Days, weeks, years of 365 days, or a day by its name."""
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert prune.oldest_kept("90d", now) == datetime(2025, 12, 1, 12, tzinfo=UTC)
    assert prune.oldest_kept("2w", now) == datetime(2026, 2, 15, 12, tzinfo=UTC)
    assert prune.oldest_kept("1y", now) == datetime(2025, 3, 1, 12, tzinfo=UTC)
    assert prune.oldest_kept("2026-01-31", now) == datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize("age", ["", "90", "d", "-3d", "3m", "1.5y", "9999y", "2026-02-30", "2026-03-02", "yesterday"])
def test_no_age(age: str) -> None:
    """What is no age, no day, or a day to come is refused with an example."""
    with pytest.raises(InvalidRequest, match=r"^older_than:\n.*use 90d, 12w, 2y"):
        prune.oldest_kept(age, datetime(2026, 3, 1, 12, tzinfo=UTC))


# --- a version that is gone -----------------------------------------------------------------------------------


def test_who_removed_it_is_said(workspace: Workspace) -> None:
    """Loading a pruned version, or promoting it, says who removed it, when, why, and what is left to do."""
    done = prune.prune(workspace, keep=0, **WHO)
    said = rf"v1 of loans was pruned by ann on \d{{4}}-..-.. \(entry {done.seq}\): the disk is full\..*record is kept"
    with pytest.raises(NotFound, match=said):
        workspace.registry.load("loans", 1, fresh=True)
    before = workspace.ledger.head()
    with pytest.raises(InvalidRequest, match=said):
        overrides.promote(workspace, 1, reason="back to it", actor="bob")
    assert workspace.ledger.head() == before


def test_a_file_that_is_merely_missing(workspace: Workspace) -> None:
    """Where no prune is on record, the missing object is named as before."""
    (workspace.root / "artifacts/loans/versions/00000001/pipeline.joblib").unlink()
    with pytest.raises(NotFound, match=r"00000001/pipeline\.joblib does not exist"):
        workspace.registry.load("loans", 1, fresh=True)


def test_it_is_not_recommended(workspace: Workspace) -> None:
    """When the version in service does not load, a pruned one is not named as one that could take its place."""
    prune.prune(workspace, keep=0, **WHO)
    now = state(workspace)
    (workspace.root / "artifacts/loans/versions/00000003/pipeline.joblib").unlink()
    with pytest.raises(NotFound, match="promote loans v2"):
        workspace.registry.load_in_service("loans", now)
    with pytest.raises(NotFound) as caught:
        workspace.registry.load_in_service("loans", replace(now, served=(now.served[0], now.served[-1])))
    assert "promote loans v5" in str(caught.value)  # which waits


# --- races and kills ------------------------------------------------------------------------------------------


def test_a_promotion_that_comes_first_is_respected(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """When somebody puts a version in service between the look and the event, that version is not pruned."""
    before_append(monkeypatch, lambda: overrides.promote(workspace, 1, reason="first", actor="eve"))
    done = prune.prune(workspace, keep=0, **WHO)
    assert [payload.version for payload in done.versions] == [2, 6]
    assert workspace.registry.load_in_service("loans", state(workspace)).version == 1


def test_a_promotion_that_comes_later_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the event and the removal all files of a pruned version are there; promoting it is refused all the same,
    also for who had looked, and loaded it, before the event."""
    load, loaded = type(workspace.registry).load, []

    def slow(*arguments: Any, **words: Any) -> Any:
        found = load(*arguments, **words)
        monkeypatch.setattr(Store, "remove", stop)
        with pytest.raises(StoreError):
            prune.prune(workspace, keep=0, **WHO)
        loaded.append(found.version)
        return found

    monkeypatch.setattr(type(workspace.registry), "load", slow)
    with pytest.raises(InvalidRequest, match="v1 of loans was pruned by ann"):
        overrides.promote(workspace, 1, reason="back to it", actor="bob")
    assert loaded == [1]
    assert files(workspace, 1) == PAYLOAD | RECORD


def stop(store: Store, path: str) -> None:
    raise StoreError("gone")


@pytest.mark.parametrize("survived", range(8))
@pytest.mark.parametrize("rule", [{"keep": 0}, {"keep": 99}])
def test_the_next_one_finishes(
    workspace: Workspace, survived: int, rule: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prune that died at its n-th removal is finished by the next one, whatever that is asked for; nothing is
    recorded twice."""
    remove, left = Store.remove, iter(range(survived))

    def failing(store: Store, path: str) -> None:
        if next(left, None) is None:
            raise StoreError("the power is gone")
        remove(store, path)

    monkeypatch.setattr(Store, "remove", failing)
    with pytest.raises(StoreError):
        prune.prune(workspace, keep=0, **WHO)
    monkeypatch.undo()
    before = workspace.ledger.head()
    assert workspace.registry.load_in_service("loans", before.state).version == 3
    again = prune.prune(workspace, **rule, **WHO)
    assert (again.versions, again.seq) == ((), None)
    assert sum(len(payload.files) for payload in again.unfinished) == 8 - survived
    assert whole(workspace) == [2, 3, 4, 5, 7]
    assert workspace.ledger.head() == before


def test_the_history_folds(workspace: Workspace) -> None:
    """Every state can be computed again from the events alone."""
    prune.prune(workspace, keep=2, **WHO)
    prune.prune(workspace, keep=0, **WHO)
    now = State()
    for event in workspace.ledger.events():
        now = transition(now, event)
        assert now == event.state_after
    assert sorted(now.pruned) == [1, 6]
