"""The ledger: its chain, its state, and the lease."""

from __future__ import annotations

import json
import multiprocessing
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import CorruptObject, LeaseHeld, LedgerConflict
from tasks.core.ledger import KEEP_LOSSES, Head, Lease, Ledger, fold
from tasks.core.records import digest, from_dict, to_dict
from tasks.core.state import Decided, Event, LeaseRecord, State
from tasks.core.store import Store
from tasks.core.types import (
    Action,
    Attempt,
    Batch,
    BatchRecord,
    Blocked,
    Comparison,
    Decision,
    Labelled,
    LossPoint,
    Outcome,
    Served,
)

WHO: dict[str, Any] = {"run": "run-1", "key": "key-1", "actor": "ann", "reason": "because"}
V1, V2 = Served(1, "a" * 64, data_end=1), Served(2, "b" * 64, data_end=3)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    """An empty ledger, over a folder and in memory."""
    return Ledger(store, "loans")


@pytest.fixture
def on_disk(tmp_path: Path) -> tuple[Ledger, Path]:
    """A ledger of five events, and the folder that holds their files."""
    ledger = Ledger(Store(tmp_path), "loans")
    accept(ledger, 5)
    return ledger, tmp_path / "loans" / "ledger"


@pytest.fixture
def mine(tmp_path: Path) -> LeaseRecord:
    """A lease of this very process, as it is recorded."""
    with lease(Ledger(Store(tmp_path / "other"), "loans")) as taken:
        assert taken.state.lease is not None
        return taken.state.lease


def accept(ledger: Ledger, times: int) -> None:
    """Append events by hand, each accepting a batch."""
    for number in range(times):
        ledger.append(ledger.head(), "accepted", body={"batch": f"b{number}"}, **WHO)


def start(ledger: Ledger, record: LeaseRecord) -> Event:
    """Take the lease as another process would."""
    return ledger.append(ledger.head(), "started", body={"lease": to_dict(record)}, **{**WHO, "run": record.run})


def lease(ledger: Ledger, run: str = "run-1", ttl: timedelta = timedelta(minutes=10)) -> Lease:
    return Lease(ledger, ttl=ttl, **{**WHO, "run": run})


def decided(action: Action = Action.RELOAD, *, in_service: Served | None = V1, **changes: Any) -> Decided:
    """The body of a `decided` event about nothing; `changes` go to the record, `decision` to the decision in it."""
    decision = Decision(action, "otherwise", ("a test",), (), **changes.pop("decision", {}))
    nothing: dict[str, Any] = dict.fromkeys(
        ("window", "window_rows", "blocked", "labelled", "losses", "comparisons", "checks"), ()
    )
    record = Decided(
        outcome=Outcome.RELOADED,
        decision=decision,
        attempt=None,
        in_service=in_service,
        spec="s",
        policy_version=1,
        **nothing,
    )
    return replace(record, **changes)


def arrived(name: str, *, labels: bool = True) -> dict[str, Any]:
    """One batch in a decision's window, with its labels or without."""
    return {
        "window": (Batch(name, f"{name}.parquet", name * 8),),
        "window_rows": (100,),
        "labelled": (Labelled(name, "l", 90, 0.9),) if labels else (),
    }


def after(state: State, kind: str, body: Any, seq: int = 7) -> State:
    """The state after one event."""
    event = Event(1, seq, None, "2026-01-01", kind, "run", "key", "ann", "why", None, body, State())
    return fold(state, event)


def after_decision(state: State, record: Decided) -> State:
    return after(state, "decided", to_dict(record))


# --- the chain -----------------------------------------------------------------------------------------------


def test_each_event_names_the_one_before(on_disk: tuple[Ledger, Path]) -> None:
    """Every event holds the digest of its predecessor's bytes, the first one none."""
    ledger, folder = on_disk
    digests = [digest((folder / f"{seq:08d}.json").read_bytes()) for seq in range(1, 6)]
    assert [event.prev for event in ledger.events()] == [None, *digests[:-1]]
    assert ledger.head().digest == digests[-1]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 17])
def test_head_is_the_newest_event(ledger: Ledger, count: int) -> None:
    """However many events there are, the head is the last one and carries its state."""
    accept(ledger, count)
    head = ledger.head()
    assert head.seq == count
    assert head.state.accepted == tuple(f"b{number}" for number in range(count))
    assert [event.seq for event in ledger.events()] == list(range(1, count + 1))


def test_an_altered_event_is_noticed(on_disk: tuple[Ledger, Path]) -> None:
    """An event that was changed after the fact breaks the chain, and the error names where."""
    ledger, folder = on_disk
    event = folder / "00000003.json"
    event.write_text(event.read_text().replace('"ann"', '"eve"'))
    with pytest.raises(CorruptObject, match=r"loans/ledger/00000004\.json does not follow"):
        ledger.events()


def test_an_event_in_another_place_is_noticed(on_disk: tuple[Ledger, Path]) -> None:
    """An event that says it has another number than its name is refused."""
    ledger, folder = on_disk
    (folder / "00000006.json").write_bytes((folder / "00000005.json").read_bytes())
    with pytest.raises(CorruptObject, match=r"00000006\.json says it is event 5"):
        ledger.head()


@pytest.mark.parametrize("keep", [0, 1, 100])
def test_a_torn_head_is_refused(on_disk: tuple[Ledger, Path], keep: int) -> None:
    """A last event that was cut short is refused as corrupt, by name, and never skipped."""
    ledger, folder = on_disk
    newest = folder / "00000005.json"
    newest.write_bytes(newest.read_bytes()[:keep])
    with pytest.raises(CorruptObject, match=r"loans/ledger/00000005\.json") as caught:
        ledger.head()
    assert caught.value.exit_code == 4


def test_an_unknown_kind_is_refused() -> None:
    """An event of a kind that this release does not know is refused, not ignored."""
    with pytest.raises(CorruptObject, match="'forgotten'; a newer release wrote it"):
        after(State(), "forgotten", {})


# --- appending -----------------------------------------------------------------------------------------------


def append_ten(location: str) -> None:
    """What each of several processes does: append ten events, reading again whenever another was first."""
    ledger = Ledger(Store(location), "loans")
    for _ in range(10):
        while True:
            try:
                ledger.append(ledger.head(), "accepted", body={"batch": "b"}, **WHO)
                break
            except LedgerConflict:
                continue


def test_of_four_writers_nothing_is_lost(tmp_path: Path) -> None:
    """Four processes that append at once, each ten times, leave forty events in one unbroken chain."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=append_ten, args=(str(tmp_path),)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=30)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    events = Ledger(Store(tmp_path), "loans").events()
    assert [event.seq for event in events] == list(range(1, 41))
    assert len(events[-1].state_after.accepted) == 40


def test_appending_after_an_older_event_is_refused(ledger: Ledger) -> None:
    """Whoever appends after an event that is no longer the newest is told so, and writes nothing."""
    head = ledger.head()
    accept(ledger, 1)
    with pytest.raises(LedgerConflict, match=r"wrote loans/ledger/00000001\.json first"):
        ledger.append(head, "accepted", body={"batch": "late"}, **WHO)
    assert ledger.head().state.accepted == ("b0",)


def test_time_never_goes_backwards(ledger: Ledger) -> None:
    """When the clock stands before the newest event, the next event takes that event's time."""
    future = "2999-01-01T00:00:00.000000+00:00"
    first = ledger.append(Head(0, None, State(), at=future), "accepted", body={"batch": "b"}, **WHO)
    second = ledger.append(ledger.head(), "accepted", body={"batch": "c"}, **WHO)
    assert first.at == second.at == future


# --- the state -----------------------------------------------------------------------------------------------


def test_replaying_the_events_gives_their_states(ledger: Ledger) -> None:
    """Folding the events one after another gives the state that each of them carries, for every kind of event."""
    trained = Attempt(1, "registered", 1, V1.manifest)
    again = Attempt(3, "registered", 2, V2.manifest)
    losses = (LossPoint("b", 1, 90, 0.1 + 0.2, 1 / 3),)
    story: list[tuple[str, Any]] = [
        ("decided", decided(Action.RETRAIN, attempt=trained, **arrived("a"))),
        ("decided", decided(losses=losses, decision={"suspect": "b"}, **arrived("b"))),
        ("decided", decided(Action.RETRAIN, in_service=V2, attempt=again, decision={"cleared": "b"}, **arrived("c"))),
        ("decided", decided(Action.ROLLBACK, decision={"interval": 3.2}, **arrived("d"))),
        ("decided", decided(Action.BLOCK, blocked=(Blocked("e", "e" * 64, ("broken",)),))),
        ("accepted", {"batch": "d"}),
        ("quarantined", {"batch": "c"}),
        ("cleared", {"version": 2}),
        ("promoted", {"served": to_dict(V2)}),
    ]
    for kind, body in story:
        if kind == "decided":
            with lease(ledger) as taken:
                taken.commit(lambda _, body=body: body)
        else:
            ledger.append(ledger.head(), kind, body=body, **WHO)
    with pytest.raises(ZeroDivisionError), lease(ledger):
        _ = 1 / 0

    state = State()
    events = ledger.events()
    for event in events:
        state = fold(state, event)
        assert event.state_after == state
        assert event.current == state.current
    assert {event.event for event in events} == {kind for kind, _ in story} | {"started", "failed"}
    assert state.served == (V1, V2)
    assert state.lease is None


def test_a_retrain_puts_its_version_in_service() -> None:
    """After a retrain the new version is current, the old one its predecessor, and the age starts again."""
    state = after_decision(State(served=(V1,)), decided(**arrived("a")))
    assert (state.age, state.since) == (1, None)
    state = after_decision(state, decided(Action.RETRAIN, in_service=V2, attempt=Attempt(2, "registered", 2, "m")))
    assert (state.current, state.predecessor, state.since) == (V2, V1, "2026-01-01")
    state = after_decision(state, decided(in_service=V2, **arrived("b")))
    state = after_decision(state, decided(in_service=V2, **arrived("c")))
    assert state.age == 1


def test_a_rollback_bars_the_version_and_waits() -> None:
    """A rollback puts the predecessor back, bars the version, and waits the interval, at least two labelled batches."""
    before = State(served=(V1, V2))
    state = after_decision(before, decided(Action.ROLLBACK, in_service=V1, decision={"interval": 3.2}))
    assert (state.served, state.barred, state.cooldown) == ((V1,), (2,), 3)
    state = after_decision(state, decided(**arrived("a", labels=False)))
    assert state.cooldown == 3
    state = after_decision(state, decided(**arrived("b")))
    assert state.cooldown == 2
    for interval in (1.0, None):
        waiting = after_decision(before, decided(Action.ROLLBACK, in_service=V1, decision={"interval": interval}))
        assert waiting.cooldown == 2


def test_a_promotion_by_hand_clears_the_version() -> None:
    """A version that a person promotes is current, no longer barred and no longer waiting."""
    before = State(served=(V1,), barred=(2, 3), waiting=(V2,))
    state = after(before, "promoted", {"served": to_dict(V2)})
    assert (state.served, state.barred, state.waiting, state.by_hand) == ((V1, V2), (3,), (), 7)


def test_a_version_that_awaits_approval_is_not_in_service() -> None:
    """With promotion by approval the challenger is kept as waiting and the current version stays."""
    attempt = Attempt(4, "waiting", 2, V2.manifest)
    record = decided(Action.RETRAIN, attempt=attempt, outcome=Outcome.AWAITING_APPROVAL)
    state = after_decision(State(served=(V1,)), record)
    assert state.current == V1
    assert state.waiting == (Served(2, V2.manifest, 4),)


def test_a_suspect_batch_is_held_out_until_judged() -> None:
    """A suspect batch counts for nothing until it is cleared; a quarantined one never counts again."""
    state = after_decision(State(served=(V1,)), decided(decision={"suspect": "a"}, **arrived("a")))
    assert (state.suspect, state.usable) == ("a", ())
    cleared = after_decision(state, decided(decision={"cleared": "a"}, **arrived("b")))
    assert (cleared.suspect, cleared.usable) == (None, ("a", "b"))
    quarantined = after_decision(state, decided(decision={"quarantined": "a"}, **arrived("b")))
    assert (quarantined.suspect, quarantined.quarantined, quarantined.usable) == (None, ("a",), ("b",))
    by_hand = after(state, "quarantined", {"batch": "a"})
    assert (by_hand.suspect, by_hand.quarantined) == (None, ("a",))
    assert after(by_hand, "cleared", {"batch": "a"}).usable == ("a",)


def test_an_accepted_change_waits_for_a_version_that_learned_it() -> None:
    """An acceptance stays open until an attempt to train that worked has learned from that very batch."""
    state = after(State(served=(V1,)), "accepted", {"batch": "a"})
    attempt = Attempt(2, "refused", 2, "m")
    state = after_decision(state, decided(Action.RETRAIN, attempt=attempt, **arrived("a", labels=False)))
    assert state.accepted == ("a",)
    labelled = {"labelled": arrived("a")["labelled"]}
    state = after_decision(state, decided(Action.RETRAIN, attempt=Attempt(2, "failed", reason="no"), **labelled))
    assert state.accepted == ("a",)
    state = after_decision(state, decided(Action.RETRAIN, attempt=attempt))
    assert state.accepted == ()


def test_changed_content_is_remembered_until_a_version_learned_it() -> None:
    """A batch whose content changed waits for its labels, and then for the attempt that trains on them; quarantine ends
    the wait."""
    seen = decided(**arrived("a", labels=False), novel=("a",))
    state = after_decision(State(served=(V1,)), seen)
    assert state.novel == ("a",)
    attempt = Attempt(2, "refused", 2, "m")
    state = after_decision(state, decided(Action.RETRAIN, attempt=attempt))
    assert state.novel == ("a",)
    state = after_decision(state, decided(labelled=arrived("a")["labelled"]))
    assert state.novel == ("a",)
    assert after(state, "quarantined", {"batch": "a"}).novel == ()
    assert after_decision(state, decided(Action.RETRAIN, attempt=attempt)).novel == ()


def test_a_blocked_batch_is_remembered_until_it_is_repaired() -> None:
    """A batch that was set aside is known by its digest until it is delivered again and decided on."""
    state = after_decision(State(), decided(Action.BLOCK, blocked=(Blocked("a", "d1", ("broken",)),)))
    assert state.blocked == {"a": "d1"}
    state = after_decision(state, decided(**arrived("a")))
    assert state.blocked == {}
    assert state.batches["a"].rows == 100


def test_old_losses_are_dropped() -> None:
    """The state keeps the newest losses only, so that an event never grows without bound."""
    state = State()
    for number in range(KEEP_LOSSES + 3):
        state = after_decision(state, decided(losses=(LossPoint(str(number), 1, 10, 0.1, 0.0),)))
    assert [point.batch for point in state.losses] == [str(number) for number in range(3, KEEP_LOSSES + 3)]


# --- the lease -----------------------------------------------------------------------------------------------


def test_a_second_run_is_refused_while_the_first_lives(ledger: Ledger) -> None:
    """A run that finds a live lease ends at once, with the first one's name and exit code 0."""
    with lease(ledger, "first") as first:
        with pytest.raises(LeaseHeld, match="Run first") as caught, lease(ledger, "second"):
            pass
        assert caught.value.exit_code == 0
        first.commit(lambda _: decided())
    with lease(ledger, "second") as second:
        assert second.token > first.token


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param({"pid": 2**22 + 1}, id="no such process"),
        pytest.param({"process_started": 1.0}, id="its number belongs to another process now"),
        pytest.param({"boot": "an earlier one"}, id="the machine was restarted"),
        pytest.param({"expires": "2020-01-01T00:00:00+00:00"}, id="expired"),
    ],
)
def test_the_lease_of_a_dead_process_is_taken_over(ledger: Ledger, mine: LeaseRecord, gone: dict[str, Any]) -> None:
    """A lease whose process is gone from this host does not have to expire first."""
    started = start(ledger, replace(mine, run="dead", **gone))
    with lease(ledger) as taken:
        assert taken.token == started.seq + 1


def test_the_lease_of_this_process_is_alive(ledger: Ledger, mine: LeaseRecord) -> None:
    """The record that the other tests alter is refused when it is not altered."""
    start(ledger, replace(mine, run="alive"))
    with pytest.raises(LeaseHeld, match="Run alive"), lease(ledger):
        pass


def test_a_lease_of_another_host_has_to_expire(ledger: Ledger, mine: LeaseRecord) -> None:
    """Nothing is known of processes elsewhere: their lease is respected until it expires, then taken over."""
    elsewhere = replace(mine, run="far", host=f"not-{socket.gethostname()}", pid=2**22 + 1, boot="theirs")
    start(ledger, elsewhere)
    with pytest.raises(LeaseHeld, match="Run far"), lease(ledger):
        pass
    past = (datetime.now(UTC) - timedelta(seconds=2)).isoformat(timespec="seconds")
    start(ledger, replace(elsewhere, expires=past))
    with lease(ledger) as taken:
        assert taken.state.lease is not None
        assert taken.state.lease.run == "run-1"


def test_a_run_that_was_fenced_off_cannot_commit(ledger: Ledger, mine: LeaseRecord) -> None:
    """A run that lost its lease to a later one stops without a decision, and does not end the later one's lease."""
    with pytest.raises(LeaseHeld, match="lost its lease to later"), lease(ledger, "slow") as slow:
        start(ledger, replace(mine, run="later"))
        slow.commit(lambda _: decided())
    state = ledger.head().state
    assert state.decided is None
    assert state.lease is not None
    assert state.lease.run == "later"


def test_an_error_of_a_run_that_was_fenced_off_is_its_own(ledger: Ledger, mine: LeaseRecord) -> None:
    """A run that fails after it lost its lease fails with its own error, and leaves the later run alone."""
    with pytest.raises(ValueError, match="no such column"), lease(ledger, "slow"):
        start(ledger, replace(mine, run="later"))
        raise ValueError("no such column")
    assert [event.event for event in ledger.events()] == ["started", "started"]


def test_an_error_frees_the_lease_and_is_recorded(ledger: Ledger) -> None:
    """A run that fails leaves its reason in the history and the model free for the next run."""
    with pytest.raises(ValueError, match="no such column"), lease(ledger):
        raise ValueError("no such column")
    event = ledger.events()[-1]
    assert (event.event, event.body) == ("failed", {"error": "ValueError: no such column"})
    assert ledger.head().state.lease is None


def test_a_run_without_a_decision_is_recorded_as_failed(ledger: Ledger) -> None:
    """Leaving the lease without a decision is on record, too."""
    with lease(ledger):
        pass
    assert ledger.events()[-1].body == {"error": "the run ended without a decision"}


def test_a_commit_is_the_last_event_of_its_run(ledger: Ledger) -> None:
    """A decision gives the lease back, and nothing is appended after it."""
    with lease(ledger) as taken:
        event = taken.commit(lambda _: decided())
    assert [e.event for e in ledger.events()] == ["started", "decided"]
    assert ledger.head().seq == event.seq
    assert event.state_after.lease is None


def test_a_commit_reconsiders_what_a_person_did_meanwhile(ledger: Ledger) -> None:
    """When somebody appends between reading and writing, the decision is built again on the newer state."""
    seen: list[State] = []

    def build(state: State) -> Decided:
        if not seen:
            ledger.append(ledger.head(), "promoted", body={"served": to_dict(V2)}, **WHO)
        seen.append(state)
        return decided(in_service=state.current)

    with lease(ledger) as taken:
        taken.commit(build)
    assert [state.current for state in seen] == [None, V2]
    assert ledger.head().state.current == V2


def test_a_long_run_renews_its_lease(open_store: Callable[[], Store]) -> None:
    """While a run is at work its lease is prolonged, long before it expires."""
    ledger = Ledger(open_store(), "loans")
    with lease(ledger, ttl=timedelta(seconds=0.4)) as taken:
        deadline = time.monotonic() + 10
        while ledger.head().seq < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        taken.commit(lambda _: decided())
    renewed = [event for event in ledger.events() if event.event == "renewed"]
    assert len(renewed) >= 2
    for event in renewed:
        assert event.state_after.lease is not None
        assert event.state_after.lease.expires == event.body["expires"]
        assert event.state_after.lease.token == taken.token


def test_events_are_readable_json(on_disk: tuple[Ledger, Path]) -> None:
    """An event is a JSON object that names its format, so that other tools can read the history."""
    event = json.loads((on_disk[1] / "00000001.json").read_text())
    assert (event["format_version"], event["seq"], event["event"]) == (1, 1, "accepted")


def test_a_quarantined_batch_leaves_no_trace_in_what_is_usual() -> None:
    """Losses and comparisons that were measured on doubtful labels are forgotten once the batch is quarantined."""
    points = tuple(LossPoint(batch, 1, 100, loss, 0.1) for batch, loss in (("a", 0.2), ("b", 9.0)))
    pair = Comparison("b", 1, 0, 100, 1.0, 0.1, 1)
    state = State(served=(V1,), losses=points, comparisons=(pair,), suspect="b")
    judged = after_decision(state, decided(decision={"quarantined": "b"}, **arrived("c")))
    assert [point.batch for point in judged.losses] == ["a"]
    assert judged.comparisons == ()


# --- labels that come late -----------------------------------------------------------------------------------


def test_a_batch_remembers_who_served_it_and_when_its_labels_came() -> None:
    """The version that a decision left in service is the one its batches were predicted by; the lag stays the first."""
    state = after_decision(State(), decided(in_service=None, **arrived("a", labels=False)))
    state = after_decision(replace(state, served=(V1,)), decided(**arrived("b", labels=False)))
    assert (state.batches["a"].version, state.batches["b"].version) == (None, 1)
    state = after_decision(state, decided(labelled=(Labelled("b", "l", 90, 0.9, lag=3),)))
    again = after_decision(state, decided(labelled=(Labelled("b", "m", 95, 0.95, lag=7, corrected=True),)))
    record = again.batches["b"]
    assert (record.labels, record.labelled_rows, record.lag, record.version) == ("m", 95, 3, 1)
    assert again.label_lag == 3


def test_corrections_supersede_and_count_for_nothing_else() -> None:
    """A loss or comparison of the same versions on the same batch takes the place of the earlier one."""
    points = tuple(LossPoint(batch, 1, 10, mean, 0.0) for batch, mean in (("a", 0.1), ("b", 0.2)))
    pairs = tuple(Comparison(batch, 2, 1, 10, 0.1, 0.0, 1) for batch in ("a", "b"))
    before = State(served=(V1,), losses=points, comparisons=pairs, cooldown=2)
    correction = decided(
        labelled=(Labelled("a", "l", 10, 1.0, corrected=True),),
        losses=(LossPoint("a", 1, 12, 0.5, 0.0), LossPoint("a", 2, 12, 0.4, 0.0)),
        comparisons=(Comparison("a", 2, 1, 12, 0.9, 0.0, 1),),
    )
    state = after_decision(before, correction)
    assert [(p.batch, p.version, p.mean) for p in state.losses] == [("a", 1, 0.5), ("b", 1, 0.2), ("a", 2, 0.4)]
    assert [item.gain for item in state.comparisons] == [0.9, 0.1]
    assert state.cooldown == 2


def test_label_files_are_as_of_the_last_decision_that_could_read_them() -> None:
    """A decision with labels that could not be used leaves the digest, so that the next run looks again."""
    state = after_decision(State(served=(V1,)), decided(label_files="one"))
    assert after_decision(state, decided(label_files=None)).label_files == "one"
    assert after_decision(state, decided(label_files="two")).label_files == "two"


@pytest.mark.parametrize(("window", "seen"), [((), 6), (("x",), 6), (("x", "y", "z"), 4), (("a", "x"), 0)])
def test_the_lag_is_counted_without_what_piled_up(window: tuple[str, ...], seen: int) -> None:
    """Batches that arrived together may have come after the labels; labels that were there at once say nothing."""
    state = State(served=(V1,), batches={} if "a" in window else {"a": BatchRecord("d", 100)})
    record = decided(
        window=tuple(Batch(name, name, "d") for name in window),
        window_rows=(100,) * len(window),
        labelled=(Labelled("a", "l", 90, 0.9, lag=6),),
    )
    assert after_decision(state, record).label_lag == seen


def test_a_state_of_an_earlier_release_is_readable() -> None:
    """Batches and states that know nothing of lags, versions and label files are read, with nothing in their place."""
    old = {"batches": {"a": {"sha256": "d", "rows": 100, "labels": "l", "labelled_rows": 90}}}
    state = from_dict(State, old)
    record = state.batches["a"]
    assert (record.lag, record.version, state.label_files, state.label_lag) == (None, None, None, 0)
    assert after_decision(replace(state, served=(V1,)), decided()).batches["a"] == record
